//! Conditions on one column, decided once per distinct value.

use std::cmp::Ordering;

use regex::bytes::Regex;

use crate::model::Value;

use super::{Bitmap, NONE, Values};

/// A comparison of a column with a constant. A missing value satisfies only [`Op::Missing`].
#[derive(Clone, Debug)]
pub struct Predicate {
    pub op: Op,
    pub operand: Operand,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Eq,
    NotEq,
    Less,
    LessEq,
    Greater,
    GreaterEq,
    Matches,
    NotMatches,
    Exists,
    Missing,
}

/// The constant. Durations, status and kind are integers: nanoseconds and OTLP's enum numbers.
#[derive(Clone, Debug)]
pub enum Operand {
    Nothing,
    Str(String),
    Int(i64),
    Float(f64),
    Bool(bool),
    /// Matches the whole value: anchored by whoever compiled it.
    Regex(Regex),
    /// A word that some attribute's text contains, whatever the case: legacy tag search.
    Contains(String),
}

impl Predicate {
    /// Decides one present value. Arrays: some element for the positive operators, no element for `!=` and `!~`.
    pub fn matches(&self, value: &Value) -> bool {
        match self.op {
            Op::Exists => return true,
            Op::Missing => return false,
            _ => {}
        }
        match value {
            Value::Str(text) => self.str(text),
            Value::Int(value) => self.int(*value),
            Value::Float(value) => self.float(*value),
            Value::Bool(value) => self.bool(*value),
            Value::StrArray(items) => self.array(items, |p, item| p.str(item)),
            Value::IntArray(items) => self.array(items, |p, item| p.int(*item)),
            Value::FloatArray(items) => self.array(items, |p, item| p.float(*item)),
            Value::BoolArray(items) => self.array(items, |p, item| p.bool(*item)),
        }
    }

    /// Decides a whole column. List columns are not decided here: their conditions hold per item.
    pub fn select(&self, values: &Values) -> Bitmap {
        let len = values.len();
        match values {
            Values::U64(values) => {
                let test = |value: &u64| match i64::try_from(*value) {
                    Ok(value) => self.matches_int(value),
                    Err(_) => self.float_or_exists(*value as f64),
                };
                Bitmap::from_fn(len, |row| values.get(row).is_some_and(test))
            }
            Values::I32(values) => Bitmap::from_fn(len, |row| {
                values.get(row).is_some_and(|value| self.matches_int(i64::from(*value)))
            }),
            Values::Coded { codes, dict } => {
                let verdicts: Vec<bool> = dict.iter().map(|value| self.matches(value)).collect();
                self.select_codes(codes, &verdicts)
            }
            Values::SpanIds(ids) => self.select_texts(ids.iter().map(|id| id.to_string())),
            Values::TraceIds(ids) => self.select_texts(ids.iter().map(|id| id.trimmed())),
            Values::List { .. } => Bitmap::none(len),
        }
    }

    /// Decides codes by the verdicts on their dictionary.
    pub fn select_codes(&self, codes: &[u32], verdicts: &[bool]) -> Bitmap {
        let missing = self.op == Op::Missing;
        let verdict = |code: u32| match code {
            NONE => missing,
            code => verdicts.get(code as usize).copied().unwrap_or_default(),
        };
        if !missing && !verdicts.contains(&true) {
            return Bitmap::none(codes.len());
        }
        Bitmap::from_fn(codes.len(), |row| codes.get(row).is_some_and(|code| verdict(*code)))
    }

    fn select_texts(&self, texts: impl Iterator<Item = String>) -> Bitmap {
        let verdicts: Vec<bool> = texts.map(|text| self.matches_str(&text)).collect();
        Bitmap::from_fn(verdicts.len(), |row| verdicts.get(row).copied().unwrap_or_default())
    }

    /// Decides one present number.
    pub fn matches_int(&self, value: i64) -> bool {
        self.op == Op::Exists || self.int(value)
    }

    /// Decides one present string.
    pub fn matches_str(&self, value: &str) -> bool {
        self.op == Op::Exists || self.str(value)
    }

    fn float_or_exists(&self, value: f64) -> bool {
        self.op == Op::Exists || self.float(value)
    }

    fn array<T>(&self, items: &[T], test: impl Fn(&Predicate, &T) -> bool) -> bool {
        let single = items.len() == 1;
        match self.op {
            Op::NotEq | Op::NotMatches if !single => {
                let op = if self.op == Op::NotEq { Op::Eq } else { Op::Matches };
                let comparable = items.first().is_some_and(|item| {
                    test(self, item) || test(&Predicate { op, ..self.clone() }, item)
                });
                comparable && items.iter().all(|item| test(self, item))
            }
            _ => items.iter().any(|item| test(self, item)),
        }
    }

    fn str(&self, value: &str) -> bool {
        match (&self.operand, self.op) {
            (Operand::Str(text), op) => ordered(op, value.as_bytes().cmp(text.as_bytes())),
            (Operand::Regex(regex), Op::Matches) => regex.is_match(value.as_bytes()),
            (Operand::Regex(regex), Op::NotMatches) => !regex.is_match(value.as_bytes()),
            (Operand::Contains(word), _) => value.to_lowercase().contains(word.as_str()),
            _ => false,
        }
    }

    fn int(&self, value: i64) -> bool {
        match &self.operand {
            Operand::Int(other) => ordered(self.op, value.cmp(other)),
            Operand::Float(other) => float_ordered(self.op, value as f64, *other),
            Operand::Contains(word) => value.to_string() == *word,
            _ => false,
        }
    }

    fn float(&self, value: f64) -> bool {
        match &self.operand {
            Operand::Int(other) => float_ordered(self.op, value, *other as f64),
            Operand::Float(other) => float_ordered(self.op, value, *other),
            Operand::Contains(word) => value.to_string() == *word,
            _ => false,
        }
    }

    fn bool(&self, value: bool) -> bool {
        match (&self.operand, self.op) {
            (Operand::Bool(other), Op::Eq) => value == *other,
            (Operand::Bool(other), Op::NotEq) => value != *other,
            (Operand::Contains(word), _) => value.to_string() == *word,
            _ => false,
        }
    }
}

fn ordered(op: Op, ordering: Ordering) -> bool {
    match op {
        Op::Eq => ordering.is_eq(),
        Op::NotEq => ordering.is_ne(),
        Op::Less => ordering.is_lt(),
        Op::LessEq => ordering.is_le(),
        Op::Greater => ordering.is_gt(),
        Op::GreaterEq => ordering.is_ge(),
        Op::Matches | Op::NotMatches | Op::Exists | Op::Missing => false,
    }
}

fn float_ordered(op: Op, value: f64, other: f64) -> bool {
    match value.partial_cmp(&other) {
        Some(ordering) => ordered(op, ordering),
        None => op == Op::NotEq,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn check(op: Op, operand: Operand, value: Value) -> bool {
        Predicate { op, operand }.matches(&value)
    }

    #[test]
    fn numbers_compare_across_types_and_strings_do_not() {
        assert!(check(Op::Greater, Operand::Int(3), Value::Float(3.5)));
        assert!(check(Op::Eq, Operand::Float(3.0), Value::Int(3)));
        assert!(!check(Op::NotEq, Operand::Int(3), Value::str("x")));
        assert!(check(Op::Less, Operand::Str("9".into()), Value::str("10")));
        assert!(!check(Op::Less, Operand::Bool(true), Value::Bool(false)));
    }

    #[test]
    fn arrays_match_by_some_element_and_unmatch_by_none() {
        let items = || Value::StrArray(Arc::from([Arc::from("a"), Arc::from("b")]));
        assert!(check(Op::Eq, Operand::Str("b".into()), items()));
        assert!(!check(Op::NotEq, Operand::Str("b".into()), items()));
        assert!(check(Op::NotEq, Operand::Str("c".into()), items()));
        assert!(!check(Op::NotEq, Operand::Int(1), items()));
    }

    #[test]
    fn missing_values_satisfy_only_missing() {
        let values = Values::Coded { codes: vec![0, NONE], dict: Arc::new(vec![Value::Int(1)]) };
        let rows = |op| {
            let predicate = Predicate { op, operand: Operand::Int(2) };
            predicate.select(&values).rows().collect::<Vec<_>>()
        };
        assert_eq!(rows(Op::NotEq), [0]);
        assert_eq!(rows(Op::Missing), [1]);
        assert_eq!(rows(Op::Exists), [0]);
    }
}
