//! Trace by id, over several tenants.

use crate::model::{TenantId, TimeRange, Trace, TraceId};

use super::{Query, QueryError};

/// A trace, put together from all its fragments.
#[derive(Debug)]
pub struct FoundTrace {
    pub trace: Trace,
    pub inspected_bytes: u64,
    /// Why something is missing, if so.
    pub partial: Option<String>,
}

/// Where a trace is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sources {
    All,
    Recent,
    Blocks,
}

impl Query {
    /// A trace by its id. The range only spares blocks that lie outside of it; the trace is not cut.
    ///
    /// # Errors
    /// When storage cannot answer.
    pub async fn find_trace(
        &self,
        tenants: &[TenantId],
        id: TraceId,
        range: Option<TimeRange>,
        sources: Sources,
    ) -> Result<Option<FoundTrace>, QueryError> {
        let (live, blocks) = (sources != Sources::Blocks, sources != Sources::Recent);
        let (mut found, mut inspected_bytes) = (None, 0_u64);
        for tenant in tenants {
            let Some(snapshot) = self.store.snapshot(tenant) else { continue };
            let (piece, bytes) = self.store.find(&snapshot, id, range, live, blocks).await?;
            inspected_bytes = inspected_bytes.saturating_add(bytes);
            found = match (found, piece) {
                (Some(trace), Some(piece)) => Some(Trace::merge(trace, piece)),
                (trace, piece) => trace.or(piece),
            };
        }
        Ok(found.map(|trace| FoundTrace { trace, inspected_bytes, partial: None }))
    }
}
