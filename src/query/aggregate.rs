//! One number for the spans of a spanset, and values as answers show them.

use std::sync::Arc;

use crate::model::Value;
use crate::traceql::{AggregateFn, CompareOp, Comparison, Static, Type, compare, duration_text};

use super::expr::Operand;

/// The aggregate of some values; nothing if none is a number. Sums and averages keep to the type of the first number.
pub fn aggregate(function: AggregateFn, values: impl Iterator<Item = Operand>) -> Option<Static> {
    let mut numbers = values.filter_map(|value| match value {
        Operand::One(value) if value.type_of().is_numeric() => Some(value),
        _ => None,
    });
    match function {
        AggregateFn::Min => numbers.reduce(|best, next| better(CompareOp::Less, best, next)),
        AggregateFn::Max => numbers.reduce(|best, next| better(CompareOp::Greater, best, next)),
        AggregateFn::Sum | AggregateFn::Avg => {
            let first = numbers.next()?;
            let kind = first.type_of();
            let mut sum = Sum::default();
            sum.add(&first);
            numbers.filter(|number| number.type_of() == kind).for_each(|number| sum.add(&number));
            Some(if function == AggregateFn::Sum { sum.total(kind) } else { sum.mean(kind) })
        }
    }
}

fn better(op: CompareOp, best: Static, next: Static) -> Static {
    if compare(op, &next, &best) == Some(true) { next } else { best }
}

/// A sum of numbers of one type. Whole numbers do not overflow on the way.
#[derive(Default)]
struct Sum {
    whole: i128,
    float: f64,
    count: u32,
}

impl Sum {
    fn add(&mut self, number: &Static) {
        match number {
            Static::Int(number) | Static::Duration(number) => self.whole += i128::from(*number),
            Static::Float(number) => self.float += number,
            Static::Str(_) | Static::Bool(_) | Static::Status(_) | Static::Kind(_) => return,
        }
        self.count = self.count.saturating_add(1);
    }

    fn total(&self, kind: Type) -> Static {
        match kind {
            Type::Float => Static::Float(self.float),
            Type::Duration => Static::Duration(clamped(self.whole)),
            _ => Static::Int(clamped(self.whole)),
        }
    }

    fn mean(&self, kind: Type) -> Static {
        let count = self.count.max(1);
        match kind {
            Type::Float => Static::Float(self.float / f64::from(count)),
            Type::Duration => Static::Duration(clamped(self.whole / i128::from(count))),
            _ => Static::Float(self.whole as f64 / f64::from(count)),
        }
    }
}

fn clamped(whole: i128) -> i64 {
    i64::try_from(whole).unwrap_or(if whole < 0 { i64::MIN } else { i64::MAX })
}

/// Whether a value compares with a constant as asked.
pub fn satisfies(value: &Static, comparison: &Comparison) -> bool {
    compare(comparison.op, value, &comparison.value) == Some(true)
}

/// A value as it is shown: durations, statuses and kinds are words.
pub fn to_value(value: &Operand) -> Value {
    match value {
        Operand::Many(array) => array.clone(),
        Operand::One(Static::Int(number)) => Value::Int(*number),
        Operand::One(Static::Float(number)) => Value::Float(*number),
        Operand::One(Static::Str(text)) => Value::Str(Arc::clone(text)),
        Operand::One(Static::Bool(value)) => Value::Bool(*value),
        Operand::One(Static::Duration(nanos)) => Value::str(&duration_text(*nanos)),
        Operand::One(Static::Status(status)) => Value::str(status.as_str()),
        Operand::One(Static::Kind(kind)) => Value::str(kind.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Static::{Duration, Float, Int};

    fn check(function: AggregateFn, values: &[Static], expected: Option<Static>) {
        let values = values.iter().cloned().map(Operand::One);
        assert_eq!(aggregate(function, values), expected, "{function:?}");
    }

    #[test]
    fn negative_numbers_are_numbers() {
        let numbers = [Int(-3), Int(-4), Static::Str("x".into()), Float(1.0)];
        check(AggregateFn::Sum, &numbers, Some(Int(-7)));
        check(AggregateFn::Avg, &numbers, Some(Float(-3.5)));
        check(AggregateFn::Min, &numbers, Some(Int(-4)));
        check(AggregateFn::Max, &numbers, Some(Float(1.0)));
        check(AggregateFn::Min, &[Float(-0.5), Float(-1.5)], Some(Float(-1.5)));
    }

    #[test]
    fn durations_stay_durations() {
        check(AggregateFn::Avg, &[Duration(3), Duration(4)], Some(Duration(3)));
        check(AggregateFn::Sum, &[Duration(i64::MAX), Duration(1)], Some(Duration(i64::MAX)));
        check(AggregateFn::Max, &[], None);
        check(AggregateFn::Sum, &[Static::Bool(true)], None);
    }
}
