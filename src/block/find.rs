//! One trace out of a block: the pages that hold its row, and back to its OTLP form.
#![deny(clippy::indexing_slicing)]

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::model::{ResourceSpans, ScopeSpans, Span, Trace};
use crate::otlp::wire;
use crate::segment::attr::{Any, put_key_value, put_scalar};

use super::BlockError;
use super::decode::{Corrupt, Cursor, Strings};
use super::group::dedicated_names;
use super::meta::{DedicatedScope, Meta};
use super::open::{ChunkLayout, GroupLayout, Layout};
use super::read::{Column, Stored};
use super::scan::span_id;
use super::schema::Physical;
use super::thrift::{Field, Reader};
use super::unsupported;

/// What finding a trace wants next.
pub enum FindStep {
    /// Bytes of the file, to be fed in this order.
    Need(Vec<Range<u64>>),
    Found(Box<Trace>),
}

/// Reads the trace in one row of a block. It does no I/O: it is stepped, and fed.
pub struct Find {
    meta: Arc<Meta>,
    layout: Arc<Layout>,
    group: usize,
    /// The row within its group.
    row: usize,
    stage: Stage,
}

enum Stage {
    /// Waiting for the offset indexes, then for the dictionaries, of the leaves that have one.
    Indexes(Vec<usize>),
    Dictionaries(Vec<Vec<Page>>, Vec<usize>),
    /// Waiting for the pages that hold the row, one of each leaf.
    Pages(Arc<GroupIndex>),
    Ready(Arc<GroupIndex>, Vec<Bytes>),
}

/// What every lookup in a row group needs, and may be kept for the next one: where pages are, and the dictionaries.
#[derive(Debug)]
pub struct GroupIndex {
    pages: Vec<Vec<Page>>,
    dictionaries: Vec<Option<Arc<Strings>>>,
}

/// A page of a chunk.
#[derive(Clone, Debug)]
struct Page {
    range: Range<u64>,
    first_row: usize,
}

impl GroupIndex {
    /// Bytes of memory held.
    pub fn memory(&self) -> usize {
        let pages: usize = self.pages.iter().map(|pages| pages.len() * size_of::<Page>()).sum();
        pages + self.dictionaries.iter().flatten().map(|dict| dict.memory()).sum::<usize>()
    }
}

impl Find {
    /// Begins to look for a row, counted from the start of the file. `known` gives the index of a row group that an
    /// earlier lookup left.
    pub fn new(
        meta: Arc<Meta>,
        layout: Arc<Layout>,
        row: u64,
        known: impl FnOnce(usize) -> Option<Arc<GroupIndex>>,
    ) -> Result<Find, BlockError> {
        let has = |group: &GroupLayout| {
            row >= group.first_row && row - group.first_row < group.rows as u64
        };
        let Some(group) = layout.groups.iter().position(has) else {
            return Err(BlockError::footer(&meta, format!("there is no row {row}")));
        };
        let first = layout.groups.get(group).map_or(0, |group| group.first_row);
        let stage = match known(group) {
            Some(index) => Stage::Pages(index),
            None => Stage::Indexes(Vec::new()),
        };
        Ok(Find { meta, group, row: (row - first) as usize, stage, layout })
    }

    /// The row group, and its index once it is known.
    pub fn index(&self) -> Option<(usize, Arc<GroupIndex>)> {
        match &self.stage {
            Stage::Pages(index) | Stage::Ready(index, _) => Some((self.group, Arc::clone(index))),
            Stage::Indexes(_) | Stage::Dictionaries(..) => None,
        }
    }

    fn chunks(&self) -> &[ChunkLayout] {
        self.layout.groups.get(self.group).map_or(&[], |group| &group.chunks)
    }

    fn corrupt(&self, leaf: usize, source: Corrupt) -> BlockError {
        let block = self.meta.block_id.clone();
        BlockError::Column { block, column: leaf.to_string(), group: self.group, source }
    }

    /// Takes the bytes that the last [`FindStep::Need`] named.
    ///
    /// # Errors
    /// When an offset index or a dictionary is damaged.
    pub fn feed(&mut self, bytes: Vec<Bytes>) -> Result<(), BlockError> {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Indexes(Vec::new())) {
            Stage::Indexes(leaves) => {
                Stage::Dictionaries(self.all_pages(&leaves, &bytes)?, Vec::new())
            }
            Stage::Dictionaries(pages, leaves) => {
                let dictionaries = self.all_dictionaries(&leaves, &bytes)?;
                Stage::Pages(Arc::new(GroupIndex { pages, dictionaries }))
            }
            Stage::Pages(index) | Stage::Ready(index, _) => Stage::Ready(index, bytes),
        };
        Ok(())
    }

    /// The pages of each leaf; a chunk without an offset index has none, and is read whole.
    fn all_pages(&self, leaves: &[usize], bytes: &[Bytes]) -> Result<Vec<Vec<Page>>, BlockError> {
        let mut known = leaves.iter().zip(bytes).peekable();
        let mut all = Vec::new();
        for (leaf, chunk) in self.chunks().iter().enumerate() {
            let index = known.next_if(|(of, _)| **of == leaf).map(|(_, bytes)| bytes);
            // A dictionary of numbers, which Tempo never writes, is read with its whole chunk.
            let strings = self.layout.leaves.get(leaf).map(|info| info.physical);
            let plain = chunk.data == chunk.range.start || strings == Some(Physical::Bytes);
            let index = index.filter(|_| plain);
            let pages = index.map_or(Ok(Vec::new()), |index| offset_index(index, chunk));
            all.push(pages.map_err(|source| self.corrupt(leaf, source))?);
        }
        Ok(all)
    }

    fn all_dictionaries(
        &self,
        leaves: &[usize],
        bytes: &[Bytes],
    ) -> Result<Vec<Option<Arc<Strings>>>, BlockError> {
        let mut all = vec![None; self.chunks().len()];
        for (leaf, bytes) in leaves.iter().zip(bytes) {
            let found = self.chunks().get(*leaf).zip(self.layout.leaves.get(*leaf));
            let Some(((chunk, info), slot)) = found.zip(all.get_mut(*leaf)) else { continue };
            let dictionary = Column::dictionary(chunk, info, bytes);
            *slot = dictionary.map_err(|source| self.corrupt(*leaf, source))?;
        }
        Ok(all)
    }

    /// Goes on until bytes are needed, or the trace is there.
    ///
    /// # Errors
    /// When the block is damaged.
    pub fn step(&mut self) -> Result<FindStep, BlockError> {
        let chunks = self.layout.groups.get(self.group).map_or(&[][..], |group| &group.chunks);
        match &mut self.stage {
            Stage::Indexes(leaves) => {
                leaves.clear();
                let mut ranges = Vec::new();
                for (leaf, chunk) in chunks.iter().enumerate() {
                    if let Some(range) = &chunk.offset_index {
                        leaves.push(leaf);
                        ranges.push(range.clone());
                    }
                }
                Ok(FindStep::Need(ranges))
            }
            Stage::Dictionaries(pages, leaves) => {
                leaves.clear();
                let mut ranges = Vec::new();
                for (leaf, (chunk, pages)) in chunks.iter().zip(pages).enumerate() {
                    if chunk.data > chunk.range.start && !pages.is_empty() {
                        leaves.push(leaf);
                        ranges.push(chunk.range.start..chunk.data);
                    }
                }
                Ok(FindStep::Need(ranges))
            }
            Stage::Pages(index) => {
                let page = |(chunk, pages): (&ChunkLayout, &Vec<Page>)| match holds(pages, self.row)
                {
                    Some(page) => page.range.clone(),
                    None => chunk.range.clone(),
                };
                Ok(FindStep::Need(chunks.iter().zip(&index.pages).map(page).collect()))
            }
            Stage::Ready(index, bytes) => {
                let (index, bytes) = (Arc::clone(index), std::mem::take(bytes));
                let parts = self.parts(&index, &bytes)?;
                let rebuild = Rebuild { meta: &self.meta, layout: &self.layout, parts: &parts };
                Ok(FindStep::Found(Box::new(rebuild.trace()?)))
            }
        }
    }

    fn parts(&self, index: &GroupIndex, bytes: &[Bytes]) -> Result<Vec<Part>, BlockError> {
        let mut parts = Vec::new();
        let leaves = self.layout.leaves.iter().zip(self.chunks());
        let known = index.pages.iter().zip(&index.dictionaries);
        for (leaf, (((info, chunk), (pages, dictionary)), bytes)) in
            leaves.zip(known).zip(bytes).enumerate()
        {
            let page = holds(pages, self.row);
            let column = match page {
                Some(_) => Column::read_page(chunk, info, dictionary.as_ref(), bytes),
                None => Column::read(chunk, info, bytes),
            };
            let row = self.row - page.map_or(0, |page| page.first_row);
            let part = column.and_then(|column| Part::new(column, info.max_def, row));
            parts.push(part.map_err(|source| self.corrupt(leaf, source))?);
        }
        if parts.len() != self.layout.leaves.len() {
            return Err(self.corrupt(parts.len(), Corrupt::Short));
        }
        Ok(parts)
    }
}

/// The page that holds a row.
fn holds(pages: &[Page], row: usize) -> Option<&Page> {
    let at = pages.partition_point(|page| page.first_row <= row);
    pages.get(at.checked_sub(1)?)
}

/// The pages that an offset index names; all lie within the chunk.
fn offset_index(bytes: &[u8], chunk: &ChunkLayout) -> Result<Vec<Page>, Corrupt> {
    let mut cursor = Cursor { rest: bytes };
    let mut reader = Reader::new(&mut cursor);
    let mut pages = Vec::new();
    while let Some(field) = reader.next()? {
        if field.id != 1 {
            reader.skip(field)?;
            continue;
        }
        for _ in 0..reader.list(field)? {
            pages.push(page(&mut Reader::new(reader.cursor), chunk)?);
        }
    }
    let rises = |pages: &[Page]| pages.is_sorted_by_key(|page| page.first_row);
    if pages.first().is_none_or(|page| page.first_row != 0) || !rises(&pages) {
        return Err(Corrupt::Header);
    }
    Ok(pages)
}

fn page(reader: &mut Reader<'_, '_>, chunk: &ChunkLayout) -> Result<Page, Corrupt> {
    let (mut start, mut len, mut first_row) = (0, 0, 0);
    while let Some(field) = reader.next()? {
        match field.id {
            1 => start = number(reader, field)?,
            2 => len = number(reader, field)?,
            3 => first_row = number(reader, field)?,
            _ => reader.skip(field)?,
        }
    }
    let end = start.checked_add(len).ok_or(Corrupt::Bounds)?;
    if start < chunk.range.start || end > chunk.range.end {
        return Err(Corrupt::Bounds);
    }
    Ok(Page { range: start..end, first_row: first_row as usize })
}

fn number(reader: &mut Reader<'_, '_>, field: Field) -> Result<u64, Corrupt> {
    u64::try_from(reader.i64(field)?).map_err(|_| Corrupt::Bounds)
}

/// The entries of one row in one column.
struct Part {
    column: Column,
    entries: Range<usize>,
    /// The first value of the row.
    value: usize,
    max_def: u32,
}

impl Part {
    fn new(column: Column, max_def: u32, row: usize) -> Result<Part, Corrupt> {
        let entries = if column.rep.is_empty() {
            row..row + 1
        } else {
            let mut starts =
                column.rep.iter().enumerate().filter(|(_, level)| **level == 0).map(|(at, _)| at);
            let start = starts.nth(row).ok_or(Corrupt::Levels)?;
            start..starts.next().unwrap_or(column.entries)
        };
        if entries.end > column.entries {
            return Err(Corrupt::Levels);
        }
        let value = if max_def == 0 {
            entries.start
        } else {
            column
                .def
                .iter()
                .take(entries.start)
                .filter(|level| u32::from(**level) == max_def)
                .count()
        };
        Ok(Part { column, entries, value, max_def })
    }

    /// Repetition and definition level of each entry, and its value's position if it has one.
    fn entries(&self) -> impl Iterator<Item = (u32, u32, Option<usize>)> + '_ {
        let mut value = self.value;
        self.entries.clone().map(move |at| {
            let rep = self.column.rep.get(at).map_or(0, |level| u32::from(*level));
            let def = self.column.def(at, self.max_def);
            let here = (def == self.max_def).then_some(value);
            value += usize::from(here.is_some());
            (rep, def, here)
        })
    }

    /// The values of the row.
    fn values(&self) -> impl Iterator<Item = usize> + '_ {
        self.entries().filter_map(|(_, _, value)| value)
    }

    fn number(&self, at: usize) -> i64 {
        self.column.i64s().get(at).copied().unwrap_or_default()
    }

    fn numbers(&self) -> Vec<i64> {
        self.values().map(|at| self.number(at)).collect()
    }

    fn strings(&self) -> Vec<&[u8]> {
        self.values().map(|at| self.column.bytes(at)).collect()
    }

    fn any(&self, at: usize) -> Any<'_> {
        match &self.column.values {
            Stored::I64(values) => values.get(at).map_or(Any::Empty, |value| Any::Int(*value)),
            Stored::F64(values) => values.get(at).map_or(Any::Empty, |value| Any::Float(*value)),
            Stored::Bool(values) => values.get(at).map_or(Any::Empty, |value| Any::Bool(*value)),
            Stored::Strings { .. } => text(self.column.bytes(at)),
        }
    }
}

fn text(bytes: &[u8]) -> Any<'_> {
    Any::Str(std::str::from_utf8(bytes).unwrap_or("\u{fffd}"))
}

/// Puts a trace together from the parts of its row.
struct Rebuild<'a> {
    meta: &'a Meta,
    layout: &'a Layout,
    parts: &'a [Part],
}

/// Encoded attributes of each item of an owner.
type Encoded = Vec<Vec<u8>>;

impl<'a> Rebuild<'a> {
    fn part(&self, path: &str) -> Result<&'a Part, BlockError> {
        let part = self.layout.find(path).and_then(|leaf| self.parts.get(leaf));
        part.ok_or_else(|| BlockError::footer(self.meta, format!("column {path} is missing")))
    }

    fn trace(&self) -> Result<Trace, BlockError> {
        let id = self.part("TraceID")?.strings().first().copied().unwrap_or_default();
        let mut resources = self.resources()?.into_iter();
        let mut scopes = self.scopes()?.into_iter();
        let spans = self.spans(id)?;
        let levels = self.part("rs.ss.Spans.SpanID")?;
        let mut trace = Trace::default();
        for (span, (rep, ..)) in spans.into_iter().zip(levels.entries()) {
            if rep <= 1 {
                let resource = resources.next().unwrap_or_default().into();
                trace.resources.push(ResourceSpans { resource, scopes: Vec::new() });
            }
            let Some(resource) = trace.resources.last_mut() else { continue };
            if rep <= 2 {
                let scope = scopes.next().unwrap_or_default().into();
                resource.scopes.push(ScopeSpans { scope, spans: Vec::new() });
            }
            if let Some(scope) = resource.scopes.last_mut() {
                scope.spans.push(span);
            }
        }
        Ok(trace)
    }

    fn resources(&self) -> Result<Encoded, BlockError> {
        let mut out = self.attributes("rs.Resource", 2, 1)?;
        for (resource, name) in out.iter_mut().zip(self.part("rs.Resource.ServiceName")?.strings())
        {
            if !name.is_empty() {
                put_key_value(resource, 1, "service.name", |out| put_scalar(out, text(name)));
            }
        }
        self.dedicated(DedicatedScope::Resource, "rs.Resource", 2, 1, &mut out)?;
        self.dropped("rs.Resource.DroppedAttributesCount", 2, &mut out)?;
        Ok(out)
    }

    fn scopes(&self) -> Result<Encoded, BlockError> {
        let names = self.part("rs.ss.Scope.Name")?.strings();
        let versions = self.part("rs.ss.Scope.Version")?.strings();
        let attributes = self.attributes("rs.ss.Scope", 3, 3)?;
        let mut out = Vec::new();
        for ((name, version), attributes) in names.into_iter().zip(versions).zip(attributes) {
            let mut scope = Vec::new();
            put_text(&mut scope, 1, name);
            put_text(&mut scope, 2, version);
            scope.extend(attributes);
            out.push(scope);
        }
        self.dropped("rs.ss.Scope.DroppedAttributesCount", 4, &mut out)?;
        Ok(out)
    }

    fn spans(&self, id: &[u8]) -> Result<Vec<Span>, BlockError> {
        let strings = |name: &str| self.part(&format!("rs.ss.Spans.{name}")).map(Part::strings);
        let numbers = |name: &str| self.part(&format!("rs.ss.Spans.{name}")).map(Part::numbers);
        let (ids, parents) = (strings("SpanID")?, strings("ParentSpanID")?);
        let (names, states) = (strings("Name")?, strings("TraceState")?);
        let messages = strings("StatusMessage")?;
        let (kinds, statuses) = (numbers("Kind")?, numbers("StatusCode")?);
        let (starts, durations) = (numbers("StartTimeUnixNano")?, numbers("DurationNano")?);
        let dropped = [
            numbers("DroppedAttributesCount")?,
            numbers("DroppedEventsCount")?,
            numbers("DroppedLinksCount")?,
        ];
        let mut attributes = self.attributes("rs.ss.Spans", 4, 9)?;
        self.dedicated(DedicatedScope::Span, "rs.ss.Spans", 4, 9, &mut attributes)?;
        let events = self.events(&starts)?;
        let links = self.links()?;
        let number = |of: &[i64], at: usize| of.get(at).copied().unwrap_or_default() as u64;
        let empty: &[u8] = &[];
        let string = |of: &[&'a [u8]], at: usize| of.get(at).copied().unwrap_or(empty);
        let mut spans = Vec::with_capacity(ids.len());
        for (at, span) in ids.iter().enumerate() {
            let (start, duration) = (number(&starts, at), number(&durations, at));
            let mut out = Vec::with_capacity(256);
            wire::put_bytes_field(&mut out, 1, id);
            wire::put_bytes_field(&mut out, 2, span);
            put_text(&mut out, 3, string(&states, at));
            put_text(&mut out, 4, string(&parents, at));
            put_text(&mut out, 5, string(&names, at));
            put_number(&mut out, 6, number(&kinds, at));
            wire::put_fixed64_field(&mut out, 7, start);
            wire::put_fixed64_field(&mut out, 8, start.saturating_add(duration));
            let encoded = |of: &Encoded, out: &mut Vec<u8>| {
                out.extend_from_slice(of.get(at).map_or(&[], Vec::as_slice));
            };
            encoded(&attributes, &mut out);
            put_number(&mut out, 10, number(&dropped[0], at));
            encoded(&events, &mut out);
            put_number(&mut out, 12, number(&dropped[1], at));
            encoded(&links, &mut out);
            put_number(&mut out, 14, number(&dropped[2], at));
            wire::put_message(&mut out, 15, |out| {
                put_text(out, 2, string(&messages, at));
                put_number(out, 3, number(&statuses, at));
            });
            spans.push(Span {
                id: span_id(span),
                parent: span_id(string(&parents, at)),
                kind: number(&kinds, at) as u8,
                start_nanos: start,
                encoded: out.into(),
            });
        }
        Ok(spans)
    }

    /// The encoded events of each span.
    fn events(&self, starts: &[i64]) -> Result<Encoded, BlockError> {
        let times = self.part("rs.ss.Spans.Events.TimeSinceStartNano")?;
        let names = self.part("rs.ss.Spans.Events.Name")?.strings();
        let mut attributes = self.attributes("rs.ss.Spans.Events", 5, 3)?;
        self.dedicated(DedicatedScope::Event, "rs.ss.Spans.Events", 5, 3, &mut attributes)?;
        let dropped = self.part("rs.ss.Spans.Events.DroppedAttributesCount")?.numbers();
        let mut out: Encoded = Vec::new();
        let mut event = 0;
        for (rep, _, value) in times.entries() {
            if rep < 4 {
                out.push(Vec::new());
            }
            let start =
                out.len().checked_sub(1).and_then(|at| starts.get(at)).copied().unwrap_or_default();
            let (Some(value), Some(span)) = (value, out.last_mut()) else { continue };
            wire::put_message(span, 11, |out| {
                let time = (start as u64).wrapping_add(times.number(value) as u64);
                wire::put_fixed64_field(out, 1, time);
                put_text(out, 2, names.get(event).copied().unwrap_or_default());
                out.extend_from_slice(attributes.get(event).map_or(&[], Vec::as_slice));
                put_number(out, 4, dropped.get(event).copied().unwrap_or_default() as u64);
            });
            event += 1;
        }
        Ok(out)
    }

    /// The encoded links of each span.
    fn links(&self) -> Result<Encoded, BlockError> {
        let traces = self.part("rs.ss.Spans.Links.TraceID")?;
        let spans = self.part("rs.ss.Spans.Links.SpanID")?.strings();
        let states = self.part("rs.ss.Spans.Links.TraceState")?.strings();
        let attributes = self.attributes("rs.ss.Spans.Links", 5, 4)?;
        let dropped = self.part("rs.ss.Spans.Links.DroppedAttributesCount")?.numbers();
        let mut out: Encoded = Vec::new();
        let mut link = 0;
        for (rep, _, value) in traces.entries() {
            if rep < 4 {
                out.push(Vec::new());
            }
            let (Some(value), Some(span)) = (value, out.last_mut()) else { continue };
            wire::put_message(span, 13, |out| {
                wire::put_bytes_field(out, 1, traces.column.bytes(value));
                wire::put_bytes_field(out, 2, spans.get(link).copied().unwrap_or_default());
                put_text(out, 3, states.get(link).copied().unwrap_or_default());
                out.extend_from_slice(attributes.get(link).map_or(&[], Vec::as_slice));
                put_number(out, 5, dropped.get(link).copied().unwrap_or_default() as u64);
            });
            link += 1;
        }
        Ok(out)
    }

    /// The generic attributes of each item, encoded as a field of its message.
    fn attributes(&self, owner: &str, depth: u32, field: u32) -> Result<Encoded, BlockError> {
        let part = |name: &str| self.part(&format!("{owner}.Attrs.{name}"));
        let keys = part("Key")?;
        let arrays = part("IsArray")?;
        let mut values = Vec::new();
        for name in ["Value", "ValueInt", "ValueDouble", "ValueBool"] {
            let part = part(name)?;
            values.push((part, part.entries().peekable()));
        }
        let unsupported = part("ValueUnsupported")?;
        let mut texts = unsupported.entries();
        let mut flags = arrays.entries();
        let mut out: Encoded = Vec::new();
        for (rep, def, key) in keys.entries() {
            if rep < depth && def >= depth - 1 {
                out.push(Vec::new());
            }
            // The values of this entry: its own, and those that repeat at the level of lists.
            let mut found = Vec::new();
            for (part, entries) in &mut values {
                let mut next = entries.next();
                while let Some((_, _, value)) = next {
                    found.extend(value.map(|at| part.any(at)));
                    next = entries.next_if(|(rep, ..)| *rep > depth);
                }
            }
            let text = texts.next().and_then(|(_, _, value)| value);
            let array = flags
                .next()
                .and_then(|(_, _, value)| value)
                .is_some_and(|at| arrays.any(at) == Any::Bool(true));
            let (Some(key), Some(item)) = (key, out.last_mut()) else { continue };
            let key = std::str::from_utf8(keys.column.bytes(key)).unwrap_or("\u{fffd}");
            put_key_value(item, field, key, |out| match text {
                Some(at) => {
                    let text = std::str::from_utf8(unsupported.column.bytes(at));
                    unsupported::put_any(out, text.unwrap_or("\u{fffd}"));
                }
                None if array => put_array(out, &found),
                None => put_scalar(out, found.first().copied().unwrap_or(Any::Empty)),
            });
        }
        Ok(out)
    }

    /// Appends the attributes that have columns of their own.
    fn dedicated(
        &self,
        scope: DedicatedScope,
        owner: &str,
        depth: u32,
        field: u32,
        out: &mut Encoded,
    ) -> Result<(), BlockError> {
        for (name, column) in dedicated_names(self.meta, scope) {
            let Ok(part) = self.part(&format!("{owner}.{column}")) else { continue };
            let mut items: Vec<Vec<Any<'_>>> = Vec::new();
            for (rep, def, value) in part.entries() {
                if rep < depth && def >= depth - 1 {
                    items.push(Vec::new());
                }
                if let (Some(at), Some(item)) = (value, items.last_mut()) {
                    item.push(part.any(at));
                }
            }
            for (item, values) in out.iter_mut().zip(items) {
                match values.as_slice() {
                    [] => {}
                    [value] => put_key_value(item, field, &name, |out| put_scalar(out, *value)),
                    values => put_key_value(item, field, &name, |out| put_array(out, values)),
                }
            }
        }
        Ok(())
    }

    fn dropped(&self, path: &str, field: u32, out: &mut Encoded) -> Result<(), BlockError> {
        for (item, count) in out.iter_mut().zip(self.part(path)?.numbers()) {
            put_number(item, field, count as u64);
        }
        Ok(())
    }
}

fn put_array(out: &mut Vec<u8>, values: &[Any<'_>]) {
    wire::put_message(out, 5, |out| {
        for value in values {
            wire::put_message(out, 1, |out| put_scalar(out, *value));
        }
    });
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
