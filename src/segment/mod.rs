//! Spans as interned columns: what live traces are held in, and what blocks are written from.
//!
//! A segment is filled from checked OTLP requests, in the order of the log. Every encoded `KeyValue` message is kept once
//! and named by a code, so that a span's attributes are a few small integers, writing a block is a walk over codes, and a
//! trace comes back byte for byte. Nothing is ever changed or removed: a segment is filled, sealed, written, dropped.
#![expect(
    clippy::cast_possible_truncation,
    reason = "rows and codes are u32 by construction, and enums that OTLP bounds are u8"
)]

mod append;
pub mod attr;
mod copy;
mod interner;
mod rows;
#[cfg(test)]
pub mod sample;
mod scan;
mod tags;

use hashbrown::HashTable;

use crate::model::{SpanId, TraceId};

pub use append::{Appended, Arrival};
pub use copy::Copier;
pub use interner::Interner;
pub use rows::{Grouping, Root};
pub use scan::Tree;

/// The end of a chain of rows.
const END: u32 = u32::MAX;

/// Spans of many traces.
///
/// Shape: `spans` columns have one entry a span, in order of arrival. The spans of a trace are chained from its
/// [`TraceSlot`] through `spans.next`.
#[derive(Default)]
pub struct Segment {
    pub traces: Vec<TraceSlot>,
    table: HashTable<u32>,
    pub spans: Spans,
    pub events: Items,
    pub links: Links,
    /// Encoded `KeyValue` messages of spans, events, links, resources and scopes.
    pub attrs: Interner,
    /// The code in `keys` of each attribute.
    pub attr_keys: Vec<u32>,
    /// Who has each attribute: bits of [`Owner`].
    pub attr_owners: Vec<u8>,
    pub keys: Interner,
    /// Names, status messages, trace states.
    pub strings: Interner,
    resource_codes: Interner,
    pub resources: Vec<Resource>,
    scope_codes: Interner,
    pub scopes: Vec<Scope>,
}

/// What an attribute can belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Owner {
    Span = 1,
    Event = 2,
    Link = 4,
    Resource = 8,
    Scope = 16,
}

/// One trace of a segment.
#[derive(Clone, Debug)]
pub struct TraceSlot {
    pub id: TraceId,
    first: u32,
    last: u32,
    pub spans: u32,
    pub start_nanos: u64,
    pub end_nanos: u64,
    /// The log position of its oldest span.
    pub oldest_seq: u64,
    /// When its latest span arrived, and its first one.
    pub touched_nanos: u64,
    pub opened_nanos: u64,
}

/// Columns with one entry a span; strings and attributes are codes.
#[derive(Default)]
pub struct Spans {
    pub trace: Vec<u32>,
    next: Vec<u32>,
    pub resource: Vec<u32>,
    pub scope: Vec<u32>,
    pub id: Vec<SpanId>,
    pub parent: Vec<SpanId>,
    pub name: Vec<u32>,
    pub start: Vec<u64>,
    pub duration: Vec<u64>,
    pub kind: Vec<u8>,
    pub status: Vec<u8>,
    pub status_message: Vec<u32>,
    pub trace_state: Vec<u32>,
    pub attr_ends: Vec<u32>,
    pub attrs: Vec<u32>,
    pub event_ends: Vec<u32>,
    pub link_ends: Vec<u32>,
    /// Rows with dropped attributes, events or links: ascending, seldom any.
    pub dropped: Vec<(u32, Dropped)>,
}

/// What a sender left out of a span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    pub attributes: u32,
    pub events: u32,
    pub links: u32,
}

/// Columns with one entry an event.
#[derive(Default)]
pub struct Items {
    pub time: Vec<u64>,
    pub name: Vec<u32>,
    pub attr_ends: Vec<u32>,
    pub attrs: Vec<u32>,
    pub dropped: Vec<u32>,
}

/// Columns with one entry a link.
#[derive(Default)]
pub struct Links {
    pub trace: Vec<TraceId>,
    pub span: Vec<SpanId>,
    pub trace_state: Vec<u32>,
    pub attr_ends: Vec<u32>,
    pub attrs: Vec<u32>,
    pub dropped: Vec<u32>,
}

/// A distinct resource.
pub struct Resource {
    pub attrs: Vec<u32>,
    pub dropped: u32,
    /// The code in `strings` of its `service.name`, or of the empty string.
    pub service: u32,
}

/// A distinct instrumentation scope; name and version are codes in `strings`.
pub struct Scope {
    pub name: u32,
    pub version: u32,
    pub attrs: Vec<u32>,
    pub dropped: u32,
}

impl Segment {
    pub fn span_count(&self) -> usize {
        self.spans.trace.len()
    }

    pub fn is_empty(&self) -> bool {
        self.spans.trace.is_empty()
    }

    /// The log position of the oldest span.
    pub fn oldest_seq(&self) -> Option<u64> {
        self.traces.iter().map(|trace| trace.oldest_seq).min()
    }

    /// The slot of a trace.
    pub fn find(&self, id: &TraceId) -> Option<usize> {
        let same = |slot: &u32| self.traces.get(*slot as usize).is_some_and(|t| t.id == *id);
        self.table.find(hash_trace(id), same).map(|slot| *slot as usize)
    }

    /// The rows of a trace, in order of arrival.
    pub fn chain(&self, slot: usize) -> impl Iterator<Item = usize> + '_ {
        let mut at = self.traces.get(slot).map_or(END, |trace| trace.first);
        std::iter::from_fn(move || {
            let row = at as usize;
            at = *self.spans.next.get(row)?;
            Some(row)
        })
    }

    /// An encoded resource.
    pub fn resource_bytes(&self, code: u32) -> &[u8] {
        self.resource_codes.get(code)
    }

    /// An encoded scope.
    pub fn scope_bytes(&self, code: u32) -> &[u8] {
        self.scope_codes.get(code)
    }

    /// A string by its code.
    pub fn str(&self, code: u32) -> &str {
        std::str::from_utf8(self.strings.get(code)).unwrap_or_default()
    }

    /// Bytes of memory held.
    pub fn memory(&self) -> usize {
        let spans = self.spans.trace.capacity();
        let lists = self.spans.attrs.capacity()
            + self.events.attrs.capacity()
            + self.links.attrs.capacity();
        let fixed = 4 * 10 + 8 * 4 + 2;
        let interners: usize =
            [&self.attrs, &self.keys, &self.strings, &self.resource_codes, &self.scope_codes]
                .iter()
                .map(|interner| interner.memory())
                .sum();
        spans * fixed
            + lists * 4
            + self.events.time.capacity() * 20
            + self.links.trace.capacity() * 36
            + self.traces.capacity() * size_of::<TraceSlot>()
            + self.table.capacity() * 5
            + self.attr_keys.capacity() * 4
            + interners
    }
}

fn hash_trace(id: &TraceId) -> u64 {
    use std::hash::BuildHasher;
    foldhash::fast::FixedState::default().hash_one(u128::from_ne_bytes(id.0))
}

/// The part of a flat list that belongs to one row.
pub fn part(ends: &[u32], row: usize) -> std::ops::Range<usize> {
    let start = row.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or(0);
    start as usize..ends.get(row).copied().unwrap_or(start) as usize
}
