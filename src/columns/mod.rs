//! What a query asks of storage and what it gets back: columns, predicates, filters and batches of spans.
//!
//! Live data and blocks answer with the same [`SpanBatch`]; nothing here knows where spans lie.

mod bitmap;
mod column;
mod filter;
pub mod nested;
mod predicate;
mod values;

pub use bitmap::Bitmap;
pub use column::{AttrScope, Column, List};
pub use filter::{Filter, Leaves, ScanRequest, ScanStats, select};
pub use predicate::{Op, Operand, Predicate};
pub use values::{Dict, NONE, SpanBatch, Values};
