//! The value of an attribute as queries see it.

use std::sync::Arc;

/// A typed attribute value. Key-value lists, bytes and mixed or empty arrays have none: no query matches them.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Str(Arc<str>),
    Int(i64),
    Float(f64),
    Bool(bool),
    StrArray(Arc<[Arc<str>]>),
    IntArray(Arc<[i64]>),
    FloatArray(Arc<[f64]>),
    BoolArray(Arc<[bool]>),
}

impl Value {
    /// A string value.
    pub fn str(text: &str) -> Value {
        Value::Str(text.into())
    }
}
