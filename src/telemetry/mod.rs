//! What the process tells about itself: log lines, and metrics under our names and those that
//! dashboards know.
//!
//! `main` starts the log and calls [`install`], the API shows [`render`], and whoever counts makes a
//! handle from one of the names here once and keeps it. Names are `metronome_<layer>_<what>_<unit>`;
//! a constant is named after its metric. Labels are closed sets, given here in parentheses: never a
//! span's name, service or id.

mod alias;
mod log;
mod process;
mod recorder;

pub use log::{Chain, start_json_log, start_logfmt_log};
pub use recorder::{InstallError, install, render, revision, upkeep};

/// A metric as `/metrics` describes it.
#[derive(Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub help: &'static str,
}

/// What a metric's value does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Rises by whole numbers: `metrics::counter!`.
    Counter,
    /// Rises by fractions: `metrics::gauge!`, since counters hold whole numbers. Shown as a
    /// counter.
    Seconds,
    /// Goes up and down: `metrics::gauge!`.
    Gauge,
    /// Counts values up to each bound: `metrics::histogram!`.
    Histogram(&'static [f64]),
}

/// Answers to requests. Tempo's ladder from 10 ms on, finer below.
const REQUESTS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.5, 5.0, 10.0, 25.0, 50.0,
    100.0,
];

/// Appends and syncs: a good disk syncs in 80 µs to 300 µs, a bad one in seconds.
const APPENDS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// Writing a block. Tempo's.
const FLUSHES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// Sizes of blocks, from 1 MiB. Tempo's.
const BLOCK_BYTES: &[f64] = &[
    1_048_576.0,
    2_097_152.0,
    4_194_304.0,
    8_388_608.0,
    16_777_216.0,
    33_554_432.0,
    67_108_864.0,
    134_217_728.0,
    268_435_456.0,
    536_870_912.0,
];

/// How far a span's time is from now. Tempo's.
const DISTANCES: &[f64] = &[300.0, 1800.0, 3600.0];

/// Things in a batch.
const BATCHES: &[f64] = &[1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0];

macro_rules! metrics {
    ($($kind:expr, $constant:ident, $name:literal, $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: &str = $name;)*

        /// All of them.
        pub const METRICS: &[Metric] =
            &[$(Metric { name: $name, kind: $kind, help: $help }),*];
    };
}

use Kind::{Counter, Gauge, Histogram, Seconds};

metrics! {
    // receive
    Counter, RECEIVE_SPANS_ACCEPTED_TOTAL, "metronome_receive_spans_accepted_total",
        "Spans that were acknowledged (receiver, transport).";
    Counter, RECEIVE_SPANS_REFUSED_TOTAL, "metronome_receive_spans_refused_total",
        "Spans that the client was told no for (receiver, transport).";
    Counter, RECEIVE_SPANS_FAILED_TOTAL, "metronome_receive_spans_failed_total",
        "Spans in payloads that could not be read (receiver, transport).";
    Counter, RECEIVE_REQUESTS_TOTAL, "metronome_receive_requests_total",
        "Requests that carried spans (receiver, outcome: success, refused or failure).";
    Counter, RECEIVE_BYTES_TOTAL, "metronome_receive_bytes_total",
        "Bytes of requests as they came over the wire (receiver).";
    Counter, RECEIVE_OTHER_ITEMS_TOTAL, "metronome_receive_other_items_total",
        "Requests with metrics, logs or profiles, answered and discarded (signal).";
    Gauge, RECEIVE_CONNECTIONS, "metronome_receive_connections",
        "Open connections of senders (receiver).";

    // ingest
    Counter, INGEST_SPANS_TOTAL, "metronome_ingest_spans_total",
        "Spans that entered the pipeline (tenant).";
    Counter, INGEST_BYTES_TOTAL, "metronome_ingest_bytes_total",
        "Bytes of protobuf that entered the pipeline (tenant).";
    Counter, INGEST_REQUEST_BYTES_TOTAL, "metronome_ingest_request_bytes_total",
        "Bytes of requests after decompression (tenant).";
    Counter, INGEST_SPANS_REFUSED_TOTAL, "metronome_ingest_spans_refused_total",
        "Spans that were refused before the acknowledgement (tenant, reason).";
    Counter, INGEST_ATTRIBUTES_TRUNCATED_TOTAL, "metronome_ingest_attributes_truncated_total",
        "Attribute keys and values that were cut to the limit (tenant, scope).";
    Counter, INGEST_RETRY_HINTS_TOTAL, "metronome_ingest_retry_hints_total",
        "Refusals that said when to try again (code).";
    Histogram(BATCHES), INGEST_TRACES_PER_BATCH, "metronome_ingest_traces_per_batch",
        "Traces in an accepted request.";
    Histogram(APPENDS), INGEST_APPEND_DURATION_SECONDS, "metronome_ingest_append_duration_seconds",
        "From a decoded request to its acknowledgement.";
    Gauge, INGEST_MEMORY_BYTES, "metronome_ingest_memory_bytes",
        "Accounted memory in use (part: ingest, heads, query or cache).";
    Gauge, INGEST_MEMORY_LIMIT_BYTES, "metronome_ingest_memory_limit_bytes",
        "Share of the memory limit (part: ingest, heads, query or cache).";
    Counter, INGEST_MEMORY_REFUSED_SPANS_TOTAL, "metronome_ingest_memory_refused_spans_total",
        "Spans that were refused for want of memory.";
    Counter, INGEST_MEMORY_ACCEPTED_SPANS_TOTAL, "metronome_ingest_memory_accepted_spans_total",
        "Spans that memory was found for.";
    Histogram(BATCHES), INGEST_BATCH_SPANS, "metronome_ingest_batch_spans",
        "Spans in one write of the log.";
    Counter, INGEST_BATCH_FLUSHES_TOTAL, "metronome_ingest_batch_flushes_total",
        "Writes of the log (trigger: size or timeout).";
    Gauge, INGEST_QUEUE_BATCHES, "metronome_ingest_queue_batches",
        "Requests that wait for the log.";
    Gauge, INGEST_QUEUE_CAPACITY_BATCHES, "metronome_ingest_queue_capacity_batches",
        "Requests that may wait for the log.";
    Counter, INGEST_SPANS_APPENDED_TOTAL, "metronome_ingest_spans_appended_total",
        "Spans that are durable in the log.";
    Counter, INGEST_APPEND_ERRORS_TOTAL, "metronome_ingest_append_errors_total",
        "Spans that the log failed to keep; their senders were told.";
    Histogram(DISTANCES), INGEST_SPAN_AGE_SECONDS, "metronome_ingest_span_age_seconds",
        "How far in the past a request's oldest span began (tenant).";
    Histogram(DISTANCES), INGEST_SPAN_LEAD_SECONDS, "metronome_ingest_span_lead_seconds",
        "How far in the future a request's newest span begins (tenant).";

    // wal
    Histogram(APPENDS), WAL_APPEND_DURATION_SECONDS, "metronome_wal_append_duration_seconds",
        "One write of the log, with its sync.";
    Histogram(APPENDS), WAL_SYNC_DURATION_SECONDS, "metronome_wal_sync_duration_seconds",
        "One sync of the log.";
    Gauge, WAL_BYTES, "metronome_wal_bytes",
        "Bytes in the log that are in no block yet.";
    Counter, WAL_ERRORS_TOTAL, "metronome_wal_errors_total",
        "Operations of the log that failed (op).";
    Counter, WAL_REPLAYED_TRACES_TOTAL, "metronome_wal_replayed_traces_total",
        "Traces that a start brought back from the log.";
    Counter, WAL_REPLAY_ERRORS_TOTAL, "metronome_wal_replay_errors_total",
        "Records that a start could not read (tenant).";

    // live
    Gauge, LIVE_TRACES, "metronome_live_traces",
        "Traces that still grow (tenant).";
    Gauge, LIVE_BYTES, "metronome_live_bytes",
        "Memory of traces that are in no block yet (tenant).";
    Counter, LIVE_TRACES_CREATED_TOTAL, "metronome_live_traces_created_total",
        "Traces that were begun (tenant).";
    Counter, LIVE_BLOCKS_CUT_TOTAL, "metronome_live_blocks_cut_total",
        "Sets of traces that were closed to become a block (reason).";

    // store
    Counter, STORE_BLOCKS_FLUSHED_TOTAL, "metronome_store_blocks_flushed_total",
        "Blocks that were written.";
    Counter, STORE_FLUSH_ERRORS_TOTAL, "metronome_store_flush_errors_total",
        "Blocks that could not be written; they are tried again.";
    Counter, STORE_FLUSH_RETRIES_TOTAL, "metronome_store_flush_retries_total",
        "Further tries to write a block.";
    Counter, STORE_FLUSH_RETRIES_FAILED_TOTAL, "metronome_store_flush_retries_failed_total",
        "Further tries to write a block that failed too.";
    Histogram(FLUSHES), STORE_FLUSH_DURATION_SECONDS, "metronome_store_flush_duration_seconds",
        "Writing one block.";
    Histogram(BLOCK_BYTES), STORE_FLUSH_BYTES, "metronome_store_flush_bytes",
        "Size of a written block.";
    Gauge, STORE_FLUSH_QUEUE_BLOCKS, "metronome_store_flush_queue_blocks",
        "Blocks that wait to be written.";
    Gauge, STORE_OLDEST_UNSHIPPED_SECONDS, "metronome_store_oldest_unshipped_seconds",
        "Age of the oldest acknowledged span that is not in the backend: the data at risk.";
    Gauge, STORE_BLOCKS, "metronome_store_blocks",
        "Blocks that queries see (tenant).";
    Gauge, STORE_BYTES, "metronome_store_bytes",
        "Bytes of blocks (tenant, status: live or compacted).";
    Gauge, STORE_DAMAGED_BLOCKS, "metronome_store_damaged_blocks",
        "Blocks that cannot be read and are left out (tenant).";
    Histogram(FLUSHES), STORE_RETENTION_DURATION_SECONDS,
        "metronome_store_retention_duration_seconds",
        "One sweep for blocks past their time.";
    Counter, STORE_RETENTION_MARKED_TOTAL, "metronome_store_retention_marked_total",
        "Blocks that were marked for deletion.";
    Counter, STORE_RETENTION_DELETED_TOTAL, "metronome_store_retention_deleted_total",
        "Blocks that were deleted.";
    Counter, STORE_RETENTION_ERRORS_TOTAL, "metronome_store_retention_errors_total",
        "Blocks that could not be marked or deleted; they are tried again.";

    // kv
    Gauge, KV_DISK_FREE_BYTES, "metronome_kv_disk_free_bytes",
        "Free space on the disk of storage.path.";
    Gauge, KV_DISK_TOTAL_BYTES, "metronome_kv_disk_total_bytes",
        "Size of the disk of storage.path.";
    Gauge, KV_SIZE_BYTES, "metronome_kv_size_bytes",
        "Bytes that a column family takes on disk (cf).";
    Seconds, KV_STALL_SECONDS_TOTAL, "metronome_kv_stall_seconds_total",
        "Time that writes were held up by the storage engine.";

    // query
    Counter, QUERY_QUERIES_TOTAL, "metronome_query_queries_total",
        "Queries (tenant, op: traces, search, metadata or metrics, result: completed or canceled).";
    Counter, QUERY_QUERIES_WITHIN_SLO_TOTAL, "metronome_query_queries_within_slo_total",
        "Queries that were answered well and fast enough (tenant, op, result).";
    Counter, QUERY_BYTES_INSPECTED_TOTAL, "metronome_query_bytes_inspected_total",
        "Bytes that queries read (tenant, op).";
    Counter, QUERY_BLOCKS_SCANNED_TOTAL, "metronome_query_blocks_scanned_total",
        "Blocks that queries looked into.";
    Counter, QUERY_BLOCKS_PRUNED_TOTAL, "metronome_query_blocks_pruned_total",
        "Blocks that queries could pass over.";
    Seconds, QUERY_CPU_SECONDS_TOTAL, "metronome_query_cpu_seconds_total",
        "CPU time of queries (op).";
    Histogram(REQUESTS), QUERY_QUEUE_DURATION_SECONDS, "metronome_query_queue_duration_seconds",
        "Time that a query waited for a worker.";

    // api
    Histogram(REQUESTS), API_REQUEST_DURATION_SECONDS, "metronome_api_request_duration_seconds",
        "Answers of the HTTP and gRPC ports (method, route, status_code, ws).";
    Gauge, API_REQUESTS_INFLIGHT, "metronome_api_requests_inflight",
        "Requests that are being answered (method, route).";

    // app, telemetry
    Gauge, APP_READY, "metronome_app_ready",
        "1 when queries see everything, else 0.";
    Gauge, BUILD_INFO, "metronome_build_info",
        "Always 1 (version, revision, rustversion, goos, goarch).";
    Counter, TELEMETRY_LOG_LINES_TOTAL, "metronome_telemetry_log_lines_total",
        "Log lines that were written (level).";
}
