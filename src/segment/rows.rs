//! Traces of a segment in the order of a block's rows, and back in their OTLP form.

use bytes::Bytes;

use crate::model::{ResourceSpans, ScopeSpans, Span, Trace, TraceId};
use crate::otlp::wire;

use super::{Segment, part};

/// Puts the rows of a trace into storage order: equal resources together, within them equal scopes, each in order of first
/// appearance. Buffers are kept between traces.
#[derive(Default)]
pub struct Grouping {
    stamp: u32,
    resources: Vec<(u32, u32)>,
    scopes: Vec<(u32, u32)>,
}

/// The span that names a trace, as codes of its segment's `strings`.
#[derive(Clone, Copy, Debug)]
pub struct Root {
    pub service: u32,
    pub name: u32,
}

impl Grouping {
    /// Writes a trace's rows into `rows`, which is cleared first.
    pub fn rows(&mut self, segment: &Segment, slot: usize, rows: &mut Vec<u32>) {
        rows.clear();
        self.stamp += 1;
        self.resources.resize(segment.resources.len(), (0, 0));
        self.scopes.resize(segment.scopes.len(), (0, 0));
        let (mut resources, mut scopes, mut last, mut sorted) = (0, 0, (0, 0), true);
        for row in segment.chain(slot) {
            let resource = &mut self.resources[segment.spans.resource[row] as usize];
            let scope = &mut self.scopes[segment.spans.scope[row] as usize];
            let key =
                (rank(resource, self.stamp, &mut resources), rank(scope, self.stamp, &mut scopes));
            sorted &= key >= last;
            last = key;
            rows.push(row as u32);
        }
        if !sorted {
            rows.sort_by_key(|row| {
                let resource = segment.spans.resource[*row as usize] as usize;
                let scope = segment.spans.scope[*row as usize] as usize;
                (self.resources[resource].1, self.scopes[scope].1, *row)
            });
        }
    }
}

fn rank(entry: &mut (u32, u32), stamp: u32, count: &mut u32) -> u32 {
    if entry.0 != stamp {
        *entry = (stamp, *count);
        *count += 1;
    }
    entry.1
}

impl Segment {
    /// A trace in its OTLP form.
    pub fn trace(&self, id: &TraceId) -> Option<Trace> {
        let slot = self.find(id)?;
        let mut rows = Vec::new();
        Grouping::default().rows(self, slot, &mut rows);
        let mut trace = Trace::default();
        let mut last = (None, None);
        for row in rows.into_iter().map(|row| row as usize) {
            let (resource, scope) = (self.spans.resource[row], self.spans.scope[row]);
            if last.0 != Some(resource) {
                let resource = Bytes::copy_from_slice(self.resource_bytes(resource));
                trace.resources.push(ResourceSpans { resource, scopes: Vec::new() });
                last.1 = None;
            }
            let Some(of) = trace.resources.last_mut() else { continue };
            if last.1 != Some(scope) {
                let scope = Bytes::copy_from_slice(self.scope_bytes(scope));
                of.scopes.push(ScopeSpans { scope, spans: Vec::new() });
            }
            last = (Some(resource), Some(scope));
            if let Some(scope) = of.scopes.last_mut() {
                scope.spans.push(self.span(row));
            }
        }
        Some(trace)
    }

    /// A span in its OTLP form.
    fn span(&self, row: usize) -> Span {
        let spans = &self.spans;
        Span {
            id: spans.id[row],
            parent: spans.parent[row],
            kind: spans.kind[row],
            start_nanos: spans.start[row],
            encoded: self.encode_span(row).into(),
        }
    }

    fn encode_span(&self, row: usize) -> Vec<u8> {
        let spans = &self.spans;
        let dropped = spans.dropped.binary_search_by_key(&(row as u32), |(row, _)| *row);
        let dropped = dropped.map(|at| spans.dropped[at].1).unwrap_or_default();
        let mut out = Vec::with_capacity(512);
        wire::put_bytes_field(&mut out, 1, &self.traces[spans.trace[row] as usize].id.0);
        wire::put_bytes_field(&mut out, 2, &spans.id[row].0);
        put_text(&mut out, 3, self.strings.get(spans.trace_state[row]));
        if !spans.parent[row].is_zero() {
            wire::put_bytes_field(&mut out, 4, &spans.parent[row].0);
        }
        put_text(&mut out, 5, self.strings.get(spans.name[row]));
        put_number(&mut out, 6, u64::from(spans.kind[row]));
        wire::put_fixed64_field(&mut out, 7, spans.start[row]);
        wire::put_fixed64_field(&mut out, 8, spans.start[row].saturating_add(spans.duration[row]));
        for attr in &spans.attrs[part(&spans.attr_ends, row)] {
            wire::put_bytes_field(&mut out, 9, self.attrs.get(*attr));
        }
        put_number(&mut out, 10, u64::from(dropped.attributes));
        for event in part(&spans.event_ends, row) {
            wire::put_message(&mut out, 11, |out| self.encode_event(event, out));
        }
        put_number(&mut out, 12, u64::from(dropped.events));
        for link in part(&spans.link_ends, row) {
            wire::put_message(&mut out, 13, |out| self.encode_link(link, out));
        }
        put_number(&mut out, 14, u64::from(dropped.links));
        wire::put_message(&mut out, 15, |out| {
            put_text(out, 2, self.strings.get(spans.status_message[row]));
            put_number(out, 3, u64::from(spans.status[row]));
        });
        out
    }

    fn encode_event(&self, at: usize, out: &mut Vec<u8>) {
        let events = &self.events;
        wire::put_fixed64_field(out, 1, events.time[at]);
        put_text(out, 2, self.strings.get(events.name[at]));
        for attr in &events.attrs[part(&events.attr_ends, at)] {
            wire::put_bytes_field(out, 3, self.attrs.get(*attr));
        }
        put_number(out, 4, u64::from(events.dropped[at]));
    }

    fn encode_link(&self, at: usize, out: &mut Vec<u8>) {
        let links = &self.links;
        wire::put_bytes_field(out, 1, &links.trace[at].0);
        wire::put_bytes_field(out, 2, &links.span[at].0);
        put_text(out, 3, self.strings.get(links.trace_state[at]));
        for attr in &links.attrs[part(&links.attr_ends, at)] {
            wire::put_bytes_field(out, 4, self.attrs.get(*attr));
        }
        put_number(out, 5, u64::from(links.dropped[at]));
    }

    /// The last span in storage order without a parent, and without a link into its own trace that says `child_of`.
    pub fn root(&self, rows: &[u32]) -> Option<Root> {
        let row = rows.iter().rev().map(|row| *row as usize).find(|row| self.is_root(*row))?;
        let service = self.resources[self.spans.resource[row] as usize].service;
        Some(Root { service, name: self.spans.name[row] })
    }

    fn is_root(&self, row: usize) -> bool {
        let trace = self.traces[self.spans.trace[row] as usize].id;
        let child_of = |link: usize| {
            let attrs = &self.links.attrs[part(&self.links.attr_ends, link)];
            self.links.trace[link] == trace
                && attrs.iter().any(|attr| {
                    let pair = super::attr::key_value(self.attrs.get(*attr));
                    pair == ("opentracing.ref_type", super::attr::Any::Str("child_of"))
                })
        };
        self.spans.parent[row].is_zero() && !part(&self.spans.link_ends, row).any(child_of)
    }
}

fn put_text(out: &mut Vec<u8>, field: u32, text: &[u8]) {
    if !text.is_empty() {
        wire::put_bytes_field(out, field, text);
    }
}

fn put_number(out: &mut Vec<u8>, field: u32, number: u64) {
    if number != 0 {
        wire::put_varint_field(out, field, number);
    }
}
