//! Values of a column, and the batch of spans that queries compute on.

use std::sync::Arc;

use crate::model::{SpanId, TraceId, Value};

use super::{Bitmap, Column};

/// The code of a missing value.
pub const NONE: u32 = u32::MAX;

/// Distinct values; codes are positions in it.
pub type Dict = Arc<Vec<Value>>;

/// The values of one column.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    U64(Vec<u64>),
    I32(Vec<i32>),
    SpanIds(Vec<SpanId>),
    TraceIds(Vec<TraceId>),
    /// Codes into a dictionary, or [`NONE`].
    Coded {
        codes: Vec<u32>,
        dict: Dict,
    },
    /// One list a span: `ends` has an entry a span, the last is the number of items.
    List {
        ends: Vec<u32>,
        items: Box<Values>,
    },
}

/// Spans of whole traces, column by column: the only form of data a query sees.
///
/// Shape: `n` spans of `t` traces, the spans of one trace adjacent.
/// Invariants: `trace_ends` has `t` rising entries, the last is `n`; `matched` has `n` bits; a span column holds `n`
/// values, a trace column `t`, a list column its own `ends`.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanBatch {
    pub trace_ends: Vec<u32>,
    /// The spans that the request's filter keeps.
    pub matched: Bitmap,
    pub columns: Vec<(Column, Values)>,
}

impl Values {
    pub fn len(&self) -> usize {
        match self {
            Values::U64(values) => values.len(),
            Values::I32(values) => values.len(),
            Values::SpanIds(values) => values.len(),
            Values::TraceIds(values) => values.len(),
            Values::Coded { codes, .. } => codes.len(),
            Values::List { ends, .. } => ends.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a coded column at a row.
    pub fn value(&self, row: usize) -> Option<&Value> {
        let Values::Coded { codes, dict } = self else { return None };
        dict.get(*codes.get(row)? as usize)
    }

    /// The string of a coded column at a row.
    pub fn str(&self, row: usize) -> Option<&Arc<str>> {
        match self.value(row)? {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The number of an unsigned column at a row; 0 beyond its end.
    pub fn u64(&self, row: usize) -> u64 {
        match self {
            Values::U64(values) => values.get(row).copied().unwrap_or_default(),
            _ => 0,
        }
    }

    /// The number of a signed column at a row; 0 beyond its end.
    pub fn i32(&self, row: usize) -> i32 {
        match self {
            Values::I32(values) => values.get(row).copied().unwrap_or_default(),
            _ => 0,
        }
    }
}

impl SpanBatch {
    /// A batch without traces.
    pub fn empty() -> SpanBatch {
        SpanBatch { trace_ends: Vec::new(), matched: Bitmap::none(0), columns: Vec::new() }
    }

    pub fn spans(&self) -> usize {
        self.trace_ends.last().copied().unwrap_or_default() as usize
    }

    pub fn traces(&self) -> usize {
        self.trace_ends.len()
    }

    /// The rows of a trace's spans.
    pub fn rows(&self, trace: usize) -> std::ops::Range<usize> {
        let end = |at: usize| self.trace_ends.get(at).copied().unwrap_or_default() as usize;
        let start = trace.checked_sub(1).map(end).unwrap_or_default();
        start..end(trace)
    }

    pub fn column(&self, wanted: &Column) -> Option<&Values> {
        self.columns.iter().find(|(column, _)| column == wanted).map(|(_, values)| values)
    }
}
