//! The trace index: in which row of which blocks a trace lies. A cache of truth, rebuilt from the blocks.
//!
//! ```text
//! key    tenant, 0, trace id (16 bytes), block id (16 bytes)
//! value  row, 8 bytes, little endian
//! ```

use std::path::Path;

use uuid::Uuid;

use crate::kv::{Kv, KvError};
use crate::model::{BlockId, TenantId, TraceId};

fn prefix(tenant: &TenantId, trace: &TraceId) -> Vec<u8> {
    [tenant.as_str().as_bytes(), &[0], &trace.0].concat()
}

/// Adds the traces of a block, whose ids stand in the order of its rows.
pub fn add(
    kv: &Kv,
    scratch: &Path,
    tenant: &TenantId,
    block: BlockId,
    ids: impl Iterator<Item = TraceId>,
) -> Result<(), KvError> {
    let entry = |(row, id): (u64, TraceId)| {
        let key = [&prefix(tenant, &id)[..], block.0.as_bytes()].concat();
        (key, row.to_le_bytes().to_vec())
    };
    kv.ingest_index(scratch, (0..).zip(ids).map(entry))
}

/// The blocks that hold a trace, each with the trace's row.
pub fn find(kv: &Kv, tenant: &TenantId, trace: &TraceId) -> Result<Vec<(BlockId, u64)>, KvError> {
    let entry = |(block, row): (Vec<u8>, Vec<u8>)| {
        let block = BlockId(Uuid::from_bytes(block.try_into().ok()?));
        Some((block, u64::from_le_bytes(row.try_into().ok()?)))
    };
    Ok(kv.index(&prefix(tenant, trace))?.into_iter().filter_map(entry).collect())
}
