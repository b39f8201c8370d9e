//! Copying traces from one segment to another without going through their bytes.

use crate::columns::NONE;

use super::append::Arrival;
use super::{Owner, Segment, part};

/// Copies traces between two segments; each distinct string is looked up once.
pub struct Copier<'a> {
    from: &'a Segment,
    to: &'a mut Segment,
    attrs: Vec<u32>,
    strings: Vec<u32>,
    resources: Vec<u32>,
    scopes: Vec<u32>,
}

impl<'a> Copier<'a> {
    pub fn new(from: &'a Segment, to: &'a mut Segment) -> Copier<'a> {
        let unknown = |len: usize| vec![NONE; len];
        Copier {
            attrs: unknown(from.attrs.len()),
            strings: unknown(from.strings.len()),
            resources: unknown(from.resources.len()),
            scopes: unknown(from.scopes.len()),
            from,
            to,
        }
    }

    /// Copies the trace in a slot, with its age and its place in the log.
    pub fn trace(&mut self, slot: usize) {
        let trace = &self.from.traces[slot];
        let opened = Arrival { seq: trace.oldest_seq, nanos: trace.opened_nanos };
        let arrival = Arrival { seq: trace.oldest_seq, nanos: trace.touched_nanos };
        let to = self.to.open_trace(trace.id, opened);
        for row in self.from.chain(slot) {
            self.span(row, to, arrival);
        }
    }

    fn span(&mut self, row: usize, slot: u32, arrival: Arrival) {
        let from = &self.from.spans;
        let (start, duration) = (from.start[row], from.duration[row]);
        self.to.chain_row(slot, start, start.saturating_add(duration), arrival);
        let resource = self.resource(from.resource[row]);
        let scope = self.scope(from.scope[row]);
        let name = self.string(from.name[row]);
        let status_message = self.string(from.status_message[row]);
        let trace_state = self.string(from.trace_state[row]);
        for at in part(&from.attr_ends, row) {
            let code = self.attr(from.attrs[at], Owner::Span);
            self.to.spans.attrs.push(code);
        }
        part(&from.event_ends, row).for_each(|event| self.event(event));
        part(&from.link_ends, row).for_each(|link| self.link(link));
        let spans = &mut self.to.spans;
        if let Ok(at) = from.dropped.binary_search_by_key(&(row as u32), |(row, _)| *row) {
            spans.dropped.push((spans.trace.len() as u32 - 1, from.dropped[at].1));
        }
        spans.resource.push(resource);
        spans.scope.push(scope);
        spans.id.push(from.id[row]);
        spans.parent.push(from.parent[row]);
        spans.name.push(name);
        spans.start.push(start);
        spans.duration.push(duration);
        spans.kind.push(from.kind[row]);
        spans.status.push(from.status[row]);
        spans.status_message.push(status_message);
        spans.trace_state.push(trace_state);
        spans.attr_ends.push(spans.attrs.len() as u32);
        spans.event_ends.push(self.to.events.time.len() as u32);
        spans.link_ends.push(self.to.links.trace.len() as u32);
    }

    fn event(&mut self, at: usize) {
        let from = &self.from.events;
        let name = self.string(from.name[at]);
        for attr in part(&from.attr_ends, at) {
            let code = self.attr(from.attrs[attr], Owner::Event);
            self.to.events.attrs.push(code);
        }
        let events = &mut self.to.events;
        events.time.push(from.time[at]);
        events.name.push(name);
        events.attr_ends.push(events.attrs.len() as u32);
        events.dropped.push(from.dropped[at]);
    }

    fn link(&mut self, at: usize) {
        let from = &self.from.links;
        let trace_state = self.string(from.trace_state[at]);
        for attr in part(&from.attr_ends, at) {
            let code = self.attr(from.attrs[attr], Owner::Link);
            self.to.links.attrs.push(code);
        }
        let links = &mut self.to.links;
        links.trace.push(from.trace[at]);
        links.span.push(from.span[at]);
        links.trace_state.push(trace_state);
        links.attr_ends.push(links.attrs.len() as u32);
        links.dropped.push(from.dropped[at]);
    }

    fn attr(&mut self, code: u32, owner: Owner) -> u32 {
        let (from, to) = (self.from, &mut *self.to);
        let code =
            known(&mut self.attrs[code as usize], || to.intern_attr(from.attrs.get(code), owner));
        to.attr_owners[code as usize] |= owner as u8;
        code
    }

    fn string(&mut self, code: u32) -> u32 {
        let (from, to) = (self.from, &mut *self.to);
        known(&mut self.strings[code as usize], || to.strings.intern(from.strings.get(code)).0)
    }

    fn resource(&mut self, code: u32) -> u32 {
        let (from, to) = (self.from, &mut *self.to);
        known(&mut self.resources[code as usize], || to.intern_resource(from.resource_bytes(code)))
    }

    fn scope(&mut self, code: u32) -> u32 {
        let (from, to) = (self.from, &mut *self.to);
        known(&mut self.scopes[code as usize], || to.intern_scope(from.scope_bytes(code)))
    }
}

fn known(code: &mut u32, find: impl FnOnce() -> u32) -> u32 {
    if *code == NONE {
        *code = find();
    }
    *code
}
