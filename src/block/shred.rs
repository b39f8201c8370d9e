//! From the interned columns of a segment to the pages of a row group.
//!
//! Work goes page by page: a few thousand spans are gathered, all their columns encoded and compressed, and only the
//! compressed bytes are kept until the row group is written. Strings are hashed once per distinct value and row group; per
//! span there are only codes.

use std::io;

use crate::columns::NONE;
use crate::columns::nested::Place;
use crate::segment::attr::{self, Any};
use crate::segment::{Grouping, Interner, Segment, Tree, part};

use super::encode;
use super::levels::width;
use super::meta::{Dedicated, DedicatedScope, DedicatedType, Version};
use super::page::{Chunk, PageLevels, PageValues, Pages};
use super::schema::{FIXED_RESOURCE, Physical, Schema};
use super::unsupported;

/// Spans of a page: small enough that one trace is found by decoding little, large enough to compress well.
const PAGE_SPANS: usize = 2048;

/// Kinds of an attribute entry; the first five are those of the value columns.
const STR: u8 = 0;
const INT: u8 = 1;
const FLOAT: u8 = 2;
const BOOL: u8 = 3;
const UNSUPPORTED: u8 = 4;
const ARRAY: u8 = 5;
/// No attribute: the item has none, or there is no item.
const NULL: u8 = 6;
const DEDICATED_STR: u8 = 7;
const DEDICATED_INT: u8 = 8;
const UNKNOWN: u8 = 255;

/// What becomes of one distinct attribute.
#[derive(Clone, Copy)]
struct Plan {
    kind: u8,
    /// The dedicated column of the key, whether or not the value fits it.
    column: u8,
    /// Code of the key.
    key: u32,
    /// Code of a string, bits of a number, or the attribute's own code.
    value: u64,
}

const NO_PLAN: Plan = Plan { kind: UNKNOWN, column: NO_COLUMN, key: 0, value: 0 };

const NO_COLUMN: u8 = 255;

/// A dictionary of one column, by order of first use.
#[derive(Default)]
struct Dictionary {
    values: Interner,
    /// From a code of the segment's strings to ours; filled as needed.
    known: Vec<u32>,
}

impl Dictionary {
    fn code(&mut self, text: &[u8]) -> u32 {
        self.values.intern(text).0
    }

    fn string(&mut self, segment: &Segment, code: u32) -> u32 {
        if self.known.len() <= code as usize {
            self.known.resize(segment.strings.len(), NONE);
        }
        match self.known[code as usize] {
            NONE => {
                let own = self.code(segment.strings.get(code));
                self.known[code as usize] = own;
                own
            }
            own => own,
        }
    }

    fn plain(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for code in 0..self.values.len() as u32 {
            encode::plain_bytes(&mut out, self.values.get(code));
        }
        out
    }
}

/// An attribute with its own column in a scope.
struct Target {
    key: Vec<u8>,
    kind: DedicatedType,
    leaf: usize,
}

/// The seven columns of one attribute group, and the dedicated ones beside it.
struct Group {
    /// The leaf `Key`; the others follow it.
    first: usize,
    targets: Vec<Target>,
    plans: Vec<Plan>,
}

/// Entries of an attribute group on a page.
#[derive(Default)]
struct Entries {
    rep: Vec<u32>,
    def: Vec<u32>,
    kind: Vec<u8>,
    key: Vec<u32>,
    value: Vec<u64>,
    /// By target: a value for each item, or none.
    slots: Vec<Vec<Option<u64>>>,
}

impl Entries {
    /// Puts an attribute into its dedicated column; false if it does not fit there.
    fn fill_slot(&mut self, plan: &Plan) -> bool {
        let slot = self.slots.get_mut(plan.column as usize).and_then(|slots| slots.last_mut());
        match slot {
            Some(slot) if plan.kind >= DEDICATED_STR => {
                *slot = Some(plan.value);
                true
            }
            _ => false,
        }
    }
}

/// One item that can have attributes: a resource, scope, span, event or link; or the place where one is missing.
#[derive(Clone, Copy)]
struct Item {
    rep: u32,
    def: u32,
    present: bool,
}

/// The structure of a page: what begins where.
#[derive(Default)]
struct Frame {
    slots: Vec<usize>,
    /// Rows of each trace, and all of them.
    trace_ends: Vec<u32>,
    rows: Vec<u32>,
    rep: Vec<u32>,
    places: Vec<Place>,
    /// Resource and scope entries: repetition level, code, and for scopes the number of spans.
    resources: Vec<(u32, u32)>,
    scopes: Vec<(u32, u32, i32)>,
}

/// Writes the pages of one row group.
pub struct Shredder<'a> {
    segment: &'a Segment,
    schema: &'a Schema,
    version: Version,
    leaf: Leaves,
    pub chunks: Vec<Chunk>,
    dictionaries: Vec<Option<Dictionary>>,
    pages: Pages,
    resource: Group,
    scope: Group,
    span: Group,
    event: Group,
    link: Group,
    grouping: Grouping,
    tree: Tree,
    pub rows: u64,
    rep: Encoded,
    def: Encoded,
}

/// Levels with their encoding: neighbouring columns mostly have the same ones.
#[derive(Default)]
struct Encoded {
    levels: Vec<u32>,
    width: u32,
    bytes: Vec<u8>,
}

impl Encoded {
    fn encode(&mut self, levels: &[u32], max: u16) {
        if self.width == width(max) && self.levels == levels {
            return;
        }
        self.width = width(max);
        self.levels.clear();
        self.levels.extend_from_slice(levels);
        self.bytes.clear();
        if max > 0 {
            encode::levels(&mut self.bytes, levels, max);
        }
    }
}

/// Positions of the leaves outside attribute groups.
struct Leaves {
    trace: usize,
    stats: usize,
    resource_service: usize,
    resource_dropped: usize,
    scope_name: usize,
    scope_dropped: usize,
    span_id: usize,
    nested: usize,
    child_count: Option<usize>,
    name: usize,
    span_dropped: usize,
    event_time: usize,
    event_dropped: usize,
    dropped_events: usize,
    link_trace: usize,
    link_dropped: usize,
    dropped_links: usize,
    rounded: Option<usize>,
    span_count: Option<usize>,
}

impl Leaves {
    fn new(schema: &Schema) -> Leaves {
        let find = |path: &str| schema.find(path).expect("every version has this leaf");
        Leaves {
            trace: find("TraceID"),
            stats: find("RootSpanName") + 1,
            resource_service: find("rs.Resource.ServiceName"),
            resource_dropped: find("rs.Resource.DroppedAttributesCount"),
            scope_name: find("rs.ss.Scope.Name"),
            scope_dropped: find("rs.ss.Scope.DroppedAttributesCount"),
            span_id: find("rs.ss.Spans.SpanID"),
            nested: find("rs.ss.Spans.ParentID"),
            child_count: schema.find("rs.ss.Spans.ChildCount"),
            name: find("rs.ss.Spans.Name"),
            span_dropped: find("rs.ss.Spans.DroppedAttributesCount"),
            event_time: find("rs.ss.Spans.Events.TimeSinceStartNano"),
            event_dropped: find("rs.ss.Spans.Events.DroppedAttributesCount"),
            dropped_events: find("rs.ss.Spans.DroppedEventsCount"),
            link_trace: find("rs.ss.Spans.Links.TraceID"),
            link_dropped: find("rs.ss.Spans.Links.DroppedAttributesCount"),
            dropped_links: find("rs.ss.Spans.DroppedLinksCount"),
            rounded: schema.find("rs.ss.Spans.StartTimeRounded15"),
            span_count: schema.find("rs.ss.SpanCount"),
        }
    }
}

impl<'a> Shredder<'a> {
    pub fn new(
        segment: &'a Segment,
        schema: &'a Schema,
        version: Version,
        dedicated: &[Dedicated],
    ) -> io::Result<Shredder<'a>> {
        let group = |path: &str, scope: Option<DedicatedScope>| Group {
            first: schema.find(&format!("{path}.Attrs.Key")).expect("every version has this leaf"),
            targets: scope
                .map(|scope| targets(schema, version, dedicated, scope))
                .unwrap_or_default(),
            plans: Vec::new(),
        };
        Ok(Shredder {
            leaf: Leaves::new(schema),
            chunks: schema.leaves.iter().map(Chunk::new).collect(),
            dictionaries: schema
                .leaves
                .iter()
                .map(|leaf| {
                    let coded = leaf.encoding == super::schema::Encoding::Dictionary;
                    coded.then(Dictionary::default)
                })
                .collect(),
            pages: Pages::new()?,
            resource: group("rs.Resource", Some(DedicatedScope::Resource)),
            scope: group("rs.ss.Scope", None),
            span: group("rs.ss.Spans", Some(DedicatedScope::Span)),
            event: group("rs.ss.Spans.Events", None),
            link: group("rs.ss.Spans.Links", None),
            grouping: Grouping::default(),
            tree: Tree::default(),
            rows: 0,
            rep: Encoded::default(),
            def: Encoded::default(),
            segment,
            schema,
            version,
        })
    }

    /// Writes pages for some traces until the row group has `target` compressed bytes; returns how many traces it took.
    pub fn add(&mut self, slots: &[usize], target: usize) -> io::Result<usize> {
        let mut taken = 0;
        let mut frame = Frame::default();
        while taken < slots.len() && self.bytes() < target {
            taken += self.gather(&slots[taken..], &mut frame);
            self.page(&frame)?;
        }
        Ok(taken)
    }

    /// Compressed bytes so far, dictionaries at their full size.
    fn bytes(&self) -> usize {
        let pages: usize = self.chunks.iter().map(|chunk| chunk.data.len()).sum();
        let dictionaries = self.dictionaries.iter().flatten();
        pages + dictionaries.map(|dictionary| dictionary.values.memory() / 4).sum::<usize>()
    }

    /// Puts the dictionaries in front of their chunks.
    pub fn finish(mut self) -> io::Result<(Vec<Chunk>, u64)> {
        for (chunk, dictionary) in self.chunks.iter_mut().zip(&self.dictionaries) {
            if let Some(dictionary) = dictionary {
                self.pages.dictionary(chunk, &dictionary.plain(), dictionary.values.len())?;
            }
        }
        Ok((self.chunks, self.rows))
    }

    /// Takes traces for one page.
    fn gather(&mut self, slots: &[usize], frame: &mut Frame) -> usize {
        let segment = self.segment;
        *frame = Frame { rows: std::mem::take(&mut frame.rows), ..Frame::default() };
        frame.rows.clear();
        let mut rows = Vec::new();
        for slot in slots {
            if frame.rows.len() >= PAGE_SPANS {
                break;
            }
            self.grouping.rows(segment, *slot, &mut rows);
            frame.places.extend_from_slice(self.tree.places(segment, &rows));
            frame.add(segment, &rows);
            frame.slots.push(*slot);
            frame.trace_ends.push(frame.rows.len() as u32);
        }
        frame.slots.len()
    }

    fn page(&mut self, frame: &Frame) -> io::Result<()> {
        self.trace_columns(frame)?;
        self.resource_columns(frame)?;
        self.scope_columns(frame)?;
        self.span_columns(frame)?;
        self.span_attributes(frame)?;
        self.events(frame)?;
        self.links(frame)?;
        self.rows += frame.slots.len() as u64;
        Ok(())
    }

    fn trace_columns(&mut self, frame: &Frame) -> io::Result<()> {
        let segment = self.segment;
        let leaf = self.leaf.trace;
        let flat = vec![0; frame.slots.len()];
        let traces: Vec<_> = frame.slots.iter().map(|slot| &segment.traces[*slot]).collect();
        let ids: Vec<&[u8]> = traces.iter().map(|trace| &trace.id.0[..]).collect();
        self.put(leaf, &flat, None, PageValues::Bytes(&ids))?;
        let texts: Vec<String> = traces.iter().map(|trace| trace.id.trimmed()).collect();
        let texts: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).collect();
        self.put(leaf + 1, &flat, None, PageValues::Bytes(&texts))?;
        let start: Vec<i64> = traces.iter().map(|trace| trace.start_nanos as i64).collect();
        let end: Vec<i64> = traces.iter().map(|trace| trace.end_nanos as i64).collect();
        let duration: Vec<i64> =
            start.iter().zip(&end).map(|(start, end)| end.wrapping_sub(*start)).collect();
        self.put(leaf + 2, &flat, None, PageValues::I64(&start))?;
        self.put(leaf + 3, &flat, None, PageValues::I64(&end))?;
        self.put(leaf + 4, &flat, None, PageValues::I64(&duration))?;
        let roots =
            (0..traces.len()).map(|at| segment.root(&frame.rows[part(&frame.trace_ends, at)]));
        let roots: Vec<_> = roots.collect();
        let services = self.codes(leaf + 5, &roots, |segment, root| {
            root.map_or(&[][..], |root| segment.strings.get(root.service))
        });
        self.put(leaf + 5, &flat, None, PageValues::Codes(&services))?;
        let names = self.codes(leaf + 6, &roots, |segment, root| {
            root.map_or(&[][..], |root| segment.strings.get(root.name))
        });
        self.put(leaf + 6, &flat, None, PageValues::Codes(&names))?;
        self.service_stats(frame)
    }

    /// Codes of a dictionary column by the text of each item.
    fn codes<T>(
        &mut self,
        leaf: usize,
        items: &[T],
        text: impl Fn(&'a Segment, &T) -> &'a [u8],
    ) -> Vec<u32> {
        let segment = self.segment;
        match &mut self.dictionaries[leaf] {
            Some(dictionary) => {
                items.iter().map(|item| dictionary.code(text(segment, item))).collect()
            }
            None => Vec::new(),
        }
    }

    fn service_stats(&mut self, frame: &Frame) -> io::Result<()> {
        let segment = self.segment;
        let mut rep = Vec::new();
        let (mut names, mut spans, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        for trace in 0..frame.slots.len() {
            let mut stats: Vec<(&[u8], i32, i32)> = Vec::new();
            for row in frame.rows[part(&frame.trace_ends, trace)].iter().map(|row| *row as usize) {
                let resource = &segment.resources[segment.spans.resource[row] as usize];
                let name = segment.strings.get(resource.service);
                let failed = i32::from(segment.spans.status[row] == 2);
                match stats.iter_mut().rev().find(|(of, ..)| *of == name) {
                    Some((_, spans, errors)) => {
                        *spans += 1;
                        *errors += failed;
                    }
                    None => stats.push((name, 1, failed)),
                }
            }
            stats.sort_unstable();
            for (at, (name, of, failed)) in stats.into_iter().enumerate() {
                rep.push(u32::from(at > 0));
                names.push(name);
                spans.push(of);
                errors.push(failed);
            }
        }
        let leaf = self.leaf.stats;
        if self.version == Version::V5 {
            let codes = self.codes(leaf, &names, |_, name| name);
            self.put(leaf, &rep, None, PageValues::Codes(&codes))?;
        } else {
            self.put(leaf, &rep, None, PageValues::Bytes(&names))?;
        }
        self.put(leaf + 1, &rep, None, PageValues::I32(&spans))?;
        self.put(leaf + 2, &rep, None, PageValues::I32(&errors))
    }

    fn resource_columns(&mut self, frame: &Frame) -> io::Result<()> {
        let segment = self.segment;
        let rep: Vec<u32> = frame.resources.iter().map(|(rep, _)| *rep).collect();
        let services =
            self.codes(self.leaf.resource_service, &frame.resources, |segment, (_, code)| {
                segment.strings.get(segment.resources[*code as usize].service)
            });
        self.put(self.leaf.resource_service, &rep, None, PageValues::Codes(&services))?;
        let dropped = |(_, code): &(u32, u32)| segment.resources[*code as usize].dropped as i32;
        let dropped: Vec<i32> = frame.resources.iter().map(dropped).collect();
        self.put(self.leaf.resource_dropped, &rep, None, PageValues::I32(&dropped))?;
        let items = frame.resources.iter().map(|(rep, code)| {
            let item = Item { rep: *rep, def: 1, present: true };
            (item, &segment.resources[*code as usize].attrs[..])
        });
        let mut group = self.resource.take();
        let entries = self.entries(&mut group, items, 2);
        self.put_group(&group, &entries, 2)?;
        self.put_dedicated(&group, &entries, &rep, 1)?;
        self.resource = group;
        Ok(())
    }

    fn scope_columns(&mut self, frame: &Frame) -> io::Result<()> {
        let segment = self.segment;
        let rep: Vec<u32> = frame.scopes.iter().map(|(rep, ..)| *rep).collect();
        let leaf = self.leaf.scope_name;
        let names = self.codes(leaf, &frame.scopes, |segment, (_, code, _)| {
            segment.strings.get(segment.scopes[*code as usize].name)
        });
        self.put(leaf, &rep, None, PageValues::Codes(&names))?;
        let versions = self.codes(leaf + 1, &frame.scopes, |segment, (_, code, _)| {
            segment.strings.get(segment.scopes[*code as usize].version)
        });
        self.put(leaf + 1, &rep, None, PageValues::Codes(&versions))?;
        let scope = |(_, code, _): &(u32, u32, i32)| &segment.scopes[*code as usize];
        let dropped: Vec<i32> = frame.scopes.iter().map(|s| scope(s).dropped as i32).collect();
        self.put(self.leaf.scope_dropped, &rep, None, PageValues::I32(&dropped))?;
        if let Some(leaf) = self.leaf.span_count {
            let counts: Vec<i32> = frame.scopes.iter().map(|(_, _, count)| *count).collect();
            self.put(leaf, &rep, None, PageValues::I32(&counts))?;
        }
        let items = frame
            .scopes
            .iter()
            .map(|entry| (Item { rep: entry.0, def: 2, present: true }, &scope(entry).attrs[..]));
        let mut group = self.scope.take();
        let entries = self.entries(&mut group, items, 3);
        self.put_group(&group, &entries, 3)?;
        self.scope = group;
        Ok(())
    }

    fn span_columns(&mut self, frame: &Frame) -> io::Result<()> {
        let (spans, strings) = (&self.segment.spans, &self.segment.strings);
        let rep = &frame.rep;
        let rows = || frame.rows.iter().map(|row| *row as usize);
        let ids: Vec<&[u8]> = rows().map(|row| &spans.id[row].0[..]).collect();
        self.put(self.leaf.span_id, rep, None, PageValues::Bytes(&ids))?;
        let parent = |row: usize| -> &[u8] {
            if spans.parent[row].is_zero() { &[] } else { &spans.parent[row].0 }
        };
        let parents: Vec<&[u8]> = rows().map(parent).collect();
        self.put(self.leaf.span_id + 1, rep, None, PageValues::Bytes(&parents))?;
        self.nested_columns(frame)?;
        let segment = self.segment;
        if let Some(dictionary) = &mut self.dictionaries[self.leaf.name] {
            let names: Vec<u32> =
                rows().map(|row| dictionary.string(segment, spans.name[row])).collect();
            self.put(self.leaf.name, rep, None, PageValues::Codes(&names))?;
        }
        let kinds: Vec<i64> = rows().map(|row| i64::from(spans.kind[row])).collect();
        self.put(self.leaf.name + 1, rep, None, PageValues::I64(&kinds))?;
        let states: Vec<&[u8]> = rows().map(|row| strings.get(spans.trace_state[row])).collect();
        self.put(self.leaf.name + 2, rep, None, PageValues::Bytes(&states))?;
        let starts: Vec<i64> = rows().map(|row| spans.start[row] as i64).collect();
        self.put(self.leaf.name + 3, rep, None, PageValues::I64(&starts))?;
        let durations: Vec<i64> = rows().map(|row| spans.duration[row] as i64).collect();
        self.put(self.leaf.name + 4, rep, None, PageValues::I64(&durations))?;
        let statuses: Vec<i64> = rows().map(|row| i64::from(spans.status[row])).collect();
        self.put(self.leaf.name + 5, rep, None, PageValues::I64(&statuses))?;
        let messages: Vec<&[u8]> =
            rows().map(|row| strings.get(spans.status_message[row])).collect();
        self.put(self.leaf.name + 6, rep, None, PageValues::Bytes(&messages))?;
        self.dropped_columns(frame)?;
        self.rounded_columns(frame)
    }

    fn nested_columns(&mut self, frame: &Frame) -> io::Result<()> {
        let (nested, children) = (self.leaf.nested, self.leaf.child_count);
        let mut put = |leaf, of: fn(&Place) -> i32| {
            let values: Vec<i32> = frame.places.iter().map(of).collect();
            self.put(leaf, &frame.rep, None, PageValues::I32(&values))
        };
        put(nested, |place| place.parent)?;
        put(nested + 1, |place| place.left)?;
        put(nested + 2, |place| place.right)?;
        match children {
            Some(leaf) => put(leaf, |place| place.children),
            None => Ok(()),
        }
    }

    fn dropped_columns(&mut self, frame: &Frame) -> io::Result<()> {
        let spans = &self.segment.spans;
        let dropped = |row: &u32| {
            let at = spans.dropped.binary_search_by_key(row, |(row, _)| *row);
            at.map(|at| spans.dropped[at].1).unwrap_or_default()
        };
        let all: Vec<_> = if spans.dropped.is_empty() {
            vec![Default::default(); frame.rows.len()]
        } else {
            frame.rows.iter().map(dropped).collect()
        };
        let attributes: Vec<i32> = all.iter().map(|of| of.attributes as i32).collect();
        self.put(self.leaf.span_dropped, &frame.rep, None, PageValues::I32(&attributes))?;
        let events: Vec<i32> = all.iter().map(|of| of.events as i32).collect();
        self.put(self.leaf.dropped_events, &frame.rep, None, PageValues::I32(&events))?;
        let links: Vec<i32> = all.iter().map(|of| of.links as i32).collect();
        self.put(self.leaf.dropped_links, &frame.rep, None, PageValues::I32(&links))
    }

    fn rounded_columns(&mut self, frame: &Frame) -> io::Result<()> {
        let Some(first) = self.leaf.rounded else { return Ok(()) };
        let starts = &self.segment.spans.start;
        for (at, secs) in [15, 60, 300, 3600].into_iter().enumerate() {
            let step = secs * 1_000_000_000;
            let round = |row: &u32| (starts[*row as usize].saturating_sub(1) / step) as i32;
            let values: Vec<i32> = frame.rows.iter().map(round).collect();
            self.put(first + at, &frame.rep, None, PageValues::I32(&values))?;
        }
        Ok(())
    }

    fn span_attributes(&mut self, frame: &Frame) -> io::Result<()> {
        let spans = &self.segment.spans;
        let items = frame.rows.iter().zip(&frame.rep).map(|(row, rep)| {
            let attrs = &spans.attrs[part(&spans.attr_ends, *row as usize)];
            (Item { rep: *rep, def: 3, present: true }, attrs)
        });
        let mut group = self.span.take();
        let entries = self.entries(&mut group, items, 4);
        self.put_group(&group, &entries, 4)?;
        self.put_dedicated(&group, &entries, &frame.rep, 3)?;
        self.span = group;
        Ok(())
    }

    fn events(&mut self, frame: &Frame) -> io::Result<()> {
        let segment = self.segment;
        let events = &segment.events;
        let (items, found) = frame.items(&segment.spans.event_ends);
        let (rep, def) = levels(&items);
        let mut times = Vec::with_capacity(found.len());
        for row in frame.rows.iter().map(|row| *row as usize) {
            let start = segment.spans.start[row];
            let of = &events.time[part(&segment.spans.event_ends, row)];
            times.extend(of.iter().map(|time| time.wrapping_sub(start) as i64));
        }
        let leaf = self.leaf.event_time;
        self.put(leaf, &rep, Some(&def), PageValues::I64(&times))?;
        let names =
            self.codes(leaf + 1, &found, |segment, at| segment.strings.get(events.name[*at]));
        self.put(leaf + 1, &rep, Some(&def), PageValues::Codes(&names))?;
        let dropped: Vec<i32> = found.iter().map(|at| events.dropped[*at] as i32).collect();
        self.put(self.leaf.event_dropped, &rep, Some(&def), PageValues::I32(&dropped))?;
        let mut at = found.iter();
        let with_attrs = items.iter().map(|item| {
            let attrs: &[u32] = match item.present.then(|| at.next()).flatten() {
                Some(at) => &events.attrs[part(&events.attr_ends, *at)],
                None => &[],
            };
            (*item, attrs)
        });
        let mut group = self.event.take();
        let entries = self.entries(&mut group, with_attrs, 5);
        self.put_group(&group, &entries, 5)?;
        self.event = group;
        Ok(())
    }

    fn links(&mut self, frame: &Frame) -> io::Result<()> {
        let segment = self.segment;
        let links = &segment.links;
        let (items, found) = frame.items(&segment.spans.link_ends);
        let (rep, def) = levels(&items);
        let leaf = self.leaf.link_trace;
        let traces: Vec<&[u8]> = found.iter().map(|at| &links.trace[*at].0[..]).collect();
        self.put(leaf, &rep, Some(&def), PageValues::Bytes(&traces))?;
        let spans: Vec<&[u8]> = found.iter().map(|at| &links.span[*at].0[..]).collect();
        self.put(leaf + 1, &rep, Some(&def), PageValues::Bytes(&spans))?;
        let states: Vec<&[u8]> =
            found.iter().map(|at| segment.strings.get(links.trace_state[*at])).collect();
        self.put(leaf + 2, &rep, Some(&def), PageValues::Bytes(&states))?;
        let dropped: Vec<i32> = found.iter().map(|at| links.dropped[*at] as i32).collect();
        self.put(self.leaf.link_dropped, &rep, Some(&def), PageValues::I32(&dropped))?;
        let mut at = found.iter();
        let with_attrs = items.iter().map(|item| {
            let attrs: &[u32] = match item.present.then(|| at.next()).flatten() {
                Some(at) => &links.attrs[part(&links.attr_ends, *at)],
                None => &[],
            };
            (*item, attrs)
        });
        let mut group = self.link.take();
        let entries = self.entries(&mut group, with_attrs, 5);
        self.put_group(&group, &entries, 5)?;
        self.link = group;
        Ok(())
    }

    /// Sorts the attributes of a page's items into generic entries and dedicated columns. `depth` is the level of an entry.
    fn entries<'s>(
        &mut self,
        group: &mut Group,
        items: impl Iterator<Item = (Item, &'s [u32])>,
        depth: u32,
    ) -> Entries {
        let mut out =
            Entries { slots: vec![Vec::new(); group.targets.len()], ..Entries::default() };
        let (mut keys, mut values) = self.take_dictionaries(group);
        group.plans.resize(self.segment.attrs.len(), NO_PLAN);
        for (item, attrs) in items {
            let mut rep = item.rep;
            let mut any = false;
            // Keys that have been met: the first one of an item counts, also if it does not fit its column.
            let mut met = 0u64;
            out.slots.iter_mut().for_each(|slots| slots.push(None));
            for code in attrs {
                let mut plan = group.plans[*code as usize];
                if plan.kind == UNKNOWN {
                    plan = self.plan(group, *code, &mut keys, &mut values);
                    group.plans[*code as usize] = plan;
                }
                if plan.column != NO_COLUMN {
                    let first = met & 1 << plan.column == 0;
                    met |= 1 << plan.column;
                    if first && out.fill_slot(&plan) {
                        continue;
                    }
                    if plan.kind >= DEDICATED_STR {
                        plan = self.generic(*code, &mut keys, &mut values);
                    }
                }
                out.rep.push(rep);
                out.def.push(depth);
                out.kind.push(plan.kind);
                out.key.push(plan.key);
                out.value.push(plan.value);
                rep = depth;
                any = true;
            }
            if !any {
                out.rep.push(rep);
                out.def.push(item.def);
                out.kind.push(NULL);
            }
        }
        self.dictionaries[group.first] = Some(keys);
        self.dictionaries[group.first + 2] = Some(values);
        out
    }

    fn take_dictionaries(&mut self, group: &Group) -> (Dictionary, Dictionary) {
        let mut take = |leaf: usize| self.dictionaries[leaf].take().unwrap_or_default();
        (take(group.first), take(group.first + 2))
    }

    fn plan(
        &mut self,
        group: &Group,
        code: u32,
        keys: &mut Dictionary,
        values: &mut Dictionary,
    ) -> Plan {
        let (key, value) = attr::key_value(self.segment.attrs.get(code));
        let target = group.targets.iter().position(|target| target.key == key.as_bytes());
        if let Some(column) = target {
            let target = &group.targets[column];
            let found = match (target.kind, value) {
                (DedicatedType::String, Any::Str(text)) => {
                    let dictionary = self.dictionaries[target.leaf].get_or_insert_default();
                    Some((DEDICATED_STR, u64::from(dictionary.code(text.as_bytes()))))
                }
                (DedicatedType::Int, Any::Int(number)) => Some((DEDICATED_INT, number as u64)),
                _ => None,
            };
            if let Some((kind, value)) = found {
                return Plan { kind, column: column as u8, key: 0, value };
            }
            return Plan { column: column as u8, ..self.generic(code, keys, values) };
        }
        self.generic(code, keys, values)
    }

    fn generic(&self, code: u32, keys: &mut Dictionary, values: &mut Dictionary) -> Plan {
        let (key, value) = attr::key_value(self.segment.attrs.get(code));
        let (kind, value) = match value {
            Any::Str(text) => (STR, u64::from(values.code(text.as_bytes()))),
            Any::Int(number) => (INT, number as u64),
            Any::Float(number) => (FLOAT, number.to_bits()),
            Any::Bool(flag) => (BOOL, u64::from(flag)),
            Any::Array(items) => match array_kind(items) {
                Some(_) => {
                    // Its strings must be in the dictionary before the first page that has them.
                    for text in attr::elements(items) {
                        if let Any::Str(text) = text {
                            values.code(text.as_bytes());
                        }
                    }
                    (ARRAY, u64::from(code))
                }
                None => (UNSUPPORTED, u64::from(code)),
            },
            Any::Empty | Any::Map(_) | Any::Bytes(_) => (UNSUPPORTED, u64::from(code)),
        };
        Plan { kind, column: NO_COLUMN, key: keys.code(key.as_bytes()), value }
    }

    /// Writes the seven columns of an attribute group.
    fn put_group(&mut self, group: &Group, entries: &Entries, depth: u32) -> io::Result<()> {
        let first = group.first;
        let (rep, def) = (&entries.rep, &entries.def);
        self.put(first, rep, Some(def), PageValues::Codes(&entries.key))?;
        let present = || entries.kind.iter().filter(|kind| **kind != NULL);
        let arrays: Vec<bool> = present().map(|kind| *kind == ARRAY).collect();
        self.put(first + 1, rep, Some(def), PageValues::Bool(&arrays))?;
        for kind in [STR, INT, FLOAT, BOOL] {
            self.put_values(group, entries, kind, depth)?;
        }
        let mut texts = Vec::new();
        let mut levels = def.clone();
        let mut at = 0;
        for (kind, level) in entries.kind.iter().zip(&mut levels) {
            if *kind == UNSUPPORTED {
                *level = depth + 1;
                let code = entries.value[at] as u32;
                texts.push(unsupported::to_json(attr::key_value(self.segment.attrs.get(code)).1));
            }
            at += usize::from(*kind != NULL);
        }
        let texts: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).collect();
        self.put(first + 6, rep, Some(&levels), PageValues::Bytes(&texts))
    }

    /// Writes the column with the values of one kind.
    fn put_values(
        &mut self,
        group: &Group,
        entries: &Entries,
        kind: u8,
        depth: u32,
    ) -> io::Result<()> {
        let leaf = group.first + 2 + kind as usize;
        let mut found = Vec::new();
        let (mut rep, mut def) = (Vec::new(), Vec::new());
        let mut arrays = false;
        if entries.kind.contains(&ARRAY) {
            arrays = self.expand(group, entries, kind, depth, (&mut rep, &mut def, &mut found));
        }
        if !arrays {
            let mut values = entries.value.iter();
            def = entries.def.clone();
            found.clear();
            for (of, level) in entries.kind.iter().zip(&mut def) {
                if *of != NULL {
                    let value = values.next().copied().unwrap_or_default();
                    if *of == kind {
                        *level = depth + 1;
                        found.push(value);
                    }
                }
            }
        }
        let rep = if arrays { &rep } else { &entries.rep };
        match kind {
            STR => {
                let codes: Vec<u32> = found.iter().map(|value| *value as u32).collect();
                self.put(leaf, rep, Some(&def), PageValues::Codes(&codes))
            }
            INT => {
                let numbers: Vec<i64> = found.iter().map(|value| *value as i64).collect();
                self.put(leaf, rep, Some(&def), PageValues::I64(&numbers))
            }
            FLOAT => {
                let numbers: Vec<f64> = found.iter().map(|value| f64::from_bits(*value)).collect();
                self.put(leaf, rep, Some(&def), PageValues::F64(&numbers))
            }
            _ => {
                let flags: Vec<bool> = found.iter().map(|value| *value != 0).collect();
                self.put(leaf, rep, Some(&def), PageValues::Bool(&flags))
            }
        }
    }

    /// Levels and values of one kind where a page has arrays; false if none is of this kind.
    fn expand(
        &mut self,
        group: &Group,
        entries: &Entries,
        kind: u8,
        depth: u32,
        (rep, def, found): (&mut Vec<u32>, &mut Vec<u32>, &mut Vec<u64>),
    ) -> bool {
        let mut values = entries.value.iter();
        let mut any = false;
        for (at, of) in entries.kind.iter().enumerate() {
            let value = if *of == NULL { 0 } else { values.next().copied().unwrap_or_default() };
            let start = found.len();
            if *of == kind {
                found.push(value);
            } else if *of == ARRAY
                && let Any::Array(items) = attr::key_value(self.segment.attrs.get(value as u32)).1
                && array_kind(items) == Some(kind)
            {
                any = true;
                let strings = &mut self.dictionaries[group.first + 2];
                found.extend(attr::elements(items).map(|item| match item {
                    Any::Str(text) => {
                        u64::from(strings.get_or_insert_default().code(text.as_bytes()))
                    }
                    Any::Int(number) => number as u64,
                    Any::Float(number) => number.to_bits(),
                    Any::Bool(flag) => u64::from(flag),
                    _ => 0,
                }));
            }
            rep.push(entries.rep[at]);
            match found.len() - start {
                0 => def.push(entries.def[at]),
                count => {
                    def.extend(std::iter::repeat_n(depth + 1, count));
                    rep.extend(std::iter::repeat_n(depth + 1, count - 1));
                }
            }
        }
        any
    }

    fn put_dedicated(
        &mut self,
        group: &Group,
        entries: &Entries,
        rep: &[u32],
        depth: u32,
    ) -> io::Result<()> {
        for (target, slots) in group.targets.iter().zip(&entries.slots) {
            if target.leaf == self.leaf.resource_service {
                continue;
            }
            let def: Vec<u32> =
                slots.iter().map(|slot| depth + u32::from(slot.is_some())).collect();
            let values = slots.iter().flatten();
            match target.kind {
                DedicatedType::String => {
                    let codes: Vec<u32> = values.map(|value| *value as u32).collect();
                    self.put(target.leaf, rep, Some(&def), PageValues::Codes(&codes))?;
                }
                DedicatedType::Int => {
                    let numbers: Vec<i64> = values.map(|value| *value as i64).collect();
                    self.put(target.leaf, rep, Some(&def), PageValues::I64(&numbers))?;
                }
            }
        }
        self.unused_dedicated(group, rep, depth)
    }

    /// vParquet4 always has all its optional columns.
    fn unused_dedicated(&mut self, group: &Group, rep: &[u32], depth: u32) -> io::Result<()> {
        if self.version != Version::V4 {
            return Ok(());
        }
        let prefix = if group.first == self.span.first { "rs.ss.Spans." } else { "rs.Resource." };
        let def = vec![depth; rep.len()];
        for (at, leaf) in self.schema.leaves.iter().enumerate() {
            let own = leaf.max_rep == depth as u16
                && u32::from(leaf.max_def) == depth + 1
                && leaf.plain_path().starts_with(prefix);
            if !own || group.targets.iter().any(|target| target.leaf == at) {
                continue;
            }
            let values = match leaf.physical {
                Physical::I64 => PageValues::I64(&[]),
                _ => PageValues::Codes(&[]),
            };
            self.put(at, rep, Some(&def), values)?;
        }
        Ok(())
    }

    /// Writes one page of a leaf. Without definition levels every entry has a value.
    fn put(
        &mut self,
        leaf: usize,
        rep: &[u32],
        def: Option<&Vec<u32>>,
        values: PageValues<'_>,
    ) -> io::Result<()> {
        let of = &self.schema.leaves[leaf];
        self.rep.encode(rep, of.max_rep);
        let mut constant = Vec::new();
        let def = match def {
            _ if of.max_def == 0 => &constant,
            Some(def) => {
                self.def.encode(def, of.max_def);
                &self.def.bytes
            }
            None => {
                let full = u32::from(of.max_def);
                encode::constant_levels(&mut constant, full, rep.len(), of.max_def);
                &constant
            }
        };
        let levels = PageLevels { entries: rep.len(), rep: &self.rep.bytes, def };
        self.pages.data(&mut self.chunks[leaf], self.rows, levels, values)
    }
}

impl Group {
    /// Lends the group out, so that its shredder can be used beside it.
    fn take(&mut self) -> Group {
        Group {
            first: self.first,
            targets: std::mem::take(&mut self.targets),
            plans: std::mem::take(&mut self.plans),
        }
    }
}

impl Frame {
    /// Adds the rows of a trace, which stand in storage order.
    fn add(&mut self, segment: &Segment, rows: &[u32]) {
        let mut last = (NONE, NONE);
        for (at, row) in rows.iter().enumerate() {
            let resource = segment.spans.resource[*row as usize];
            let scope = segment.spans.scope[*row as usize];
            let level = if at == 0 {
                0
            } else if resource != last.0 {
                1
            } else if scope != last.1 {
                2
            } else {
                3
            };
            if level <= 1 {
                self.resources.push((level, resource));
            }
            if level <= 2 {
                self.scopes.push((level, scope, 0));
            }
            if let Some((_, _, count)) = self.scopes.last_mut() {
                *count += 1;
            }
            last = (resource, scope);
            self.rep.push(level);
            self.rows.push(*row);
        }
    }

    /// The events (or links) of a page's spans, and the places where a span has none.
    fn items(&self, ends: &[u32]) -> (Vec<Item>, Vec<usize>) {
        let (mut items, mut found) = (Vec::new(), Vec::new());
        for (row, rep) in self.rows.iter().zip(&self.rep) {
            let range = part(ends, *row as usize);
            if range.is_empty() {
                items.push(Item { rep: *rep, def: 3, present: false });
            }
            for (nth, at) in range.enumerate() {
                items.push(Item { rep: if nth == 0 { *rep } else { 4 }, def: 4, present: true });
                found.push(at);
            }
        }
        (items, found)
    }
}

fn levels(items: &[Item]) -> (Vec<u32>, Vec<u32>) {
    items.iter().map(|item| (item.rep, item.def)).unzip()
}

/// The kind of a non-empty array of scalars of one kind, and [`STR`] for an empty one.
fn array_kind(items: &[u8]) -> Option<u8> {
    let kind = |item: Any<'_>| match item {
        Any::Str(_) => Some(STR),
        Any::Int(_) => Some(INT),
        Any::Float(_) => Some(FLOAT),
        Any::Bool(_) => Some(BOOL),
        _ => None,
    };
    let mut kinds = attr::elements(items).map(kind);
    let Some(first) = kinds.next() else { return Some(STR) };
    kinds.all(|kind| kind == first).then_some(first).flatten()
}

/// The attributes of a scope that have columns of their own.
fn targets(
    schema: &Schema,
    version: Version,
    dedicated: &[Dedicated],
    scope: DedicatedScope,
) -> Vec<Target> {
    let prefix = match scope {
        DedicatedScope::Resource => "rs.Resource",
        DedicatedScope::Span => "rs.ss.Spans",
        DedicatedScope::Event => "rs.ss.Spans.Events",
    };
    let mut found: Vec<Target> = Vec::new();
    let mut add = |name: &str, kind, column: &str| {
        if let Some(leaf) = schema.find(&format!("{prefix}.{column}")) {
            found.push(Target { key: name.as_bytes().to_vec(), kind, leaf });
        }
    };
    if scope == DedicatedScope::Resource {
        add("service.name", DedicatedType::String, "ServiceName");
    }
    if version == Version::V4 {
        match scope {
            DedicatedScope::Resource => {
                for (column, name) in FIXED_RESOURCE {
                    add(name, DedicatedType::String, column);
                }
            }
            DedicatedScope::Span => {
                add("http.method", DedicatedType::String, "HttpMethod");
                add("http.url", DedicatedType::String, "HttpUrl");
                add("http.status_code", DedicatedType::Int, "HttpStatusCode");
            }
            DedicatedScope::Event => {}
        }
    }
    let (mut strings, mut ints) = (0, 0);
    for column in dedicated.iter().filter(|column| column.scope == scope) {
        let (count, prefix) = match column.kind {
            DedicatedType::String => (&mut strings, "String"),
            DedicatedType::Int => (&mut ints, "Int"),
        };
        *count += 1;
        add(&column.name, column.kind, &format!("DedicatedAttributes.{prefix}{count:02}"));
    }
    found
}
