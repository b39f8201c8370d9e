//! Writing a block from a segment.

use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::model::{BlockId, TenantId};
use crate::segment::Segment;

use super::bloom::Bloom;
use super::footer::{self, ChunkAt, RowGroupAt};
use super::meta::{Dedicated, DedicatedScope, DedicatedType, Meta, Version};
use super::schema::{FIXED_RESOURCE, Schema};
use super::shred::Shredder;
use super::time::format_rfc3339;

/// How blocks are written.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    pub version: Version,
    pub dedicated: Vec<Dedicated>,
    /// Compressed bytes at which a row group ends. Smaller ones cost footer, larger ones memory and lookups.
    pub row_group_bytes: usize,
}

/// A block beside its `data.parquet`.
#[derive(Debug)]
pub struct Written {
    pub meta: Meta,
    /// Files `bloom-0`, `bloom-1`, …
    pub blooms: Vec<Vec<u8>>,
    /// File `index`: the last trace id of each row group.
    pub index: Vec<u8>,
}

const NANOS: u64 = 1_000_000_000;

impl Default for WriteOptions {
    fn default() -> WriteOptions {
        WriteOptions {
            version: Version::V5,
            dedicated: Dedicated::defaults(),
            row_group_bytes: 6 << 20,
        }
    }
}

/// Writes `data.parquet` with some traces of a segment, whose slots stand in the order of their ids.
///
/// # Errors
/// What writing to `out` reports.
pub fn write(
    segment: &Segment,
    slots: &[usize],
    tenant: &TenantId,
    id: BlockId,
    options: &WriteOptions,
    out: &mut impl Write,
) -> io::Result<Written> {
    let dedicated = columns(options);
    let schema = Schema::new(options.version, &dedicated);
    let mut position = 4;
    let mut groups = Vec::new();
    let mut last_ids = Vec::new();
    let mut done = 0;
    out.write_all(b"PAR1")?;
    while done < slots.len() {
        let mut shredder = Shredder::new(segment, &schema, options.version, &dedicated)?;
        done += shredder.add(&slots[done..], options.row_group_bytes)?;
        let (chunks, rows) = shredder.finish()?;
        let mut at = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            out.write_all(&chunk.data)?;
            let bytes = chunk.data.len() as u64;
            at.push(ChunkAt::new(chunk, position));
            position += bytes;
        }
        groups.push(RowGroupAt { rows, chunks: at });
        last_ids.push(STANDARD.encode(segment.traces[slots[done - 1]].id.0));
    }
    let total_records = groups.len() as u32;
    let (tail, footer_size) = footer::encode(&schema, groups, position);
    out.write_all(&tail)?;
    let mut bloom = Bloom::new(slots.len());
    slots.iter().for_each(|slot| bloom.add(&segment.traces[*slot].id));
    let blooms = bloom.files();
    let traces = || slots.iter().map(|slot| &segment.traces[*slot]);
    let start = traces().map(|trace| trace.start_nanos).min().unwrap_or_default() / NANOS;
    let end = traces().map(|trace| trace.end_nanos).max().unwrap_or_default().div_ceil(NANOS);
    let meta = Meta {
        format: options.version.name().to_owned(),
        block_id: id.to_string(),
        tenant_id: tenant.to_string(),
        start_time: format_rfc3339(start),
        end_time: format_rfc3339(end.max(start + 1)),
        total_objects: slots.len() as u64,
        size: position + tail.len() as u64,
        compaction_level: 0,
        index_page_size: 0,
        total_records,
        bloom_shards: blooms.len() as u32,
        footer_size,
        dedicated_columns: dedicated,
        replication_factor: 1,
    };
    let index = serde_json::json!({ "rowGroups": last_ids }).to_string().into_bytes();
    Ok(Written { meta, blooms, index })
}

/// The dedicated columns that a version can hold.
fn columns(options: &WriteOptions) -> Vec<Dedicated> {
    let fits = |column: &&Dedicated| match options.version {
        Version::V5 => true,
        Version::V4 => {
            let fixed = ["service.name", "http.method", "http.url", "http.status_code"];
            column.kind == DedicatedType::String
                && column.scope != DedicatedScope::Event
                && column.options.is_empty()
                && !fixed.contains(&column.name.as_str())
                && !FIXED_RESOURCE.iter().any(|(_, name)| *name == column.name)
        }
    };
    options.dedicated.iter().filter(fits).cloned().collect()
}
