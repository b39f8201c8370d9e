//! What a run found out: counts, rates and latencies, for people and for machines.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::load::acks::Batch;

/// Latencies below this have a bucket for each microsecond.
const FINE_MICROS: u64 = 64;
/// Buckets for each doubling above that: an error of at most 1/32.
const BUCKETS_PER_DOUBLING: u64 = 32;

/// One run's result. Rates are those of acknowledged spans.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub seed: u64,
    pub seconds: f64,
    pub sent_spans: u64,
    pub acknowledged_spans: u64,
    /// The server said that it will not take them.
    pub refused_spans: u64,
    /// Given up without an answer, or with no better one than to try again later.
    pub unanswered_spans: u64,
    pub acknowledged_requests: u64,
    /// Attempts that had to be made again.
    pub retried_requests: u64,
    /// Acknowledged, before compression.
    pub otlp_bytes: u64,
    /// Acknowledged, as sent.
    pub body_bytes: u64,
    pub spans_per_second: f64,
    pub bytes_per_second: f64,
    pub export_p50_ms: f64,
    pub export_p99_ms: f64,
    pub export_max_ms: f64,
    /// Why the first spans were refused or given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_fault: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verified>,
}

/// How the acknowledged traces were found again.
#[derive(Debug, Default, Serialize)]
pub struct Verified {
    pub seconds: f64,
    pub found_traces: u64,
    /// There, but for some spans.
    pub incomplete_traces: u64,
    pub lost_traces: u64,
    /// Acknowledged and not found, in lost and incomplete traces.
    pub lost_spans: u64,
    /// Found more than once, as they may be when an answer was lost and the request sent again.
    pub repeated_spans: u64,
}

/// What one sender counted.
#[derive(Debug, Default)]
pub struct Tally {
    pub sent_spans: u64,
    pub acknowledged_spans: u64,
    pub refused_spans: u64,
    pub unanswered_spans: u64,
    pub retried_requests: u64,
    pub otlp_bytes: u64,
    pub body_bytes: u64,
    pub latencies: Latencies,
    pub first_fault: Option<String>,
    pub acknowledged: Vec<Batch>,
}

/// A histogram of times in microseconds, of bounded size however long the run.
#[derive(Debug, Default)]
pub struct Latencies {
    counts: Vec<u64>,
    total: u64,
    max_micros: u64,
}

impl Report {
    /// The sum of what the senders counted in a time.
    #[must_use]
    pub fn new(seed: u64, took: Duration, tally: &Tally) -> Report {
        let seconds = took.as_secs_f64();
        let per_second = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        let millis = |time: Duration| time.as_micros() as f64 / 1000.0;
        Report {
            seed,
            seconds,
            sent_spans: tally.sent_spans,
            acknowledged_spans: tally.acknowledged_spans,
            refused_spans: tally.refused_spans,
            unanswered_spans: tally.unanswered_spans,
            acknowledged_requests: tally.acknowledged.len() as u64,
            retried_requests: tally.retried_requests,
            otlp_bytes: tally.otlp_bytes,
            body_bytes: tally.body_bytes,
            spans_per_second: per_second(tally.acknowledged_spans),
            bytes_per_second: per_second(tally.otlp_bytes),
            export_p50_ms: millis(tally.latencies.quantile(50)),
            export_p99_ms: millis(tally.latencies.quantile(99)),
            export_max_ms: millis(tally.latencies.max()),
            first_fault: tally.first_fault.clone(),
            verified: None,
        }
    }

    /// True if nothing acknowledged is missing, and something was acknowledged if anything was sent.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let lost = self.verified.as_ref().map_or(0, |verified| verified.lost_spans);
        lost == 0 && (self.acknowledged_spans > 0 || self.sent_spans == 0)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sent_spans > 0 {
            writeln!(
                f,
                "sent          {:>14} spans in {:.1} s",
                grouped(self.sent_spans),
                self.seconds
            )?;
            let (spans, requests) = (self.acknowledged_spans, self.acknowledged_requests);
            let (spans, requests) = (grouped(spans), grouped(requests));
            writeln!(f, "acknowledged  {spans:>14} spans in {requests} requests")?;
            writeln!(f, "refused       {:>14} spans", grouped(self.refused_spans))?;
            writeln!(f, "unanswered    {:>14} spans", grouped(self.unanswered_spans))?;
            writeln!(f, "retried       {:>14} requests", grouped(self.retried_requests))?;
            let megabytes = self.bytes_per_second / 1e6;
            writeln!(
                f,
                "rate          {:>14.0} spans/s, {megabytes:.1} MB/s",
                self.spans_per_second
            )?;
            let (p50, p99, max) = (self.export_p50_ms, self.export_p99_ms, self.export_max_ms);
            writeln!(f, "export        {p50:>11.2} ms p50, {p99:.2} ms p99, {max:.2} ms max")?;
        }
        if let Some(fault) = &self.first_fault {
            writeln!(f, "first fault   {fault}")?;
        }
        match &self.verified {
            Some(verified) => write!(f, "{verified}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "found         {:>14} traces in {:.1} s",
            grouped(self.found_traces),
            self.seconds
        )?;
        writeln!(f, "incomplete    {:>14} traces", grouped(self.incomplete_traces))?;
        writeln!(f, "lost          {:>14} traces", grouped(self.lost_traces))?;
        writeln!(f, "lost          {:>14} spans", grouped(self.lost_spans))?;
        writeln!(f, "repeated      {:>14} spans", grouped(self.repeated_spans))
    }
}

impl Tally {
    pub fn add(&mut self, other: Tally) {
        self.sent_spans += other.sent_spans;
        self.acknowledged_spans += other.acknowledged_spans;
        self.refused_spans += other.refused_spans;
        self.unanswered_spans += other.unanswered_spans;
        self.retried_requests += other.retried_requests;
        self.otlp_bytes += other.otlp_bytes;
        self.body_bytes += other.body_bytes;
        self.latencies.add(&other.latencies);
        self.first_fault = self.first_fault.take().or(other.first_fault);
        self.acknowledged.extend(other.acknowledged);
    }
}

impl Verified {
    pub fn add(&mut self, other: &Verified) {
        self.found_traces += other.found_traces;
        self.incomplete_traces += other.incomplete_traces;
        self.lost_traces += other.lost_traces;
        self.lost_spans += other.lost_spans;
        self.repeated_spans += other.repeated_spans;
    }
}

impl Latencies {
    pub fn record(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = bucket(micros);
        if bucket >= self.counts.len() {
            self.counts.resize(bucket + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.total += 1;
        self.max_micros = self.max_micros.max(micros);
    }

    /// The time that so many of a hundred did not exceed; 0 if there are none.
    #[must_use]
    pub fn quantile(&self, percent: u64) -> Duration {
        let rank = (self.total * percent).div_ceil(100);
        let mut seen = 0;
        for (bucket, count) in (0..).zip(&self.counts) {
            seen += count;
            if seen >= rank && *count > 0 {
                return Duration::from_micros(highest(bucket).min(self.max_micros));
            }
        }
        Duration::ZERO
    }

    #[must_use]
    pub const fn max(&self) -> Duration {
        Duration::from_micros(self.max_micros)
    }

    fn add(&mut self, other: &Latencies) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        self.counts.iter_mut().zip(&other.counts).for_each(|(own, count)| *own += count);
        self.total += other.total;
        self.max_micros = self.max_micros.max(other.max_micros);
    }
}

/// The bucket of a time.
fn bucket(micros: u64) -> usize {
    let bucket = if micros < FINE_MICROS {
        micros
    } else {
        let doublings = u64::from(micros.ilog2()) - u64::from(FINE_MICROS.ilog2());
        let within = (micros >> (doublings + 1)) - BUCKETS_PER_DOUBLING;
        FINE_MICROS + doublings * BUCKETS_PER_DOUBLING + within
    };
    usize::try_from(bucket).unwrap_or(usize::MAX)
}

/// The longest time that falls into a bucket.
const fn highest(bucket: u64) -> u64 {
    if bucket < FINE_MICROS {
        return bucket;
    }
    let doublings = (bucket - FINE_MICROS) / BUCKETS_PER_DOUBLING;
    let within = (bucket - FINE_MICROS) % BUCKETS_PER_DOUBLING;
    ((within + BUCKETS_PER_DOUBLING + 1) << (doublings + 1)) - 1
}

/// A count with its digits in groups of three.
#[must_use]
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_their_times() {
        for micros in (0..10_000).chain([1 << 20, (1 << 40) + 12345, u64::MAX >> 1]) {
            let highest = highest(bucket(micros) as u64);
            assert!(highest >= micros, "{micros} {highest}");
            assert!(highest - micros <= micros / 32, "{micros} {highest}");
        }
        assert!((0..100_000).map(bucket).is_sorted());
    }

    #[test]
    fn quantiles() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile(99), Duration::ZERO);
        (1..=1000).for_each(|millis| latencies.record(Duration::from_millis(millis)));
        let p50 = latencies.quantile(50).as_millis();
        assert!((500..=516).contains(&p50), "{p50}");
        assert_eq!(latencies.quantile(100), Duration::from_secs(1));
        assert_eq!(latencies.max(), Duration::from_secs(1));
    }

    #[test]
    fn a_lost_span_fails_the_run() {
        let mut tally = Tally { sent_spans: 10, acknowledged_spans: 10, ..Tally::default() };
        tally.add(Tally { sent_spans: 5, unanswered_spans: 5, ..Tally::default() });
        let mut report = Report::new(1, Duration::from_secs(2), &tally);
        assert_eq!(report.spans_per_second, 5.0);
        assert!(report.is_good());
        report.verified = Some(Verified { lost_spans: 1, ..Verified::default() });
        assert!(!report.is_good());
        assert!(report.to_string().contains("lost                       1 spans"), "{report}");
    }

    #[test]
    fn digits_are_grouped() {
        assert_eq!([0, 999, 1000, 1234567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
