//! Filling a segment from checked OTLP requests.

use std::collections::HashSet;

use crate::model::{SpanId, TraceId};
use crate::otlp::wire::{Field, Reader};

use super::{Dropped, END, Owner, Resource, Scope, Segment, TraceSlot, attr, hash_trace};

/// Chains up to this long are searched for a span that was sent twice; longer ones are given an index.
const SHORT_CHAIN: u32 = 64;

/// When a request entered the log, and where.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub seq: u64,
    pub nanos: u64,
}

/// The fields of a span that are not lists.
#[derive(Default)]
struct Head<'a> {
    trace: TraceId,
    id: SpanId,
    parent: SpanId,
    name: &'a [u8],
    trace_state: &'a [u8],
    start: u64,
    end: u64,
    kind: u8,
    status: u8,
    status_message: &'a [u8],
    dropped: Dropped,
}

/// What a request did to a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    pub spans: u32,
    /// Spans that were there already: a sender's retry.
    pub duplicates: u32,
    pub new_traces: u32,
}

/// State between the spans of one request: most follow one of the same trace.
struct Cursor<'a> {
    segment: &'a mut Segment,
    arrival: Arrival,
    resource: u32,
    scope: u32,
    last: Option<(TraceId, u32)>,
    /// Traces from here on were opened by this request.
    first_new: u32,
    wide: Option<(u32, HashSet<(SpanId, u8)>)>,
    done: Appended,
}

impl Segment {
    /// Adds the spans of a checked request for which `wanted` holds. Bytes that are not well formed end their message early.
    pub fn append(
        &mut self,
        request: &[u8],
        arrival: Arrival,
        mut wanted: impl FnMut(&TraceId) -> bool,
    ) -> Appended {
        let first_new = self.traces.len() as u32;
        let mut cursor = Cursor {
            segment: self,
            arrival,
            resource: 0,
            scope: 0,
            last: None,
            first_new,
            wide: None,
            done: Appended::default(),
        };
        let mut reader = Reader::new(request);
        while let Ok(Some((field, content))) = reader.next() {
            if let (1, Field::Bytes(resource_spans)) = (field, content) {
                cursor.resource_spans(resource_spans, &mut wanted);
            }
        }
        cursor.done
    }

    #[inline]
    pub(super) fn intern_attr(&mut self, key_value: &[u8], owner: Owner) -> u32 {
        let (code, new) = self.attrs.intern(key_value);
        if new {
            let (key, _) = self.keys.intern(attr::key(key_value));
            self.attr_keys.push(key);
            self.attr_owners.push(owner as u8);
        } else {
            self.attr_owners[code as usize] |= owner as u8;
        }
        code
    }

    pub(super) fn intern_resource(&mut self, bytes: &[u8]) -> u32 {
        let (code, new) = self.resource_codes.intern(bytes);
        if new {
            let mut resource = Resource { attrs: Vec::new(), dropped: 0, service: 0 };
            let mut service = None;
            let mut reader = Reader::new(bytes);
            while let Ok(Some(field)) = reader.next() {
                match field {
                    (1, Field::Bytes(key_value)) => {
                        resource.attrs.push(self.intern_attr(key_value, Owner::Resource));
                        match attr::key_value(key_value) {
                            ("service.name", attr::Any::Str(name)) if service.is_none() => {
                                service = Some(name);
                            }
                            ("service.name", _) => service = service.or(Some("")),
                            _ => {}
                        }
                    }
                    (2, Field::Varint(dropped)) => resource.dropped = dropped as u32,
                    _ => {}
                }
            }
            resource.service = self.strings.intern(service.unwrap_or_default().as_bytes()).0;
            self.resources.push(resource);
        }
        code
    }

    pub(super) fn intern_scope(&mut self, bytes: &[u8]) -> u32 {
        let (code, new) = self.scope_codes.intern(bytes);
        if new {
            let (mut name, mut version): (&[u8], &[u8]) = (b"", b"");
            let mut scope = Scope { name: 0, version: 0, attrs: Vec::new(), dropped: 0 };
            let mut reader = Reader::new(bytes);
            while let Ok(Some(field)) = reader.next() {
                match field {
                    (1, Field::Bytes(text)) => name = text,
                    (2, Field::Bytes(text)) => version = text,
                    (3, Field::Bytes(key_value)) => {
                        scope.attrs.push(self.intern_attr(key_value, Owner::Scope));
                    }
                    (4, Field::Varint(dropped)) => scope.dropped = dropped as u32,
                    _ => {}
                }
            }
            scope.name = self.strings.intern(name).0;
            scope.version = self.strings.intern(version).0;
            self.scopes.push(scope);
        }
        code
    }

    /// The slot of a trace, opened if it is new.
    pub(super) fn open_trace(&mut self, id: TraceId, arrival: Arrival) -> u32 {
        if let Some(slot) = self.find(&id) {
            return slot as u32;
        }
        let slot = self.traces.len() as u32;
        self.traces.push(TraceSlot {
            id,
            first: END,
            last: END,
            spans: 0,
            start_nanos: u64::MAX,
            end_nanos: 0,
            oldest_seq: arrival.seq,
            touched_nanos: arrival.nanos,
            opened_nanos: arrival.nanos,
        });
        let traces = &self.traces;
        let rehash = |slot: &u32| hash_trace(&traces[*slot as usize].id);
        self.table.insert_unique(hash_trace(&id), slot, rehash);
        slot
    }

    /// Chains the row that is about to be pushed to its trace.
    pub(super) fn chain_row(&mut self, slot: u32, start: u64, end: u64, arrival: Arrival) {
        let row = self.spans.trace.len() as u32;
        let trace = &mut self.traces[slot as usize];
        match trace.last {
            END => trace.first = row,
            last => self.spans.next[last as usize] = row,
        }
        trace.last = row;
        trace.spans += 1;
        trace.start_nanos = trace.start_nanos.min(start);
        trace.end_nanos = trace.end_nanos.max(end);
        trace.oldest_seq = trace.oldest_seq.min(arrival.seq);
        trace.touched_nanos = trace.touched_nanos.max(arrival.nanos);
        self.spans.next.push(END);
        self.spans.trace.push(slot);
    }
}

impl Cursor<'_> {
    fn resource_spans(&mut self, bytes: &[u8], wanted: &mut impl FnMut(&TraceId) -> bool) {
        let mut resource: &[u8] = &[];
        let mut reader = Reader::new(bytes);
        while let Ok(Some((field, content))) = reader.next() {
            if let (1, Field::Bytes(message)) = (field, content) {
                resource = message;
            }
        }
        self.resource = self.segment.intern_resource(resource);
        let mut reader = Reader::new(bytes);
        while let Ok(Some((field, content))) = reader.next() {
            if let (2, Field::Bytes(scope_spans)) = (field, content) {
                self.scope_spans(scope_spans, wanted);
            }
        }
    }

    fn scope_spans(&mut self, bytes: &[u8], wanted: &mut impl FnMut(&TraceId) -> bool) {
        let mut scope: &[u8] = &[];
        // The scope stands before its spans in all encoders known; one that puts it last is read twice.
        let mut reader = Reader::new(bytes);
        while let Ok(Some((field, content))) = reader.next() {
            match (field, content) {
                (1, Field::Bytes(message)) => {
                    scope = message;
                    break;
                }
                _ => continue,
            }
        }
        self.scope = self.segment.intern_scope(scope);
        let mut reader = Reader::new(bytes);
        while let Ok(Some((field, content))) = reader.next() {
            if let (2, Field::Bytes(span)) = (field, content) {
                self.span(span, wanted);
            }
        }
    }

    fn span(&mut self, bytes: &[u8], wanted: &mut impl FnMut(&TraceId) -> bool) {
        let spans = &self.segment.spans;
        let (attrs, events, links) =
            (spans.attrs.len(), self.segment.events.time.len(), self.segment.links.trace.len());
        let head = self.read(bytes);
        let slot = match self.last {
            Some((id, slot)) if id == head.trace => slot,
            _ if !wanted(&head.trace) => return self.segment.undo(attrs, events, links),
            _ => {
                let slot = self.segment.open_trace(head.trace, self.arrival);
                self.last = Some((head.trace, slot));
                slot
            }
        };
        if self.is_duplicate(slot, head.id, head.kind) {
            self.done.duplicates += 1;
            return self.segment.undo(attrs, events, links);
        }
        self.push(slot, &head);
    }

    /// Reads a span; its attributes, events and links go straight into the segment's lists.
    fn read<'b>(&mut self, bytes: &'b [u8]) -> Head<'b> {
        let mut head = Head::default();
        let mut reader = Reader::new(bytes);
        while let Ok(Some((field, content))) = reader.next() {
            match (field, content) {
                (1, Field::Bytes(id)) => head.trace = TraceId(id.try_into().unwrap_or_default()),
                (2, Field::Bytes(id)) => head.id = SpanId(id.try_into().unwrap_or_default()),
                (3, Field::Bytes(text)) => head.trace_state = text,
                (4, Field::Bytes(id)) => head.parent = SpanId(id.try_into().unwrap_or_default()),
                (5, Field::Bytes(text)) => head.name = text,
                (6, Field::Varint(kind)) => head.kind = if kind <= 5 { kind as u8 } else { 0 },
                (7, Field::Fixed64(nanos)) => head.start = nanos,
                (8, Field::Fixed64(nanos)) => head.end = nanos,
                (9, Field::Bytes(key_value)) => {
                    let code = self.segment.intern_attr(key_value, Owner::Span);
                    self.segment.spans.attrs.push(code);
                }
                (10, Field::Varint(count)) => head.dropped.attributes = count as u32,
                (11, Field::Bytes(event)) => self.segment.push_event(event),
                (12, Field::Varint(count)) => head.dropped.events = count as u32,
                (13, Field::Bytes(link)) => self.segment.push_link(link),
                (14, Field::Varint(count)) => head.dropped.links = count as u32,
                (15, Field::Bytes(status)) => read_status(status, &mut head),
                _ => {}
            }
        }
        head
    }

    fn is_duplicate(&mut self, slot: u32, id: SpanId, kind: u8) -> bool {
        let segment = &*self.segment;
        let spans = &segment.spans;
        let chain = segment.traces[slot as usize].spans;
        if chain == 0 {
            return false;
        }
        if chain <= SHORT_CHAIN {
            return segment
                .chain(slot as usize)
                .any(|row| spans.id[row] == id && spans.kind[row] == kind);
        }
        if self.wide.as_ref().is_none_or(|(of, _)| *of != slot) {
            let rows = segment.chain(slot as usize);
            self.wide = Some((slot, rows.map(|row| (spans.id[row], spans.kind[row])).collect()));
        }
        self.wide.as_mut().is_some_and(|(_, seen)| !seen.insert((id, kind)))
    }

    fn push(&mut self, slot: u32, head: &Head<'_>) {
        let segment = &mut *self.segment;
        let duration = head.end.saturating_sub(head.start);
        let row = segment.spans.trace.len() as u32;
        if segment.traces[slot as usize].spans == 0 && slot >= self.first_new {
            self.done.new_traces += 1;
        }
        segment.chain_row(slot, head.start, head.end.max(head.start), self.arrival);
        let name = segment.strings.intern(head.name).0;
        let status_message = segment.strings.intern(head.status_message).0;
        let trace_state = segment.strings.intern(head.trace_state).0;
        let spans = &mut segment.spans;
        spans.resource.push(self.resource);
        spans.scope.push(self.scope);
        spans.id.push(head.id);
        spans.parent.push(head.parent);
        spans.name.push(name);
        spans.start.push(head.start);
        spans.duration.push(duration);
        spans.kind.push(head.kind);
        spans.status.push(head.status);
        spans.status_message.push(status_message);
        spans.trace_state.push(trace_state);
        spans.attr_ends.push(spans.attrs.len() as u32);
        spans.event_ends.push(segment.events.time.len() as u32);
        spans.link_ends.push(segment.links.trace.len() as u32);
        if head.dropped != Dropped::default() {
            spans.dropped.push((row, head.dropped));
        }
        self.done.spans += 1;
    }
}

impl Segment {
    fn push_event(&mut self, bytes: &[u8]) {
        let (mut time, mut name, mut dropped): (u64, &[u8], u32) = (0, b"", 0);
        let mut reader = Reader::new(bytes);
        while let Ok(Some((field, content))) = reader.next() {
            match (field, content) {
                (1, Field::Fixed64(nanos)) => time = nanos,
                (2, Field::Bytes(text)) => name = text,
                (3, Field::Bytes(key_value)) => {
                    let code = self.intern_attr(key_value, Owner::Event);
                    self.events.attrs.push(code);
                }
                (4, Field::Varint(count)) => dropped = count as u32,
                _ => {}
            }
        }
        self.events.time.push(time);
        self.events.name.push(self.strings.intern(name).0);
        self.events.attr_ends.push(self.events.attrs.len() as u32);
        self.events.dropped.push(dropped);
    }

    fn push_link(&mut self, bytes: &[u8]) {
        let (mut trace, mut span) = (TraceId::default(), SpanId::default());
        let (mut state, mut dropped): (&[u8], u32) = (b"", 0);
        let mut reader = Reader::new(bytes);
        while let Ok(Some((field, content))) = reader.next() {
            match (field, content) {
                (1, Field::Bytes(id)) => trace = TraceId(id.try_into().unwrap_or_default()),
                (2, Field::Bytes(id)) => span = SpanId(id.try_into().unwrap_or_default()),
                (3, Field::Bytes(text)) => state = text,
                (4, Field::Bytes(key_value)) => {
                    let code = self.intern_attr(key_value, Owner::Link);
                    self.links.attrs.push(code);
                }
                (5, Field::Varint(count)) => dropped = count as u32,
                _ => {}
            }
        }
        self.links.trace.push(trace);
        self.links.span.push(span);
        self.links.trace_state.push(self.strings.intern(state).0);
        self.links.attr_ends.push(self.links.attrs.len() as u32);
        self.links.dropped.push(dropped);
    }

    /// Takes back the lists of a span that is not wanted after all.
    fn undo(&mut self, attrs: usize, events: usize, links: usize) {
        self.spans.attrs.truncate(attrs);
        let end = |ends: &[u32], count: usize| count.checked_sub(1).map_or(0, |at| ends[at]);
        self.events.attrs.truncate(end(&self.events.attr_ends, events) as usize);
        self.events.time.truncate(events);
        self.events.name.truncate(events);
        self.events.attr_ends.truncate(events);
        self.events.dropped.truncate(events);
        self.links.attrs.truncate(end(&self.links.attr_ends, links) as usize);
        self.links.trace.truncate(links);
        self.links.span.truncate(links);
        self.links.trace_state.truncate(links);
        self.links.attr_ends.truncate(links);
        self.links.dropped.truncate(links);
    }
}

fn read_status<'a>(bytes: &'a [u8], head: &mut Head<'a>) {
    let mut reader = Reader::new(bytes);
    while let Ok(Some((field, content))) = reader.next() {
        match (field, content) {
            (2, Field::Bytes(text)) => head.status_message = text,
            (3, Field::Varint(code)) => head.status = if code <= 2 { code as u8 } else { 0 },
            _ => {}
        }
    }
}
