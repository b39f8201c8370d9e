//! Folds the constants of a tree and refuses what its types or arguments do not allow.
//!
//! An attribute's type is known at run time only and goes with everything.

use super::ast::{
    Aggregate, Attribute, Body, CompareOp, FieldExpr, FirstStage, MetricsExpr, MetricsFn,
    MetricsQuery, Pipeline, Query, Scope, SecondStage, SpansetExpr, SpansetFilter, Stage, Static,
    Type,
};
use super::error::{ParseError, excerpt};
use super::fold::fold;
use super::literal::duration;
use super::token::{Token, keyword};

/// Most attributes of a metrics `by`; Tempo's.
const MAX_GROUP_ATTRIBUTES: usize = 5;

/// Largest `n` of `compare`; Tempo's.
const MAX_COMPARE_TOP: usize = 1000;

type Checked<T = ()> = Result<T, ParseError>;

/// Folds and checks a query in place.
pub(super) fn check(query: &mut Query) -> Checked {
    match &mut query.body {
        Body::Spansets(pipeline) => check_pipeline(pipeline),
        Body::Metrics { expr, second } => {
            check_metrics(expr)?;
            check_second(second)
        }
    }
}

fn check_pipeline(pipeline: &mut Pipeline) -> Checked {
    for stage in &mut pipeline.stages {
        match stage {
            Stage::Spanset(expr) => check_spansets(expr)?,
            Stage::Scalar(filter) => check_aggregate(&mut filter.aggregate)?,
            Stage::Group(expr) => {
                check_field(expr)?;
                if !references_span(expr) {
                    let what = format!("by() needs a value of the span: {}", excerpt(expr));
                    return Err(ParseError::types(what));
                }
            }
            Stage::Coalesce | Stage::Select(_) => {}
        }
    }
    Ok(())
}

fn check_spansets(expr: &mut SpansetExpr) -> Checked {
    match expr {
        SpansetExpr::Filter(filter) => check_filter(filter),
        SpansetExpr::And(left, right)
        | SpansetExpr::Or(left, right)
        | SpansetExpr::Relation { left, right, .. } => {
            check_spansets(left)?;
            check_spansets(right)
        }
        SpansetExpr::Pipeline(pipeline) => check_pipeline(pipeline),
    }
}

fn check_filter(filter: &mut SpansetFilter) -> Checked {
    match check_field(&mut filter.expr)? {
        Type::Bool | Type::Any => Ok(()),
        other => {
            let (expr, other) = (excerpt(&filter.expr), noun(other));
            Err(ParseError::types(format!("a filter is true or false, not {other}: {expr}")))
        }
    }
}

fn check_aggregate(aggregate: &mut Aggregate) -> Checked {
    let Aggregate::Of(function, expr) = aggregate else {
        return Ok(());
    };
    let argument = check_field(expr)?;
    if argument != Type::Any && !argument.is_numeric() {
        let (expr, argument) = (excerpt(expr), noun(argument));
        let what = format!("{function}() needs a number, not {argument}: {expr}");
        return Err(ParseError::types(what));
    }
    if !references_span(expr) {
        let what = format!("{function}() needs a value of the span: {}", excerpt(expr));
        return Err(ParseError::types(what));
    }
    Ok(())
}

fn references_span(expr: &FieldExpr) -> bool {
    let mut found = false;
    expr.for_each_attribute(&mut |_| found = true);
    found
}

/// Folds and checks an expression, and tells its type.
fn check_field(expr: &mut FieldExpr) -> Checked<Type> {
    let found = match expr {
        FieldExpr::Static(value) => return Ok(value.type_of()),
        FieldExpr::Attribute(Attribute::Intrinsic(intrinsic)) => return Ok(intrinsic.type_of()),
        FieldExpr::Attribute(Attribute::Named { .. }) => return Ok(Type::Any),
        FieldExpr::Not(operand) => {
            let operand = check_field(operand)?;
            require(matches!(operand, Type::Bool | Type::Any), expr, "!", operand)?;
            Type::Bool
        }
        FieldExpr::Negate(operand) => {
            let operand = check_field(operand)?;
            require(operand.is_numeric() || operand == Type::Any, expr, "-", operand)?;
            operand
        }
        FieldExpr::Logical { op, operands } => {
            let op = op.to_string();
            if let Some(misfit) = check_logical(operands)? {
                require(false, expr, &op, misfit)?;
            }
            Type::Bool
        }
        FieldExpr::Compare { op, left, right } => {
            let op = *op;
            let (left, right) = (check_field(left)?, check_field(right)?);
            check_types(expr, left, right, &op.to_string(), |operand| match op {
                CompareOp::Equal | CompareOp::NotEqual => true,
                _ => operand.is_numeric() || operand == Type::Str,
            })?;
            Type::Bool
        }
        FieldExpr::Match { negated, value, .. } => {
            let op = if *negated { "!~" } else { "=~" };
            let value = check_field(value)?;
            require(matches!(value, Type::Str | Type::Any), expr, op, value)?;
            Type::Bool
        }
        FieldExpr::Nil { negated, operand } => {
            check_field(operand)?;
            if !*negated && is_never_nil(operand) {
                return Err(ParseError::types(format!("{operand} is never nil")));
            }
            Type::Bool
        }
        FieldExpr::Arithmetic { op, left, right } => {
            let op = op.to_string();
            let (left, right) = (check_field(left)?, check_field(right)?);
            check_types(expr, left, right, &op, Type::is_numeric)?;
            if left == Type::Any { right } else { left }
        }
    };
    let Some(value) = fold(expr) else {
        return Ok(found);
    };
    let found = value.type_of();
    *expr = FieldExpr::Static(value);
    Ok(found)
}

/// Folds and checks the operands of `&&` or `||`, and tells the first type that is not for them.
fn check_logical(operands: &mut [FieldExpr]) -> Checked<Option<Type>> {
    let mut misfit = None;
    for operand in operands {
        let operand = check_field(operand)?;
        if !matches!(operand, Type::Bool | Type::Any) {
            misfit = misfit.or(Some(operand));
        }
    }
    Ok(misfit)
}

fn is_never_nil(expr: &FieldExpr) -> bool {
    match expr {
        FieldExpr::Attribute(Attribute::Intrinsic(_)) => true,
        FieldExpr::Attribute(Attribute::Named { scope: Some(Scope::Resource), name }) => {
            &**name == "service.name"
        }
        _ => false,
    }
}

/// Checks the operands of a binary operation: that they go together, then that the operator takes
/// them.
fn check_types(
    expr: &FieldExpr,
    left: Type,
    right: Type,
    op: &str,
    takes: impl Fn(Type) -> bool,
) -> Checked {
    let together = left == right
        || left == Type::Any
        || right == Type::Any
        || (left.is_numeric() && right.is_numeric());
    if !together {
        let (text, left_noun, right_noun) = (excerpt(expr), noun(left), noun(right));
        let what = format!("{left_noun} and {right_noun} do not go together: {text}");
        return Err(ParseError::types(what).advise(unquote(expr, left, right)));
    }
    for operand in [left, right] {
        require(operand == Type::Any || takes(operand), expr, op, operand)?;
    }
    Ok(())
}

/// Refuses an operand that an operator does not take.
fn require(takes: bool, expr: &FieldExpr, op: &str, operand: Type) -> Checked {
    if takes {
        return Ok(());
    }
    let what = format!("{op} does not take {}: {}", noun(operand), excerpt(expr));
    Err(ParseError::types(what))
}

/// Says what to write for a word of the language that was put in quotes, as in `status = "error"`.
fn unquote(expr: &FieldExpr, left: Type, right: Type) -> Option<String> {
    let FieldExpr::Compare { op, left: value, right: literal } = expr else {
        return None;
    };
    match (left, right, &**literal) {
        (Type::Status | Type::Kind | Type::Duration, Type::Str, FieldExpr::Static(literal)) => {
            let Static::Str(text) = literal else {
                return None;
            };
            let word = keyword(text);
            let fits = matches!(&word, Some(Token::Literal(word)) if word.type_of() == left)
                || (left == Type::Duration && duration(text).is_some());
            fits.then(|| format!("write {value} {op} {text}, without quotes"))
                .or_else(|| values_of(left))
        }
        _ => values_of(left),
    }
}

fn values_of(found: Type) -> Option<String> {
    match found {
        Type::Status => Some("a status is ok, error or unset".to_owned()),
        Type::Kind => {
            let kinds = "unspecified, internal, server, client, producer or consumer";
            Some(format!("a kind is {kinds}"))
        }
        _ => None,
    }
}

fn noun(found: Type) -> &'static str {
    match found {
        Type::Int => "an integer",
        Type::Float => "a float",
        Type::Str => "a string",
        Type::Bool => "a boolean",
        Type::Duration => "a duration",
        Type::Status => "a status",
        Type::Kind => "a kind",
        Type::Any => "an attribute",
    }
}

fn check_metrics(expr: &mut MetricsExpr) -> Checked {
    match expr {
        MetricsExpr::Constant(_) => Ok(()),
        MetricsExpr::Query(query) => check_query(query),
        MetricsExpr::Math { left, right, .. } => {
            for side in [left, right] {
                if let MetricsExpr::Query(query) = &**side
                    && matches!(query.first, FirstStage::Compare { .. })
                {
                    return Err(ParseError::types("compare() cannot be part of metrics math"));
                }
                check_metrics(side)?;
            }
            Ok(())
        }
    }
}

fn check_query(query: &mut MetricsQuery) -> Checked {
    check_pipeline(&mut query.pipeline)?;
    match &mut query.first {
        FirstStage::Function { function, by } => check_function(function, by)?,
        FirstStage::Compare { selection, top, start_nanos, end_nanos } => {
            check_filter(selection)?;
            if !(1..=MAX_COMPARE_TOP).contains(top) {
                let what = format!("compare() lists 1 to {MAX_COMPARE_TOP} values, not {top}");
                return Err(ParseError::types(what));
            }
            let (start, end) = (*start_nanos, *end_nanos);
            if (start, end) != (0, 0) && (start == 0 || end <= start) {
                return Err(ParseError::types("the end of compare() must be after its start"));
            }
            if !query.second.is_empty() {
                return Err(ParseError::types("nothing can follow compare()"));
            }
        }
    }
    check_second(&query.second)
}

fn check_function(function: &MetricsFn, by: &[Attribute]) -> Checked {
    let own_label = match function {
        MetricsFn::AvgOverTime(_) | MetricsFn::HistogramOverTime(_) => 1,
        MetricsFn::QuantileOverTime(_, quantiles) => {
            if let Some(quantile) = quantiles.iter().find(|q| !(0.0..=1.0).contains(*q)) {
                let what = format!("a quantile is between 0 and 1, not {quantile}");
                return Err(ParseError::types(what));
            }
            1
        }
        _ => 0,
    };
    let most = MAX_GROUP_ATTRIBUTES - own_label;
    if by.len() > most {
        let what = format!("{}() groups by at most {most} attributes", function.name());
        return Err(ParseError::unsupported(what));
    }
    Ok(())
}

fn check_second(stages: &[SecondStage]) -> Checked {
    if stages.iter().any(|stage| matches!(stage, SecondStage::TopK(0) | SecondStage::BottomK(0))) {
        return Err(ParseError::types("topk() and bottomk() keep at least one series"));
    }
    Ok(())
}
