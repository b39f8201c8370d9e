//! Searching a block: row group by row group, first the columns of the filter, then those of the answer.
#![deny(clippy::indexing_slicing)]

use std::cmp::Reverse;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::columns::{
    AttrScope, Bitmap, Column, Filter, Leaves, List, NONE, Op, Predicate, ScanRequest, ScanStats,
    SpanBatch, Values, select,
};
use crate::model::{SpanId, TraceId, Value};

use super::BlockError;
use super::decode::Strings;
use super::group::{
    AttrLeaves, Coding, GroupReader, Owner, Raw, STRUCTURE, Structure, attr_leaves, owners,
};
use super::meta::Meta;
use super::open::Layout;

/// What a scan wants next.
pub enum Step {
    /// Bytes of the file, to be fed in this order.
    Need(Vec<Range<u64>>),
    Batch(SpanBatch),
    Done,
}

/// A search of one block. It does no I/O: it is stepped, and fed.
pub struct Scan {
    request: Arc<ScanRequest>,
    meta: Arc<Meta>,
    layout: Arc<Layout>,
    next_group: usize,
    open: Option<Open>,
    pub stats: ScanStats,
}

/// The row group in work.
struct Open {
    reader: GroupReader,
    wanted: Vec<usize>,
    /// Set once the filter has been decided.
    passed: Option<(Bitmap, Vec<usize>)>,
}

impl Scan {
    pub fn new(request: Arc<ScanRequest>, meta: Arc<Meta>, layout: Arc<Layout>) -> Scan {
        Scan { request, meta, layout, next_group: 0, open: None, stats: ScanStats::default() }
    }

    /// Takes the bytes that the last [`Step::Need`] named.
    pub fn feed(&mut self, bytes: Vec<Bytes>) {
        if let Some(open) = &mut self.open {
            self.stats.inspected_bytes += bytes.iter().map(|bytes| bytes.len() as u64).sum::<u64>();
            for (leaf, bytes) in open.wanted.drain(..).zip(bytes) {
                open.reader.feed(leaf, bytes);
            }
        }
    }

    /// Goes on until bytes are needed, or a batch is there.
    ///
    /// # Errors
    /// When the block is damaged. The scan is then over.
    pub fn step(&mut self) -> Result<Step, BlockError> {
        loop {
            let Some(mut open) = self.open.take() else {
                let Some(group) = self.next_candidate() else { return Ok(Step::Done) };
                let reader =
                    GroupReader::new(Arc::clone(&self.meta), Arc::clone(&self.layout), group);
                let open = Open { reader, wanted: Vec::new(), passed: None };
                let leaves = self.filter_leaves()?;
                self.open = Some(open);
                match self.need(&leaves) {
                    Some(need) => return Ok(need),
                    None => continue,
                }
            };
            match open.passed.take() {
                None => {
                    let passed = self.decide(&mut open.reader)?;
                    if passed.1.is_empty() {
                        continue;
                    }
                    open.passed = Some(passed);
                    self.open = Some(open);
                    if let Some(need) = self.need(&self.answer_leaves()?) {
                        return Ok(need);
                    }
                }
                Some((rows, traces)) => {
                    return self.batch(&mut open.reader, &rows, &traces).map(Step::Batch);
                }
            }
        }
    }

    /// The next row group that may have traces in the range.
    fn next_candidate(&mut self) -> Option<usize> {
        let bounds = |group: usize, path: &str| {
            let chunk = self.layout.groups.get(group)?.chunks.get(self.layout.find(path)?)?;
            chunk.bounds
        };
        loop {
            let group = self.next_group;
            self.layout.groups.get(group)?;
            self.next_group += 1;
            let starts = bounds(group, "StartTimeUnixNano");
            let ends = bounds(group, "EndTimeUnixNano");
            let (Some((first, _)), Some((_, last))) = (starts, ends) else { return Some(group) };
            // Unsigned numbers beyond 2^63 would be out of order here: such bounds decide nothing.
            let ordered = first >= 0 && last >= first;
            if !ordered || self.request.range.overlaps(first as u64, last as u64) {
                return Some(group);
            }
        }
    }

    fn filter_leaves(&self) -> Result<HashSet<usize>, BlockError> {
        let mut leaves = HashSet::new();
        let find = Finder { layout: &self.layout, meta: &self.meta };
        for path in [STRUCTURE, "StartTimeUnixNano", "EndTimeUnixNano"] {
            leaves.insert(find.leaf(path)?);
        }
        find.filter(&self.request.filter, &mut leaves)?;
        Ok(leaves)
    }

    fn answer_leaves(&self) -> Result<HashSet<usize>, BlockError> {
        let mut leaves = HashSet::new();
        let find = Finder { layout: &self.layout, meta: &self.meta };
        for column in &self.request.columns {
            find.column(column, &mut leaves)?;
        }
        Ok(leaves)
    }

    fn need(&mut self, leaves: &HashSet<usize>) -> Option<Step> {
        let open = self.open.as_mut()?;
        open.wanted = open.reader.missing(leaves);
        let group = self.layout.groups.get(open.reader.group)?;
        let range = |leaf: &usize| group.chunks.get(*leaf).map(|chunk| chunk.range.clone());
        let ranges: Vec<_> = open.wanted.iter().filter_map(range).collect();
        (!ranges.is_empty()).then_some(Step::Need(ranges))
    }

    /// The spans that pass, and their traces in the range.
    fn decide(&mut self, reader: &mut GroupReader) -> Result<(Bitmap, Vec<usize>), BlockError> {
        let structure = reader.structure()?;
        self.stats.inspected_traces += structure.trace_ends.len() as u64;
        self.stats.inspected_spans += structure.spans() as u64;
        let starts = reader.find("StartTimeUnixNano")?;
        let ends = reader.find("EndTimeUnixNano")?;
        let mut leaves = GroupLeaves { reader, structure: Arc::clone(&structure) };
        let rows = select(&self.request.filter, &mut leaves)?;
        let touches = |trace: &usize| {
            let number = |values: &[i64]| values.get(*trace).copied().unwrap_or_default() as u64;
            let (start, end) = (number(starts.i64s()), number(ends.i64s()));
            self.request.range.overlaps(start, end) && rows.any_in(structure.trace(*trace))
        };
        let mut traces: Vec<usize> = (0..structure.trace_ends.len()).filter(touches).collect();
        if let Some(newest) = self.request.newest
            && newest < traces.len()
        {
            let start = |trace: &usize| starts.i64s().get(*trace).copied().unwrap_or_default();
            traces.select_nth_unstable_by_key(newest, |trace| Reverse(start(trace)));
            traces.truncate(newest);
            traces.sort_unstable();
        }
        Ok((rows, traces))
    }

    fn batch(
        &self,
        reader: &mut GroupReader,
        passed: &Bitmap,
        traces: &[usize],
    ) -> Result<SpanBatch, BlockError> {
        let structure = reader.structure()?;
        let (mut rows, mut trace_ends) = (Vec::new(), Vec::new());
        for trace in traces {
            rows.extend(structure.trace(*trace));
            trace_ends.push(rows.len() as u32);
        }
        let matched =
            Bitmap::from_fn(rows.len(), |at| rows.get(at).is_some_and(|row| passed.get(*row)));
        let mut picked = Picked { reader, structure: &structure, traces, rows: &rows };
        let mut columns = Vec::new();
        for column in &self.request.columns {
            columns.push((column.clone(), picked.column(column)?));
        }
        Ok(SpanBatch { trace_ends, matched, columns })
    }
}

/// Finds the leaves that columns of a query stand in.
struct Finder<'a> {
    layout: &'a Layout,
    meta: &'a Meta,
}

impl Finder<'_> {
    fn leaf(&self, path: &str) -> Result<usize, BlockError> {
        GroupReader::leaf(self.layout, self.meta, path)
    }

    fn attr(&self, owner: Owner, key: &str, out: &mut HashSet<usize>) -> Result<(), BlockError> {
        out.extend(attr_leaves(self.layout, self.meta, owner, key)?.all());
        Ok(())
    }

    fn filter(&self, filter: &Filter, out: &mut HashSet<usize>) -> Result<(), BlockError> {
        match filter {
            Filter::All => Ok(()),
            Filter::Column(column, _) => self.column(column, out),
            Filter::Item(list, all) => {
                let path = match list {
                    List::Event => "rs.ss.Spans.Events.TimeSinceStartNano",
                    List::Link => "rs.ss.Spans.Links.TraceID",
                };
                out.insert(self.leaf(path)?);
                all.iter().try_for_each(|(column, _)| self.column(column, out))
            }
            Filter::And(parts) | Filter::Or(parts) => {
                parts.iter().try_for_each(|part| self.filter(part, out))
            }
            Filter::Not(part) => self.filter(part, out),
        }
    }

    fn column(&self, column: &Column, out: &mut HashSet<usize>) -> Result<(), BlockError> {
        match column {
            Column::Attr(scope, key) => {
                for owner in owners(*scope) {
                    if *owner == Owner::Resource && &**key == SERVICE_NAME {
                        out.insert(self.leaf("rs.Resource.ServiceName")?);
                    } else {
                        self.attr(*owner, key, out)?;
                    }
                }
            }
            Column::EventAttr(key) => {
                out.insert(self.leaf("rs.ss.Spans.Events.TimeSinceStartNano")?);
                self.attr(Owner::Event, key, out)?;
            }
            Column::LinkAttr(key) => {
                out.insert(self.leaf("rs.ss.Spans.Links.TraceID")?);
                self.attr(Owner::Link, key, out)?;
            }
            // Blocks before vParquet5 do not store it: it follows from the ids.
            Column::ChildCount if self.layout.find(path(column)).is_none() => {
                out.insert(self.leaf("rs.ss.Spans.SpanID")?);
                out.insert(self.leaf("rs.ss.Spans.ParentSpanID")?);
                out.insert(self.leaf("rs.ss.Spans.Kind")?);
            }
            column => drop(out.insert(self.leaf(path(column))?)),
        }
        Ok(())
    }
}

/// The code of an attribute that is there and has no value that queries see.
const NOTHING: u32 = NONE - 1;

const SERVICE_NAME: &str = "service.name";

/// The leaf of a column that has just one.
fn path(column: &Column) -> &'static str {
    match column {
        Column::TraceId => "TraceID",
        Column::TraceStart => "StartTimeUnixNano",
        Column::TraceEnd => "EndTimeUnixNano",
        Column::RootService => "RootServiceName",
        Column::RootName => "RootSpanName",
        Column::SpanId => "rs.ss.Spans.SpanID",
        Column::ParentId => "rs.ss.Spans.ParentSpanID",
        Column::Start => "rs.ss.Spans.StartTimeUnixNano",
        Column::Duration => "rs.ss.Spans.DurationNano",
        Column::Name => "rs.ss.Spans.Name",
        Column::Kind => "rs.ss.Spans.Kind",
        Column::Status => "rs.ss.Spans.StatusCode",
        Column::StatusMessage => "rs.ss.Spans.StatusMessage",
        Column::NestedLeft => "rs.ss.Spans.NestedSetLeft",
        Column::NestedRight => "rs.ss.Spans.NestedSetRight",
        Column::NestedParent => "rs.ss.Spans.ParentID",
        Column::ChildCount => "rs.ss.Spans.ChildCount",
        Column::ScopeName => "rs.ss.Scope.Name",
        Column::ScopeVersion => "rs.ss.Scope.Version",
        Column::Service => "rs.Resource.ServiceName",
        Column::EventName => "rs.ss.Spans.Events.Name",
        Column::EventTimeSinceStart => "rs.ss.Spans.Events.TimeSinceStartNano",
        Column::LinkTraceId => "rs.ss.Spans.Links.TraceID",
        Column::LinkSpanId => "rs.ss.Spans.Links.SpanID",
        Column::Attr(..) | Column::EventAttr(_) | Column::LinkAttr(_) => "",
    }
}

/// Verdicts on items: no such attribute, one that does not match, one that does.
const OTHER: u8 = 0;
const NO: u8 = 1;
const YES: u8 = 2;

fn passes(verdict: u8, op: Op) -> bool {
    verdict == YES || (verdict == OTHER && op == Op::Missing)
}

fn verdict(yes: bool) -> u8 {
    if yes { YES } else { NO }
}

struct GroupLeaves<'a> {
    reader: &'a mut GroupReader,
    structure: Arc<Structure>,
}

impl GroupLeaves<'_> {
    fn numbers(&mut self, path: &str, predicate: &Predicate) -> Result<Bitmap, BlockError> {
        let column = self.reader.find(path)?;
        let values = column.i64s();
        Ok(Bitmap::from_fn(values.len(), |row| {
            values.get(row).is_some_and(|value| predicate.matches_int(*value))
        }))
    }

    /// The strings of a column without nulls that satisfy, by position.
    fn strings(&mut self, path: &str, predicate: &Predicate) -> Result<Vec<u8>, BlockError> {
        let column = self.reader.find(path)?;
        let Some((codes, dict)) = column.strings() else { return Ok(Vec::new()) };
        let known: Vec<u8> =
            (0..dict.len()).map(|at| verdict(predicate.matches_str(dict.str(at)))).collect();
        Ok(codes.iter().map(|code| known.get(*code as usize).copied().unwrap_or(NO)).collect())
    }

    fn by_span(&self, verdicts: &[u8], of: &[u32], op: Op) -> Bitmap {
        Bitmap::from_fn(self.structure.spans(), |row| {
            let at = of.get(row).map_or(usize::MAX, |at| *at as usize);
            passes(verdicts.get(at).copied().unwrap_or(OTHER), op)
        })
    }

    fn ids(&mut self, path: &str, predicate: &Predicate) -> Result<Bitmap, BlockError> {
        let column = self.reader.find(path)?;
        Ok(Bitmap::from_fn(self.structure.spans(), |row| {
            predicate.matches_str(&span_id(column.bytes(row)).to_string())
        }))
    }

    /// Verdicts on the items of an owner.
    fn attr(
        &mut self,
        owner: Owner,
        key: &str,
        predicate: &Predicate,
    ) -> Result<Vec<u8>, BlockError> {
        if owner == Owner::Resource && key == SERVICE_NAME {
            return self.strings("rs.Resource.ServiceName", predicate);
        }
        let leaves: AttrLeaves = attr_leaves(&self.reader.layout, &self.reader.meta, owner, key)?;
        let mut verdicts = Vec::new();
        // By code of the dictionary at hand; there are at most two, that of the dedicated column comes first.
        let mut known: Vec<u8> = Vec::new();
        let mut last_dict = 0;
        self.reader.attr(owner, key, &leaves, &mut |item, raw, dict: &Strings| {
            if last_dict != std::ptr::from_ref(dict) as usize {
                last_dict = std::ptr::from_ref(dict) as usize;
                known.clear();
                known.resize(dict.len(), OTHER);
            }
            let found = match raw {
                Raw::Nothing => NO,
                Raw::Other(value) => verdict(predicate.matches(&value)),
                Raw::Str(code) => match known.get_mut(code as usize) {
                    Some(known) => {
                        if *known == OTHER {
                            *known = verdict(predicate.matches_str(dict.str(code as usize)));
                        }
                        *known
                    }
                    None => NO,
                },
            };
            if verdicts.len() <= item {
                verdicts.resize(item + 1, OTHER);
            }
            if let Some(verdict) = verdicts.get_mut(item) {
                *verdict = found;
            }
        })?;
        Ok(verdicts)
    }

    fn span_attr(
        &mut self,
        scope: AttrScope,
        key: &str,
        predicate: &Predicate,
    ) -> Result<Bitmap, BlockError> {
        let op = predicate.op;
        match scope {
            AttrScope::Span => {
                let verdicts = self.attr(Owner::Span, key, predicate)?;
                if verdicts.is_empty() && op != Op::Missing {
                    return Ok(Bitmap::none(self.structure.spans()));
                }
                Ok(Bitmap::from_fn(self.structure.spans(), |row| {
                    passes(verdicts.get(row).copied().unwrap_or(OTHER), op)
                }))
            }
            AttrScope::Resource => {
                let verdicts = self.attr(Owner::Resource, key, predicate)?;
                Ok(self.by_span(&verdicts, &self.structure.resource, op))
            }
            AttrScope::Instrumentation => {
                let verdicts = self.attr(Owner::Scope, key, predicate)?;
                Ok(self.by_span(&verdicts, &self.structure.scope, op))
            }
            AttrScope::Any => {
                let own = self.attr(Owner::Span, key, predicate)?;
                let inherited = self.attr(Owner::Resource, key, predicate)?;
                Ok(Bitmap::from_fn(self.structure.spans(), |row| {
                    match own.get(row).copied().unwrap_or(OTHER) {
                        OTHER => {
                            let at = self.structure.resource.get(row).map_or(0, |at| *at as usize);
                            passes(inherited.get(at).copied().unwrap_or(OTHER), op)
                        }
                        verdict => passes(verdict, op),
                    }
                }))
            }
        }
    }

    /// Decides a column with one value a trace.
    fn traces(&mut self, column: &Column, predicate: &Predicate) -> Result<Bitmap, BlockError> {
        let all: Vec<usize> = (0..self.structure.trace_ends.len()).collect();
        let structure = Arc::clone(&self.structure);
        let mut picked =
            Picked { reader: self.reader, structure: &structure, traces: &all, rows: &[] };
        let passed = predicate.select(&picked.column(column)?);
        let mut rows = Bitmap::none(structure.spans());
        for trace in passed.rows() {
            structure.trace(trace).for_each(|row| rows.set(row));
        }
        Ok(rows)
    }

    /// The items of one list that satisfy a condition.
    fn items(
        &mut self,
        column: &Column,
        predicate: &Predicate,
        count: usize,
    ) -> Result<Bitmap, BlockError> {
        let verdicts = match column {
            Column::EventAttr(key) => self.attr(Owner::Event, key, predicate)?,
            Column::LinkAttr(key) => self.attr(Owner::Link, key, predicate)?,
            Column::EventName => self.strings(path(column), predicate)?,
            Column::EventTimeSinceStart => return self.numbers(path(column), predicate),
            Column::LinkTraceId | Column::LinkSpanId => {
                let values = self.reader.find(path(column))?;
                let text = |at| match column {
                    Column::LinkTraceId => trace_id(values.bytes(at)).trimmed(),
                    _ => span_id(values.bytes(at)).to_string(),
                };
                (0..count).map(|at| verdict(predicate.matches_str(&text(at)))).collect()
            }
            _ => return Ok(Bitmap::none(count)),
        };
        Ok(Bitmap::from_fn(count, |at| {
            passes(verdicts.get(at).copied().unwrap_or(OTHER), predicate.op)
        }))
    }
}

impl Leaves<BlockError> for GroupLeaves<'_> {
    fn rows(&self) -> usize {
        self.structure.spans()
    }

    fn column(&mut self, column: &Column, predicate: &Predicate) -> Result<Bitmap, BlockError> {
        let structure = Arc::clone(&self.structure);
        match column {
            Column::Start
            | Column::Duration
            | Column::Kind
            | Column::Status
            | Column::NestedLeft
            | Column::NestedRight
            | Column::NestedParent => self.numbers(path(column), predicate),
            Column::ChildCount => {
                let rows: Vec<usize> = (0..structure.spans()).collect();
                let mut picked =
                    Picked { reader: self.reader, structure: &structure, traces: &[], rows: &rows };
                Ok(predicate.select(&picked.children()?))
            }
            Column::Name | Column::StatusMessage => {
                let verdicts = self.strings(path(column), predicate)?;
                Ok(Bitmap::from_fn(verdicts.len(), |row| verdicts.get(row) == Some(&YES)))
            }
            Column::SpanId | Column::ParentId => self.ids(path(column), predicate),
            Column::ScopeName | Column::ScopeVersion => {
                let verdicts = self.strings(path(column), predicate)?;
                Ok(self.by_span(&verdicts, &structure.scope, predicate.op))
            }
            Column::Service => {
                let verdicts = self.strings(path(column), predicate)?;
                Ok(self.by_span(&verdicts, &structure.resource, predicate.op))
            }
            Column::Attr(scope, key) => self.span_attr(*scope, key, predicate),
            column if column.is_trace() => self.traces(column, predicate),
            _ => Ok(Bitmap::none(structure.spans())),
        }
    }

    fn item(&mut self, list: List, all: &[(Column, Predicate)]) -> Result<Bitmap, BlockError> {
        let ends = list_ends(self.reader, list)?;
        let count = ends.last().copied().unwrap_or_default() as usize;
        let mut passed = Bitmap::all(count);
        for (column, predicate) in all {
            passed.and(&self.items(column, predicate, count)?);
        }
        Ok(Bitmap::from_fn(self.structure.spans(), |row| passed.any_in(part(&ends, row))))
    }
}

fn part(ends: &[u32], row: usize) -> Range<usize> {
    let end = |row: usize| ends.get(row).copied().unwrap_or_default() as usize;
    row.checked_sub(1).map(end).unwrap_or_default()..end(row)
}

/// Where the events (or links) of each span end.
fn list_ends(reader: &mut GroupReader, list: List) -> Result<Vec<u32>, BlockError> {
    let column = reader.find(match list {
        List::Event => "rs.ss.Spans.Events.TimeSinceStartNano",
        List::Link => "rs.ss.Spans.Links.TraceID",
    })?;
    let mut ends = Vec::new();
    let mut items = 0;
    for (rep, def) in column.levels() {
        if rep < 4 {
            ends.push(items);
        }
        items += u32::from(def >= 4);
        if let Some(end) = ends.last_mut() {
            *end = items;
        }
    }
    Ok(ends)
}

/// A stored id; one of another length counts as none.
pub fn span_id(bytes: &[u8]) -> SpanId {
    SpanId(bytes.try_into().unwrap_or_default())
}

pub fn trace_id(bytes: &[u8]) -> TraceId {
    TraceId(bytes.try_into().unwrap_or_default())
}

/// Traces and rows of a row group on their way into a batch.
struct Picked<'a> {
    reader: &'a mut GroupReader,
    structure: &'a Structure,
    traces: &'a [usize],
    rows: &'a [usize],
}

impl Picked<'_> {
    fn column(&mut self, column: &Column) -> Result<Values, BlockError> {
        let path = path(column);
        match column {
            Column::TraceId => {
                let ids = self.reader.find(path)?;
                Ok(Values::TraceIds(
                    self.traces.iter().map(|row| trace_id(ids.bytes(*row))).collect(),
                ))
            }
            Column::TraceStart | Column::TraceEnd => self.u64s(path, self.traces),
            Column::RootService | Column::RootName => {
                self.strings(path, self.traces.iter().copied())
            }
            Column::SpanId | Column::ParentId => {
                let ids = self.reader.find(path)?;
                Ok(Values::SpanIds(self.rows.iter().map(|row| span_id(ids.bytes(*row))).collect()))
            }
            Column::Start | Column::Duration => self.u64s(path, self.rows),
            Column::Kind
            | Column::Status
            | Column::NestedLeft
            | Column::NestedRight
            | Column::NestedParent => self.i32s(path),
            Column::ChildCount => self.children(),
            Column::Name | Column::StatusMessage => self.strings(path, self.rows.iter().copied()),
            Column::ScopeName | Column::ScopeVersion => {
                let at = positions(self.rows, &self.structure.scope);
                self.strings(path, at.into_iter())
            }
            Column::Service => {
                let at = positions(self.rows, &self.structure.resource);
                self.strings(path, at.into_iter())
            }
            Column::Attr(scope, key) => self.attr(*scope, key),
            column => self.list(column),
        }
    }

    fn u64s(&mut self, path: &str, rows: &[usize]) -> Result<Values, BlockError> {
        let column = self.reader.find(path)?;
        let values = column.i64s();
        let value = |row: &usize| values.get(*row).copied().unwrap_or_default() as u64;
        Ok(Values::U64(rows.iter().map(value).collect()))
    }

    fn i32s(&mut self, path: &str) -> Result<Values, BlockError> {
        let column = self.reader.find(path)?;
        let values = column.i64s();
        let value = |row: &usize| values.get(*row).map_or(0, |value| *value as i32);
        Ok(Values::I32(self.rows.iter().map(value).collect()))
    }

    /// A column that every item has.
    fn strings(
        &mut self,
        path: &str,
        at: impl Iterator<Item = usize>,
    ) -> Result<Values, BlockError> {
        let column = self.reader.find(path)?;
        let mut coding = Coding::default();
        let Some((stored, dict)) = column.strings() else {
            return Ok(Values::Coded { codes: Vec::new(), dict: Arc::default() });
        };
        let code =
            |at: usize| stored.get(at).map_or(NONE, |code| coding.code(Raw::Str(*code), dict));
        let codes = at.map(code).collect();
        Ok(Values::Coded { codes, dict: Arc::new(coding.dict) })
    }

    /// Codes of an owner's attribute, by item.
    fn item_codes(
        &mut self,
        owner: Owner,
        key: &str,
    ) -> Result<(Vec<u32>, Vec<Value>), BlockError> {
        let leaves = attr_leaves(&self.reader.layout, &self.reader.meta, owner, key)?;
        // Dictionaries of the two places differ: each has its own coding.
        let mut codings: Vec<(usize, Coding)> = Vec::new();
        let mut raws: Vec<(usize, usize, u32)> = Vec::new();
        self.reader.attr(owner, key, &leaves, &mut |item, raw, dict: &Strings| {
            let address = std::ptr::from_ref(dict) as usize;
            let nth = codings.iter().position(|(of, _)| *of == address).unwrap_or_else(|| {
                codings.push((address, Coding::default()));
                codings.len() - 1
            });
            if let Some((_, coding)) = codings.get_mut(nth) {
                let code = if raw == Raw::Nothing { NOTHING } else { coding.code(raw, dict) };
                raws.push((item, nth, code));
            }
        })?;
        let mut offsets = Vec::new();
        let mut dict: Vec<Value> = Vec::new();
        for (_, coding) in codings {
            offsets.push(dict.len() as u32);
            dict.extend(coding.dict);
        }
        let mut codes = Vec::new();
        for (item, nth, code) in raws {
            if codes.len() <= item {
                codes.resize(item + 1, NONE);
            }
            if let (Some(slot), Some(offset)) = (codes.get_mut(item), offsets.get(nth)) {
                *slot = if code == NOTHING { NOTHING } else { code + offset };
            }
        }
        Ok((codes, dict))
    }

    fn attr(&mut self, scope: AttrScope, key: &str) -> Result<Values, BlockError> {
        let service = key == SERVICE_NAME;
        match scope {
            AttrScope::Resource if service => self.column(&Column::Service),
            AttrScope::Span => self.expand(Owner::Span, key, self.rows.to_vec()),
            AttrScope::Resource => {
                self.expand(Owner::Resource, key, positions(self.rows, &self.structure.resource))
            }
            AttrScope::Instrumentation => {
                self.expand(Owner::Scope, key, positions(self.rows, &self.structure.scope))
            }
            AttrScope::Any => {
                let (own, dict) = self.item_codes(Owner::Span, key)?;
                let own = self.rows.iter().map(|row| own.get(*row).copied().unwrap_or(NONE));
                let own: Vec<u32> = own.collect();
                Ok(shadow(own, dict, self.attr(AttrScope::Resource, key)?))
            }
        }
    }

    fn expand(&mut self, owner: Owner, key: &str, at: Vec<usize>) -> Result<Values, BlockError> {
        let (items, dict) = self.item_codes(owner, key)?;
        let code = |at: usize| items.get(at).copied().filter(|code| *code != NOTHING);
        let codes = at.into_iter().map(|at| code(at).unwrap_or(NONE)).collect();
        Ok(Values::Coded { codes, dict: Arc::new(dict) })
    }

    fn list(&mut self, column: &Column) -> Result<Values, BlockError> {
        let list = column.list().unwrap_or(List::Event);
        let stored_ends = list_ends(self.reader, list)?;
        let (mut at, mut ends) = (Vec::new(), Vec::new());
        for row in self.rows {
            at.extend(part(&stored_ends, *row));
            ends.push(at.len() as u32);
        }
        let items = match column {
            Column::EventName => self.strings(path(column), at.into_iter())?,
            Column::EventTimeSinceStart => self.u64s(path(column), &at)?,
            Column::EventAttr(key) => self.expand(Owner::Event, key, at)?,
            Column::LinkAttr(key) => self.expand(Owner::Link, key, at)?,
            Column::LinkSpanId => {
                let ids = self.reader.find(path(column))?;
                Values::SpanIds(at.iter().map(|at| span_id(ids.bytes(*at))).collect())
            }
            _ => {
                let ids = self.reader.find(path(column))?;
                Values::TraceIds(at.iter().map(|at| trace_id(ids.bytes(*at))).collect())
            }
        };
        Ok(Values::List { ends, items: Box::new(items) })
    }

    /// The number of children, which vParquet4 does not store.
    fn children(&mut self) -> Result<Values, BlockError> {
        if self.reader.layout.find(path(&Column::ChildCount)).is_some() {
            return self.i32s(path(&Column::ChildCount));
        }
        let ids = self.reader.find("rs.ss.Spans.SpanID")?;
        let parents = self.reader.find("rs.ss.Spans.ParentSpanID")?;
        let kinds = self.reader.find("rs.ss.Spans.Kind")?;
        let mut counts = Vec::with_capacity(self.structure.spans());
        let mut places = Vec::new();
        let mut numbering = crate::columns::nested::Numbering::default();
        for trace in 0..self.structure.trace_ends.len() {
            let node = |row: usize| crate::columns::nested::Node {
                id: span_id(ids.bytes(row)),
                parent: span_id(parents.bytes(row)),
                kind: kinds.i64s().get(row).map_or(0, |kind| *kind as u8),
            };
            let nodes: Vec<_> = self.structure.trace(trace).map(node).collect();
            numbering.number(&nodes, &mut places);
            counts.extend(places.iter().map(|place| place.children));
        }
        let count = |row: &usize| counts.get(*row).copied().unwrap_or_default();
        Ok(Values::I32(self.rows.iter().map(count).collect()))
    }
}

fn positions(rows: &[usize], of: &[u32]) -> Vec<usize> {
    rows.iter().map(|row| of.get(*row).map_or(usize::MAX, |at| *at as usize)).collect()
}

/// The span's own attribute, and the inherited one where it has none of that name.
fn shadow(own: Vec<u32>, mut dict: Vec<Value>, inherited: Values) -> Values {
    let offset = dict.len() as u32;
    let Values::Coded { codes: below, dict: below_dict } = inherited else {
        return Values::Coded { codes: own, dict: Arc::new(dict) };
    };
    let pick = |(own, below): (u32, u32)| match (own, below) {
        (NOTHING, _) | (NONE, NONE) => NONE,
        (NONE, below) => below + offset,
        (own, _) => own,
    };
    let codes = own.into_iter().zip(below).map(pick).collect();
    dict.extend(below_dict.iter().cloned());
    Values::Coded { codes, dict: Arc::new(dict) }
}
