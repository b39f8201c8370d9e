//! Tokens, and the tables of words and operators.

use std::sync::Arc;

use super::ast::{
    AggregateFn, ArithmeticOp, CompareOp, Intrinsic, Kind, LogicalOp, Relation, RelationMode,
    Scope, Static, Status,
};

/// A token and the bytes of the text it was read from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Lexeme {
    pub token: Token,
    pub start: usize,
    pub end: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    OpenBrace,
    CloseBrace,
    OpenParen,
    CloseParen,
    Comma,
    Pipe,
    Not,
    Compare(CompareOp),
    /// `=~` and `!~`; the latter is also the negated sibling relation.
    Match {
        negated: bool,
    },
    Arithmetic(ArithmeticOp),
    Logical(LogicalOp),
    /// The relations that are not also comparisons.
    Relation(Relation, RelationMode),
    /// A number, duration, string, boolean, status or kind.
    Literal(Static),
    Attribute(AttributeName),
    Intrinsic(Intrinsic),
    /// The intrinsic `parent`.
    Parent,
    Nil,
    Count,
    Aggregate(AggregateFn),
    By,
    Coalesce,
    Select,
    Metric(MetricWord),
    TopK,
    BottomK,
    With,
    /// A keyword that means nothing on its own: `childCount`, `traceID`.
    Reserved,
    Identifier(Arc<str>),
    /// Text that is no token. Always the last but one.
    Invalid {
        message: String,
        advice: Option<String>,
    },
    End,
}

/// An attribute as written; `parent` attributes are in the grammar but not supported.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct AttributeName {
    pub parent: bool,
    pub scope: Option<Scope>,
    pub name: Arc<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MetricWord {
    Rate,
    CountOverTime,
    MinOverTime,
    MaxOverTime,
    AvgOverTime,
    SumOverTime,
    QuantileOverTime,
    HistogramOverTime,
    Compare,
}

/// A word that may stand before `.` or `:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prefix {
    Trace,
    Parent,
    Scope(Scope),
}

/// The keyword that `text` is.
pub(super) fn keyword(text: &str) -> Option<Token> {
    Some(match text {
        "true" => Token::Literal(Static::Bool(true)),
        "false" => Token::Literal(Static::Bool(false)),
        "ok" => Token::Literal(Static::Status(Status::Ok)),
        "error" => Token::Literal(Static::Status(Status::Error)),
        "unset" => Token::Literal(Static::Status(Status::Unset)),
        "unspecified" => Token::Literal(Static::Kind(Kind::Unspecified)),
        "internal" => Token::Literal(Static::Kind(Kind::Internal)),
        "server" => Token::Literal(Static::Kind(Kind::Server)),
        "client" => Token::Literal(Static::Kind(Kind::Client)),
        "producer" => Token::Literal(Static::Kind(Kind::Producer)),
        "consumer" => Token::Literal(Static::Kind(Kind::Consumer)),
        "nil" => Token::Nil,
        "parent" => Token::Parent,
        "name" => Token::Intrinsic(Intrinsic::Name),
        "duration" => Token::Intrinsic(Intrinsic::Duration),
        "status" => Token::Intrinsic(Intrinsic::Status),
        "statusMessage" => Token::Intrinsic(Intrinsic::StatusMessage),
        "kind" => Token::Intrinsic(Intrinsic::Kind),
        "rootName" => Token::Intrinsic(Intrinsic::RootName),
        "rootServiceName" => Token::Intrinsic(Intrinsic::RootServiceName),
        "traceDuration" => Token::Intrinsic(Intrinsic::TraceDuration),
        "nestedSetLeft" => Token::Intrinsic(Intrinsic::NestedSetLeft),
        "nestedSetRight" => Token::Intrinsic(Intrinsic::NestedSetRight),
        "nestedSetParent" => Token::Intrinsic(Intrinsic::NestedSetParent),
        "childCount" | "id" | "parentID" | "rootService" | "spanID" | "timeSinceStart"
        | "traceID" | "version" => Token::Reserved,
        "count" => Token::Count,
        "avg" => Token::Aggregate(AggregateFn::Avg),
        "max" => Token::Aggregate(AggregateFn::Max),
        "min" => Token::Aggregate(AggregateFn::Min),
        "sum" => Token::Aggregate(AggregateFn::Sum),
        "by" => Token::By,
        "coalesce" => Token::Coalesce,
        "select" => Token::Select,
        "rate" => Token::Metric(MetricWord::Rate),
        "count_over_time" => Token::Metric(MetricWord::CountOverTime),
        "min_over_time" => Token::Metric(MetricWord::MinOverTime),
        "max_over_time" => Token::Metric(MetricWord::MaxOverTime),
        "avg_over_time" => Token::Metric(MetricWord::AvgOverTime),
        "sum_over_time" => Token::Metric(MetricWord::SumOverTime),
        "quantile_over_time" => Token::Metric(MetricWord::QuantileOverTime),
        "histogram_over_time" => Token::Metric(MetricWord::HistogramOverTime),
        "compare" => Token::Metric(MetricWord::Compare),
        "topk" => Token::TopK,
        "bottomk" => Token::BottomK,
        "with" => Token::With,
        _ => return None,
    })
}

/// The operator or punctuation that `text` is.
pub(super) fn operator(text: &str) -> Option<Token> {
    use Relation::{Ancestor, Child, Descendant, Parent, Sibling};
    use RelationMode::{Related, Union, Unrelated};
    Some(match text {
        "{" => Token::OpenBrace,
        "}" => Token::CloseBrace,
        "(" => Token::OpenParen,
        ")" => Token::CloseParen,
        "," => Token::Comma,
        "|" => Token::Pipe,
        "!" => Token::Not,
        "=" => Token::Compare(CompareOp::Equal),
        "!=" => Token::Compare(CompareOp::NotEqual),
        "<" => Token::Compare(CompareOp::Less),
        "<=" => Token::Compare(CompareOp::LessEqual),
        ">" => Token::Compare(CompareOp::Greater),
        ">=" => Token::Compare(CompareOp::GreaterEqual),
        "=~" => Token::Match { negated: false },
        "!~" => Token::Match { negated: true },
        "+" => Token::Arithmetic(ArithmeticOp::Add),
        "-" => Token::Arithmetic(ArithmeticOp::Sub),
        "*" => Token::Arithmetic(ArithmeticOp::Mul),
        "/" => Token::Arithmetic(ArithmeticOp::Div),
        "%" => Token::Arithmetic(ArithmeticOp::Mod),
        "^" => Token::Arithmetic(ArithmeticOp::Pow),
        "&&" => Token::Logical(LogicalOp::And),
        "||" => Token::Logical(LogicalOp::Or),
        ">>" => Token::Relation(Descendant, Related),
        "<<" => Token::Relation(Ancestor, Related),
        "~" => Token::Relation(Sibling, Related),
        "!>" => Token::Relation(Child, Unrelated),
        "!<" => Token::Relation(Parent, Unrelated),
        "!>>" => Token::Relation(Descendant, Unrelated),
        "!<<" => Token::Relation(Ancestor, Unrelated),
        "&>" => Token::Relation(Child, Union),
        "&<" => Token::Relation(Parent, Union),
        "&>>" => Token::Relation(Descendant, Union),
        "&<<" => Token::Relation(Ancestor, Union),
        "&~" => Token::Relation(Sibling, Union),
        _ => return None,
    })
}

/// The scope that stands before a `.`.
pub(super) fn attribute_prefix(word: &str) -> Option<Prefix> {
    Some(match word {
        "parent" => Prefix::Parent,
        "resource" => Prefix::Scope(Scope::Resource),
        "span" => Prefix::Scope(Scope::Span),
        "event" => Prefix::Scope(Scope::Event),
        "link" => Prefix::Scope(Scope::Link),
        "instrumentation" => Prefix::Scope(Scope::Instrumentation),
        _ => return None,
    })
}

/// The scope that stands before a `:`.
pub(super) fn intrinsic_prefix(word: &str) -> Option<Prefix> {
    match word {
        "trace" => Some(Prefix::Trace),
        "parent" | "resource" => None,
        _ => attribute_prefix(word),
    }
}

/// The intrinsic `word` after the scope `prefix` and a `:`.
pub(super) fn scoped_intrinsic(prefix: Prefix, word: &str) -> Option<Intrinsic> {
    Some(match (prefix, word) {
        (Prefix::Scope(Scope::Span), "name") => Intrinsic::Name,
        (Prefix::Scope(Scope::Span), "duration") => Intrinsic::Duration,
        (Prefix::Scope(Scope::Span), "status") => Intrinsic::Status,
        (Prefix::Scope(Scope::Span), "statusMessage") => Intrinsic::StatusMessage,
        (Prefix::Scope(Scope::Span), "kind") => Intrinsic::Kind,
        (Prefix::Scope(Scope::Span), "id") => Intrinsic::SpanId,
        (Prefix::Scope(Scope::Span), "parentID") => Intrinsic::ParentId,
        (Prefix::Scope(Scope::Span), "childCount") => Intrinsic::ChildCount,
        (Prefix::Trace, "id") => Intrinsic::TraceId,
        (Prefix::Trace, "duration") => Intrinsic::TraceDuration,
        (Prefix::Trace, "rootName") => Intrinsic::RootName,
        (Prefix::Trace, "rootService") => Intrinsic::RootServiceName,
        (Prefix::Scope(Scope::Event), "name") => Intrinsic::EventName,
        (Prefix::Scope(Scope::Event), "timeSinceStart") => Intrinsic::EventTimeSinceStart,
        (Prefix::Scope(Scope::Link), "traceID") => Intrinsic::LinkTraceId,
        (Prefix::Scope(Scope::Link), "spanID") => Intrinsic::LinkSpanId,
        (Prefix::Scope(Scope::Instrumentation), "name") => Intrinsic::InstrumentationName,
        (Prefix::Scope(Scope::Instrumentation), "version") => Intrinsic::InstrumentationVersion,
        _ => return None,
    })
}

/// Whether a character may stand bare in an attribute's name. A quote may not: it opens a quoted
/// part.
pub(super) fn is_name_char(c: char) -> bool {
    !c.is_whitespace()
        && !matches!(
            c,
            '{' | '}' | '(' | ')' | '=' | '~' | '!' | '<' | '>' | '&' | '|' | '^' | ',' | '"'
        )
}
