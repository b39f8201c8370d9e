//! A tree back to text.
//!
//! The text of an attribute, aggregate or expression is its canonical name in labels and in the
//! attributes of a spanset. The text of a query parses to the same tree.

use std::fmt::{self, Display, Formatter, Write as _};

use super::ast::{
    Aggregate, AggregateFn, ArithmeticOp, Attribute, Body, CompareOp, Comparison, FieldExpr,
    FirstStage, Intrinsic, Kind, LogicalOp, MathOp, MetricsExpr, MetricsFn, MetricsQuery, Pipeline,
    Query, Relation, RelationMode, ScalarFilter, Scope, SecondStage, SpansetExpr, SpansetFilter,
    Stage, Static, Status,
};
use super::token::is_name_char;

impl Display for Query {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.body.fmt(f)?;
        if self.hints.is_empty() {
            return Ok(());
        }
        f.write_str(" with(")?;
        let hints = self.hints.iter().map(|hint| format!("{}={}", hint.name, hint.value));
        write_list(f, hints)?;
        f.write_char(')')
    }
}

impl Display for Body {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Body::Spansets(pipeline) => pipeline.fmt(f),
            Body::Metrics { expr, second } => {
                expr.fmt(f)?;
                second.iter().try_for_each(|stage| stage.fmt(f))
            }
        }
    }
}

impl Display for Pipeline {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (index, stage) in self.stages.iter().enumerate() {
            if index > 0 {
                f.write_str(" | ")?;
            }
            stage.fmt(f)?;
        }
        Ok(())
    }
}

impl Display for Stage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Stage::Spanset(expr) => expr.fmt(f),
            Stage::Scalar(filter) => filter.fmt(f),
            Stage::Group(expr) => write!(f, "by({expr})"),
            Stage::Coalesce => f.write_str("coalesce()"),
            Stage::Select(attributes) => {
                f.write_str("select(")?;
                write_list(f, attributes)?;
                f.write_char(')')
            }
        }
    }
}

impl Display for SpansetExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            SpansetExpr::Filter(filter) => filter.fmt(f),
            SpansetExpr::Pipeline(pipeline) => pipeline.fmt(f),
            SpansetExpr::And(left, right) => write_spansets(f, left, "&&", right, 1),
            SpansetExpr::Or(left, right) => write_spansets(f, left, "||", right, 1),
            SpansetExpr::Relation { relation, mode, left, right } => {
                write_spansets(f, left, &format!("{mode}{relation}"), right, 2)
            }
        }
    }
}

/// Parentheses stand where the precedence needs them, and around pipelines.
///
/// More of them would not do: a group of pipelines must begin with one that has a `|`.
fn write_spansets(
    f: &mut Formatter<'_>,
    left: &SpansetExpr,
    op: &str,
    right: &SpansetExpr,
    level: u8,
) -> fmt::Result {
    write_spanset(f, left, level)?;
    write!(f, " {op} ")?;
    write_spanset(f, right, level + 1)
}

fn write_spanset(f: &mut Formatter<'_>, expr: &SpansetExpr, least: u8) -> fmt::Result {
    if spanset_level(expr) < least { write!(f, "({expr})") } else { expr.fmt(f) }
}

/// How tightly an expression holds together; a pipeline always needs its parentheses.
fn spanset_level(expr: &SpansetExpr) -> u8 {
    match expr {
        SpansetExpr::Pipeline(_) => 0,
        SpansetExpr::And(..) | SpansetExpr::Or(..) => 1,
        SpansetExpr::Relation { .. } => 2,
        SpansetExpr::Filter(_) => 3,
    }
}

impl Display for SpansetFilter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{{ {} }}", self.expr)
    }
}

impl Display for ScalarFilter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.aggregate, self.comparison)
    }
}

impl Display for Comparison {
    /// With a space in front, as it always follows something.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, " {} ", self.op)?;
        write_constant(f, &self.value)
    }
}

impl Display for Aggregate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Aggregate::Count => f.write_str("count()"),
            Aggregate::Of(function, expr) => write!(f, "{function}({expr})"),
        }
    }
}

impl Display for FieldExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            FieldExpr::Static(value) => value.fmt(f),
            FieldExpr::Attribute(attribute) => attribute.fmt(f),
            FieldExpr::Not(operand) => {
                f.write_char('!')?;
                write_operand(f, operand)
            }
            FieldExpr::Negate(operand) => {
                f.write_char('-')?;
                write_operand(f, operand)
            }
            FieldExpr::Logical { op, operands } => write_logical(f, *op, operands),
            FieldExpr::Compare { op, left, right } => {
                write_operand(f, left)?;
                write!(f, " {op} ")?;
                write_operand(f, right)
            }
            FieldExpr::Match { negated, value, pattern } => {
                write_operand(f, value)?;
                f.write_str(if *negated { " !~ " } else { " =~ " })?;
                write_string(f, pattern.text())
            }
            FieldExpr::Nil { negated, operand } => {
                write_operand(f, operand)?;
                f.write_str(if *negated { " != nil" } else { " = nil" })
            }
            FieldExpr::Arithmetic { op, left, right } => {
                let tight = !matches!(op, ArithmeticOp::Add | ArithmeticOp::Sub);
                match &**left {
                    // A sign would take the whole product with it.
                    FieldExpr::Static(value) if tight && is_negative(value) => {
                        write!(f, "({value})")?;
                    }
                    left => write_operand(f, left)?,
                }
                write!(f, " {op} ")?;
                write_operand(f, right)
            }
        }
    }
}

/// Left-associative: `((a && b) && c) && d`.
fn write_logical(f: &mut Formatter<'_>, op: LogicalOp, operands: &[FieldExpr]) -> fmt::Result {
    for _ in 2..operands.len() {
        f.write_char('(')?;
    }
    for (index, operand) in operands.iter().enumerate() {
        if index > 1 {
            f.write_char(')')?;
        }
        if index > 0 {
            write!(f, " {op} ")?;
        }
        write_operand(f, operand)?;
    }
    Ok(())
}

fn write_operand(f: &mut Formatter<'_>, expr: &FieldExpr) -> fmt::Result {
    match expr {
        FieldExpr::Static(_) | FieldExpr::Attribute(_) => expr.fmt(f),
        _ => write!(f, "({expr})"),
    }
}

fn is_negative(value: &Static) -> bool {
    match value {
        Static::Int(value) => *value < 0 && *value != i64::MIN,
        Static::Duration(value) => *value < 0,
        Static::Float(value) => value.is_sign_negative(),
        Static::Str(_) | Static::Bool(_) | Static::Status(_) | Static::Kind(_) => false,
    }
}

impl Display for Attribute {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (scope, name) = match self {
            Attribute::Intrinsic(intrinsic) => return intrinsic.fmt(f),
            Attribute::Named { scope, name } => (scope, name),
        };
        if let Some(scope) = scope {
            scope.fmt(f)?;
        }
        f.write_char('.')?;
        // `.5` would be a number.
        let is_number = scope.is_none() && name.starts_with(|c: char| c.is_ascii_digit());
        if !name.is_empty() && !is_number && name.chars().all(is_name_char) {
            return f.write_str(name);
        }
        f.write_char('"')?;
        for c in name.chars() {
            if matches!(c, '"' | '\\') {
                f.write_char('\\')?;
            }
            f.write_char(c)?;
        }
        f.write_char('"')
    }
}

impl Display for Static {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Static::Int(i64::MIN) => f.write_str("minInt"),
            Static::Int(value) => value.fmt(f),
            Static::Float(value) => write!(f, "{value:?}"),
            Static::Str(text) => write_string(f, text),
            Static::Bool(value) => value.fmt(f),
            Static::Duration(nanos) => write_duration(f, *nanos),
            Static::Status(status) => status.fmt(f),
            Static::Kind(kind) => kind.fmt(f),
        }
    }
}

/// In backticks, or in double quotes if backticks cannot hold it.
fn write_string(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    if !text.contains(['`', '\r']) {
        return write!(f, "`{text}`");
    }
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

/// A number where only literals and their sums may stand, which leave some values without a
/// literal.
fn write_constant(f: &mut Formatter<'_>, value: &Static) -> fmt::Result {
    match value {
        Static::Int(i64::MIN) => write!(f, "({} - 1)", -i64::MAX),
        Static::Float(value) if value.is_nan() => f.write_str("(0.0 / 0.0)"),
        Static::Float(f64::INFINITY) => f.write_str("(1.0 / 0.0)"),
        Static::Float(f64::NEG_INFINITY) => f.write_str("(-1.0 / 0.0)"),
        value => value.fmt(f),
    }
}

/// A duration as Go writes it: `1h1m30s`, `2.257142857s`, `1.5µs`, `0s`.
pub fn duration_text(nanos: i64) -> String {
    Static::Duration(nanos).to_string()
}

fn write_duration(f: &mut Formatter<'_>, nanos: i64) -> fmt::Result {
    if nanos < 0 {
        f.write_char('-')?;
    }
    let nanos = nanos.unsigned_abs();
    match nanos {
        0 => f.write_str("0s"),
        1..1_000 => write!(f, "{nanos}ns"),
        1_000..1_000_000 => write_decimal(f, nanos, 1_000, 3, "\u{b5}s"),
        1_000_000..1_000_000_000 => write_decimal(f, nanos, 1_000_000, 6, "ms"),
        _ => {
            let (minutes, rest) = (nanos / 60_000_000_000, nanos % 60_000_000_000);
            if minutes >= 60 {
                write!(f, "{}h", minutes / 60)?;
            }
            if minutes > 0 {
                write!(f, "{}m", minutes % 60)?;
            }
            write_decimal(f, rest, 1_000_000_000, 9, "s")
        }
    }
}

/// `value / scale` with at most `digits` decimals, none of them a trailing zero.
fn write_decimal(
    f: &mut Formatter<'_>,
    value: u64,
    scale: u64,
    digits: usize,
    unit: &str,
) -> fmt::Result {
    write!(f, "{}", value / scale)?;
    let fraction = format!("{:0digits$}", value % scale);
    let fraction = fraction.trim_end_matches('0');
    if !fraction.is_empty() {
        write!(f, ".{fraction}")?;
    }
    f.write_str(unit)
}

impl Display for MetricsExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let operand = |f: &mut Formatter<'_>, expr: &MetricsExpr| match expr {
            MetricsExpr::Constant(_) => expr.fmt(f),
            _ => write!(f, "({expr})"),
        };
        match self {
            MetricsExpr::Query(query) => query.fmt(f),
            MetricsExpr::Constant(value) => write_constant(f, value),
            MetricsExpr::Math { op, left, right } => {
                operand(f, left)?;
                write!(f, " {op} ")?;
                operand(f, right)
            }
        }
    }
}

impl Display for MetricsQuery {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} | {}", self.pipeline, self.first)?;
        self.second.iter().try_for_each(|stage| stage.fmt(f))
    }
}

impl Display for FirstStage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            FirstStage::Function { function, by } => {
                function.fmt(f)?;
                if by.is_empty() {
                    return Ok(());
                }
                f.write_str(" by (")?;
                write_list(f, by)?;
                f.write_char(')')
            }
            FirstStage::Compare { selection, top, start_nanos: 0, end_nanos: 0 } => {
                write!(f, "compare({selection}, {top})")
            }
            FirstStage::Compare { selection, top, start_nanos, end_nanos } => {
                write!(f, "compare({selection}, {top}, {start_nanos}, {end_nanos})")
            }
        }
    }
}

impl Display for MetricsFn {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = self.name();
        match self {
            MetricsFn::Rate | MetricsFn::CountOverTime => write!(f, "{name}()"),
            MetricsFn::MinOverTime(argument)
            | MetricsFn::MaxOverTime(argument)
            | MetricsFn::AvgOverTime(argument)
            | MetricsFn::SumOverTime(argument)
            | MetricsFn::HistogramOverTime(argument) => write!(f, "{name}({argument})"),
            MetricsFn::QuantileOverTime(argument, quantiles) => {
                write!(f, "{name}({argument}, ")?;
                write_list(f, quantiles.iter().map(|quantile| format!("{quantile:?}")))?;
                f.write_char(')')
            }
        }
    }
}

impl Display for SecondStage {
    /// With what joins it to the stage before.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            SecondStage::TopK(n) => write!(f, " | topk({n})"),
            SecondStage::BottomK(n) => write!(f, " | bottomk({n})"),
            SecondStage::Filter(comparison) => comparison.fmt(f),
        }
    }
}

fn write_list<T: Display>(
    f: &mut Formatter<'_>,
    items: impl IntoIterator<Item = T>,
) -> fmt::Result {
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        item.fmt(f)?;
    }
    Ok(())
}

/// `Display` for the closed sets of words and operators.
macro_rules! display_as {
    ($($type:ident, $value:ident => $text:expr;)+) => {
        $(impl Display for $type {
            fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
                let $value = *self;
                f.write_str($text)
            }
        })+
    };
}

display_as! {
    Scope, scope => scope.as_str();
    Intrinsic, intrinsic => intrinsic.output_name();
    Status, status => status.as_str();
    Kind, kind => kind.as_str();
    LogicalOp, op => match op {
        LogicalOp::And => "&&",
        LogicalOp::Or => "||",
    };
    CompareOp, op => match op {
        CompareOp::Equal => "=",
        CompareOp::NotEqual => "!=",
        CompareOp::Less => "<",
        CompareOp::LessEqual => "<=",
        CompareOp::Greater => ">",
        CompareOp::GreaterEqual => ">=",
    };
    ArithmeticOp, op => match op {
        ArithmeticOp::Add => "+",
        ArithmeticOp::Sub => "-",
        ArithmeticOp::Mul => "*",
        ArithmeticOp::Div => "/",
        ArithmeticOp::Mod => "%",
        ArithmeticOp::Pow => "^",
    };
    MathOp, op => match op {
        MathOp::Add => "+",
        MathOp::Sub => "-",
        MathOp::Mul => "*",
        MathOp::Div => "/",
    };
    AggregateFn, function => match function {
        AggregateFn::Avg => "avg",
        AggregateFn::Max => "max",
        AggregateFn::Min => "min",
        AggregateFn::Sum => "sum",
    };
    Relation, relation => match relation {
        Relation::Child => ">",
        Relation::Descendant => ">>",
        Relation::Parent => "<",
        Relation::Ancestor => "<<",
        Relation::Sibling => "~",
    };
    RelationMode, mode => match mode {
        RelationMode::Related => "",
        RelationMode::Unrelated => "!",
        RelationMode::Union => "&",
    };
}
