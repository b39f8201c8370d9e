//! Blocks: writing one from a segment, scanning it, finding a trace in it. On the traffic of `metronome load`.

#![expect(clippy::cast_possible_truncation, reason = "blocks made here are small")]

use std::collections::HashMap;
use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use metronome::block::{self, Find, FindStep, GroupIndex, Layout, Meta, Scan, Step, WriteOptions};
use metronome::columns::{
    AttrScope, Column, Filter, Op, Operand, Predicate, ScanRequest, ScanStats,
};
use metronome::load::traffic::Traffic;
use metronome::model::{BlockId, TenantId, TimeRange};
use metronome::segment::{Arrival, Segment};

const REQUESTS: u64 = 400;
const TRACES: u64 = 42;
const NOW: u64 = 1_790_000_000_000_000_000;

fn segment() -> (Segment, Vec<usize>) {
    let (mut traffic, mut segment) = (Traffic::new(1), Segment::default());
    for seq in 0..REQUESTS {
        let request = traffic.request(seq * TRACES, TRACES, NOW + seq * 4_000_000);
        segment.append(&request, Arrival { seq, nanos: NOW }, |_| true);
    }
    let mut slots: Vec<usize> = (0..segment.traces.len()).collect();
    slots.sort_unstable_by_key(|slot| segment.traces[*slot].id);
    (segment, slots)
}

struct Block {
    data: Bytes,
    meta: Arc<Meta>,
    layout: Arc<Layout>,
}

impl Block {
    fn read(&self, ranges: &[Range<u64>]) -> Vec<Bytes> {
        let slice = |range: &Range<u64>| self.data.slice(range.start as usize..range.end as usize);
        ranges.iter().map(slice).collect()
    }

    fn scan(&self, request: &Arc<ScanRequest>) -> usize {
        let mut scan =
            Scan::new(Arc::clone(request), Arc::clone(&self.meta), Arc::clone(&self.layout));
        let mut matched = 0;
        loop {
            match scan.step().expect("the block is whole") {
                Step::Need(ranges) => scan.feed(self.read(&ranges)),
                Step::Batch(batch) => matched += batch.matched.count(),
                Step::Done => return matched,
            }
        }
    }

    fn find(&self, row: u64, indexes: &mut HashMap<usize, Arc<GroupIndex>>) -> usize {
        let known = |group: usize| indexes.get(&group).cloned();
        let mut find = Find::new(Arc::clone(&self.meta), Arc::clone(&self.layout), row, known)
            .expect("the row is there");
        loop {
            match find.step().expect("the block is whole") {
                FindStep::Need(ranges) => {
                    find.feed(self.read(&ranges)).expect("the block is whole");
                    indexes.extend(find.index());
                }
                FindStep::Found(trace) => return trace.span_count(),
            }
        }
    }
}

fn write(segment: &Segment, slots: &[usize]) -> Block {
    let mut data = Vec::new();
    let options = WriteOptions::default();
    let written =
        block::write(segment, slots, &TenantId::single(), BlockId::random(), &options, &mut data);
    let meta = written.expect("writing into memory cannot fail").meta;
    let footer = Layout::footer_range(&meta, None).expect("the block is whole");
    let layout = Layout::parse(&data[footer.start as usize..footer.end as usize], &meta);
    Block {
        layout: Arc::new(layout.expect("the block is whole")),
        data: data.into(),
        meta: Arc::new(meta),
    }
}

fn request(filter: Filter) -> Arc<ScanRequest> {
    let columns =
        vec![Column::TraceId, Column::RootName, Column::SpanId, Column::Name, Column::Start];
    Arc::new(ScanRequest { range: TimeRange::ALL, filter, columns, newest: Some(20) })
}

fn equals(column: Column, value: &str) -> Filter {
    Filter::Column(column, Predicate { op: Op::Eq, operand: Operand::Str(value.to_owned()) })
}

fn blocks(c: &mut Criterion) {
    let (segment, slots) = segment();
    let spans = segment.span_count() as u64;
    let mut group = c.benchmark_group("block");
    group.throughput(Throughput::Elements(spans));
    group.bench_function("write/200k_spans", |b| {
        b.iter(|| write(black_box(&segment), &slots).data.len())
    });
    let block = write(&segment, &slots);
    eprintln!("{spans} spans, {} bytes per span", block.data.len() as u64 / spans);
    let error = Predicate { op: Op::Eq, operand: Operand::Int(2) };
    let filters = [
        (
            "service_and_error",
            Filter::And(vec![
                equals(Column::Service, "checkout"),
                Filter::Column(Column::Status, error),
            ]),
        ),
        (
            "dedicated_attribute",
            equals(Column::Attr(AttrScope::Span, "http.route".into()), "/api/orders/{id}"),
        ),
        (
            "generic_attribute",
            equals(Column::Attr(AttrScope::Span, "db.system.name".into()), "postgresql"),
        ),
        ("unscoped_no_match", equals(Column::Attr(AttrScope::Any, "nowhere".into()), "x")),
        ("everything", Filter::All),
    ];
    for (name, filter) in filters {
        let request = request(filter);
        group
            .bench_function(format!("scan/{name}/200k_spans"), |b| b.iter(|| block.scan(&request)));
        group.bench_function(format!("scan_live/{name}/200k_spans"), |b| {
            b.iter(|| segment.scan(&request, None, &mut ScanStats::default()).matched.count());
        });
    }
    group.finish();
    let mut group = c.benchmark_group("block/find");
    let mut row = 0;
    group.bench_function("cold/one_of_17k_traces", |b| {
        b.iter(|| {
            row = (row + 7919) % block.meta.total_objects;
            block.find(row, &mut HashMap::new())
        });
    });
    let mut indexes = HashMap::new();
    group.bench_function("warm/one_of_17k_traces", |b| {
        b.iter(|| {
            row = (row + 7919) % block.meta.total_objects;
            block.find(row, &mut indexes)
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(3)).without_plots();
    targets = blocks
}
criterion_main!(benches);
