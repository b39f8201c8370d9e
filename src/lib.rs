//! metronome: a tracing store in one process.
//!
//! Spans come in through `receive`, are checked and limited by `ingest`, and kept by `store`: first in the log (`wal`) and
//! in interned columns (`segment`), later in blocks of Tempo's Parquet format (`block`). Queries come in through `api`, are
//! planned and run by `query`, and see live segments and blocks alike as batches of columns (`columns`).
//! ARCHITECTURE.md has the picture, the layers and their invariants.

pub mod config;
pub mod model;
pub mod telemetry;

pub mod columns;
pub mod cpu;
pub mod kv;
pub mod otlp;
pub mod traceql;

pub mod backend;
pub mod block;
pub mod segment;
pub mod store;
pub mod wal;

pub mod api;
pub mod ingest;
pub mod load;
pub mod query;
pub mod receive;

pub mod app;
pub mod cli;
