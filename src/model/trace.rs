//! The row form of a trace: what the receivers bring, and what a trace by id returns.
#![expect(clippy::cast_possible_truncation, reason = "bytes of a varint are cut on purpose")]

use std::collections::HashMap;
use std::collections::HashSet;

use bytes::Bytes;

use super::SpanId;

/// One trace. Messages stay in their OTLP encoding; beside them stand the few fields that merging and sorting need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    pub resources: Vec<ResourceSpans>,
}

/// The spans of one resource. `resource` is an encoded OTLP `Resource`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceSpans {
    pub resource: Bytes,
    pub scopes: Vec<ScopeSpans>,
}

/// The spans of one scope. `scope` is an encoded OTLP `InstrumentationScope`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeSpans {
    pub scope: Bytes,
    pub spans: Vec<Span>,
}

/// One span. `encoded` is an OTLP `Span`; a zero `parent` means none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    pub id: SpanId,
    pub parent: SpanId,
    pub kind: u8,
    pub start_nanos: u64,
    pub encoded: Bytes,
}

/// Tags of length-delimited protobuf fields 1 and 2, the only ones a trace's frame consists of.
const FIELD_1: u8 = 0x0a;
const FIELD_2: u8 = 0x12;

impl Trace {
    pub fn span_count(&self) -> usize {
        self.resources.iter().flat_map(|r| &r.scopes).map(|s| s.spans.len()).sum()
    }

    /// Bytes of [`Trace::encode`].
    pub fn encoded_len(&self) -> usize {
        self.resources.iter().map(|r| framed(r.encoded_len())).sum()
    }

    /// The bytes of `tempopb.Trace` (and of OTLP `TracesData`). Empty resources and scopes are present, as Grafana needs them.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.encoded_len());
        for resource in &self.resources {
            put_head(&mut out, FIELD_1, resource.encoded_len());
            put(&mut out, FIELD_1, &resource.resource);
            for scope in &resource.scopes {
                put_head(&mut out, FIELD_2, scope.encoded_len());
                put(&mut out, FIELD_1, &scope.scope);
                scope.spans.iter().for_each(|span| put(&mut out, FIELD_2, &span.encoded));
            }
        }
        out
    }

    /// Unites two copies or fragments of one trace, as Tempo does: a span is the same if id and kind are, the first one
    /// seen stays; then everything is sorted by start time, and equal resources and scopes become one.
    pub fn merge(self, other: Trace) -> Trace {
        let mut seen: HashSet<(SpanId, u8)> = HashSet::new();
        let mut merged = Grouped::default();
        for resource in self.resources.into_iter().chain(other.resources) {
            for scope in resource.scopes {
                let new = scope.spans.into_iter().filter(|span| seen.insert((span.id, span.kind)));
                new.for_each(|span| merged.add(&resource.resource, &scope.scope, span));
            }
        }
        merged.finish()
    }
}

impl ResourceSpans {
    fn encoded_len(&self) -> usize {
        let scopes: usize = self.scopes.iter().map(|s| framed(s.encoded_len())).sum();
        framed(self.resource.len()) + scopes
    }
}

impl ScopeSpans {
    fn encoded_len(&self) -> usize {
        let spans: usize = self.spans.iter().map(|s| framed(s.encoded.len())).sum();
        framed(self.scope.len()) + spans
    }
}

/// Groups spans by equal resource and scope bytes, in order of first appearance.
#[derive(Default)]
struct Grouped {
    trace: Trace,
    resources: HashMap<Bytes, usize>,
    scopes: HashMap<(usize, Bytes), usize>,
}

impl Grouped {
    fn add(&mut self, resource: &Bytes, scope: &Bytes, span: Span) {
        let resources = &mut self.trace.resources;
        let at = *self.resources.entry(resource.clone()).or_insert_with(|| {
            resources.push(ResourceSpans { resource: resource.clone(), scopes: Vec::new() });
            resources.len() - 1
        });
        let scopes = &mut resources[at].scopes;
        let within = *self.scopes.entry((at, scope.clone())).or_insert_with(|| {
            scopes.push(ScopeSpans { scope: scope.clone(), spans: Vec::new() });
            scopes.len() - 1
        });
        scopes[within].spans.push(span);
    }

    fn finish(self) -> Trace {
        let mut trace = self.trace;
        let first = |spans: &[Span]| spans.first().map(|s| (s.start_nanos, s.id));
        for resource in &mut trace.resources {
            for scope in &mut resource.scopes {
                scope.spans.sort_by_key(|s| (s.start_nanos, s.id));
            }
            resource.scopes.sort_by_key(|s| first(&s.spans));
        }
        trace.resources.sort_by_key(|r| r.scopes.first().and_then(|s| first(&s.spans)));
        trace
    }
}

fn varint_len(value: usize) -> usize {
    (value.checked_ilog2().unwrap_or(0) / 7 + 1) as usize
}

fn framed(len: usize) -> usize {
    1 + varint_len(len) + len
}

fn put_head(out: &mut Vec<u8>, tag: u8, len: usize) {
    out.push(tag);
    let mut rest = len;
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn put(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    put_head(out, tag, bytes.len());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(id: u8, kind: u8, start: u64) -> Span {
        let encoded = Bytes::from(vec![id; usize::from(id)]);
        Span { id: SpanId([id; 8]), parent: SpanId::default(), kind, start_nanos: start, encoded }
    }

    fn trace(resource: &'static [u8], spans: Vec<Span>) -> Trace {
        let scopes = vec![ScopeSpans { scope: Bytes::new(), spans }];
        Trace { resources: vec![ResourceSpans { resource: Bytes::from_static(resource), scopes }] }
    }

    #[test]
    fn encoding_frames_every_level_and_keeps_empty_messages() {
        let trace = trace(b"r", vec![span(2, 1, 5)]);
        let expected = [0x0a, 11, 0x0a, 1, b'r', 0x12, 6, 0x0a, 0, 0x12, 2, 2, 2];
        assert_eq!(trace.encode(), expected);
        assert_eq!(trace.encoded_len(), expected.len());
    }

    #[test]
    fn merging_keeps_each_span_once_and_sorts() {
        let a = trace(b"a", vec![span(3, 1, 30), span(1, 1, 10)]);
        let b = trace(b"a", vec![span(1, 1, 10), span(1, 2, 11), span(2, 1, 5)]);
        let merged = a.merge(b);
        assert_eq!(merged.resources.len(), 1);
        let spans = &merged.resources[0].scopes[0].spans;
        let order: Vec<_> = spans.iter().map(|s| (s.id.0[0], s.kind)).collect();
        assert_eq!(order, [(2, 1), (1, 1), (1, 2), (3, 1)]);
    }

    #[test]
    fn varints_of_any_length_are_counted_right() {
        for value in [0usize, 1, 127, 128, 16383, 16384, 1 << 21, 1 << 28] {
            let mut out = Vec::new();
            put_head(&mut out, FIELD_1, value);
            assert_eq!(out.len(), 1 + varint_len(value), "{value}");
        }
    }
}
