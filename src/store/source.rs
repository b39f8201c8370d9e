//! What a query sees of a tenant, and reading from it.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};

use thiserror::Error;

use crate::columns::{ScanRequest, ScanStats, SpanBatch};
use crate::kv::KvError;
use crate::model::{TenantId, TimeRange, Trace, TraceId};
use crate::segment::Owner;

use super::block::{Block, ReadError};
use super::head::Live;
use super::{Inner, Store, index};

/// Everything that a tenant had at one moment: live segments first, then blocks, the newest first.
#[derive(Clone)]
pub struct Snapshot {
    tenant: TenantId,
    pub sources: Vec<Source>,
}

/// Where spans lie.
#[derive(Clone)]
pub enum Source {
    Live(LiveSource),
    Block(Arc<Block>),
}

/// A live segment.
#[derive(Clone)]
pub struct LiveSource(Live);

/// Why a source gave no answer. A damaged block is not among the reasons: it is named in the log and left out.
#[derive(Debug, Error)]
pub enum ScanError {
    #[error("the log is being replayed")]
    Starting,
    #[error(transparent)]
    Index(#[from] KvError),
}

impl Source {
    pub fn is_live(&self) -> bool {
        matches!(self, Source::Live(_))
    }

    /// Whether it may hold traces in a range.
    pub fn overlaps(&self, range: &TimeRange) -> bool {
        match self {
            Source::Live(_) => true,
            Source::Block(block) => range.overlaps(block.range.start_nanos, block.range.end_nanos),
        }
    }

    /// No trace in it starts later.
    pub fn newest_nanos(&self) -> u64 {
        match self {
            Source::Live(_) => u64::MAX,
            Source::Block(block) => block.range.end_nanos,
        }
    }

    pub fn bytes(&self) -> u64 {
        match self {
            Source::Live(live) => live.read(|segment| segment.memory() as u64),
            Source::Block(block) => block.meta.size,
        }
    }

    /// Reads the source here and now.
    fn scan(
        &self,
        request: &Arc<ScanRequest>,
        stats: &mut ScanStats,
        each: &mut dyn FnMut(&SpanBatch),
    ) -> Result<(), ReadError> {
        match self {
            Source::Live(live) => {
                let batch =
                    live.read(|segment| segment.scan(request, live.0.only.as_deref(), stats));
                if batch.traces() > 0 {
                    each(&batch);
                }
                Ok(())
            }
            Source::Block(block) => block.scan(request, stats, |batch| {
                each(batch);
                true
            }),
        }
    }

    fn tag_names(&self) -> Result<(Vec<(Owner, String)>, u64), ReadError> {
        match self {
            Source::Live(live) => Ok(live.read(|segment| {
                let mut names = vec![(Owner::Resource, "service.name".to_owned())];
                for owner in [Owner::Span, Owner::Event, Owner::Link, Owner::Resource, Owner::Scope]
                {
                    segment.tag_names(owner, &mut |name| {
                        names.push((owner, name.to_owned()));
                        true
                    });
                }
                (names, segment.keys.memory() as u64)
            })),
            Source::Block(block) => block.tag_names(),
        }
    }
}

impl LiveSource {
    fn read<T>(&self, of: impl FnOnce(&crate::segment::Segment) -> T) -> T {
        of(&self.0.segment.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Store {
    /// What a tenant has at this moment; nothing if the tenant is unknown.
    pub fn snapshot(&self, tenant: &TenantId) -> Option<Snapshot> {
        let found = self.inner.find_tenant(tenant)?;
        let sources = found.read(|parts| {
            let active = Live { segment: Arc::clone(&parts.active), only: None };
            let sealed = parts.sealed.as_ref().map(|sealed| sealed.live.clone());
            let live = [Some(active), sealed].into_iter().flatten();
            let live = live.map(|live| Source::Live(LiveSource(live)));
            live.chain(parts.blocks.iter().cloned().map(Source::Block)).collect()
        });
        Some(Snapshot { tenant: tenant.clone(), sources })
    }

    /// Scans a source on the pool for queries; `each` turns every batch into what the caller needs of it.
    ///
    /// # Errors
    /// While the log is replayed.
    pub async fn scan<T: Send + 'static>(
        &self,
        source: &Source,
        request: Arc<ScanRequest>,
        each: Arc<dyn Fn(&SpanBatch) -> T + Send + std::marker::Sync>,
    ) -> Result<(Vec<T>, ScanStats), ScanError> {
        self.check_ready()?;
        let source = source.clone();
        let job = move || {
            let (mut stats, mut found) = (ScanStats::default(), Vec::new());
            let scanned = guarded(&source, || {
                source.scan(&request, &mut stats, &mut |batch| found.push(each(batch)))
            });
            (if scanned.is_some() { found } else { Vec::new() }, stats)
        };
        Ok(self.cpu.run(job).await)
    }

    /// A trace from all sources of a snapshot, put together from its fragments, and the bytes read.
    ///
    /// # Errors
    /// While the log is replayed, or when the index cannot be read.
    pub async fn find(
        &self,
        snapshot: &Snapshot,
        id: TraceId,
        range: Option<TimeRange>,
        live: bool,
        blocks: bool,
    ) -> Result<(Option<Trace>, u64), ScanError> {
        self.check_ready()?;
        let (snapshot, inner) = (snapshot.clone(), Arc::clone(&self.inner));
        self.cpu.run(move || find(&inner, &snapshot, &id, range, live, blocks)).await
    }

    /// The attribute names of a source with those who have them, and the bytes read.
    ///
    /// # Errors
    /// While the log is replayed.
    pub async fn tag_names(
        &self,
        source: &Source,
    ) -> Result<(Vec<(Owner, String)>, u64), ScanError> {
        self.check_ready()?;
        let source = source.clone();
        let job = move || guarded(&source, || source.tag_names()).unwrap_or_default();
        Ok(self.cpu.run(job).await)
    }

    fn check_ready(&self) -> Result<(), ScanError> {
        if self.is_ready() { Ok(()) } else { Err(ScanError::Starting) }
    }
}

fn find(
    inner: &Inner,
    snapshot: &Snapshot,
    id: &TraceId,
    range: Option<TimeRange>,
    live: bool,
    blocks: bool,
) -> Result<(Option<Trace>, u64), ScanError> {
    let mut fragments = Vec::new();
    let mut bytes = 0;
    let mut known = HashMap::new();
    for source in &snapshot.sources {
        match source {
            Source::Live(of) if live => fragments.extend(of.read(|segment| segment.trace(id))),
            Source::Block(block) if blocks => drop(known.insert(block.id, (source, block))),
            Source::Live(_) | Source::Block(_) => {}
        }
    }
    if blocks {
        for (block, row) in index::find(&inner.kv, &snapshot.tenant, id)? {
            // An entry of a block that is gone is of no harm: it is not among the snapshot's.
            let Some((source, block)) = known.get(&block) else { continue };
            if range.is_some_and(|range| !source.overlaps(&range)) {
                continue;
            }
            if let Some((trace, read)) = guarded(source, || block.find(row, &inner.lookups)) {
                bytes += read;
                fragments.push(trace);
            }
        }
    }
    Ok((fragments.into_iter().reduce(Trace::merge), bytes))
}

/// Reads from a source. Damage is logged and costs only that source.
fn guarded<T>(source: &Source, read: impl FnOnce() -> Result<T, ReadError>) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(value)) => Some(value),
        Ok(Err(error)) => {
            tracing::error!(
                err = &error as &dyn std::error::Error,
                "a block cannot be read; it is left out of the answer"
            );
            None
        }
        Err(_) => {
            let block = match source {
                Source::Live(_) => "none".to_owned(),
                Source::Block(block) => block.id.to_string(),
            };
            tracing::error!(
                block,
                "reading failed in an unforeseen way; the source is left out of the answer"
            );
            None
        }
    }
}
