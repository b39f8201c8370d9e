//! From the wire to the log: the walk, the live segment, the log. On the traffic of `metronome load`, in spans per second.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use metronome::kv::Kv;
use metronome::load::traffic::Traffic;
use metronome::model::TenantId;
use metronome::otlp;
use metronome::segment::{Arrival, Segment};
use metronome::wal::{self, Wal};

/// Requests of about 512 spans.
const REQUESTS: u64 = 100;
const TRACES: u64 = 42;
const NOW: u64 = 1_790_000_000_000_000_000;

fn requests() -> (Vec<Vec<u8>>, u64) {
    let mut traffic = Traffic::new(1);
    let mut spans = 0;
    let requests: Vec<Vec<u8>> = (0..REQUESTS)
        .map(|n| {
            let mut request = Vec::new();
            spans += traffic.write_request(&mut request, n * TRACES, TRACES, NOW + n * 4_000_000);
            request
        })
        .collect();
    (requests, spans)
}

fn fill(requests: &[Vec<u8>]) -> Segment {
    let mut segment = Segment::default();
    for (seq, request) in (0..).zip(requests) {
        segment.append(request, Arrival { seq, nanos: NOW }, |_| true);
    }
    segment
}

fn ingest(c: &mut Criterion) {
    let (requests, spans) = requests();
    let mut group = c.benchmark_group("ingest");
    group.throughput(Throughput::Elements(spans));
    group.bench_function("walk/51k_spans", |b| {
        b.iter(|| {
            requests
                .iter()
                .map(|request| otlp::check(black_box(request)))
                .filter(Result::is_ok)
                .count()
        });
    });
    group.bench_function("shred/51k_spans", |b| b.iter(|| fill(black_box(&requests))));
    group.bench_function("wal/encode/51k_spans", |b| {
        let tenant = TenantId::single();
        b.iter(|| {
            requests
                .iter()
                .map(|request| wal::encode(&tenant, black_box(request)).len())
                .sum::<usize>()
        });
    });
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let kv = Arc::new(Kv::open(directory.path(), 8 << 20).expect("the directory is new"));
    let mut log = Wal::open(Arc::clone(&kv), 0, true).expect("the store is open");
    let tenant = TenantId::single();
    let records: Vec<Vec<u8>> =
        requests.iter().map(|request| wal::encode(&tenant, request)).collect();
    group.bench_function("wal/append_synced_by_4_requests/51k_spans", |b| {
        b.iter_batched(
            || records.chunks(4).map(<[_]>::to_vec).collect::<Vec<_>>(),
            |groups| {
                for group in groups {
                    log.append(group).expect("the disk has room");
                }
                log.seal().expect("the disk has room");
                wal::drop_below(&kv, log.next_seq()).expect("the disk has room");
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
    let segment = fill(&requests);
    eprintln!("memory of the segment: {} bytes per span", segment.memory() as u64 / spans);
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(3)).without_plots();
    targets = ingest
}
criterion_main!(benches);
