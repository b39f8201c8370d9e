//! The syntax tree of a query: what the parser builds, the check folds and the engine runs.
//!
//! The tree holds only what can be run: `parent` attributes, uncompiled patterns, aggregates
//! without a comparison and constants that do not fold never get into it. Its height is bounded by
//! the parser, so it may be walked with plain recursion.

use std::sync::Arc;

use super::regex::Pattern;

/// A whole query.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    pub body: Body,
    pub hints: Vec<Hint>,
}

/// `name = value` of `with(…)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Hint {
    pub name: Arc<str>,
    pub value: Static,
}

/// What a query asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Spansets: a search.
    Spansets(Pipeline),
    /// Series. `second` applies to the result of `expr`, left to right; a plain query keeps its own
    /// second stages and leaves this one empty.
    Metrics { expr: MetricsExpr, second: Vec<SecondStage> },
}

/// Stages joined by `|`; at least one. Input of the first is one spanset with all spans of a trace.
#[derive(Clone, Debug, PartialEq)]
pub struct Pipeline {
    pub stages: Vec<Stage>,
}

/// One stage of a pipeline: spansets in, spansets out.
#[derive(Clone, Debug, PartialEq)]
pub enum Stage {
    Spanset(SpansetExpr),
    /// `count() > 2`
    Scalar(ScalarFilter),
    /// `by(…)`
    Group(FieldExpr),
    /// `coalesce()`
    Coalesce,
    /// `select(…)`; at least one attribute.
    Select(Vec<Attribute>),
}

/// An expression over spansets.
#[derive(Clone, Debug, PartialEq)]
pub enum SpansetExpr {
    Filter(SpansetFilter),
    And(Box<SpansetExpr>, Box<SpansetExpr>),
    Or(Box<SpansetExpr>, Box<SpansetExpr>),
    Relation {
        relation: Relation,
        mode: RelationMode,
        left: Box<SpansetExpr>,
        right: Box<SpansetExpr>,
    },
    /// A pipeline in parentheses as an operand. Not nested: its stages hold no further pipeline.
    Pipeline(Pipeline),
}

/// `{ expr }`; `{}` is `{ true }`. The expression is boolean or of unknown type.
#[derive(Clone, Debug, PartialEq)]
pub struct SpansetFilter {
    pub expr: FieldExpr,
}

/// How the right-hand span stands to the left-hand one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Relation {
    /// `>`: right is a child of left.
    Child,
    /// `>>`
    Descendant,
    /// `<`: right is the parent of left.
    Parent,
    /// `<<`
    Ancestor,
    /// `~`
    Sibling,
}

/// Which spans a relation returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RelationMode {
    /// `>`: right-hand spans that are in the relation.
    Related,
    /// `!>`: right-hand spans that are not.
    Unrelated,
    /// `&>`: both spans of every pair.
    Union,
}

/// `aggregate cmp constant`.
#[derive(Clone, Debug, PartialEq)]
pub struct ScalarFilter {
    pub aggregate: Aggregate,
    pub comparison: Comparison,
}

/// `cmp constant`. The value is an int, a float or a duration.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    pub op: CompareOp,
    pub value: Static,
}

/// One number for a spanset.
#[derive(Clone, Debug, PartialEq)]
pub enum Aggregate {
    Count,
    Of(AggregateFn, FieldExpr),
}

/// A function over the values of a spanset's spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AggregateFn {
    Avg,
    Max,
    Min,
    Sum,
}

/// An expression over one span.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldExpr {
    Static(Static),
    Attribute(Attribute),
    /// `!x`
    Not(Box<FieldExpr>),
    /// `-x`
    Negate(Box<FieldExpr>),
    /// Two or more operands joined by one operator; none of them is `Logical` with the same
    /// operator.
    Logical {
        op: LogicalOp,
        operands: Vec<FieldExpr>,
    },
    Compare {
        op: CompareOp,
        left: Box<FieldExpr>,
        right: Box<FieldExpr>,
    },
    /// `=~`, or `!~` if negated. The pattern covers the whole value.
    Match {
        negated: bool,
        value: Box<FieldExpr>,
        pattern: Pattern,
    },
    /// `= nil`, or `!= nil` if negated.
    Nil {
        negated: bool,
        operand: Box<FieldExpr>,
    },
    Arithmetic {
        op: ArithmeticOp,
        left: Box<FieldExpr>,
        right: Box<FieldExpr>,
    },
}

/// `&&` and `||`. An operand without a boolean value counts as false.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogicalOp {
    And,
    Or,
}

/// Comparison of two values. Booleans, statuses and kinds know equality only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CompareOp {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

/// Arithmetic of numbers and durations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ArithmeticOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
}

/// A named value of a span.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Attribute {
    /// Without a scope: the span's, else the resource's.
    Named {
        scope: Option<Scope>,
        name: Arc<str>,
    },
    Intrinsic(Intrinsic),
}

/// Where an attribute lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    Span,
    Resource,
    Event,
    Link,
    Instrumentation,
}

/// A value that every span has, or that belongs to its trace, events, links or scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Intrinsic {
    Name,
    Duration,
    Status,
    StatusMessage,
    Kind,
    SpanId,
    ParentId,
    ChildCount,
    NestedSetLeft,
    NestedSetRight,
    NestedSetParent,
    TraceId,
    TraceDuration,
    RootName,
    RootServiceName,
    EventName,
    EventTimeSinceStart,
    LinkTraceId,
    LinkSpanId,
    InstrumentationName,
    InstrumentationVersion,
}

/// A constant.
#[derive(Clone, Debug, PartialEq)]
pub enum Static {
    Int(i64),
    Float(f64),
    Str(Arc<str>),
    Bool(bool),
    /// Nanoseconds.
    Duration(i64),
    Status(Status),
    Kind(Kind),
}

/// Status of a span, with OTLP's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    Unset = 0,
    Ok = 1,
    Error = 2,
}

/// Kind of a span, with OTLP's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Unspecified = 0,
    Internal = 1,
    Server = 2,
    Client = 3,
    Producer = 4,
    Consumer = 5,
}

/// Type of an expression, as far as it is known before the query runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    Int,
    Float,
    Str,
    Bool,
    Duration,
    Status,
    Kind,
    /// Known at run time only: attributes.
    Any,
}

/// An expression over series.
#[derive(Clone, Debug, PartialEq)]
pub enum MetricsExpr {
    Query(MetricsQuery),
    /// An int or a float; never both operands of `Math`, never the whole expression.
    Constant(Static),
    Math {
        op: MathOp,
        left: Box<MetricsExpr>,
        right: Box<MetricsExpr>,
    },
}

/// Arithmetic of series, sample by sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MathOp {
    Add,
    Sub,
    Mul,
    Div,
}

/// `pipeline | first | second …`
#[derive(Clone, Debug, PartialEq)]
pub struct MetricsQuery {
    pub pipeline: Pipeline,
    pub first: FirstStage,
    pub second: Vec<SecondStage>,
}

/// The stage that makes series of spans.
#[derive(Clone, Debug, PartialEq)]
pub enum FirstStage {
    Function {
        function: MetricsFn,
        by: Vec<Attribute>,
    },
    /// `compare({ selection }, top, start, end)`: times in Unix nanoseconds, both zero if not
    /// given.
    Compare {
        selection: SpansetFilter,
        top: usize,
        start_nanos: u64,
        end_nanos: u64,
    },
}

/// A metrics function and its arguments.
#[derive(Clone, Debug, PartialEq)]
pub enum MetricsFn {
    Rate,
    CountOverTime,
    MinOverTime(Attribute),
    MaxOverTime(Attribute),
    AvgOverTime(Attribute),
    SumOverTime(Attribute),
    HistogramOverTime(Attribute),
    /// Quantiles between 0 and 1, at least one.
    QuantileOverTime(Attribute, Vec<f64>),
}

/// A stage over finished series.
#[derive(Clone, Debug, PartialEq)]
pub enum SecondStage {
    TopK(usize),
    BottomK(usize),
    Filter(Comparison),
}

impl Query {
    /// Value of a hint; of several with one name the last counts.
    pub fn hint(&self, name: &str) -> Option<&Static> {
        self.hints.iter().rev().find(|hint| &*hint.name == name).map(|hint| &hint.value)
    }
}

impl FieldExpr {
    /// Calls `visit` with every attribute in the expression, left to right.
    pub fn for_each_attribute<'a>(&'a self, visit: &mut impl FnMut(&'a Attribute)) {
        match self {
            FieldExpr::Static(_) => {}
            FieldExpr::Attribute(attribute) => visit(attribute),
            FieldExpr::Not(operand)
            | FieldExpr::Negate(operand)
            | FieldExpr::Nil { operand, .. }
            | FieldExpr::Match { value: operand, .. } => operand.for_each_attribute(visit),
            FieldExpr::Logical { operands, .. } => {
                for operand in operands {
                    operand.for_each_attribute(visit);
                }
            }
            FieldExpr::Compare { left, right, .. } | FieldExpr::Arithmetic { left, right, .. } => {
                left.for_each_attribute(visit);
                right.for_each_attribute(visit);
            }
        }
    }
}

impl MetricsFn {
    /// Name of the function, which is the `__name__` of its ungrouped series.
    pub fn name(&self) -> &'static str {
        match self {
            MetricsFn::Rate => "rate",
            MetricsFn::CountOverTime => "count_over_time",
            MetricsFn::MinOverTime(_) => "min_over_time",
            MetricsFn::MaxOverTime(_) => "max_over_time",
            MetricsFn::AvgOverTime(_) => "avg_over_time",
            MetricsFn::SumOverTime(_) => "sum_over_time",
            MetricsFn::HistogramOverTime(_) => "histogram_over_time",
            MetricsFn::QuantileOverTime(..) => "quantile_over_time",
        }
    }
}

impl CompareOp {
    /// The operator that says the same with its sides swapped: `1 < x` is `x > 1`.
    pub fn flipped(self) -> CompareOp {
        match self {
            CompareOp::Equal | CompareOp::NotEqual => self,
            CompareOp::Less => CompareOp::Greater,
            CompareOp::LessEqual => CompareOp::GreaterEqual,
            CompareOp::Greater => CompareOp::Less,
            CompareOp::GreaterEqual => CompareOp::LessEqual,
        }
    }
}

impl Attribute {
    /// The name without its scope: the key of the attribute in a search result.
    pub fn bare_name(&self) -> &str {
        match self {
            Attribute::Named { name, .. } => name,
            Attribute::Intrinsic(intrinsic) => intrinsic.output_name(),
        }
    }
}

impl Scope {
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Span => "span",
            Scope::Resource => "resource",
            Scope::Event => "event",
            Scope::Link => "link",
            Scope::Instrumentation => "instrumentation",
        }
    }
}

impl Intrinsic {
    /// Name in labels, `by(…)` and returned attributes; itself a way to write the intrinsic.
    pub fn output_name(self) -> &'static str {
        match self {
            Intrinsic::Name => "name",
            Intrinsic::Duration => "duration",
            Intrinsic::Status => "status",
            Intrinsic::StatusMessage => "statusMessage",
            Intrinsic::Kind => "kind",
            Intrinsic::SpanId => "span:id",
            Intrinsic::ParentId => "span:parentID",
            Intrinsic::ChildCount => "span:childCount",
            Intrinsic::NestedSetLeft => "nestedSetLeft",
            Intrinsic::NestedSetRight => "nestedSetRight",
            Intrinsic::NestedSetParent => "nestedSetParent",
            Intrinsic::TraceId => "trace:id",
            Intrinsic::TraceDuration => "traceDuration",
            Intrinsic::RootName => "rootName",
            Intrinsic::RootServiceName => "rootServiceName",
            Intrinsic::EventName => "event:name",
            Intrinsic::EventTimeSinceStart => "event:timeSinceStart",
            Intrinsic::LinkTraceId => "link:traceID",
            Intrinsic::LinkSpanId => "link:spanID",
            Intrinsic::InstrumentationName => "instrumentation:name",
            Intrinsic::InstrumentationVersion => "instrumentation:version",
        }
    }

    /// Type in the check. The two of the instrumentation scope are strings that Tempo leaves
    /// untyped.
    pub fn type_of(self) -> Type {
        match self {
            Intrinsic::Duration | Intrinsic::TraceDuration | Intrinsic::EventTimeSinceStart => {
                Type::Duration
            }
            Intrinsic::Status => Type::Status,
            Intrinsic::Kind => Type::Kind,
            Intrinsic::ChildCount
            | Intrinsic::NestedSetLeft
            | Intrinsic::NestedSetRight
            | Intrinsic::NestedSetParent => Type::Int,
            Intrinsic::InstrumentationName | Intrinsic::InstrumentationVersion => Type::Any,
            Intrinsic::Name
            | Intrinsic::StatusMessage
            | Intrinsic::SpanId
            | Intrinsic::ParentId
            | Intrinsic::TraceId
            | Intrinsic::RootName
            | Intrinsic::RootServiceName
            | Intrinsic::EventName
            | Intrinsic::LinkTraceId
            | Intrinsic::LinkSpanId => Type::Str,
        }
    }
}

impl Static {
    pub fn type_of(&self) -> Type {
        match self {
            Static::Int(_) => Type::Int,
            Static::Float(_) => Type::Float,
            Static::Str(_) => Type::Str,
            Static::Bool(_) => Type::Bool,
            Static::Duration(_) => Type::Duration,
            Static::Status(_) => Type::Status,
            Static::Kind(_) => Type::Kind,
        }
    }
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Unset => "unset",
            Status::Ok => "ok",
            Status::Error => "error",
        }
    }
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Unspecified => "unspecified",
            Kind::Internal => "internal",
            Kind::Server => "server",
            Kind::Client => "client",
            Kind::Producer => "producer",
            Kind::Consumer => "consumer",
        }
    }
}

impl Type {
    /// Numbers and durations mix freely.
    pub fn is_numeric(self) -> bool {
        matches!(self, Type::Int | Type::Float | Type::Duration)
    }
}
