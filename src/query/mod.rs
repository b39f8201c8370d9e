//! Queries: from the text of a query to its answer, over live data and blocks alike.
//!
//! A search is a plan (what storage decides), a pipeline (what is left to decide, trace by trace) and a collector (what to
//! answer). `exec` alone touches storage; all else computes on batches.

mod aggregate;
mod exec;
mod expr;
mod find;
mod pipeline;
mod plan;
mod relate;
mod search;
mod tags;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use thiserror::Error;

use crate::config;
use crate::store::Store;

pub use find::{FoundTrace, Sources};
pub use search::{
    SearchQuery, SearchRequest, SearchResult, SearchStats, ServiceStats, SpanHit, Spanset, TraceHit,
};
pub use tags::{ScopeTags, TagAnswer, TagScope, TagValue, TagValuesRequest, TagsRequest};

/// Answers queries from a store. Cheap to clone.
#[derive(Clone)]
pub struct Query {
    store: Arc<Store>,
    limits: Arc<config::Query>,
}

/// Why a query has no answer.
#[derive(Debug, Error)]
pub enum QueryError {
    /// The query is at fault: a text for the user.
    #[error("{0}")]
    Bad(String),
    #[error("{0}")]
    TooLarge(String),
    #[error("metronome is starting")]
    Starting,
    #[error("context canceled")]
    Cancelled,
    #[error("{0}")]
    Internal(String),
}

impl Query {
    pub fn new(store: Arc<Store>, limits: config::Query) -> Query {
        Query { store, limits: Arc::new(limits) }
    }
}
