//! Senders: each makes batches, exports them over a connection of its own, and tries again until it is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::load::LoadError;
use crate::load::acks::{AckFile, Batch};
use crate::load::client::{Answer, Broken, Connection, Export};
use crate::load::report::Tally;
use crate::load::traffic::{SPANS_PER_TRACE, Traffic};

/// The wait before the second attempt; doubled for each further one.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// How old the spans are when they are sent: longer than nearly all traces take.
const AGE_NANOS: u64 = 3_000_000_000;

/// What is to be sent, and how.
#[derive(Debug)]
pub struct Job {
    pub export: Export,
    pub seed: u64,
    pub traces_per_batch: u64,
    pub first_batch: u64,
    /// `None`: as many as fit in the time.
    pub traces: Option<u64>,
    /// Spans per second of all senders; 0 is as fast as can be.
    pub rate: u64,
    /// No batch is begun after this.
    pub end: Option<Instant>,
    pub started: Instant,
    /// The time of day at `started`.
    pub started_nanos: u64,
    /// How long one batch is tried.
    pub retry_for: Duration,
    /// How long one attempt may take.
    pub timeout: Duration,
    pub acks: Option<AckFile>,
    pub progress: Progress,
}

/// Counts to look at while the senders run.
#[derive(Debug, Default)]
pub struct Progress {
    /// Batches that a sender has begun.
    begun: AtomicU64,
    pub acknowledged_spans: AtomicU64,
    pub refused_spans: AtomicU64,
    pub retried_requests: AtomicU64,
}

/// How the attempts to deliver a batch ended.
enum Outcome {
    Accepted {
        refused: u64,
        message: String,
    },
    Refused {
        reason: String,
    },
    /// The server was away, or busy, for too long.
    GaveUp {
        reason: String,
    },
}

struct Sender {
    job: Arc<Job>,
    traffic: Traffic,
    connection: Option<Connection>,
    tally: Tally,
}

/// Runs the senders until all is sent, the time is over, a server stays away for too long, or `stop` is set.
///
/// # Errors
/// When a sender cannot go on for a reason of its own, such as a full disk under the ack file.
pub async fn run(
    job: &Arc<Job>,
    senders: usize,
    stop: &watch::Sender<bool>,
) -> Result<Tally, LoadError> {
    let mut running = JoinSet::new();
    for _ in 0..senders.max(1) {
        let traffic = Traffic::new(job.seed);
        let job = Arc::clone(job);
        let mut sender = Sender { job, traffic, connection: None, tally: Tally::default() };
        let stop = stop.clone();
        running.spawn(async move {
            let mut stopped = stop.subscribe();
            tokio::select! {
                // Both may be dropped anywhere: an export in flight then counts as unanswered.
                ended = sender.run() => {
                    if !matches!(ended, Ok(Ended::AllSent)) {
                        stop.send_replace(true);
                    }
                    ended.map(|_| sender.tally)
                }
                _ = stopped.wait_for(|stop| *stop) => Ok(sender.tally),
            }
        });
    }
    let mut tally = Tally::default();
    while let Some(ended) = running.join_next().await {
        tally.add(ended.map_err(LoadError::Sender)??);
    }
    let answered = tally.acknowledged_spans + tally.refused_spans;
    tally.unanswered_spans = tally.sent_spans.saturating_sub(answered);
    Ok(tally)
}

/// Why a sender ended.
enum Ended {
    AllSent,
    GaveUp,
}

impl Sender {
    async fn run(&mut self) -> Result<Ended, LoadError> {
        while let Some((batch, due)) = self.job.begin() {
            sleep_until(due).await;
            let mut message = vec![0; Export::prefix_bytes()];
            let first_trace = batch.number * self.job.traces_per_batch;
            let base_nanos = self.job.now_nanos().saturating_sub(AGE_NANOS);
            let traffic = &mut self.traffic;
            let spans = traffic.write_request(&mut message, first_trace, batch.traces, base_nanos);
            let otlp_bytes = (message.len() - Export::prefix_bytes()) as u64;
            let body = self.job.export.body(message)?;
            self.tally.sent_spans += spans;
            match self.deliver(&body).await {
                Outcome::Accepted { refused: 0, .. } => {
                    self.acknowledge(batch, spans)?;
                    self.tally.otlp_bytes += otlp_bytes;
                    self.tally.body_bytes += body.len() as u64;
                }
                Outcome::Accepted { refused, message } => {
                    self.tally.acknowledged_spans += spans.saturating_sub(refused);
                    self.refuse(refused, message);
                }
                Outcome::Refused { reason } => self.refuse(spans, reason),
                Outcome::GaveUp { reason } => {
                    self.tally.first_fault.get_or_insert(reason);
                    return Ok(Ended::GaveUp);
                }
            }
        }
        Ok(Ended::AllSent)
    }

    fn acknowledge(&mut self, batch: Batch, spans: u64) -> Result<(), LoadError> {
        if let Some(acks) = &self.job.acks {
            acks.append(batch).map_err(LoadError::Ack)?;
        }
        self.tally.acknowledged.push(batch);
        self.tally.acknowledged_spans += spans;
        self.job.progress.acknowledged_spans.fetch_add(spans, Ordering::Relaxed);
        Ok(())
    }

    fn refuse(&mut self, spans: u64, reason: String) {
        self.tally.refused_spans += spans;
        self.tally.first_fault.get_or_insert(reason);
        self.job.progress.refused_spans.fetch_add(spans, Ordering::Relaxed);
    }

    /// Tries until there is a final answer or the time for retries is over.
    async fn deliver(&mut self, body: &Bytes) -> Outcome {
        let first = Instant::now();
        let mut wait = FIRST_WAIT;
        loop {
            let (hint, reason) = match self.attempt(body.clone()).await {
                Ok(Answer::Accepted { refused, message }) => {
                    return Outcome::Accepted { refused, message };
                }
                Ok(Answer::Refused { reason }) => return Outcome::Refused { reason },
                Ok(Answer::Later { hint, reason }) => (hint, reason),
                Err(Broken(reason)) => {
                    self.connection = None;
                    (None, reason)
                }
            };
            let pause = hint.unwrap_or(wait);
            if first.elapsed().saturating_add(pause) > self.job.retry_for {
                return Outcome::GaveUp { reason };
            }
            self.tally.retried_requests += 1;
            self.job.progress.retried_requests.fetch_add(1, Ordering::Relaxed);
            sleep(pause).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    async fn attempt(&mut self, body: Bytes) -> Result<Answer, Broken> {
        let Sender { job, connection, .. } = self;
        let started = Instant::now();
        let answer = timeout(job.timeout, async {
            let connection = match connection {
                Some(open) => open,
                None => connection.insert(Connection::open(&job.export).await?),
            };
            connection.export(&job.export, body).await
        });
        let answer = answer.await.unwrap_or_else(|_| {
            Err(Broken(format!("no answer within {} s", job.timeout.as_secs_f64())))
        })?;
        if matches!(answer, Answer::Accepted { .. }) {
            self.tally.latencies.record(started.elapsed());
        }
        Ok(answer)
    }
}

impl Job {
    /// The next batch that nobody has begun, and when to send it. `None`: nothing is left to do.
    fn begin(&self) -> Option<(Batch, Instant)> {
        let nth = self.progress.begun.fetch_add(1, Ordering::Relaxed);
        let before = nth * self.traces_per_batch;
        let left = self.traces.map_or(u64::MAX, |traces| traces.saturating_sub(before));
        let due = match (before * SPANS_PER_TRACE * 1_000_000).checked_div(self.rate) {
            Some(micros) => self.started + Duration::from_micros(micros),
            None => Instant::now(),
        };
        if left == 0 || self.end.is_some_and(|end| due.max(Instant::now()) >= end) {
            return None;
        }
        let traces = left.min(self.traces_per_batch);
        Some((Batch { number: self.first_batch + nth, traces }, due))
    }

    fn now_nanos(&self) -> u64 {
        let since = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.started_nanos.saturating_add(since)
    }
}
