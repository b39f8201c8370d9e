//! From a request's bytes to its acknowledgement: memory, decoding, checking, appending.
//!
//! Behind `receive`, which knows the protocols, and in front of `store`, which makes spans durable.
//! All that can be wrong with a request is found here, before it is appended, so that an answer of
//! OK is final. What is done to spans on their way (processors) has its place between [`decode`]
//! and the append, and costs nothing where nothing is configured.

mod limit;

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use bytes::Bytes;
use metrics::{Counter, Histogram, counter, histogram};
use thiserror::Error;

pub use limit::{Full, Limit, Permit};

use crate::model::TenantId;
use crate::otlp::{
    Checked, Reason, Refusals, Warnings, check, json,
    refusal::{count_spans, describe},
};
use crate::store::{AppendError, Store};
use crate::telemetry::{
    INGEST_APPEND_DURATION_SECONDS, INGEST_BYTES_TOTAL, INGEST_MEMORY_ACCEPTED_SPANS_TOTAL,
    INGEST_REQUEST_BYTES_TOTAL, INGEST_SPANS_REFUSED_TOTAL, INGEST_SPANS_TOTAL,
};

/// Tenants that one process takes; more would be a sender that makes up names.
const MAX_TENANTS: usize = 1000;

/// When to try again after the disk was full or the log could not be written: that takes an
/// operator.
const DISK_RETRY: Duration = Duration::from_secs(5);

/// When to try again with a process that is coming or going.
pub const RESTART_RETRY: Duration = Duration::from_secs(1);

const IS_JSON: &str = "body is JSON, but was sent as protobuf: send content-type application/json";

/// An OTLP trace request, after decompression.
#[derive(Debug, Clone)]
pub enum Payload {
    Protobuf(Bytes),
    Json(Bytes),
}

/// What became of a request of which at least one span, or nothing, was there to keep.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Spans that are durable now.
    pub spans: u64,
    /// Spans that the sender has to be told of.
    pub refused: u64,
    /// What to tell it; empty if there is nothing to say.
    pub message: String,
}

/// Why nothing of a request was kept. Each variant is another answer to the sender.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    #[error("{0}")]
    Undecodable(String),
    #[error("{0}")]
    AllInvalid(String),
    #[error(
        "request of {size} bytes is over the limit of {limit} bytes; \
         send smaller batches or raise {key}"
    )]
    TooLarge { size: u64, limit: u64, key: &'static str },
    #[error("no memory for this request now; try again")]
    Overloaded { retry: Duration },
    #[error("disk is almost full; free space on the volume of storage.path")]
    DiskFull { retry: Duration },
    #[error("spans could not be written: {why}")]
    Failed { why: String, retry: Duration },
    #[error("server is stopping; try again")]
    Stopping { retry: Duration },
    #[error("tenant {0} is one too many; this server takes {MAX_TENANTS}")]
    TooManyTenants(TenantId),
}

/// A request that was refused as a whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// Spans in it, as far as it could be read.
    pub spans: u64,
    pub refusal: Refusal,
}

/// The pipeline. One for the process; receivers share it.
pub struct Ingest {
    store: Arc<Store>,
    memory: Arc<Limit>,
    tenants: RwLock<HashMap<TenantId, Arc<TenantCounters>>>,
    append_seconds: Histogram,
    memory_accepted: Counter,
}

/// Handles of the metrics that have a tenant.
struct TenantCounters {
    spans: Counter,
    bytes: Counter,
    request_bytes: Counter,
    invalid: [(Reason, Counter); Reason::ALL.len()],
    memory_limited: Counter,
    disk_full: Counter,
    unknown_error: Counter,
}

/// A request in protobuf that keeps the promises of [`crate::otlp::check()`].
#[derive(Debug)]
struct Decoded {
    request: Bytes,
    spans: u64,
    refused: Refusals,
    warnings: Warnings,
}

impl Ingest {
    /// `memory_bytes` is what all requests may hold together that are not yet durable.
    #[must_use]
    pub fn new(store: Arc<Store>, memory_bytes: u64) -> Ingest {
        Ingest {
            store,
            memory: Limit::new(memory_bytes),
            tenants: RwLock::default(),
            append_seconds: histogram!(INGEST_APPEND_DURATION_SECONDS),
            memory_accepted: counter!(INGEST_MEMORY_ACCEPTED_SPANS_TOTAL),
        }
    }

    /// The memory of requests, for who reports it.
    #[must_use]
    pub fn memory(&self) -> &Limit {
        &self.memory
    }

    /// Takes memory for a request before its body is read.
    ///
    /// # Errors
    /// [`Refusal::Overloaded`] when there was none within a short wait.
    pub async fn permit(&self, bytes: u64) -> Result<Permit, Refusal> {
        Ok(self.memory.permit(bytes).await?)
    }

    /// Takes a request: `Ok` means that the spans counted there are durable and found by queries.
    ///
    /// # Errors
    /// When no span was kept, and the sender has to know whether to send them again.
    pub async fn push(
        &self,
        tenant: &TenantId,
        payload: Payload,
        mut permit: Permit,
    ) -> Result<Accepted, Refused> {
        let request_bytes = payload.bytes().len() as u64;
        let decoded = decode(payload)?;
        let Some(counters) = self.counters(tenant) else {
            let refusal = Refusal::TooManyTenants(tenant.clone());
            return Err(Refused { spans: decoded.total(), refusal });
        };
        permit.shrink_to(decoded.request.len() as u64);
        counters.enter(request_bytes, &decoded);
        self.append(tenant, decoded, &counters).await
    }

    async fn append(
        &self,
        tenant: &TenantId,
        decoded: Decoded,
        counters: &TenantCounters,
    ) -> Result<Accepted, Refused> {
        let message = describe(decoded.total(), &decoded.refused, &decoded.warnings);
        let (spans, refused) = (decoded.spans, decoded.refused.spans());
        if spans == 0 && refused > 0 {
            return Err(Refused { spans: refused, refusal: Refusal::AllInvalid(message) });
        }
        if spans > 0 {
            let started = Instant::now();
            if let Err(error) = self.store.append(tenant, decoded.request, spans).await {
                counters.refused_by(&error).increment(spans);
                let refusal = self.refusal(error);
                return Err(Refused { spans: spans + refused, refusal });
            }
            self.append_seconds.record(started.elapsed());
            self.memory_accepted.increment(spans);
        }
        Ok(Accepted { spans, refused, message })
    }

    fn refusal(&self, error: AppendError) -> Refusal {
        match error {
            AppendError::Stopping => Refusal::Stopping { retry: RESTART_RETRY },
            AppendError::DiskFull { .. } => Refusal::DiskFull { retry: DISK_RETRY },
            AppendError::Failed(why) => Refusal::Failed { why, retry: DISK_RETRY },
            AppendError::Behind => Refusal::Overloaded { retry: self.memory.hint() },
        }
    }

    /// The tenant's counters, new ones if it is new; `None` if there are too many tenants.
    fn counters(&self, tenant: &TenantId) -> Option<Arc<TenantCounters>> {
        if let Some(known) = self.tenants.read().unwrap_or_else(PoisonError::into_inner).get(tenant)
        {
            return Some(Arc::clone(known));
        }
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        if tenants.len() >= MAX_TENANTS && !tenants.contains_key(tenant) {
            return None;
        }
        let new = || Arc::new(TenantCounters::new(tenant));
        Some(Arc::clone(tenants.entry(tenant.clone()).or_insert_with(new)))
    }
}

impl TenantCounters {
    fn new(tenant: &TenantId) -> TenantCounters {
        let tenant = || tenant.as_str().to_owned();
        let refused =
            |reason| counter!(INGEST_SPANS_REFUSED_TOTAL, "tenant" => tenant(), "reason" => reason);
        TenantCounters {
            spans: counter!(INGEST_SPANS_TOTAL, "tenant" => tenant()),
            bytes: counter!(INGEST_BYTES_TOTAL, "tenant" => tenant()),
            request_bytes: counter!(INGEST_REQUEST_BYTES_TOTAL, "tenant" => tenant()),
            invalid: Reason::ALL.map(|reason| (reason, refused(reason.label()))),
            memory_limited: refused("memory_limited"),
            disk_full: refused("disk_full"),
            unknown_error: refused("unknown_error"),
        }
    }

    /// Counts what enters the pipeline, and what of it goes no further.
    fn enter(&self, request_bytes: u64, decoded: &Decoded) {
        self.spans.increment(decoded.total());
        self.bytes.increment(decoded.request.len() as u64);
        self.request_bytes.increment(request_bytes);
        for (reason, spans) in decoded.refused.counts() {
            let counter = self.invalid.iter().find(|(known, _)| *known == reason);
            counter.into_iter().for_each(|(_, counter)| counter.increment(spans));
        }
    }

    fn refused_by(&self, error: &AppendError) -> &Counter {
        match error {
            AppendError::Behind => &self.memory_limited,
            AppendError::DiskFull { .. } => &self.disk_full,
            AppendError::Stopping | AppendError::Failed(_) => &self.unknown_error,
        }
    }
}

impl Payload {
    fn bytes(&self) -> &Bytes {
        match self {
            Payload::Protobuf(bytes) | Payload::Json(bytes) => bytes,
        }
    }
}

impl Decoded {
    fn total(&self) -> u64 {
        self.spans + self.refused.spans()
    }
}

/// Reads and checks a request: the work of the pipeline that computes and does not wait.
fn decode(payload: Payload) -> Result<Decoded, Refused> {
    let (request, refused, warnings) = match payload {
        Payload::Protobuf(bytes) => (bytes, Refusals::default(), Warnings::default()),
        Payload::Json(body) => match json::decode(&body) {
            Ok(converted) => (converted.request.into(), converted.refused, converted.warnings),
            Err(error) => return Err(undecodable(0, error.to_string())),
        },
    };
    match check(&request) {
        // JSON can pass for unknown fields.
        Ok(Checked::Clean { spans: 0 }) if looks_like_json(&request) => {
            Err(undecodable(0, IS_JSON.to_owned()))
        }
        Ok(Checked::Clean { spans }) => Ok(Decoded { request, spans, refused, warnings }),
        Ok(Checked::Repaired { request, spans, refused: more, warnings: others }) => Ok(Decoded {
            request: request.into(),
            spans,
            refused: refused.merge(more),
            warnings: warnings.merge(others),
        }),
        Err(_) if looks_like_json(&request) => Err(undecodable(0, IS_JSON.to_owned())),
        Err(error) => Err(undecodable(count_spans(&request), format!("{error}: {}", error.0))),
    }
}

fn looks_like_json(request: &[u8]) -> bool {
    request.trim_ascii_start().starts_with(b"{")
}

fn undecodable(spans: u64, why: String) -> Refused {
    Refused { spans, refusal: Refusal::Undecodable(why) }
}

impl From<Full> for Refusal {
    fn from(full: Full) -> Refusal {
        Refusal::Overloaded { retry: full.retry }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        r#"{"traceId":"01020304050607080102030405060708","spanId":"0102030405060708"}"#;

    fn json(spans: &[&str]) -> Payload {
        let spans = spans.join(",");
        let body = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{spans}]}}]}}]}}"#);
        Payload::Json(body.into())
    }

    #[test]
    fn one_bad_span_of_ten_costs_one_span() {
        let mut spans = vec![GOOD; 9];
        spans.push(r#"{"traceId":"01020304050607080102030405060708","spanId":"","name":"GET /"}"#);
        let decoded = decode(json(&spans)).unwrap();
        assert_eq!((decoded.spans, decoded.refused.spans(), decoded.total()), (9, 1, 10));
        let again = decode(Payload::Protobuf(decoded.request.clone())).unwrap();
        assert_eq!((again.spans, again.total()), (9, 9));
        assert_eq!(again.request, decoded.request);
        assert_eq!(
            describe(decoded.total(), &decoded.refused, &decoded.warnings),
            "refused 1 of 10 spans: 1 invalid_span_id (empty; e.g. trace 0102…0708 name \"GET /\")"
        );
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let cases = [
            (Payload::Json("[]".into()), "JSON is wrong at line 1, column 1: expected an object"),
            (Payload::Protobuf(r#" {"resourceSpans":[]}"#.into()), IS_JSON),
            (
                Payload::Protobuf(vec![0x0a, 9].into()),
                "body is no OTLP ExportTraceServiceRequest: a message ends inside a field",
            ),
        ];
        for (payload, why) in cases {
            let Err(Refused { spans: 0, refusal: Refusal::Undecodable(text) }) = decode(payload)
            else {
                panic!("{why}")
            };
            assert_eq!(text, why);
        }
        assert_eq!(decode(Payload::Protobuf(Bytes::new())).unwrap().total(), 0);
        assert_eq!(decode(Payload::Json("{}".into())).unwrap().total(), 0);
    }
}
