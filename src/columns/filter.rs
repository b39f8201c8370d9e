//! What storage can decide about single spans: a tree of column conditions.

use crate::model::TimeRange;

use super::{Bitmap, Column, List, Predicate};

/// A condition on one span. Missing values make a comparison false, never the whole filter.
#[derive(Clone, Debug)]
pub enum Filter {
    /// Every span.
    All,
    Column(Column, Predicate),
    /// Some event (or link) satisfies all of these.
    Item(List, Vec<(Column, Predicate)>),
    And(Vec<Filter>),
    Or(Vec<Filter>),
    Not(Box<Filter>),
}

/// What a query wants of a source.
#[derive(Clone, Debug)]
pub struct ScanRequest {
    /// Traces that touch this range.
    pub range: TimeRange,
    /// Traces with at least one span that passes.
    pub filter: Filter,
    /// The columns of the batches.
    pub columns: Vec<Column>,
    /// If set, only the so many traces with the latest start are wanted of all that pass.
    pub newest: Option<usize>,
}

/// What a scan cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanStats {
    pub inspected_bytes: u64,
    pub inspected_traces: u64,
    pub inspected_spans: u64,
}

/// How a source decides the leaves of a filter. `E` is its way to fail.
pub trait Leaves<E> {
    /// The number of spans.
    fn rows(&self) -> usize;
    /// The spans whose column satisfies the predicate.
    fn column(&mut self, column: &Column, predicate: &Predicate) -> Result<Bitmap, E>;
    /// The spans of which some item satisfies all conditions.
    fn item(&mut self, list: List, all: &[(Column, Predicate)]) -> Result<Bitmap, E>;
}

/// The spans of a source that pass a filter.
///
/// # Errors
/// What the source's leaves report.
pub fn select<E>(filter: &Filter, source: &mut impl Leaves<E>) -> Result<Bitmap, E> {
    match filter {
        Filter::All => Ok(Bitmap::all(source.rows())),
        Filter::Column(column, predicate) => source.column(column, predicate),
        Filter::Item(list, all) => source.item(*list, all),
        Filter::And(parts) => {
            let mut rows = Bitmap::all(source.rows());
            for part in parts {
                if rows.is_empty() {
                    break;
                }
                rows.and(&select(part, source)?);
            }
            Ok(rows)
        }
        Filter::Or(parts) => {
            let mut rows = Bitmap::none(source.rows());
            for part in parts {
                rows.or(&select(part, source)?);
            }
            Ok(rows)
        }
        Filter::Not(part) => {
            let mut rows = select(part, source)?;
            rows.invert();
            Ok(rows)
        }
    }
}
