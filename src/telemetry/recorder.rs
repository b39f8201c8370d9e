//! Records metrics, and shows them as Prometheus text.

use std::sync::{Mutex, OnceLock, PoisonError};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use thiserror::Error;

use crate::telemetry::{BUILD_INFO, Kind, METRICS, Metric, alias, process};

/// Another recorder of metrics was there first.
#[derive(Debug, Error)]
#[error("metrics cannot be recorded")]
pub struct InstallError(#[source] metrics_exporter_prometheus::BuildError);

/// The one recorder of the process, and the sets of other names that it shows.
struct Installed {
    handle: PrometheusHandle,
    sets: Vec<String>,
}

static INSTALLED: OnceLock<Installed> = OnceLock::new();

/// Held while installing, so that of two apps that start at once the second finds the first one's
/// recorder.
static INSTALLING: Mutex<()> = Mutex::new(());

/// Starts to record. `sets` are the values of `telemetry.compat_names`. The first call counts: a
/// second app in one process, as in tests, shares the recorder.
pub fn install(sets: &[&str]) -> Result<(), InstallError> {
    let _installing = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    if INSTALLED.get().is_some() {
        return Ok(());
    }
    let handle = builder().and_then(PrometheusBuilder::install_recorder).map_err(InstallError)?;
    describe();
    let sets = sets.iter().map(|set| (*set).to_owned()).collect();
    INSTALLED.get_or_init(|| Installed { handle, sets });
    Ok(())
}

fn builder() -> Result<PrometheusBuilder, metrics_exporter_prometheus::BuildError> {
    let mut builder = PrometheusBuilder::new();
    for metric in METRICS {
        if let Kind::Histogram(bounds) = metric.kind {
            let name = Matcher::Full(metric.name.to_owned());
            builder = builder.set_buckets_for_metric(name, bounds)?;
        }
    }
    Ok(builder)
}

fn describe() {
    for Metric { name, kind, help } in METRICS {
        match kind {
            Kind::Counter => metrics::describe_counter!(*name, *help),
            Kind::Gauge | Kind::Seconds => metrics::describe_gauge!(*name, *help),
            Kind::Histogram(_) => metrics::describe_histogram!(*name, *help),
        }
    }
    let labels = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("revision", revision()),
        ("rustversion", env!("CARGO_PKG_RUST_VERSION")),
        ("goos", std::env::consts::OS),
        ("goarch", goarch()),
    ];
    metrics::gauge!(BUILD_INFO, &labels).set(1.0);
}

/// The commit that was built, where the build said so.
pub fn revision() -> &'static str {
    option_env!("METRONOME_REVISION").unwrap_or("unknown")
}

/// Go's name of the processor, which dashboards know.
fn goarch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Everything for `/metrics`, in Prometheus text 0.0.4.
pub fn render() -> String {
    let (mut text, sets) = match INSTALLED.get() {
        Some(installed) => (installed.handle.render(), installed.sets.as_slice()),
        None => (String::new(), [].as_slice()),
    };
    process::render(&mut text);
    alias::expose(&text, sets)
}

/// Folds what histograms have gathered; to be called every few seconds, also when nobody asks for
/// `/metrics`.
pub fn upkeep() {
    if let Some(installed) = INSTALLED.get() {
        installed.handle.run_upkeep();
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::telemetry::{
        QUERY_CPU_SECONDS_TOTAL, STORE_FLUSH_DURATION_SECONDS, WAL_ERRORS_TOTAL,
    };

    #[test]
    fn metrics_are_shown_with_their_other_names() {
        install(&["tempo"]).unwrap();
        install(&[]).unwrap();
        metrics::counter!(WAL_ERRORS_TOTAL, "op" => "sync").increment(2);
        metrics::histogram!(STORE_FLUSH_DURATION_SECONDS).record(3.0);
        metrics::gauge!(QUERY_CPU_SECONDS_TOTAL, "op" => "search").increment(0.25);
        upkeep();
        let text = render();
        let shown = ["wal_errors", "flush_duration", "completion_duration", "query_cpu"];
        let lines: Vec<&str> =
            text.lines().filter(|line| shown.iter().any(|name| line.contains(name))).collect();
        expect![[r##"
            # HELP metronome_wal_errors_total Operations of the log that failed (op).
            # TYPE metronome_wal_errors_total counter
            metronome_wal_errors_total{op="sync"} 2
            # HELP metronome_query_cpu_seconds_total CPU time of queries (op).
            # TYPE metronome_query_cpu_seconds_total counter
            metronome_query_cpu_seconds_total{op="search"} 0.25
            # HELP metronome_store_flush_duration_seconds Writing one block.
            # TYPE metronome_store_flush_duration_seconds histogram
            metronome_store_flush_duration_seconds_bucket{le="1"} 0
            metronome_store_flush_duration_seconds_bucket{le="2"} 0
            metronome_store_flush_duration_seconds_bucket{le="4"} 1
            metronome_store_flush_duration_seconds_bucket{le="8"} 1
            metronome_store_flush_duration_seconds_bucket{le="16"} 1
            metronome_store_flush_duration_seconds_bucket{le="32"} 1
            metronome_store_flush_duration_seconds_bucket{le="64"} 1
            metronome_store_flush_duration_seconds_bucket{le="128"} 1
            metronome_store_flush_duration_seconds_bucket{le="256"} 1
            metronome_store_flush_duration_seconds_bucket{le="512"} 1
            metronome_store_flush_duration_seconds_bucket{le="+Inf"} 1
            metronome_store_flush_duration_seconds_sum 3
            metronome_store_flush_duration_seconds_count 1
            # HELP tempo_live_store_completion_duration_seconds Writing one block.
            # TYPE tempo_live_store_completion_duration_seconds histogram
            tempo_live_store_completion_duration_seconds_bucket{le="1"} 0
            tempo_live_store_completion_duration_seconds_bucket{le="2"} 0
            tempo_live_store_completion_duration_seconds_bucket{le="4"} 1
            tempo_live_store_completion_duration_seconds_bucket{le="8"} 1
            tempo_live_store_completion_duration_seconds_bucket{le="16"} 1
            tempo_live_store_completion_duration_seconds_bucket{le="32"} 1
            tempo_live_store_completion_duration_seconds_bucket{le="64"} 1
            tempo_live_store_completion_duration_seconds_bucket{le="128"} 1
            tempo_live_store_completion_duration_seconds_bucket{le="256"} 1
            tempo_live_store_completion_duration_seconds_bucket{le="512"} 1
            tempo_live_store_completion_duration_seconds_bucket{le="+Inf"} 1
            tempo_live_store_completion_duration_seconds_sum 3
            tempo_live_store_completion_duration_seconds_count 1"##]]
        .assert_eq(&lines.join("\n"));
        for name in
            ["metronome_build_info{", "tempo_build_info{goversion=\"\",", "process_open_fds "]
        {
            assert!(text.lines().any(|line| line.starts_with(name)), "{name} in {text}");
        }
    }
}
