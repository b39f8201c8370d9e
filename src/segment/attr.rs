//! Encoded OTLP `KeyValue` messages: what is in them, and how to make them.
#![deny(clippy::indexing_slicing)]

use std::sync::Arc;

use crate::model::Value;
use crate::otlp::wire::{self, Field, Reader};

/// An attribute's value, still in the request's bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Any<'a> {
    /// No member of the oneof is set.
    Empty,
    Str(&'a str),
    Bool(bool),
    Int(i64),
    Float(f64),
    /// An encoded `ArrayValue`.
    Array(&'a [u8]),
    /// An encoded `KeyValueList`.
    Map(&'a [u8]),
    Bytes(&'a [u8]),
}

/// Key and value of an encoded `KeyValue`. What is not well formed reads as empty: requests were checked on entry.
pub fn key_value(bytes: &[u8]) -> (&str, Any<'_>) {
    let (mut key, mut value) = ("", Any::Empty);
    let mut reader = Reader::new(bytes);
    while let Ok(Some((field, content))) = reader.next() {
        match (field, content) {
            (1, Field::Bytes(text)) => key = std::str::from_utf8(text).unwrap_or_default(),
            (2, Field::Bytes(any)) => value = any_value(any),
            _ => {}
        }
    }
    (key, value)
}

/// The key of an encoded `KeyValue`.
pub fn key(bytes: &[u8]) -> &[u8] {
    let mut reader = Reader::new(bytes);
    let mut key: &[u8] = &[];
    while let Ok(Some((field, content))) = reader.next() {
        if let (1, Field::Bytes(text)) = (field, content) {
            key = text;
        }
    }
    key
}

/// Reads an encoded `AnyValue`; the last member that is set counts.
pub fn any_value(bytes: &[u8]) -> Any<'_> {
    let mut value = Any::Empty;
    let mut reader = Reader::new(bytes);
    while let Ok(Some(field)) = reader.next() {
        value = match field {
            (1, Field::Bytes(text)) => Any::Str(std::str::from_utf8(text).unwrap_or_default()),
            (2, Field::Varint(flag)) => Any::Bool(flag != 0),
            (3, Field::Varint(number)) => Any::Int(number as i64),
            (4, Field::Fixed64(bits)) => Any::Float(f64::from_bits(bits)),
            (5, Field::Bytes(items)) => Any::Array(items),
            (6, Field::Bytes(pairs)) => Any::Map(pairs),
            (7, Field::Bytes(raw)) => Any::Bytes(raw),
            _ => value,
        };
    }
    value
}

/// The elements of an encoded `ArrayValue`.
pub fn elements(array: &[u8]) -> impl Iterator<Item = Any<'_>> {
    let mut reader = Reader::new(array);
    std::iter::from_fn(move || {
        loop {
            match reader.next() {
                Ok(Some((1, Field::Bytes(any)))) => return Some(any_value(any)),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return None,
            }
        }
    })
}

impl Any<'_> {
    /// The value that queries see, if there is one.
    pub fn to_value(self) -> Option<Value> {
        Some(match self {
            Any::Str(text) => Value::str(text),
            Any::Bool(flag) => Value::Bool(flag),
            Any::Int(number) => Value::Int(number),
            Any::Float(number) => Value::Float(number),
            Any::Array(items) => return array_value(items),
            Any::Empty | Any::Map(_) | Any::Bytes(_) => return None,
        })
    }
}

/// An array of one kind of scalar; nothing for an empty or mixed one. A single element counts as itself.
fn array_value(items: &[u8]) -> Option<Value> {
    fn all<T>(items: &[u8], pick: impl Fn(Any<'_>) -> Option<T>) -> Option<Vec<T>> {
        elements(items).map(pick).collect()
    }
    let value = match elements(items).next()? {
        Any::Str(_) => Value::StrArray(
            all(items, |any| if let Any::Str(text) = any { Some(Arc::from(text)) } else { None })?
                .into(),
        ),
        Any::Int(_) => Value::IntArray(
            all(items, |any| if let Any::Int(number) = any { Some(number) } else { None })?.into(),
        ),
        Any::Float(_) => Value::FloatArray(
            all(items, |any| if let Any::Float(number) = any { Some(number) } else { None })?
                .into(),
        ),
        Any::Bool(_) => Value::BoolArray(
            all(items, |any| if let Any::Bool(flag) = any { Some(flag) } else { None })?.into(),
        ),
        _ => return None,
    };
    Some(single(value))
}

/// An array with one element is the same as its element.
pub fn single(value: Value) -> Value {
    match &value {
        Value::StrArray(items) if items.len() == 1 => items.first().cloned().map(Value::Str),
        Value::IntArray(items) if items.len() == 1 => items.first().copied().map(Value::Int),
        Value::FloatArray(items) if items.len() == 1 => items.first().copied().map(Value::Float),
        Value::BoolArray(items) if items.len() == 1 => items.first().copied().map(Value::Bool),
        _ => None,
    }
    .unwrap_or(value)
}

/// Appends field `field` with an encoded `KeyValue` to a message.
pub fn put_key_value(out: &mut Vec<u8>, field: u32, key: &str, value: impl FnOnce(&mut Vec<u8>)) {
    wire::put_message(out, field, |out| {
        wire::put_bytes_field(out, 1, key.as_bytes());
        wire::put_message(out, 2, value);
    });
}

/// Appends the member of an `AnyValue` for a scalar.
pub fn put_scalar(out: &mut Vec<u8>, value: Any<'_>) {
    match value {
        Any::Empty => {}
        Any::Str(text) => wire::put_bytes_field(out, 1, text.as_bytes()),
        Any::Bool(flag) => wire::put_varint_field(out, 2, u64::from(flag)),
        Any::Int(number) => wire::put_varint_field(out, 3, number as u64),
        Any::Float(number) => wire::put_double_field(out, 4, number),
        Any::Array(items) => wire::put_bytes_field(out, 5, items),
        Any::Map(pairs) => wire::put_bytes_field(out, 6, pairs),
        Any::Bytes(raw) => wire::put_bytes_field(out, 7, raw),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(key: &str, value: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        put_key_value(&mut out, 1, key, value);
        out.split_off(2)
    }

    #[test]
    fn scalars_come_back() {
        for value in [Any::Str("x"), Any::Int(-5), Any::Float(0.5), Any::Bool(false), Any::Empty] {
            let bytes = encoded("k", |out| put_scalar(out, value));
            assert_eq!(key_value(&bytes), ("k", value));
            assert_eq!(key(&bytes), b"k");
        }
    }

    #[test]
    fn arrays_have_a_value_only_if_of_one_kind() {
        let array = |items: &[Any<'_>]| {
            let mut out = Vec::new();
            for item in items {
                wire::put_message(&mut out, 1, |out| put_scalar(out, *item));
            }
            array_value(&out)
        };
        assert_eq!(array(&[]), None);
        assert_eq!(array(&[Any::Int(1), Any::Str("x")]), None);
        assert_eq!(array(&[Any::Int(1)]), Some(Value::Int(1)));
        assert_eq!(array(&[Any::Int(1), Any::Int(2)]), Some(Value::IntArray([1, 2].into())));
    }
}
