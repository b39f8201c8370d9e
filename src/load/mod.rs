//! `metronome load`: sends made-up traffic, and reads back what was acknowledged.
//!
//! Knows the server by its network interfaces alone, so it works against any OTLP receiver with Tempo's API.

mod acks;
mod client;
mod random;
mod report;
mod send;
mod shop;
mod template;
pub mod traffic;
mod verify;

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::value_parser;
use thiserror::Error;
use tokio::signal::ctrl_c;
use tokio::sync::watch;
use tokio::task::JoinError;
use tokio::time::{Instant, interval};

use crate::config::parse_duration;
use crate::load::acks::{AckFile, Acks};
use crate::load::client::{Compression, Endpoint, Export, Protocol};
use crate::load::report::grouped;
use crate::load::send::{Job, Progress};
use crate::load::traffic::SPANS_PER_TRACE;
use crate::load::verify::Check;
use crate::model::TraceId;
use crate::otlp::wire::WireError;

pub use report::{Report, Verified};

/// How often progress is shown.
const PROGRESS: Duration = Duration::from_secs(1);

/// How long a run is if nothing else ends it.
const USUAL_DURATION: Duration = Duration::from_secs(10);

/// Sends deterministic, realistic traces to an OTLP receiver
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Protocol of the exports
    #[arg(long, value_enum, default_value = "grpc")]
    pub protocol: Protocol,
    /// Where to send: `host:port` or `http://host:port`; by default this machine, port 4317 or 4318
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// Where to read back
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:3200")]
    pub query: String,
    /// Senders, each with a connection and one export at a time
    #[arg(long, default_value_t = 2, value_name = "N")]
    pub senders: usize,
    /// Spans per second of all senders; 0 is as fast as can be
    #[arg(long, default_value_t = 0, value_name = "SPANS")]
    pub rate: u64,
    /// Stop after this time, such as 30s or 1h; 10s unless --traces is given
    #[arg(long, value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Stop after so many traces
    #[arg(long, value_name = "N")]
    pub traces: Option<u64>,
    /// Spans in a request, about: whole traces are sent
    #[arg(long, default_value_t = 512, value_name = "N", value_parser = value_parser!(u64).range(1..=1_000_000))]
    pub batch_spans: u64,
    /// Compression of the requests
    #[arg(long, value_enum, default_value = "none")]
    pub compression: Compression,
    /// Value of X-Scope-OrgID
    #[arg(long)]
    pub tenant: Option<String>,
    /// Which traffic: the same seed sends the same spans
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How long a batch is tried, or a trace read, while the server is away or busy
    #[arg(long, default_value = "60s", value_parser = parse_duration, value_name = "DURATION")]
    pub retry_for: Duration,
    /// How long one export may take
    #[arg(long, default_value = "10s", value_parser = parse_duration, value_name = "DURATION")]
    pub timeout: Duration,
    /// Read back every acknowledged trace in the end, and fail if a span is lost
    #[arg(long)]
    pub verify: bool,
    /// Send nothing, read back what the ack file names
    #[arg(long, requires = "ack_file", conflicts_with = "verify")]
    pub verify_only: bool,
    /// Append the number of each acknowledged batch to this file
    #[arg(long, value_name = "FILE")]
    pub ack_file: Option<PathBuf>,
    /// Print the report as JSON, and no progress
    #[arg(long)]
    pub json: bool,
}

/// Why a run ended without a report.
#[derive(Debug, Error)]
pub enum LoadError {
    #[error("address {text:?}: {reason}")]
    Endpoint { text: String, reason: &'static str },
    #[error("ack file {}", path.display())]
    AckFile { path: PathBuf, source: io::Error },
    #[error("ack file {}: it was not written by metronome load", path.display())]
    NoAckFile { path: PathBuf },
    #[error(
        "ack file {}: it belongs to another --seed or --batch-spans; name another file",
        path.display()
    )]
    OtherAckFile { path: PathBuf },
    #[error("append to the ack file")]
    Ack(#[source] io::Error),
    #[error("compress a request")]
    Compress(#[source] io::Error),
    #[error("a request is longer than 4 GiB; use a smaller --batch-spans")]
    TooLong,
    #[error("trace {id}: {reason}")]
    Query { id: TraceId, reason: String },
    #[error("trace {id}: the answer is not protobuf")]
    Trace { id: TraceId, source: WireError },
    #[error("a sender ended early")]
    Sender(#[source] JoinError),
    #[error("interrupted while reading back")]
    Interrupted,
    #[error("write the report")]
    Write(#[source] io::Error),
}

/// Sends, reads back if asked to, and writes the report to `out`. `now` stamps the spans.
///
/// # Errors
/// When the options make no sense, the query API does not answer, or a file cannot be written. A server that
/// refuses, or loses spans, is no error: see [`Report::is_good`].
pub async fn run(
    options: Options,
    now: SystemTime,
    out: &mut impl Write,
) -> Result<Report, LoadError> {
    let query = Endpoint::parse(&options.query)?;
    let mut report = Report { seed: options.seed, ..Report::default() };
    let mut acks = match &options.ack_file {
        Some(path) if options.verify_only => Acks::read(path)?,
        _ => Acks {
            seed: options.seed,
            traces_per_batch: (options.batch_spans / SPANS_PER_TRACE).max(1),
            batches: Vec::new(),
        },
    };
    if !options.verify_only {
        report = send(&options, &mut acks, now).await?;
    }
    if options.verify || options.verify_only {
        let traces = acks.batches.iter().map(|batch| batch.traces).sum();
        options.say(&format!("reading back {} traces", grouped(traces)));
        report.seed = acks.seed;
        let Options { tenant, retry_for, .. } = options.clone();
        let check = Check { query, tenant, acks, retry_for };
        report.verified = Some(tokio::select! {
            // Reading back has nothing to finish, so it may be dropped anywhere.
            verified = verify::run(check) => verified?,
            _ = ctrl_c() => return Err(LoadError::Interrupted),
        });
    }
    options.write(&report, out).map_err(LoadError::Write)?;
    Ok(report)
}

/// Runs the senders, and puts what was acknowledged into `acks`.
async fn send(options: &Options, acks: &mut Acks, now: SystemTime) -> Result<Report, LoadError> {
    let (stop, _) = watch::channel(false);
    let job = Arc::new(options.job(acks.traces_per_batch, now)?);
    options.say(&format!("sending to {}", options.endpoint()));
    let tally = {
        let mut sending = std::pin::pin!(send::run(&job, options.senders, &stop));
        let mut shown = 0;
        let mut ticks = interval(PROGRESS);
        ticks.tick().await;
        loop {
            tokio::select! {
                // `sending` goes on where it was; a tick or a signal that is dropped comes again.
                tally = &mut sending => break tally?,
                _ = ticks.tick() => shown = options.say_progress(&job, shown),
                _ = ctrl_c() => {
                    stop.send_replace(true);
                }
            }
        }
    };
    let report = Report::new(options.seed, job.started.elapsed(), &tally);
    acks.batches = tally.acknowledged;
    Ok(report)
}

impl Options {
    fn endpoint(&self) -> &str {
        match (&self.endpoint, self.protocol) {
            (Some(endpoint), _) => endpoint,
            (None, Protocol::Grpc) => "http://127.0.0.1:4317",
            (None, Protocol::Http) => "http://127.0.0.1:4318",
        }
    }

    fn job(&self, traces_per_batch: u64, now: SystemTime) -> Result<Job, LoadError> {
        let (acks, first_batch) = match &self.ack_file {
            Some(path) => {
                let (file, next) = AckFile::open(path, self.seed, traces_per_batch)?;
                (Some(file), next)
            }
            None => (None, 0),
        };
        let usual = self.traces.is_none().then_some(USUAL_DURATION);
        let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let started = Instant::now();
        Ok(Job {
            export: Export {
                endpoint: Endpoint::parse(self.endpoint())?,
                protocol: self.protocol,
                compression: self.compression,
                tenant: self.tenant.clone(),
            },
            seed: self.seed,
            traces_per_batch,
            first_batch,
            traces: self.traces,
            rate: self.rate,
            end: self.duration.or(usual).and_then(|duration| started.checked_add(duration)),
            started,
            started_nanos: u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX),
            retry_for: self.retry_for,
            timeout: self.timeout,
            acks,
            progress: Progress::default(),
        })
    }

    /// Shows how far the senders are; returns the count of acknowledged spans, to be given to the next call.
    fn say_progress(&self, job: &Job, before: u64) -> u64 {
        let spans = job.progress.acknowledged_spans.load(Ordering::Relaxed);
        let refused = job.progress.refused_spans.load(Ordering::Relaxed);
        let retried = job.progress.retried_requests.load(Ordering::Relaxed);
        self.say(&format!(
            "{:>5} s {:>14} spans acknowledged {:>9}/s {:>8} refused {:>6} retried",
            job.started.elapsed().as_secs(),
            grouped(spans),
            grouped(spans.saturating_sub(before)),
            grouped(refused),
            grouped(retried),
        ));
        spans
    }

    /// Tells the person at the terminal. Without a terminal there is nobody to tell, and nothing else to do.
    fn say(&self, line: &str) {
        if !self.json {
            writeln!(io::stderr(), "{line}").ok();
        }
    }

    fn write(&self, report: &Report, out: &mut impl Write) -> io::Result<()> {
        if self.json {
            serde_json::to_writer(&mut *out, report)?;
            writeln!(out)
        } else {
            write!(out, "{report}")
        }
    }
}

#[cfg(test)]
mod tests;
