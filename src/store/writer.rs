//! The two threads behind every append: one writes the log, the other fills the live segments and acknowledges.
//!
//! A group is all that waits: it is written at once, synced once, and acknowledged together. While one group is synced the
//! next one gathers, and the one before is shredded: no timer stands in the way of an acknowledgement.

use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use metrics::{counter, gauge, histogram};
use tokio::sync::{mpsc, oneshot};

use crate::model::{TenantId, TraceId};
use crate::segment::Arrival;
use crate::telemetry;
use crate::wal::{self, Wal};

use super::head::{Cut, Sealed, Tenant};
use super::{AppendError, Inner, flush, now_nanos};

/// A group ends at so many bytes of requests, or so many requests.
const GROUP_BYTES: usize = 8 << 20;
const GROUP_REQUESTS: usize = 256;

/// What the log's thread is asked.
pub enum Ask {
    Append(Append),
    /// Close the live segments; the answer is what now waits to become blocks.
    Seal(Cut, oneshot::Sender<Vec<Sealed>>),
}

/// A request on its way into the log.
pub struct Append {
    pub tenant: TenantId,
    pub request: Bytes,
    pub record: Vec<u8>,
    pub spans: u64,
    pub done: oneshot::Sender<Result<(), AppendError>>,
}

/// What the log's thread hands on.
pub enum Step {
    Group { first_seq: u64, appends: Vec<Append> },
    Seal { next_seq: u64, cut: Cut, done: oneshot::Sender<Vec<Sealed>> },
}

/// Writes groups until nobody can ask any more.
pub fn write_log(mut log: Wal, mut asks: mpsc::Receiver<Ask>, next: &SyncSender<Step>) {
    let append_seconds = histogram!(telemetry::WAL_APPEND_DURATION_SECONDS);
    let batch_spans = histogram!(telemetry::INGEST_BATCH_SPANS);
    let waiting = gauge!(telemetry::INGEST_QUEUE_BATCHES);
    while let Some(ask) = asks.blocking_recv() {
        let mut group = Vec::new();
        let mut seal = None;
        let mut bytes = 0;
        let mut ask = Some(ask);
        while let Some(one) = ask.take() {
            match one {
                Ask::Append(append) => {
                    bytes += append.request.len();
                    group.push(append);
                    if bytes < GROUP_BYTES && group.len() < GROUP_REQUESTS {
                        ask = asks.try_recv().ok();
                    }
                }
                Ask::Seal(cut, done) => seal = Some((cut, done)),
            }
        }
        waiting.set(asks.len() as f64);
        if !group.is_empty() {
            batch_spans.record(group.iter().map(|append| append.spans).sum::<u64>() as f64);
            let begun = Instant::now();
            let step = append_group(&mut log, group);
            append_seconds.record(begun.elapsed());
            if let Some(step) = step
                && next.send(step).is_err()
            {
                return;
            }
        }
        if let Some((cut, done)) = seal {
            if let Err(error) = log.seal() {
                tracing::error!(
                    err = &error as &dyn std::error::Error,
                    "cannot begin a new epoch of the log; it grows until that works"
                );
            }
            if next.send(Step::Seal { next_seq: log.next_seq(), cut, done }).is_err() {
                return;
            }
        }
    }
}

fn append_group(log: &mut Wal, mut appends: Vec<Append>) -> Option<Step> {
    let records = appends.iter_mut().map(|append| std::mem::take(&mut append.record)).collect();
    match log.append(records) {
        Ok(first_seq) => Some(Step::Group { first_seq, appends }),
        Err(error) => {
            counter!(telemetry::WAL_ERRORS_TOTAL, "op" => "append").increment(1);
            tracing::error!(
                err = &error as &dyn std::error::Error,
                requests = appends.len(),
                "the log was not written; senders are told to try again"
            );
            for append in appends {
                let failed = AppendError::Failed(telemetry::Chain(&error).to_string());
                // A sender that left needs no answer.
                drop(append.done.send(Err(failed)));
            }
            None
        }
    }
}

/// Replays the log, then fills the live segments group by group.
pub fn fill_heads(store: &Arc<Inner>, replay_below: u64, steps: Receiver<Step>) {
    replay(store, replay_below);
    store.set_ready();
    let appended = counter!(telemetry::INGEST_SPANS_APPENDED_TOTAL);
    while let Ok(step) = steps.recv() {
        match step {
            Step::Group { first_seq, appends } => {
                for (seq, append) in (first_seq..).zip(appends) {
                    let arrival = Arrival { seq, nanos: now_nanos() };
                    fill(store, &append.tenant, &append.request, arrival, |_| true);
                    appended.increment(append.spans);
                    drop(append.done.send(Ok(())));
                }
                make_room(store);
            }
            Step::Seal { next_seq, cut, done } => {
                drop(done.send(seal(store, cut, next_seq)));
            }
        }
    }
}

fn seal(store: &Inner, cut: Cut, next_seq: u64) -> Vec<Sealed> {
    store.seals.fetch_max(next_seq, std::sync::atomic::Ordering::Release);
    store.tenants().iter().filter_map(|tenant| tenant.seal(cut, now_nanos(), next_seq)).collect()
}

fn fill(
    store: &Inner,
    tenant: &TenantId,
    request: &[u8],
    arrival: Arrival,
    wanted: impl FnMut(&TraceId) -> bool,
) {
    let tenant = store.tenant(tenant);
    let active = tenant.read(|parts| Arc::clone(&parts.active));
    let mut segment = active.write().unwrap_or_else(PoisonError::into_inner);
    let before = segment.memory();
    let done = segment.append(request, arrival, wanted);
    let after = segment.memory();
    let was_empty = segment.span_count() == done.spans as usize;
    drop(segment);
    if was_empty && done.spans > 0 {
        tenant.change(|parts| {
            parts.opened_nanos.get_or_insert(arrival.nanos);
        });
    }
    store.grew(after as i64 - before as i64, request.len() as u64, u64::from(done.new_traces));
}

/// Asks for a flush when the live segments have half of their share, and waits for one when they have all of it.
fn make_room(store: &Inner) {
    if store.live_bytes() > store.options.live_bytes / 2 {
        store.want_flush();
    }
    store.wait_for_room();
}

/// A record on its way from the log to a live segment.
struct Replayed {
    seq: u64,
    tenant: TenantId,
    request: Vec<u8>,
}

/// Records that may be read ahead of the live segments.
const READ_AHEAD: usize = 16;

/// Brings back what is in no block: one thread reads and inflates, this one fills. Where it does not fit into memory,
/// blocks are written on the way.
fn replay(store: &Inner, below: u64) {
    let states = store.states();
    let begun = Instant::now();
    let mut records = 0u64;
    let (ahead, read) = std::sync::mpsc::sync_channel(READ_AHEAD);
    let damaged = std::thread::scope(|threads| {
        let reader = threads.spawn(move || read_log(store, below, &ahead));
        for Replayed { seq, tenant, request } in read {
            records += 1;
            let arrival = Arrival { seq, nanos: now_nanos() };
            let state = states.get(&tenant);
            fill(store, &tenant, &request, arrival, |trace| {
                state.is_none_or(|state| state.is_pending(seq, trace))
            });
            // The last process may have used the whole share: half to fill, half to write. So may this one, once.
            if store.live_bytes() > store.options.live_bytes {
                flush_early(store, seq + 1);
            }
        }
        reader.join().unwrap_or_default()
    });
    if records > 0 || damaged > 0 {
        let count = |tenant: &Arc<Tenant>| {
            let active = tenant.read(|parts| Arc::clone(&parts.active));
            active.read().unwrap_or_else(PoisonError::into_inner).traces.len()
        };
        let traces: usize = store.tenants().iter().map(count).sum();
        counter!(telemetry::WAL_REPLAYED_TRACES_TOTAL).increment(traces as u64);
        let millis = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(records, damaged, traces, millis, "replayed the log");
    }
}

fn flush_early(store: &Inner, next_seq: u64) {
    let sealed = seal(store, Cut::All, next_seq);
    if let Err(error) = flush::write_all(store, sealed) {
        tracing::error!(
            err = &error as &dyn std::error::Error,
            "a block cannot be written while the log is replayed; its traces stay in memory"
        );
    }
}

/// Hands on the records of the log, and returns how many are damaged. Those are named and left out.
fn read_log(store: &Inner, below: u64, ahead: &SyncSender<Replayed>) -> u64 {
    let mut damaged = 0;
    let result = wal::replay(&store.kv, below, |seq, record| {
        let request = record.and_then(|record| {
            let request = record.request()?;
            Ok(Replayed { seq, tenant: record.tenant, request })
        });
        match request {
            Ok(replayed) => ahead.send(replayed).is_ok(),
            Err(error) => {
                damaged += 1;
                counter!(telemetry::WAL_REPLAY_ERRORS_TOTAL, "tenant" => "unknown").increment(1);
                tracing::error!(
                    record = seq,
                    err = &error as &dyn std::error::Error,
                    "a record of the log is left out; the others are kept"
                );
                true
            }
        }
    });
    if let Err(error) = result {
        tracing::error!(
            err = &error as &dyn std::error::Error,
            "the log cannot be read to its end"
        );
    }
    damaged
}
