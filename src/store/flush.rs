//! From sealed segments to durable blocks.
//!
//! The order that makes a crash harmless: announce the block and the state that holds once it is there; write and sync
//! all its files; let it appear by a rename; add it to the index; make the announced state the state. Whoever starts
//! after a crash looks whether the block is there: if so the announcement counts, if not it is forgotten, and the log
//! still has everything.

use std::io::{BufWriter, Write};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use metrics::{counter, histogram};
use thiserror::Error;

use crate::backend::{BackendError, DATA, INDEX, META};
use crate::block::{self, MetaError};
use crate::kv::KvError;
use crate::model::BlockId;
use crate::segment::Segment;
use crate::telemetry;
use crate::wal::{self, WalError};

use super::block::Block;
use super::head::{Sealed, Shared, Tenant};
use super::state::{indexed_entry, intent_entry, no_intent, tenant_entry};
use super::{Inner, index};

/// Why a block was not written. Its traces stay in memory and in the log, and it is tried again.
#[derive(Debug, Error)]
pub enum FlushError {
    #[error("the block's files")]
    Backend(#[from] BackendError),
    #[error("write the block's data")]
    Data(#[from] std::io::Error),
    #[error(transparent)]
    Kv(#[from] KvError),
    #[error(transparent)]
    Wal(#[from] WalError),
    #[error(transparent)]
    Meta(#[from] MetaError),
}

/// Writes sealed segments, one block each, then frees the log below what is still open.
pub fn write_all(store: &Inner, sealed: Vec<Sealed>) -> Result<(), FlushError> {
    let mut first_error = None;
    // A flush whose caller has left goes on here: another one must not write the same segment beside it, nor after it.
    let _one = store.writing.lock().unwrap_or_else(PoisonError::into_inner);
    for sealed in sealed.into_iter().filter(|sealed| still_waits(store, sealed)) {
        let begun = Instant::now();
        match write(store, &sealed) {
            Ok(bytes) => {
                counter!(telemetry::STORE_BLOCKS_FLUSHED_TOTAL).increment(1);
                histogram!(telemetry::STORE_FLUSH_DURATION_SECONDS).record(begun.elapsed());
                histogram!(telemetry::STORE_FLUSH_BYTES).record(bytes as f64);
            }
            Err(error) => {
                counter!(telemetry::STORE_FLUSH_ERRORS_TOTAL).increment(1);
                first_error.get_or_insert(error);
            }
        }
    }
    store.room_made();
    match first_error {
        Some(error) => Err(error),
        None => Ok(free_log(store)?),
    }
}

fn still_waits(store: &Inner, sealed: &Sealed) -> bool {
    store.tenant(&sealed.tenant).read(|parts| {
        let waiting = parts.sealed.as_ref();
        waiting.is_some_and(|waiting| Arc::ptr_eq(&waiting.live.segment, &sealed.live.segment))
    })
}

fn write(store: &Inner, sealed: &Sealed) -> Result<u64, FlushError> {
    let segment = sealed.live.segment.read().unwrap_or_else(PoisonError::into_inner);
    let id = BlockId::random();
    let tenant = &sealed.tenant;
    store.kv.put_state(&[intent_entry(id, tenant, &sealed.state)])?;
    let staged = store.backend.stage(tenant, id)?;
    let mut data = BufWriter::with_capacity(1 << 20, staged.create(DATA)?);
    let written =
        block::write(&segment, &sealed.slots, tenant, id, &store.options.write, &mut data)?;
    data.flush()?;
    data.into_inner().map_err(|error| error.into_error())?.sync_all()?;
    for (at, bloom) in written.blooms.iter().enumerate() {
        staged.write(&format!("bloom-{at}"), bloom)?;
    }
    staged.write(INDEX, &written.index)?;
    staged.write(META, &written.meta.to_json())?;
    let scratch = staged.scratch();
    staged.commit()?;
    let bytes = written.meta.size;
    tracing::info!(tenant = %tenant, block = %id, traces = sealed.slots.len(), bytes, "wrote a block");
    let ids = sealed.slots.iter().map(|slot| segment.traces[*slot].id);
    index::add(&store.kv, &scratch, tenant, id, ids)?;
    let entries = [tenant_entry(tenant, &sealed.state), no_intent(id), indexed_entry(id)];
    store.kv.put_state(&entries)?;
    let freed = freed(&segment, sealed);
    drop(segment);
    let block = Arc::new(Block::new(store.backend.clone(), tenant.clone(), written.meta)?);
    store.tenant(tenant).change(|parts| {
        let mut blocks = Vec::clone(&parts.blocks);
        blocks.push(block);
        blocks.sort_by_key(|block| std::cmp::Reverse(block.range.end_nanos));
        parts.blocks = Arc::new(blocks);
        parts.sealed = None;
    });
    store.remember(tenant, sealed.state.clone());
    store.shrank(freed);
    Ok(bytes)
}

fn freed(segment: &Segment, sealed: &Sealed) -> (usize, usize) {
    (segment.memory(), sealed.slots.len())
}

/// Drops the epochs of the log that hold nothing but what blocks have. What is live, be it sealed or still filled, is in
/// no block; what comes after the last seal may be on its way to a live segment.
fn free_log(store: &Inner) -> Result<(), WalError> {
    let seal = store.seals.load(Ordering::Acquire);
    let oldest =
        |segment: &Shared| segment.read().unwrap_or_else(PoisonError::into_inner).oldest_seq();
    let live = |tenant: &Arc<Tenant>| {
        let (active, sealed) = tenant.read(|parts| {
            let sealed = parts.sealed.as_ref().map(|sealed| Arc::clone(&sealed.live.segment));
            (Arc::clone(&parts.active), sealed)
        });
        [oldest(&active), sealed.and_then(|sealed| oldest(&sealed))].into_iter().flatten().min()
    };
    let oldest_live = store.tenants().iter().filter_map(live).min();
    wal::drop_below(&store.kv, oldest_live.unwrap_or(seal).min(seal))
}
