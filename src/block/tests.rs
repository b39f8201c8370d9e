//! What holds the house up: a block answers as the segment did from which it was written.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parquet::file::reader::{FileReader, SerializedFileReader};
use regex::bytes::Regex;

use crate::columns::{
    AttrScope, Column, Filter, List, NONE, Op, Operand, Predicate, ScanRequest, ScanStats,
    SpanBatch, Values,
};
use crate::model::{BlockId, TenantId, TimeRange};
use crate::segment::Segment;
use crate::segment::sample;

use super::*;

struct Block {
    data: Bytes,
    meta: Arc<Meta>,
    layout: Arc<Layout>,
}

fn written(segment: &Segment, slots: &[usize], version: Version, row_group_bytes: usize) -> Block {
    let mut data = Vec::new();
    let options = WriteOptions { version, row_group_bytes, ..WriteOptions::default() };
    let written =
        write(segment, slots, &TenantId::single(), BlockId::random(), &options, &mut data).unwrap();
    assert_eq!(written.meta.size, data.len() as u64);
    let meta = Meta::parse(&written.meta.to_json()).unwrap();
    let footer = Layout::footer_range(&meta, Some(&data[data.len() - 8..])).unwrap();
    assert_eq!(Layout::footer_range(&meta, None).unwrap(), footer);
    let layout = Layout::parse(&data[bounds(&footer)], &meta).unwrap();
    Block { data: data.into(), meta: Arc::new(meta), layout: Arc::new(layout) }
}

fn bounds(range: &Range<u64>) -> Range<usize> {
    range.start as usize..range.end as usize
}

impl Block {
    fn read(&self, ranges: &[Range<u64>]) -> Vec<Bytes> {
        ranges.iter().map(|range| self.data.slice(bounds(range))).collect()
    }

    fn scan(&self, request: &ScanRequest) -> Vec<SpanBatch> {
        let mut scan =
            Scan::new(Arc::new(request.clone()), Arc::clone(&self.meta), Arc::clone(&self.layout));
        let mut batches = Vec::new();
        loop {
            match scan.step().unwrap() {
                Step::Need(ranges) => scan.feed(self.read(&ranges)),
                Step::Batch(batch) => batches.push(batch),
                Step::Done => return batches,
            }
        }
    }

    fn find(&self, row: u64) -> crate::model::Trace {
        let mut find =
            Find::new(Arc::clone(&self.meta), Arc::clone(&self.layout), row, |_| None).unwrap();
        loop {
            match find.step().unwrap() {
                FindStep::Need(ranges) => find.feed(self.read(&ranges)).unwrap(),
                FindStep::Found(trace) => return *trace,
            }
        }
    }
}

/// Batches as text, trace by trace, dictionaries resolved: what a query sees.
fn shown(batches: &[SpanBatch]) -> Vec<String> {
    let mut out = Vec::new();
    for batch in batches {
        for trace in 0..batch.traces() {
            let rows = batch.rows(trace);
            let matched: Vec<usize> = rows.clone().filter(|row| batch.matched.get(*row)).collect();
            let matched: Vec<usize> = matched.iter().map(|row| row - rows.start).collect();
            out.push(format!("trace of {} spans, matched {matched:?}", rows.len()));
            for (column, values) in &batch.columns {
                let range = if column.is_trace() { trace..trace + 1 } else { rows.clone() };
                let values: Vec<String> = range.map(|row| show(values, row)).collect();
                out.push(format!("  {column:?} = {}", values.join(" ")));
            }
        }
    }
    out
}

fn show(values: &Values, row: usize) -> String {
    match values {
        Values::U64(values) => values[row].to_string(),
        Values::I32(values) => values[row].to_string(),
        Values::SpanIds(values) => values[row].to_string(),
        Values::TraceIds(values) => values[row].to_string(),
        Values::Coded { codes, .. } if codes[row] == NONE => "-".to_owned(),
        Values::Coded { codes, dict } => format!("{:?}", dict[codes[row] as usize]),
        Values::List { ends, items } => {
            let start = if row == 0 { 0 } else { ends[row - 1] as usize };
            let items: Vec<String> =
                (start..ends[row] as usize).map(|at| show(items, at)).collect();
            format!("[{}]", items.join(" "))
        }
    }
}

/// Compares texts line by line; the first line that differs is shown, not thousands of equal ones.
fn same(live: &str, stored: &str, context: &str) {
    for (live, stored) in live.lines().zip(stored.lines()) {
        assert_eq!(live, stored, "{context}");
    }
    assert_eq!(live.lines().count(), stored.lines().count(), "{context}");
}

fn all_columns() -> Vec<Column> {
    let mut columns = vec![
        Column::TraceId,
        Column::TraceStart,
        Column::TraceEnd,
        Column::RootService,
        Column::RootName,
        Column::SpanId,
        Column::ParentId,
        Column::Start,
        Column::Duration,
        Column::Name,
        Column::Kind,
        Column::Status,
        Column::StatusMessage,
        Column::NestedLeft,
        Column::NestedRight,
        Column::NestedParent,
        Column::ChildCount,
        Column::ScopeName,
        Column::ScopeVersion,
        Column::Service,
        Column::EventName,
        Column::EventTimeSinceStart,
        Column::LinkTraceId,
        Column::LinkSpanId,
    ];
    for key in KEYS {
        for scope in SCOPES {
            columns.push(Column::Attr(scope, key.into()));
        }
        columns.push(Column::EventAttr(key.into()));
        columns.push(Column::LinkAttr(key.into()));
    }
    columns
}

const KEYS: [&str; 7] = [
    "service.name",
    "http.request.method",
    "http.response.status_code",
    "k8s.pod.name",
    "http.status_code",
    "a",
    "missing",
];
const SCOPES: [AttrScope; 4] =
    [AttrScope::Span, AttrScope::Resource, AttrScope::Instrumentation, AttrScope::Any];

fn predicates() -> Vec<Predicate> {
    let str = |text: &str| Operand::Str(text.to_owned());
    [
        (Op::Eq, str("GET")),
        (Op::NotEq, str("GET")),
        (Op::Eq, str("")),
        (Op::Greater, Operand::Int(0)),
        (Op::NotEq, Operand::Float(0.5)),
        (Op::Eq, Operand::Bool(true)),
        (Op::Matches, Operand::Regex(Regex::new("^(?s:G.*|0000000000000001)$").unwrap())),
        (Op::NotMatches, Operand::Regex(Regex::new("^x$").unwrap())),
        (Op::Exists, Operand::Nothing),
        (Op::Missing, Operand::Nothing),
        (Op::LessEq, Operand::Int(200_000_000)),
        (Op::Eq, str("0000000000000005")),
        (Op::Eq, str("exception")),
    ]
    .map(|(op, operand)| Predicate { op, operand })
    .into()
}

fn request(filter: Filter) -> ScanRequest {
    ScanRequest {
        range: TimeRange::ALL,
        filter,
        columns: vec![Column::TraceId, Column::SpanId],
        newest: None,
    }
}

#[test]
fn a_block_gives_the_same_columns_as_its_segment() {
    for (seed, version, row_group) in [
        (1, Version::V5, 1 << 30),
        (2, Version::V5, 1),
        (3, Version::V4, 1 << 30),
        (4, Version::V4, 1),
    ] {
        let (segment, slots) = sample::segment(seed, 60, 40);
        let block = written(&segment, &slots, version, row_group);
        let all = ScanRequest { columns: all_columns(), ..request(Filter::All) };
        let live = shown(&[segment.scan(&all, None, &mut ScanStats::default())]);
        let stored = shown(&block.scan(&all));
        same(&live.join("\n"), &stored.join("\n"), &format!("seed {seed} {version:?}"));
    }
}

#[test]
fn a_block_passes_the_same_spans_as_its_segment() {
    let (segment, slots) = sample::segment(7, 80, 30);
    let blocks =
        [Version::V4, Version::V5].map(|version| written(&segment, &slots, version, 1 << 30));
    let mut filters = Vec::new();
    for column in all_columns() {
        for predicate in predicates() {
            filters.push(match column.list() {
                Some(list) => Filter::Item(list, vec![(column.clone(), predicate)]),
                None => Filter::Column(column.clone(), predicate),
            });
        }
    }
    let event = |key: &str| (Column::EventAttr(key.into()), predicates().remove(8));
    filters.push(Filter::Item(List::Event, vec![event("a"), event("service.name")]));
    let some: Vec<Filter> = filters.iter().step_by(37).cloned().collect();
    filters.push(Filter::Or(some.clone()));
    filters.push(Filter::And(vec![some[0].clone(), Filter::Not(Box::new(some[1].clone()))]));
    let mut passed = 0;
    for filter in filters {
        let request = request(filter);
        let live = shown(&[segment.scan(&request, None, &mut ScanStats::default())]);
        for block in &blocks {
            let context = format!("{:?} {}", request.filter, block.meta.format);
            same(&live.join("\n"), &shown(&block.scan(&request)).join("\n"), &context);
        }
        passed += usize::from(!live.is_empty());
    }
    assert!(passed > 100, "only {passed} filters let anything pass");
}

#[test]
fn time_ranges_and_the_newest_are_cut_alike() {
    let (segment, slots) = sample::segment(9, 60, 50);
    let block = written(&segment, &slots, Version::V5, 1 << 30);
    let second = 1_000_000_000;
    let start_nanos = (1_700_000_000 + 40) * second;
    let range = TimeRange { start_nanos, end_nanos: start_nanos + second };
    let some = Filter::Column(Column::Status, Predicate { op: Op::Eq, operand: Operand::Int(2) });
    for filter in [Filter::All, some] {
        for newest in [None, Some(3)] {
            let request = ScanRequest { range, newest, ..request(filter.clone()) };
            let live = segment.scan(&request, None, &mut ScanStats::default());
            let stored = block.scan(&request);
            assert!(!live.trace_ends.is_empty());
            assert_eq!(live.traces(), stored[0].traces());
            assert!(newest.is_none_or(|newest| live.traces() == newest));
        }
    }
}

#[test]
fn traces_come_back_as_they_were() {
    for version in [Version::V4, Version::V5] {
        let (segment, slots) = sample::segment(11, 60, 40);
        let block = written(&segment, &slots, version, 8 << 10);
        for (row, slot) in slots.iter().enumerate() {
            let live = segment.trace(&segment.traces[*slot].id).unwrap();
            let stored = block.find(row as u64);
            same(&normal(&live), &normal(&stored), version.name());
            let bare = |trace: &crate::model::Trace| {
                let spans = trace.resources.iter().flat_map(|r| &r.scopes).flat_map(|s| &s.spans);
                spans.map(|s| (s.id, s.parent, s.kind, s.start_nanos)).collect::<Vec<_>>()
            };
            assert_eq!(bare(&live), bare(&stored));
        }
    }
}

/// A trace as text with sorted attributes, whose order blocks do not keep.
fn normal(trace: &crate::model::Trace) -> String {
    let json = crate::otlp::render::trace_v1(&trace.encode()).unwrap();
    let mut tree: serde_json::Value = serde_json::from_slice(&json).unwrap();
    sort(&mut tree);
    serde_json::to_string_pretty(&tree).unwrap()
}

fn sort(tree: &mut serde_json::Value) {
    match tree {
        serde_json::Value::Object(members) => {
            // A one-element array in a dedicated column and a service without a name are told apart by no block.
            for (name, member) in members.iter_mut() {
                sort(member);
                if name == "attributes"
                    && let Some(list) = member.as_array_mut()
                {
                    let unnamed =
                        serde_json::json!({"key": "service.name", "value": {"stringValue": ""}});
                    list.retain(|pair| *pair != unnamed);
                    list.sort_by_key(|pair| pair.to_string());
                }
            }
            members.retain(|name, member| name != "attributes" || *member != serde_json::json!([]));
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(sort),
        _ => {}
    }
}

#[test]
fn the_parquet_crate_reads_what_we_write() {
    for version in [Version::V4, Version::V5] {
        let (segment, slots) = sample::segment(5, 60, 40);
        let block = written(&segment, &slots, version, 8 << 10);
        let reader = SerializedFileReader::new(block.data.clone()).unwrap();
        let rows = reader.get_row_iter(None).unwrap();
        let ids: Vec<String> = rows
            .map(|row| {
                let row = row.unwrap();
                let text = row.get_column_iter().find(|(name, _)| *name == "TraceIDText");
                text.unwrap().1.to_string().trim_matches('"').to_owned()
            })
            .collect();
        let expected: Vec<String> =
            slots.iter().map(|slot| segment.traces[*slot].id.trimmed()).collect();
        assert_eq!(ids, expected);
    }
}

#[test]
fn damaged_blocks_are_errors_and_never_panics() {
    let (segment, slots) = sample::segment(13, 30, 20);
    let block = written(&segment, &slots, Version::V5, 1 << 30);
    let mut dice = sample::Dice(99);
    let all = ScanRequest { columns: all_columns(), ..request(Filter::All) };
    let mut errors = 0;
    for _ in 0..300 {
        let mut data = block.data.to_vec();
        for _ in 0..1 + dice.roll(4) {
            let at = dice.roll(data.len() as u64) as usize;
            data[at] = dice.roll(256) as u8;
        }
        let damaged = Block {
            data: data.into(),
            meta: Arc::clone(&block.meta),
            layout: Arc::clone(&block.layout),
        };
        let footer = Layout::footer_range(&damaged.meta, None).unwrap();
        let layout = Layout::parse(&damaged.data[bounds(&footer)], &damaged.meta);
        let layout = layout.map_or_else(|_| Arc::clone(&block.layout), Arc::new);
        let mut scan =
            Scan::new(Arc::new(all.clone()), Arc::clone(&damaged.meta), Arc::clone(&layout));
        loop {
            match scan.step() {
                Ok(Step::Need(ranges)) => scan.feed(damaged.read(&ranges)),
                Ok(Step::Batch(_)) => {}
                Ok(Step::Done) => break,
                Err(_) => {
                    errors += 1;
                    break;
                }
            }
        }
        if let Ok(mut find) =
            Find::new(Arc::clone(&damaged.meta), layout, dice.roll(slots.len() as u64), |_| None)
        {
            while let Ok(FindStep::Need(ranges)) = find.step() {
                if find.feed(damaged.read(&ranges)).is_err() {
                    break;
                }
            }
        }
    }
    assert!(errors > 100, "only {errors} of 300 damaged blocks were noticed");
}

#[test]
fn bounds_of_the_meta_cover_its_traces() {
    let (segment, slots) = sample::segment(17, 40, 20);
    let block = written(&segment, &slots, Version::V5, 1 << 30);
    let (start, end) = block.meta.range_nanos().unwrap();
    for trace in &segment.traces {
        assert!(start <= trace.start_nanos && trace.end_nanos <= end);
    }
    assert_eq!(block.meta.total_objects, slots.len() as u64);
}
