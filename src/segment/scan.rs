//! Searching a segment: which spans pass a filter, and the batch of their traces.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use crate::columns::nested::{Node, Numbering, Place};
use crate::columns::{
    AttrScope, Bitmap, Column, Filter, Leaves, List, NONE, Op, Operand, Predicate, ScanRequest,
    ScanStats, SpanBatch, Values, select,
};
use crate::model::Value;

use super::attr::{Any, key_value};
use super::{Grouping, Segment, part};

/// Bytes that a span in a segment stands for when a scan counts what it inspected.
const SPAN_BYTES: u64 = 160;

/// Marks codes of services among codes of attributes.
const SERVICES: u32 = 1 << 31;

/// Verdicts on attributes: codes of another key, the right key without, and with a match.
const OTHER: u8 = 0;
const NO: u8 = 1;
const YES: u8 = 2;

impl Segment {
    /// The traces with a span that passes, as one batch; if `only` is given, of the slots in it.
    pub fn scan(
        &self,
        request: &ScanRequest,
        only: Option<&Bitmap>,
        stats: &mut ScanStats,
    ) -> SpanBatch {
        stats.inspected_traces += self.traces.len() as u64;
        stats.inspected_spans += self.span_count() as u64;
        stats.inspected_bytes += self.span_count() as u64 * SPAN_BYTES;
        let mut leaves = SegmentLeaves { segment: self, places: None };
        let Ok(passed) = select(&request.filter, &mut leaves);
        let slots = self.slots(request, only, &passed);
        self.batch(&slots, &request.columns, |row| passed.get(row))
    }

    /// The traces of the rows that passed, in the range, cut to the newest ones if asked; in order of their ids.
    fn slots(&self, request: &ScanRequest, only: Option<&Bitmap>, passed: &Bitmap) -> Vec<usize> {
        let mut wanted = Bitmap::none(self.traces.len());
        if matches!(request.filter, Filter::All) {
            wanted = Bitmap::all(self.traces.len());
        } else {
            passed.rows().for_each(|row| wanted.set(self.spans.trace[row] as usize));
        }
        if let Some(only) = only {
            wanted.and(only);
        }
        let touches = |slot: &usize| {
            let trace = &self.traces[*slot];
            request.range.overlaps(trace.start_nanos, trace.end_nanos)
        };
        let mut slots: Vec<usize> = wanted.rows().filter(touches).collect();
        if let Some(newest) = request.newest
            && newest < slots.len()
        {
            let start = |slot: &usize| Reverse(self.traces[*slot].start_nanos);
            slots.select_nth_unstable_by_key(newest, start);
            slots.truncate(newest);
        }
        slots.sort_unstable_by_key(|slot| self.traces[*slot].id);
        slots
    }

    /// The columns of some traces.
    pub fn batch(
        &self,
        slots: &[usize],
        columns: &[Column],
        matched: impl Fn(usize) -> bool,
    ) -> SpanBatch {
        let mut grouping = Grouping::default();
        let (mut rows, mut of_trace, mut trace_ends) = (Vec::new(), Vec::new(), Vec::new());
        for slot in slots {
            grouping.rows(self, *slot, &mut of_trace);
            rows.extend_from_slice(&of_trace);
            trace_ends.push(rows.len() as u32);
        }
        let picked = Picked { segment: self, slots, trace_ends: &trace_ends, rows: &rows };
        let columns =
            columns.iter().map(|column| (column.clone(), picked.column(column))).collect();
        let matched = Bitmap::from_fn(rows.len(), |at| matched(rows[at] as usize));
        SpanBatch { trace_ends, matched, columns }
    }

    /// The place of every row in its trace's tree.
    fn places(&self) -> Vec<Place> {
        let mut places = vec![Place::default(); self.span_count()];
        let mut tree = Tree::default();
        let mut grouping = Grouping::default();
        let mut rows = Vec::new();
        for slot in 0..self.traces.len() {
            grouping.rows(self, slot, &mut rows);
            for (row, place) in rows.iter().zip(tree.places(self, &rows)) {
                places[*row as usize] = *place;
            }
        }
        places
    }

    fn verdicts(&self, key: &str, predicate: &Predicate) -> Option<Vec<u8>> {
        let key = self.keys.find(key.as_bytes())?;
        let mut verdicts = vec![OTHER; self.attrs.len()];
        for (code, _) in (0u32..).zip(&self.attr_keys).filter(|(_, of)| **of == key) {
            let (_, value) = key_value(self.attrs.get(code));
            verdicts[code as usize] = if matches(predicate, value) { YES } else { NO };
        }
        Some(verdicts)
    }
}

/// The tree of one trace after the other.
#[derive(Default)]
pub struct Tree {
    numbering: Numbering,
    nodes: Vec<Node>,
    places: Vec<Place>,
}

impl Tree {
    /// The places of a trace's rows, which stand in storage order.
    pub fn places(&mut self, segment: &Segment, rows: &[u32]) -> &[Place] {
        let spans = &segment.spans;
        let node = |row: usize| Node {
            id: spans.id[row],
            parent: spans.parent[row],
            kind: spans.kind[row],
        };
        self.nodes.clear();
        self.nodes.extend(rows.iter().map(|row| node(*row as usize)));
        self.numbering.number(&self.nodes, &mut self.places);
        &self.places
    }
}

/// Decides one value of an attribute. One without a queryable value satisfies nothing.
fn matches(predicate: &Predicate, value: Any<'_>) -> bool {
    match value {
        Any::Str(text) => predicate.matches_str(text),
        value => value.to_value().is_some_and(|value| predicate.matches(&value)),
    }
}

/// The verdict on the first attribute of the right key.
#[inline]
fn verdict(codes: &[u32], verdicts: &[u8]) -> u8 {
    let of = |code: &u32| verdicts.get(*code as usize).copied().unwrap_or(OTHER);
    codes.iter().map(of).find(|verdict| *verdict != OTHER).unwrap_or(OTHER)
}

fn passes(verdict: u8, op: Op) -> bool {
    verdict == YES || (verdict == OTHER && op == Op::Missing)
}

struct SegmentLeaves<'a> {
    segment: &'a Segment,
    places: Option<Vec<Place>>,
}

impl SegmentLeaves<'_> {
    fn by_row(&self, keep: impl FnMut(usize) -> bool) -> Bitmap {
        Bitmap::from_fn(self.segment.span_count(), keep)
    }

    fn strings(&self, codes: &[u32], predicate: &Predicate) -> Bitmap {
        let strings = &self.segment.strings;
        if let (Op::Eq, Operand::Str(text)) = (predicate.op, &predicate.operand) {
            return match strings.find(text.as_bytes()) {
                Some(code) => Bitmap::from_fn(codes.len(), |row| codes[row] == code),
                None => Bitmap::none(codes.len()),
            };
        }
        let mut known = vec![OTHER; strings.len()];
        Bitmap::from_fn(codes.len(), |row| {
            let code = codes[row];
            let verdict = &mut known[code as usize];
            if *verdict == OTHER {
                let yes = predicate.matches_str(self.segment.str(code));
                *verdict = if yes { YES } else { NO };
            }
            *verdict == YES
        })
    }

    fn span_attr(&self, key: &str, predicate: &Predicate) -> Bitmap {
        let missing = predicate.op == Op::Missing;
        let Some(verdicts) = self.segment.verdicts(key, predicate) else {
            return if missing { Bitmap::all(self.rows()) } else { Bitmap::none(self.rows()) };
        };
        if !missing && !verdicts.contains(&YES) {
            return Bitmap::none(self.rows());
        }
        let spans = &self.segment.spans;
        self.by_row(|row| {
            let codes = &spans.attrs[part(&spans.attr_ends, row)];
            passes(verdict(codes, &verdicts), predicate.op)
        })
    }

    /// Verdicts on each resource.
    fn resources(&self, key: &str, predicate: &Predicate) -> Vec<u8> {
        let segment = self.segment;
        if key == "service.name" {
            let verdict = |service| {
                let yes = predicate.matches_str(segment.str(service));
                if yes { YES } else { NO }
            };
            return segment.resources.iter().map(|r| verdict(r.service)).collect();
        }
        let verdicts = segment.verdicts(key, predicate).unwrap_or_default();
        segment.resources.iter().map(|r| verdict(&r.attrs, &verdicts)).collect()
    }

    fn any_attr(&self, key: &str, predicate: &Predicate) -> Bitmap {
        let verdicts = self.segment.verdicts(key, predicate).unwrap_or_default();
        let resources = self.resources(key, predicate);
        let spans = &self.segment.spans;
        self.by_row(|row| {
            let codes = &spans.attrs[part(&spans.attr_ends, row)];
            match verdict(codes, &verdicts) {
                OTHER => passes(resources[spans.resource[row] as usize], predicate.op),
                verdict => passes(verdict, predicate.op),
            }
        })
    }

    fn scopes(&self, of: impl Fn(&super::Scope) -> u8, op: Op) -> Bitmap {
        let verdicts: Vec<u8> = self.segment.scopes.iter().map(of).collect();
        self.by_row(|row| passes(verdicts[self.segment.spans.scope[row] as usize], op))
    }

    fn numbers(&self, predicate: &Predicate, of: impl Fn(usize) -> i64) -> Bitmap {
        self.by_row(|row| predicate.matches_int(of(row)))
    }

    fn place(&mut self, predicate: &Predicate, of: impl Fn(&Place) -> i32) -> Bitmap {
        let places = self.places.get_or_insert_with(|| self.segment.places());
        Bitmap::from_fn(places.len(), |row| predicate.matches_int(i64::from(of(&places[row]))))
    }

    /// Decides a column with one value a trace.
    fn traces(&self, column: &Column, predicate: &Predicate) -> Bitmap {
        let slots: Vec<usize> = (0..self.segment.traces.len()).collect();
        let batch = self.segment.batch(&slots, std::slice::from_ref(column), |_| false);
        let passed = match batch.column(column) {
            Some(values) => predicate.select(values),
            None => Bitmap::none(slots.len()),
        };
        self.by_row(|row| passed.get(self.segment.spans.trace[row] as usize))
    }

    fn texts(&self, predicate: &Predicate, of: impl Fn(usize) -> String) -> Bitmap {
        self.by_row(|row| predicate.matches_str(&of(row)))
    }
}

impl Leaves<Infallible> for SegmentLeaves<'_> {
    fn rows(&self) -> usize {
        self.segment.span_count()
    }

    fn column(&mut self, column: &Column, predicate: &Predicate) -> Result<Bitmap, Infallible> {
        let spans = &self.segment.spans;
        let text = |code| {
            if predicate.matches_str(self.segment.str(code)) { YES } else { NO }
        };
        Ok(match column {
            Column::Name => self.strings(&spans.name, predicate),
            Column::StatusMessage => self.strings(&spans.status_message, predicate),
            Column::Start => self.numbers(predicate, |row| signed(spans.start[row])),
            Column::Duration => self.numbers(predicate, |row| signed(spans.duration[row])),
            Column::Kind => self.numbers(predicate, |row| i64::from(spans.kind[row])),
            Column::Status => self.numbers(predicate, |row| i64::from(spans.status[row])),
            Column::SpanId => self.texts(predicate, |row| spans.id[row].to_string()),
            Column::ParentId => self.texts(predicate, |row| spans.parent[row].to_string()),
            Column::NestedLeft => self.place(predicate, |place| place.left),
            Column::NestedRight => self.place(predicate, |place| place.right),
            Column::NestedParent => self.place(predicate, |place| place.parent),
            Column::ChildCount => self.place(predicate, |place| place.children),
            Column::ScopeName => self.scopes(|scope| text(scope.name), predicate.op),
            Column::ScopeVersion => self.scopes(|scope| text(scope.version), predicate.op),
            Column::Service => {
                let verdicts = self.resources("service.name", predicate);
                self.by_row(|row| passes(verdicts[spans.resource[row] as usize], predicate.op))
            }
            Column::Attr(AttrScope::Span, key) => self.span_attr(key, predicate),
            Column::Attr(AttrScope::Any, key) => self.any_attr(key, predicate),
            Column::Attr(AttrScope::Resource, key) => {
                let verdicts = self.resources(key, predicate);
                self.by_row(|row| passes(verdicts[spans.resource[row] as usize], predicate.op))
            }
            Column::Attr(AttrScope::Instrumentation, key) => {
                let verdicts = self.segment.verdicts(key, predicate).unwrap_or_default();
                self.scopes(|scope| verdict(&scope.attrs, &verdicts), predicate.op)
            }
            column if column.is_trace() => self.traces(column, predicate),
            _ => Bitmap::none(self.rows()),
        })
    }

    fn item(&mut self, list: List, all: &[(Column, Predicate)]) -> Result<Bitmap, Infallible> {
        let segment = self.segment;
        let items = match list {
            List::Event => segment.events.time.len(),
            List::Link => segment.links.trace.len(),
        };
        let mut passed = Bitmap::all(items);
        for (column, predicate) in all {
            passed.and(&segment.items(column, predicate, items));
        }
        let ends = match list {
            List::Event => &segment.spans.event_ends,
            List::Link => &segment.spans.link_ends,
        };
        Ok(self.by_row(|row| passed.any_in(part(ends, row))))
    }
}

impl Segment {
    /// The events (or links) that satisfy one condition.
    fn items(&self, column: &Column, predicate: &Predicate, items: usize) -> Bitmap {
        let attrs = |key: &str, ends: &[u32], codes: &[u32]| {
            let verdicts = self.verdicts(key, predicate).unwrap_or_default();
            Bitmap::from_fn(items, |at| {
                passes(verdict(&codes[part(ends, at)], &verdicts), predicate.op)
            })
        };
        match column {
            Column::EventName => {
                Bitmap::from_fn(items, |at| predicate.matches_str(self.str(self.events.name[at])))
            }
            Column::EventTimeSinceStart => {
                let since = self.event_times();
                Bitmap::from_fn(items, |at| predicate.matches_int(since[at]))
            }
            Column::EventAttr(key) => attrs(key, &self.events.attr_ends, &self.events.attrs),
            Column::LinkAttr(key) => attrs(key, &self.links.attr_ends, &self.links.attrs),
            Column::LinkTraceId => {
                Bitmap::from_fn(items, |at| predicate.matches_str(&self.links.trace[at].trimmed()))
            }
            Column::LinkSpanId => {
                Bitmap::from_fn(items, |at| predicate.matches_str(&self.links.span[at].to_string()))
            }
            _ => Bitmap::none(items),
        }
    }

    fn event_times(&self) -> Vec<i64> {
        let mut since = vec![0; self.events.time.len()];
        for (row, start) in self.spans.start.iter().enumerate() {
            for event in part(&self.spans.event_ends, row) {
                since[event] = self.events.time[event].wrapping_sub(*start) as i64;
            }
        }
        since
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Rows of a segment on their way into a batch.
struct Picked<'a> {
    segment: &'a Segment,
    slots: &'a [usize],
    trace_ends: &'a [u32],
    rows: &'a [u32],
}

impl Picked<'_> {
    fn column(&self, column: &Column) -> Values {
        let segment = self.segment;
        let spans = &segment.spans;
        match column {
            Column::TraceId => {
                Values::TraceIds(self.slots.iter().map(|slot| segment.traces[*slot].id).collect())
            }
            Column::TraceStart => self.trace_numbers(|trace| trace.start_nanos),
            Column::TraceEnd => self.trace_numbers(|trace| trace.end_nanos),
            Column::RootService => self.roots(|root| root.service),
            Column::RootName => self.roots(|root| root.name),
            Column::SpanId => Values::SpanIds(self.map(|row| spans.id[row])),
            Column::ParentId => Values::SpanIds(self.map(|row| spans.parent[row])),
            Column::Start => Values::U64(self.map(|row| spans.start[row])),
            Column::Duration => Values::U64(self.map(|row| spans.duration[row])),
            Column::Kind => Values::I32(self.map(|row| i32::from(spans.kind[row]))),
            Column::Status => Values::I32(self.map(|row| i32::from(spans.status[row]))),
            Column::Name => self.texts(|row| spans.name[row]),
            Column::StatusMessage => self.texts(|row| spans.status_message[row]),
            Column::NestedLeft => self.places(|place| place.left),
            Column::NestedRight => self.places(|place| place.right),
            Column::NestedParent => self.places(|place| place.parent),
            Column::ChildCount => self.places(|place| place.children),
            Column::ScopeName => self.texts(|row| segment.scopes[spans.scope[row] as usize].name),
            Column::ScopeVersion => {
                self.texts(|row| segment.scopes[spans.scope[row] as usize].version)
            }
            Column::Service => self.texts(|row| self.resource(row).service),
            Column::Attr(scope, key) => self.attr(*scope, key),
            Column::EventName | Column::EventTimeSinceStart | Column::EventAttr(_) => {
                self.events(column)
            }
            Column::LinkTraceId | Column::LinkSpanId | Column::LinkAttr(_) => self.links(column),
        }
    }

    fn map<T>(&self, of: impl Fn(usize) -> T) -> Vec<T> {
        self.rows.iter().map(|row| of(*row as usize)).collect()
    }

    fn trace_numbers(&self, of: impl Fn(&super::TraceSlot) -> u64) -> Values {
        Values::U64(self.slots.iter().map(|slot| of(&self.segment.traces[*slot])).collect())
    }

    fn resource(&self, row: usize) -> &super::Resource {
        &self.segment.resources[self.segment.spans.resource[row] as usize]
    }

    fn trace_rows(&self, trace: usize) -> &[u32] {
        &self.rows[part(self.trace_ends, trace)]
    }

    fn roots(&self, of: impl Fn(super::Root) -> u32) -> Values {
        let mut coded = Coding::default();
        let codes =
            (0..self.slots.len()).map(|trace| match self.segment.root(self.trace_rows(trace)) {
                Some(root) => coded.code(of(root), |code| Value::str(self.segment.str(code))),
                None => coded.code(NONE - 1, |_| Value::str("")),
            });
        let codes = codes.collect();
        coded.finish(codes)
    }

    fn texts(&self, of: impl Fn(usize) -> u32) -> Values {
        let mut coded = Coding::default();
        let codes =
            self.map_mut(|row| coded.code(of(row), |code| Value::str(self.segment.str(code))));
        coded.finish(codes)
    }

    fn map_mut<T>(&self, mut of: impl FnMut(usize) -> T) -> Vec<T> {
        self.rows.iter().map(|row| of(*row as usize)).collect()
    }

    fn places(&self, of: impl Fn(&Place) -> i32) -> Values {
        let mut tree = Tree::default();
        let mut values = Vec::with_capacity(self.rows.len());
        for trace in 0..self.slots.len() {
            values.extend(tree.places(self.segment, self.trace_rows(trace)).iter().map(&of));
        }
        Values::I32(values)
    }

    fn attr(&self, scope: AttrScope, key: &str) -> Values {
        let spans = &self.segment.spans;
        let service = key == "service.name";
        if scope == AttrScope::Resource && service {
            return self.texts(|row| self.resource(row).service);
        }
        let key = self.segment.keys.find(key.as_bytes());
        let mut coded = Coding::default();
        let codes = self.map_mut(|row| {
            let own = || &spans.attrs[part(&spans.attr_ends, row)];
            let found = match scope {
                AttrScope::Span => self.find(own(), key),
                AttrScope::Resource => self.find(&self.resource(row).attrs, key),
                AttrScope::Instrumentation => {
                    self.find(&self.segment.scopes[spans.scope[row] as usize].attrs, key)
                }
                AttrScope::Any => {
                    self.find(own(), key).or_else(|| self.find(&self.resource(row).attrs, key))
                }
            };
            match found {
                // Every resource has a service, be it one without a name.
                _ if service && scope == AttrScope::Any && self.find(own(), key).is_none() => {
                    let code = self.resource(row).service;
                    coded.code(SERVICES | code, |_| Value::str(self.segment.str(code)))
                }
                Some(code) => coded.attr(self.segment, code),
                None => NONE,
            }
        });
        coded.finish(codes)
    }

    /// The first attribute of a key.
    fn find(&self, codes: &[u32], key: Option<u32>) -> Option<u32> {
        let key = key?;
        codes.iter().copied().find(|code| self.segment.attr_keys[*code as usize] == key)
    }

    fn ends(&self, ends: &[u32]) -> (Vec<u32>, Vec<usize>) {
        let mut items = Vec::new();
        let out = self.map_mut(|row| {
            items.extend(part(ends, row));
            items.len() as u32
        });
        (out, items)
    }

    fn events(&self, column: &Column) -> Values {
        let (segment, events) = (self.segment, &self.segment.events);
        let (ends, items) = self.ends(&segment.spans.event_ends);
        let values = match column {
            Column::EventTimeSinceStart => {
                let mut since = Vec::with_capacity(items.len());
                for row in self.rows.iter().map(|row| *row as usize) {
                    let start = segment.spans.start[row];
                    let times = &events.time[part(&segment.spans.event_ends, row)];
                    since.extend(times.iter().map(|time| time.wrapping_sub(start)));
                }
                Values::U64(since)
            }
            Column::EventAttr(key) => self.item_attr(key, &items, &events.attr_ends, &events.attrs),
            _ => {
                let mut coded = Coding::default();
                let text = |code| Value::str(segment.str(code));
                let codes = items.iter().map(|at| coded.code(events.name[*at], text)).collect();
                coded.finish(codes)
            }
        };
        Values::List { ends, items: Box::new(values) }
    }

    fn links(&self, column: &Column) -> Values {
        let links = &self.segment.links;
        let (ends, items) = self.ends(&self.segment.spans.link_ends);
        let values = match column {
            Column::LinkAttr(key) => self.item_attr(key, &items, &links.attr_ends, &links.attrs),
            Column::LinkSpanId => Values::SpanIds(items.iter().map(|at| links.span[*at]).collect()),
            _ => Values::TraceIds(items.iter().map(|at| links.trace[*at]).collect()),
        };
        Values::List { ends, items: Box::new(values) }
    }

    fn item_attr(&self, key: &str, items: &[usize], ends: &[u32], attrs: &[u32]) -> Values {
        let key = self.segment.keys.find(key.as_bytes());
        let mut coded = Coding::default();
        let codes = items.iter().map(|at| match self.find(&attrs[part(ends, *at)], key) {
            Some(code) => coded.attr(self.segment, code),
            None => NONE,
        });
        let codes = codes.collect();
        coded.finish(codes)
    }
}

/// A dictionary made of the codes that are used.
#[derive(Default)]
struct Coding {
    known: HashMap<u32, u32, foldhash::fast::FixedState>,
    dict: Vec<Value>,
}

impl Coding {
    fn code(&mut self, code: u32, value: impl FnOnce(u32) -> Value) -> u32 {
        *self.known.entry(code).or_insert_with(|| {
            self.dict.push(value(code));
            self.dict.len() as u32 - 1
        })
    }

    /// The code of an attribute's value, or none if queries see none.
    fn attr(&mut self, segment: &Segment, code: u32) -> u32 {
        if let Some(known) = self.known.get(&code) {
            return *known;
        }
        let own = match key_value(segment.attrs.get(code)).1.to_value() {
            Some(value) => {
                self.dict.push(value);
                self.dict.len() as u32 - 1
            }
            None => NONE,
        };
        self.known.insert(code, own);
        own
    }

    fn finish(self, codes: Vec<u32>) -> Values {
        Values::Coded { codes, dict: Arc::new(self.dict) }
    }
}
