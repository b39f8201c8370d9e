//! A block that queries see: its meta, its footer once read, and reading from it.

use std::sync::{Arc, OnceLock};

use crate::backend::{BackendError, DATA, Local};
use crate::block::{BlockError, Find, FindStep, Layout, Meta, MetaError, Scan, Step, names};
use crate::columns::{ScanRequest, ScanStats, SpanBatch};
use crate::model::{BlockId, TenantId, TimeRange, Trace};
use crate::segment::Owner;

use super::lookups::Lookups;
use thiserror::Error;

/// Why a block cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    #[error(transparent)]
    Block(#[from] BlockError),
    #[error("block {block}: it cannot be read")]
    Io {
        block: BlockId,
        #[source]
        source: BackendError,
    },
    #[error("block {block}: meta.json is of no use")]
    Meta {
        block: BlockId,
        #[source]
        source: MetaError,
    },
}

/// A block of a tenant.
pub struct Block {
    pub id: BlockId,
    pub tenant: TenantId,
    pub meta: Arc<Meta>,
    pub range: TimeRange,
    backend: Local,
    layout: OnceLock<Arc<Layout>>,
}

impl Block {
    /// Opens a block whose `meta.json` was just read or written.
    pub fn new(backend: Local, tenant: TenantId, meta: Meta) -> Result<Block, MetaError> {
        let (start_nanos, end_nanos) = meta.range_nanos()?;
        let range = TimeRange { start_nanos, end_nanos };
        let id = meta.id()?;
        Ok(Block { id, tenant, range, backend, meta: Arc::new(meta), layout: OnceLock::new() })
    }

    fn read(&self, ranges: &[std::ops::Range<u64>]) -> Result<Vec<bytes::Bytes>, ReadError> {
        let read = self.backend.read_ranges(&self.tenant, self.id, DATA, ranges);
        read.map_err(|source| ReadError::Io { block: self.id, source })
    }

    /// A small file of the block.
    pub fn file(&self, name: &str) -> Result<bytes::Bytes, ReadError> {
        let read = self.backend.read(&self.tenant, self.id, name);
        read.map_err(|source| ReadError::Io { block: self.id, source })
    }

    /// The footer, read once.
    pub fn layout(&self) -> Result<Arc<Layout>, ReadError> {
        if let Some(layout) = self.layout.get() {
            return Ok(Arc::clone(layout));
        }
        let end = self.meta.size;
        let tail = self.read(std::slice::from_ref(&(end.saturating_sub(8)..end)))?;
        let range = Layout::footer_range(&self.meta, tail.first().map(|bytes| &bytes[..]))?;
        let footer = self.read(&[range])?.pop().unwrap_or_default();
        let layout = Arc::new(Layout::parse(&footer, &self.meta)?);
        Ok(Arc::clone(self.layout.get_or_init(|| layout)))
    }

    /// Scans the block. It does I/O: not for the threads that serve connections.
    pub fn scan(
        &self,
        request: &Arc<ScanRequest>,
        stats: &mut ScanStats,
        mut each: impl FnMut(&SpanBatch) -> bool,
    ) -> Result<(), ReadError> {
        let mut scan = Scan::new(Arc::clone(request), Arc::clone(&self.meta), self.layout()?);
        loop {
            match scan.step()? {
                Step::Need(ranges) => scan.feed(self.read(&ranges)?),
                Step::Batch(batch) if !each(&batch) => break,
                Step::Batch(_) => {}
                Step::Done => break,
            }
        }
        stats.inspected_bytes += scan.stats.inspected_bytes;
        stats.inspected_spans += scan.stats.inspected_spans;
        stats.inspected_traces += scan.stats.inspected_traces;
        Ok(())
    }

    /// The trace in a row, and the bytes that were read for it.
    pub fn find(&self, row: u64, lookups: &Lookups) -> Result<(Trace, u64), ReadError> {
        let mut is_new = true;
        let known = |group| {
            let known = lookups.get(self.id, group);
            is_new = known.is_none();
            known
        };
        let mut find = Find::new(Arc::clone(&self.meta), self.layout()?, row, known)?;
        let mut bytes = 0;
        loop {
            match find.step()? {
                FindStep::Need(ranges) => {
                    let read = self.read(&ranges)?;
                    bytes += read.iter().map(|bytes| bytes.len() as u64).sum::<u64>();
                    find.feed(read)?;
                    if is_new && let Some((group, index)) = find.index() {
                        lookups.put(self.id, group, index);
                        is_new = false;
                    }
                }
                FindStep::Found(trace) => return Ok((*trace, bytes)),
            }
        }
    }

    /// The trace ids of the block, in the order of its rows.
    pub fn ids(&self) -> Result<Vec<crate::model::TraceId>, ReadError> {
        let layout = self.layout()?;
        let ranges = names::id_ranges(&layout, &self.meta)?;
        Ok(names::ids(&layout, &self.meta, &self.read(&ranges)?)?)
    }

    /// The names of the attributes that occur, and the bytes that were read for them.
    pub fn tag_names(&self) -> Result<(Vec<(Owner, String)>, u64), ReadError> {
        let layout = self.layout()?;
        let ranges = names::key_ranges(&layout, &self.meta)?;
        let read = self.read(&ranges)?;
        let bytes = read.iter().map(|bytes| bytes.len() as u64).sum();
        Ok((names::names(&layout, &self.meta, &read)?, bytes))
    }
}
