//! Where spans are: in the log and the live segments first, in blocks later, in the trace index by id.
//!
//! `append` makes a request durable and visible; `flush` turns live segments into blocks; `snapshot` is what a query sees.

mod block;
mod flush;
mod head;
mod index;
mod lookups;
mod open;
mod source;
mod state;
mod writer;

use std::collections::HashMap;
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use metrics::{Counter, Gauge, counter, gauge};
use thiserror::Error;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::backend::Local;
use crate::block::WriteOptions;
use crate::cpu::Cpu;
use crate::kv::Kv;
use crate::model::TenantId;
use crate::telemetry;
use crate::wal;

pub use block::{Block, ReadError};
pub use flush::FlushError;
pub use head::Cut;
pub use open::OpenError;
pub use source::{ScanError, Snapshot, Source};

use head::Tenant;
use lookups::Lookups;
use state::TenantState;
use writer::{Append, Ask};

/// How the store behaves; sizes in bytes.
#[derive(Clone, Debug)]
pub struct Options {
    pub path: std::path::PathBuf,
    pub sync: Sync,
    /// Free disk below which appends are refused.
    pub min_free_bytes: u64,
    /// Memory of live segments, both those that fill and those that are written.
    pub live_bytes: usize,
    /// Memory of RocksDB's blocks, and as much again for lookups by id.
    pub cache_bytes: usize,
    pub trace_idle: Duration,
    pub max_trace_age: Duration,
    pub max_block_duration: Duration,
    /// Request bytes after which a block is cut.
    pub max_block_bytes: u64,
    pub write: WriteOptions,
}

/// When the log is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Before each acknowledgement.
    Always,
    /// By [`Store::sync`], which is called now and then.
    Later,
}

/// Why a request was not taken.
#[derive(Debug, Error)]
pub enum AppendError {
    #[error("the server is stopping")]
    Stopping,
    #[error("the disk has {free} bytes free, and {min} must remain")]
    DiskFull { free: u64, min: u64 },
    #[error("{0}")]
    Failed(String),
    #[error("writing is behind")]
    Behind,
}

/// The store. Its threads end when it is closed or dropped.
pub struct Store {
    inner: Arc<Inner>,
    asks: Mutex<Option<mpsc::Sender<Ask>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    cpu: Cpu,
    upkeep: Cpu,
    flushing: tokio::sync::Mutex<()>,
    _lock: File,
}

/// What the threads share.
struct Inner {
    options: Options,
    kv: Arc<Kv>,
    backend: Local,
    lookups: Lookups,
    tenants: RwLock<HashMap<TenantId, Arc<Tenant>>>,
    states: Mutex<HashMap<TenantId, TenantState>>,
    /// Records below this number were in segments that are sealed.
    seals: AtomicU64,
    live_bytes: AtomicI64,
    /// Request bytes since the last seal.
    request_bytes: AtomicU64,
    /// Held while blocks are written.
    writing: Mutex<()>,
    flush_wanted: Notify,
    flush_is_wanted: AtomicBool,
    room: (Mutex<()>, Condvar),
    stopping: AtomicBool,
    disk_full: AtomicBool,
    free_bytes: AtomicU64,
    ready: watch::Sender<bool>,
    live_traces: Gauge,
    live_gauge: Gauge,
    traces_created: Counter,
}

impl Store {
    /// Keeps one request, whose bytes have been checked: durable and visible to queries when this returns.
    ///
    /// # Errors
    /// When it was not kept; all but `Stopping` may pass.
    pub async fn append(
        &self,
        tenant: &TenantId,
        request: Bytes,
        spans: u64,
    ) -> Result<(), AppendError> {
        let inner = &self.inner;
        if inner.disk_full.load(Ordering::Relaxed) {
            let free = inner.free_bytes.load(Ordering::Relaxed);
            return Err(AppendError::DiskFull { free, min: inner.options.min_free_bytes });
        }
        let asks = self.asks().clone().ok_or(AppendError::Stopping)?;
        let place = match asks.try_reserve() {
            Ok(place) => place,
            Err(mpsc::error::TrySendError::Full(())) => return Err(AppendError::Behind),
            Err(mpsc::error::TrySendError::Closed(())) => return Err(AppendError::Stopping),
        };
        let record = wal::encode(tenant, &request);
        let (done, answer) = oneshot::channel();
        place.send(Ask::Append(Append { tenant: tenant.clone(), request, record, spans, done }));
        answer.await.unwrap_or(Err(AppendError::Stopping))
    }

    /// Completes when the log has been replayed.
    pub async fn ready(&self) {
        // The sender lives in `inner`, which lives as long as the store.
        drop(self.inner.ready.subscribe().wait_for(|ready| *ready).await);
    }

    pub fn is_ready(&self) -> bool {
        *self.inner.ready.borrow()
    }

    /// Completes when memory asks for a flush.
    pub async fn flush_wanted(&self) {
        self.inner.flush_wanted.notified().await;
    }

    /// Whether a live segment is old or large enough to become a block.
    pub fn flush_due(&self) -> bool {
        let inner = &self.inner;
        let now = now_nanos();
        let max = nanos(inner.options.max_block_duration);
        let old = |tenant: &Arc<Tenant>| {
            tenant.read(|parts| {
                parts.sealed.is_some()
                    || parts.opened_nanos.is_some_and(|opened| now.saturating_sub(opened) >= max)
            })
        };
        inner.flush_is_wanted.load(Ordering::Relaxed)
            || inner.request_bytes.load(Ordering::Relaxed) >= inner.options.max_block_bytes
            || inner.tenants().iter().any(old)
    }

    /// Turns live segments into blocks. What failed before is tried first.
    ///
    /// # Errors
    /// When a block could not be written; its traces stay, and the next flush tries again.
    pub async fn flush(&self, cut: Cut) -> Result<(), FlushError> {
        let _one = self.flushing.lock().await;
        let left: Vec<_> = self
            .inner
            .tenants()
            .iter()
            .filter_map(|tenant| tenant.read(|parts| parts.sealed.clone()))
            .collect();
        if !left.is_empty() {
            counter!(telemetry::STORE_FLUSH_RETRIES_TOTAL).increment(left.len() as u64);
            self.write(left).await?;
        }
        let Some(asks) = self.asks().clone() else { return Ok(()) };
        let (done, sealed) = oneshot::channel();
        if asks.send(Ask::Seal(cut, done)).await.is_err() {
            return Ok(());
        }
        let sealed = sealed.await.unwrap_or_default();
        let reason = match (cut, self.inner.flush_is_wanted.load(Ordering::Relaxed)) {
            (Cut::All, _) => "stop",
            (_, true) => "memory",
            (_, false) => "due",
        };
        counter!(telemetry::LIVE_BLOCKS_CUT_TOTAL, "reason" => reason)
            .increment(sealed.len() as u64);
        self.inner.flush_is_wanted.store(false, Ordering::Relaxed);
        self.inner.request_bytes.store(0, Ordering::Relaxed);
        self.write(sealed).await
    }

    async fn write(&self, sealed: Vec<head::Sealed>) -> Result<(), FlushError> {
        let inner = Arc::clone(&self.inner);
        self.upkeep.run(move || flush::write_all(&inner, sealed)).await
    }

    /// How traces are cut in the usual course. Under memory pressure only the youngest stay open: those that were touched
    /// in the last part of the segment's age.
    pub fn usual_cut(&self) -> Cut {
        let options = &self.inner.options;
        let mut idle = options.trace_idle;
        if self.inner.flush_is_wanted.load(Ordering::Relaxed) {
            let now = now_nanos();
            let opened = |tenant: &Arc<Tenant>| tenant.read(|parts| parts.opened_nanos);
            let oldest = self.inner.tenants().iter().filter_map(opened).min().unwrap_or(now);
            idle = idle.min(Duration::from_nanos(now.saturating_sub(oldest)) / PRESSED_PART);
        }
        Cut::Idle { idle, max_age: options.max_trace_age }
    }

    /// Makes what was appended durable, where appends do not do it themselves.
    pub async fn sync(&self) {
        if self.inner.options.sync == Sync::Later {
            let kv = Arc::clone(&self.inner.kv);
            if let Err(error) = self.upkeep.run(move || kv.sync()).await {
                counter!(telemetry::WAL_ERRORS_TOTAL, "op" => "sync").increment(1);
                tracing::error!(err = &error as &dyn std::error::Error, "the log cannot be synced");
            }
        }
    }

    /// Looks at the disk and updates the gauges. Cheap; meant for once a second.
    pub fn look_around(&self) {
        let inner = &self.inner;
        inner.look_at_disk();
        let (log, index) = inner.kv.disk_bytes();
        gauge!(telemetry::WAL_BYTES).set(log as f64);
        gauge!(telemetry::KV_SIZE_BYTES, "cf" => "wal").set(log as f64);
        gauge!(telemetry::KV_SIZE_BYTES, "cf" => "index").set(index as f64);
        let opened = |tenant: &Arc<Tenant>| tenant.read(|parts| parts.opened_nanos);
        let oldest = inner.tenants().iter().filter_map(opened).min();
        let waiting = oldest.map_or(0, |opened| now_nanos().saturating_sub(opened));
        let seconds = Duration::from_nanos(waiting).as_secs_f64();
        gauge!(telemetry::STORE_OLDEST_UNSHIPPED_SECONDS).set(seconds);
        let heads = inner.live_bytes() as f64;
        gauge!(telemetry::INGEST_MEMORY_BYTES, "part" => "heads").set(heads);
        for tenant in inner.tenants() {
            let (blocks, bytes) = tenant.read(|parts| {
                (parts.blocks.len(), parts.blocks.iter().map(|block| block.meta.size).sum::<u64>())
            });
            let name = tenant.id.to_string();
            gauge!(telemetry::STORE_BLOCKS, "tenant" => name.clone()).set(blocks as f64);
            gauge!(telemetry::STORE_BYTES, "tenant" => name, "status" => "live").set(bytes as f64);
        }
    }

    /// Deletes the blocks whose last span is older than `period`.
    pub async fn sweep(&self, period: Duration) {
        let before = now_nanos().saturating_sub(nanos(period));
        let inner = Arc::clone(&self.inner);
        self.upkeep.run(move || inner.sweep(before)).await;
    }

    /// Refuses appends from now on, and writes all live traces to blocks.
    ///
    /// # Errors
    /// When a block could not be written: then the log keeps its traces for the next start.
    pub async fn close(&self) -> Result<(), FlushError> {
        let flushed = self.flush(Cut::All).await;
        self.inner.stopping.store(true, Ordering::Release);
        self.inner.room_made();
        drop(self.asks().take());
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        self.upkeep.run(move || threads.into_iter().for_each(|thread| drop(thread.join()))).await;
        flushed
    }

    fn asks(&self) -> MutexGuard<'_, Option<mpsc::Sender<Ask>>> {
        self.asks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Under memory pressure a trace stays open only if it was touched in the last eighth of the segment's age: most are
/// complete long before, and copying more would cost more memory than it frees.
const PRESSED_PART: u32 = 8;

impl Inner {
    fn read_tenants<T>(&self, of: impl FnOnce(&HashMap<TenantId, Arc<Tenant>>) -> T) -> T {
        of(&self.tenants.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn tenants(&self) -> Vec<Arc<Tenant>> {
        self.read_tenants(|tenants| tenants.values().cloned().collect())
    }

    fn find_tenant(&self, tenant: &TenantId) -> Option<Arc<Tenant>> {
        self.read_tenants(|tenants| tenants.get(tenant).cloned())
    }

    /// A tenant, made if it is new.
    fn tenant(&self, id: &TenantId) -> Arc<Tenant> {
        if let Some(tenant) = self.find_tenant(id) {
            return tenant;
        }
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Tenant::new(id.clone(), Vec::new()));
        Arc::clone(tenants.entry(id.clone()).or_insert_with(new))
    }

    fn sweep(&self, before_nanos: u64) {
        for tenant in self.tenants() {
            let is_old = |block: &Arc<Block>| block.range.end_nanos < before_nanos;
            let old = tenant.change(|parts| {
                let (old, kept): (Vec<_>, Vec<_>) = parts.blocks.iter().cloned().partition(is_old);
                parts.blocks = Arc::new(kept);
                old
            });
            for block in old {
                match self.backend.remove(&tenant.id, block.id) {
                    Ok(()) => {
                        counter!(telemetry::STORE_RETENTION_DELETED_TOTAL).increment(1);
                        tracing::info!(tenant = %tenant.id, block = %block.id, "deleted a block past its time");
                    }
                    Err(error) => {
                        counter!(telemetry::STORE_RETENTION_ERRORS_TOTAL).increment(1);
                        tracing::error!(
                            err = &error as &dyn std::error::Error,
                            "a block past its time cannot be deleted; the next start tries again"
                        );
                    }
                }
            }
        }
    }

    fn states(&self) -> HashMap<TenantId, TenantState> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn remember(&self, tenant: &TenantId, state: TenantState) {
        self.states.lock().unwrap_or_else(PoisonError::into_inner).insert(tenant.clone(), state);
    }

    fn live_bytes(&self) -> usize {
        usize::try_from(self.live_bytes.load(Ordering::Relaxed)).unwrap_or(0)
    }

    fn grew(&self, bytes: i64, request_bytes: u64, traces: u64) {
        let now = self.live_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.request_bytes.fetch_add(request_bytes, Ordering::Relaxed);
        self.live_gauge.set(now as f64);
        self.live_traces.increment(traces as f64);
        self.traces_created.increment(traces);
    }

    fn shrank(&self, (bytes, traces): (usize, usize)) {
        self.live_bytes.fetch_sub(bytes as i64, Ordering::Relaxed);
        self.live_traces.decrement(traces as f64);
    }

    fn want_flush(&self) {
        if !self.flush_is_wanted.swap(true, Ordering::Relaxed) {
            self.flush_wanted.notify_one();
        }
    }

    /// Waits while live segments have all of their share and one of them is being written: the log is not read on
    /// meanwhile, and senders are told to wait. Where none is being written, the seal that was asked for is on its way here.
    fn wait_for_room(&self) {
        let full = || {
            self.live_bytes() > self.options.live_bytes
                && !self.stopping.load(Ordering::Acquire)
                && self.tenants().iter().any(|tenant| tenant.read(|parts| parts.sealed.is_some()))
        };
        let (lock, made) = &self.room;
        let mut guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
        while full() {
            let waited = made.wait_timeout(guard, Duration::from_millis(20));
            guard = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn room_made(&self) {
        self.room.1.notify_all();
    }

    fn set_ready(&self) {
        self.ready.send_replace(true);
    }

    fn look_at_disk(&self) {
        let Ok(disk) = rustix::fs::statvfs(&self.options.path) else { return };
        let free = disk.f_bavail * disk.f_frsize;
        self.free_bytes.store(free, Ordering::Relaxed);
        gauge!(telemetry::KV_DISK_FREE_BYTES).set(free as f64);
        gauge!(telemetry::KV_DISK_TOTAL_BYTES).set((disk.f_blocks * disk.f_frsize) as f64);
        let full = free < self.options.min_free_bytes;
        if full != self.disk_full.swap(full, Ordering::Relaxed) {
            match full {
                true => tracing::error!(
                    free,
                    min = self.options.min_free_bytes,
                    "the disk is nearly full: spans are refused until there is room; queries go on"
                ),
                false => tracing::info!(free, "the disk has room again: spans are taken"),
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the age of live traces is the store's own clock")]
fn now_nanos() -> u64 {
    nanos(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
