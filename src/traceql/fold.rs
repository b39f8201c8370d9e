//! Arithmetic and comparison of constants, which are also the rules for values at run time.
//!
//! Ints with ints stay ints and wrap; every other mix of numbers, durations included, computes in
//! floats with durations in nanoseconds. What has no value (a division of ints by zero, a string
//! plus a number) is `None`.

use super::ast::{ArithmeticOp, CompareOp, FieldExpr, LogicalOp, Static};

/// Value of `left op right`.
pub fn arithmetic(op: ArithmeticOp, left: &Static, right: &Static) -> Option<Static> {
    if let (Static::Int(left), Static::Int(right)) = (left, right) {
        return int_arithmetic(op, *left, *right).map(Static::Int);
    }
    let (left, right) = (number(left)?, number(right)?);
    Some(Static::Float(match op {
        ArithmeticOp::Add => left + right,
        ArithmeticOp::Sub => left - right,
        ArithmeticOp::Mul => left * right,
        ArithmeticOp::Div => left / right,
        ArithmeticOp::Mod => left % right,
        ArithmeticOp::Pow => left.powf(right),
    }))
}

fn int_arithmetic(op: ArithmeticOp, left: i64, right: i64) -> Option<i64> {
    match op {
        ArithmeticOp::Add => Some(left.wrapping_add(right)),
        ArithmeticOp::Sub => Some(left.wrapping_sub(right)),
        ArithmeticOp::Mul => Some(left.wrapping_mul(right)),
        ArithmeticOp::Div if right == 0 => None,
        ArithmeticOp::Div => Some(left.wrapping_div(right)),
        ArithmeticOp::Mod if right == 0 => None,
        ArithmeticOp::Mod => Some(left.wrapping_rem(right)),
        ArithmeticOp::Pow => int_power(left, right),
    }
}

/// Wrapping power. A negative exponent is a division, with its truncation and its refusal of zero.
fn int_power(base: i64, exponent: i64) -> Option<i64> {
    if exponent < 0 {
        return match base {
            0 => None,
            1 => Some(1),
            -1 => Some(if exponent % 2 == 0 { 1 } else { -1 }),
            _ => Some(0),
        };
    }
    let (mut result, mut square, mut exponent) = (1_i64, base, exponent);
    while exponent > 0 {
        if exponent % 2 == 1 {
            result = result.wrapping_mul(square);
        }
        square = square.wrapping_mul(square);
        exponent /= 2;
    }
    Some(result)
}

/// Truth of `left op right`; `None` if the types do not compare or the operator is not theirs.
pub fn compare(op: CompareOp, left: &Static, right: &Static) -> Option<bool> {
    let equality = matches!(op, CompareOp::Equal | CompareOp::NotEqual);
    match (left, right) {
        (Static::Int(left), Static::Int(right)) => Some(holds(op, left, right)),
        (Static::Str(left), Static::Str(right)) => Some(holds(op, left, right)),
        (Static::Bool(left), Static::Bool(right)) if equality => Some(holds(op, left, right)),
        (Static::Status(left), Static::Status(right)) if equality => {
            Some(holds(op, &(*left as u8), &(*right as u8)))
        }
        (Static::Kind(left), Static::Kind(right)) if equality => {
            Some(holds(op, &(*left as u8), &(*right as u8)))
        }
        _ => Some(holds(op, &number(left)?, &number(right)?)),
    }
}

fn holds<T: PartialOrd + ?Sized>(op: CompareOp, left: &T, right: &T) -> bool {
    match op {
        CompareOp::Equal => left == right,
        CompareOp::NotEqual => left != right,
        CompareOp::Less => left < right,
        CompareOp::LessEqual => left <= right,
        CompareOp::Greater => left > right,
        CompareOp::GreaterEqual => left >= right,
    }
}

/// The number that mixed arithmetic and comparison see.
fn number(value: &Static) -> Option<f64> {
    match value {
        Static::Int(value) | Static::Duration(value) => Some(*value as f64),
        Static::Float(value) => Some(*value),
        Static::Str(_) | Static::Bool(_) | Static::Status(_) | Static::Kind(_) => None,
    }
}

/// The constant that stands for `expr`, whose operands are folded already. `None` if it depends on
/// a span, has no value, or only one that cannot be written.
pub(super) fn fold(expr: &FieldExpr) -> Option<Static> {
    match expr {
        FieldExpr::Static(_) | FieldExpr::Attribute(_) => None,
        FieldExpr::Not(operand) => match constant(operand)? {
            Static::Bool(value) => Some(Static::Bool(!value)),
            _ => None,
        },
        FieldExpr::Negate(operand) => negate(constant(operand)?),
        FieldExpr::Logical { op, operands } => {
            let mut result = *op == LogicalOp::And;
            for operand in operands {
                let Static::Bool(value) = constant(operand)? else {
                    return None;
                };
                match op {
                    LogicalOp::And => result &= value,
                    LogicalOp::Or => result |= value,
                }
            }
            Some(Static::Bool(result))
        }
        FieldExpr::Compare { op, left, right } => {
            compare(*op, constant(left)?, constant(right)?).map(Static::Bool)
        }
        FieldExpr::Match { negated, value, pattern } => match constant(value)? {
            Static::Str(text) => Some(Static::Bool(pattern.is_match(text) != *negated)),
            _ => None,
        },
        FieldExpr::Nil { negated, operand } => constant(operand).map(|_| Static::Bool(*negated)),
        FieldExpr::Arithmetic { op, left, right } => {
            arithmetic(*op, constant(left)?, constant(right)?).filter(is_writable)
        }
    }
}

/// The value of `-value`.
pub(super) fn negate(value: &Static) -> Option<Static> {
    match value {
        Static::Int(value) => Some(Static::Int(value.wrapping_neg())),
        Static::Float(value) => Some(Static::Float(-value)),
        Static::Duration(value) => Some(Static::Duration(value.wrapping_neg())),
        Static::Str(_) | Static::Bool(_) | Static::Status(_) | Static::Kind(_) => None,
    }
}

fn constant(expr: &FieldExpr) -> Option<&Static> {
    match expr {
        FieldExpr::Static(value) => Some(value),
        _ => None,
    }
}

/// Infinities have no literal, so what makes them is kept.
fn is_writable(value: &Static) -> bool {
    !matches!(value, Static::Float(value) if !value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traceql::ast::{Kind, Status};
    use ArithmeticOp::{Add, Div, Mod, Mul, Pow, Sub};
    use Static::{Bool, Duration, Float, Int};

    #[test]
    fn numbers_mix() {
        let cases = [
            (Add, Int(i64::MAX), Int(1), Some(Int(i64::MIN))),
            (Sub, Int(1), Int(3), Some(Int(-2))),
            (Mul, Int(3), Float(0.5), Some(Float(1.5))),
            (Div, Int(-7), Int(2), Some(Int(-3))),
            (Div, Int(i64::MIN), Int(-1), Some(Int(i64::MIN))),
            (Mod, Int(-7), Int(2), Some(Int(-1))),
            (Mod, Int(i64::MIN), Int(-1), Some(Int(0))),
            (Div, Int(1), Int(0), None),
            (Mod, Int(1), Int(0), None),
            (Div, Float(1.0), Int(0), Some(Float(f64::INFINITY))),
            (Pow, Int(2), Int(3), Some(Int(8))),
            (Pow, Int(2), Int(64), Some(Int(0))),
            (Pow, Int(3), Int(-1), Some(Int(0))),
            (Pow, Int(-1), Int(-3), Some(Int(-1))),
            (Pow, Int(0), Int(-1), None),
            (Pow, Float(2.0), Int(-1), Some(Float(0.5))),
            (Add, Duration(1), Duration(2), Some(Float(3.0))),
            (Add, Bool(true), Int(1), None),
        ];
        for (op, left, right, value) in cases {
            assert_eq!(arithmetic(op, &left, &right), value, "{left:?} {op:?} {right:?}");
        }
    }

    #[test]
    fn comparison_is_exact_for_ints_and_bytewise_for_strings() {
        use CompareOp::{Equal, Greater, Less, NotEqual};
        let text = |text: &str| Static::Str(text.into());
        let cases = [
            (Equal, Int(i64::MAX), Int(i64::MAX - 1), Some(false)),
            (Equal, Int(4), Float(4.0), Some(true)),
            (Equal, Duration(1_000_000_000), Float(1e9), Some(true)),
            (Less, text("10"), text("9"), Some(true)),
            (Greater, text("ä"), text("z"), Some(true)),
            (NotEqual, Bool(true), Bool(false), Some(true)),
            (Less, Bool(false), Bool(true), None),
            (Equal, Static::Status(Status::Ok), Static::Status(Status::Ok), Some(true)),
            (Less, Static::Status(Status::Ok), Static::Status(Status::Error), None),
            (Equal, Static::Kind(Kind::Server), Static::Status(Status::Error), None),
            (Equal, Int(1), text("1"), None),
        ];
        for (op, left, right, truth) in cases {
            assert_eq!(compare(op, &left, &right), truth, "{left:?} {op:?} {right:?}");
            assert_eq!(compare(op.flipped(), &right, &left), truth, "{right:?} {op:?} {left:?}");
        }
    }
}
