//! Reads back what was acknowledged, trace by trace, and compares span ids.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::load::LoadError;
use crate::load::acks::Acks;
use crate::load::client::{Broken, Connection, Endpoint};
use crate::load::report::Verified;
use crate::load::traffic::Traffic;
use crate::model::{SpanId, TraceId};
use crate::otlp::wire::{Field, Reader, WireError};

/// Keep-alive connections that read side by side.
const CONNECTIONS: usize = 4;

/// How long one trace may take.
const TIMEOUT: Duration = Duration::from_secs(30);

const WAIT: Duration = Duration::from_millis(100);

/// The way from a `TraceByIDResponse` down to the spans: trace, resource spans, scope spans, spans.
const PATH_TO_SPANS: &[u32] = &[1, 1, 2, 2];

/// `Span.span_id`.
const SPAN_ID: u32 = 2;

/// What is to be read back, and where.
#[derive(Debug)]
pub struct Check {
    pub query: Endpoint,
    pub tenant: Option<String>,
    pub acks: Acks,
    /// How long a server that is away or busy is waited for.
    pub retry_for: Duration,
}

struct Reading {
    check: Arc<Check>,
    next: Arc<AtomicUsize>,
    traffic: Traffic,
    connection: Option<Connection>,
}

/// Reads back every acknowledged trace.
///
/// # Errors
/// When the query API cannot be reached or answers with anything but a trace or that there is none.
pub async fn run(check: Check) -> Result<Verified, LoadError> {
    let started = Instant::now();
    let check = Arc::new(check);
    let next = Arc::new(AtomicUsize::new(0));
    let mut running = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let mut reading = Reading {
            check: Arc::clone(&check),
            next: Arc::clone(&next),
            traffic: Traffic::new(check.acks.seed),
            connection: None,
        };
        running.spawn(async move { reading.run().await });
    }
    let mut verified = Verified::default();
    while let Some(ended) = running.join_next().await {
        verified.add(&ended.map_err(LoadError::Sender)??);
    }
    verified.seconds = started.elapsed().as_secs_f64();
    Ok(verified)
}

impl Reading {
    async fn run(&mut self) -> Result<Verified, LoadError> {
        let check = Arc::clone(&self.check);
        let mut verified = Verified::default();
        while let Some(batch) = check.acks.batches.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let first = batch.number * check.acks.traces_per_batch;
            for number in first..first + batch.traces {
                let id = self.traffic.trace_id(number);
                let found = self.read(id).await?;
                verified.compare(&self.traffic.span_ids(number), &found);
            }
        }
        Ok(verified)
    }

    /// The ids of all spans of a trace, none if it is not there.
    async fn read(&mut self, id: TraceId) -> Result<Vec<SpanId>, LoadError> {
        let first = Instant::now();
        loop {
            let reason = match self.get(id).await {
                Ok((StatusCode::OK, body)) => {
                    return span_ids(&body).map_err(|source| LoadError::Trace { id, source });
                }
                Ok((StatusCode::NOT_FOUND, _)) => return Ok(Vec::new()),
                Ok((status, body)) => {
                    let text: String = String::from_utf8_lossy(&body).chars().take(300).collect();
                    let reason = format!("http status {}: {}", status.as_u16(), text.trim_end());
                    if !matches!(status.as_u16(), 429 | 502 | 503 | 504) {
                        return Err(LoadError::Query { id, reason });
                    }
                    reason
                }
                Err(Broken(reason)) => {
                    self.connection = None;
                    reason
                }
            };
            if first.elapsed() > self.check.retry_for {
                return Err(LoadError::Query { id, reason });
            }
            sleep(WAIT).await;
        }
    }

    async fn get(&mut self, id: TraceId) -> Result<(StatusCode, Bytes), Broken> {
        let Reading { check, connection, .. } = self;
        let answer = timeout(TIMEOUT, async {
            let connection = match connection {
                Some(open) => open,
                None => connection.insert(Connection::open_http1(&check.query).await?),
            };
            let path = format!("/api/v2/traces/{id}");
            connection.get(&check.query, &path, check.tenant.as_deref()).await
        });
        let late = |_| Err(Broken(format!("no answer within {} s", TIMEOUT.as_secs())));
        answer.await.unwrap_or_else(late)
    }
}

impl Verified {
    /// Counts one trace: what was sent against what was found.
    fn compare(&mut self, sent: &[SpanId], found: &[SpanId]) {
        let distinct: HashSet<SpanId> = found.iter().copied().collect();
        let lost = sent.iter().filter(|id| !distinct.contains(id)).count();
        if lost == 0 {
            self.found_traces += 1;
        } else if found.is_empty() {
            self.lost_traces += 1;
        } else {
            self.incomplete_traces += 1;
        }
        self.lost_spans += lost as u64;
        self.repeated_spans += (found.len() - distinct.len()) as u64;
    }
}

/// The span ids in a `TraceByIDResponse`, as often as they stand there.
fn span_ids(response: &[u8]) -> Result<Vec<SpanId>, WireError> {
    let mut ids = Vec::new();
    collect(response, PATH_TO_SPANS, &mut ids)?;
    Ok(ids)
}

/// Follows a path of field numbers into sub-messages, and takes the span ids at its end.
fn collect(message: &[u8], path: &[u32], ids: &mut Vec<SpanId>) -> Result<(), WireError> {
    let mut reader = Reader::new(message);
    while let Some((field, value)) = reader.next()? {
        let Field::Bytes(bytes) = value else { continue };
        match path.split_first() {
            Some((next, rest)) if *next == field => collect(bytes, rest, ids)?,
            None if field == SPAN_ID => ids.extend(bytes.try_into().map(SpanId).ok()),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::otlp::wire::put_message;

    use super::*;

    #[test]
    fn finds_the_spans_of_a_request_in_an_answer() {
        let mut traffic = Traffic::new(1);
        let trace = traffic.request(5, 1, 0);
        let mut response = Vec::new();
        put_message(&mut response, 1, |out| out.extend_from_slice(&trace));
        put_message(&mut response, 2, |_| {});
        let mut found = span_ids(&response).unwrap();
        let mut sent = traffic.span_ids(5);
        found.sort_unstable();
        sent.sort_unstable();
        assert_eq!(found, sent);
        assert_eq!(span_ids(&[0x0a, 0, 0x12, 0]).unwrap(), []);
        assert!(span_ids(&response[..response.len() / 2]).is_err());
    }

    #[test]
    fn counts_what_is_missing_and_what_is_there_twice() {
        let ids = [1, 2, 3].map(|id| SpanId([id; 8]));
        let mut verified = Verified::default();
        verified.compare(&ids, &ids);
        verified.compare(&ids, &[ids[0], ids[0]]);
        verified.compare(&ids, &[]);
        let Verified { found_traces, incomplete_traces, lost_traces, .. } = verified;
        assert_eq!((found_traces, incomplete_traces, lost_traces), (1, 1, 1));
        assert_eq!((verified.lost_spans, verified.repeated_spans), (5, 1));
    }
}
