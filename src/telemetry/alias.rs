//! Our metrics once more, under the names of Tempo, of the Collector and of dashboards in the
//! field.
//!
//! The table works on the rendered text, so that a value and its alias never differ, and no alias
//! shows a value that is not measured.

use crate::telemetry::{self as names, Kind, METRICS, process};

/// One more name for a metric.
struct Alias {
    name: &'static str,
    of: &'static str,
    labels: Labels,
}

/// What happens to the labels.
enum Labels {
    Same,
    /// One more label.
    With(&'static str, &'static str),
    /// Only the samples that have this label, and without it.
    Only(&'static str, &'static str),
    /// Only the samples whose `route` begins so.
    Routes(&'static [&'static str]),
}

impl Alias {
    const fn with(self, label: &'static str, value: &'static str) -> Alias {
        Alias { labels: Labels::With(label, value), ..self }
    }

    const fn only(self, label: &'static str, value: &'static str) -> Alias {
        Alias { labels: Labels::Only(label, value), ..self }
    }

    const fn routes(self, routes: &'static [&'static str]) -> Alias {
        Alias { labels: Labels::Routes(routes), ..self }
    }
}

const fn alias(name: &'static str, of: &'static str) -> Alias {
    Alias { name, of, labels: Labels::Same }
}

/// The sets that `telemetry.compat_names` chooses from.
const SETS: &[(&str, &[Alias])] =
    &[("tempo", TEMPO), ("tempo2", TEMPO2), ("otelcol", OTELCOL), ("seed", SEED)];

/// Tempo 3.
const TEMPO: &[Alias] = &[
    alias("tempo_receiver_accepted_spans", names::RECEIVE_SPANS_ACCEPTED_TOTAL),
    alias("tempo_receiver_refused_spans", names::RECEIVE_SPANS_REFUSED_TOTAL),
    alias("tempo_distributor_spans_received_total", names::INGEST_SPANS_TOTAL),
    alias("tempo_distributor_bytes_received_total", names::INGEST_BYTES_TOTAL),
    alias("tempo_live_store_bytes_received_total", names::INGEST_BYTES_TOTAL)
        .with("data_type", "trace"),
    alias("tempo_distributor_ingress_bytes_total", names::INGEST_REQUEST_BYTES_TOTAL),
    alias("tempo_discarded_spans_total", names::INGEST_SPANS_REFUSED_TOTAL),
    alias("tempo_distributor_attributes_truncated_total", names::INGEST_ATTRIBUTES_TRUNCATED_TOTAL),
    alias("tempo_distributor_traces_per_batch", names::INGEST_TRACES_PER_BATCH),
    alias("tempo_distributor_push_duration_seconds", names::INGEST_APPEND_DURATION_SECONDS),
    alias("tempo_spans_distance_in_past_seconds", names::INGEST_SPAN_AGE_SECONDS),
    alias("tempo_spans_distance_in_future_seconds", names::INGEST_SPAN_LEAD_SECONDS),
    alias("tempo_live_store_live_traces", names::LIVE_TRACES),
    alias("tempo_live_store_live_trace_bytes", names::LIVE_BYTES),
    alias("tempo_live_store_traces_created_total", names::LIVE_TRACES_CREATED_TOTAL),
    alias("tempo_live_store_blocks_cut_total", names::LIVE_BLOCKS_CUT_TOTAL),
    alias("tempo_live_store_blocks_completed_total", names::STORE_BLOCKS_FLUSHED_TOTAL),
    alias("tempo_live_store_failed_completions_total", names::STORE_FLUSH_ERRORS_TOTAL),
    alias("tempo_live_store_completion_retries_total", names::STORE_FLUSH_RETRIES_TOTAL),
    alias(
        "tempo_live_store_completion_failed_retries_total",
        names::STORE_FLUSH_RETRIES_FAILED_TOTAL,
    ),
    alias("tempo_live_store_completion_duration_seconds", names::STORE_FLUSH_DURATION_SECONDS),
    alias("tempo_live_store_completion_size_bytes", names::STORE_FLUSH_BYTES),
    alias("tempo_live_store_complete_queue_length", names::STORE_FLUSH_QUEUE_BLOCKS),
    alias("tempo_live_store_ready", names::APP_READY),
    alias("tempodb_blocklist_length", names::STORE_BLOCKS),
    alias("tempodb_backend_bytes_total", names::STORE_BYTES),
    alias("tempodb_retention_duration_seconds", names::STORE_RETENTION_DURATION_SECONDS),
    alias("tempodb_retention_marked_for_deletion_total", names::STORE_RETENTION_MARKED_TOTAL),
    alias("tempodb_retention_deleted_total", names::STORE_RETENTION_DELETED_TOTAL),
    alias("tempodb_retention_errors_total", names::STORE_RETENTION_ERRORS_TOTAL),
    alias("tempo_request_duration_seconds", names::API_REQUEST_DURATION_SECONDS),
    alias("tempo_inflight_requests", names::API_REQUESTS_INFLIGHT),
    alias("tempo_query_frontend_queries_total", names::QUERY_QUERIES_TOTAL),
    alias("tempo_query_frontend_queries_within_slo_total", names::QUERY_QUERIES_WITHIN_SLO_TOTAL),
    alias("tempo_query_frontend_bytes_inspected_total", names::QUERY_BYTES_INSPECTED_TOTAL),
    alias("tempo_query_frontend_queue_duration_seconds", names::QUERY_QUEUE_DURATION_SECONDS),
    alias("tempo_build_info", names::BUILD_INFO).with("goversion", ""),
];

/// Tempo 2, where Tempo 3 has another name.
const TEMPO2: &[Alias] = &[
    alias("tempo_ingester_bytes_received_total", names::INGEST_BYTES_TOTAL),
    alias("tempo_ingester_replay_errors_total", names::WAL_REPLAY_ERRORS_TOTAL),
    alias("tempo_ingester_live_traces", names::LIVE_TRACES),
    alias("tempo_ingester_traces_created_total", names::LIVE_TRACES_CREATED_TOTAL),
    alias("tempo_ingester_blocks_flushed_total", names::STORE_BLOCKS_FLUSHED_TOTAL),
    alias("tempo_ingester_failed_flushes_total", names::STORE_FLUSH_ERRORS_TOTAL),
    alias("tempo_ingester_flush_failed_retries_total", names::STORE_FLUSH_RETRIES_FAILED_TOTAL),
    alias("tempo_ingester_flush_duration_seconds", names::STORE_FLUSH_DURATION_SECONDS),
    alias("tempo_ingester_flush_queue_length", names::STORE_FLUSH_QUEUE_BLOCKS),
];

/// The Collector. Its default endpoint leaves `_total` out, one that a user sets up adds it:
/// receivers have both.
const OTELCOL: &[Alias] = &[
    alias("otelcol_receiver_accepted_spans", names::RECEIVE_SPANS_ACCEPTED_TOTAL),
    alias("otelcol_receiver_accepted_spans_total", names::RECEIVE_SPANS_ACCEPTED_TOTAL),
    alias("otelcol_receiver_refused_spans", names::RECEIVE_SPANS_REFUSED_TOTAL),
    alias("otelcol_receiver_refused_spans_total", names::RECEIVE_SPANS_REFUSED_TOTAL),
    alias("otelcol_receiver_failed_spans", names::RECEIVE_SPANS_FAILED_TOTAL),
    alias("otelcol_receiver_failed_spans_total", names::RECEIVE_SPANS_FAILED_TOTAL),
    alias("otelcol_receiver_requests_total", names::RECEIVE_REQUESTS_TOTAL),
    alias(
        "otelcol_processor_memory_limiter_accepted_spans",
        names::INGEST_MEMORY_ACCEPTED_SPANS_TOTAL,
    ),
    alias(
        "otelcol_processor_memory_limiter_refused_spans",
        names::INGEST_MEMORY_REFUSED_SPANS_TOTAL,
    ),
    alias("otelcol_processor_batch_batch_send_size", names::INGEST_BATCH_SPANS),
    alias("otelcol_processor_batch_batch_size_trigger_send", names::INGEST_BATCH_FLUSHES_TOTAL)
        .only("trigger", "size"),
    alias("otelcol_processor_batch_timeout_trigger_send", names::INGEST_BATCH_FLUSHES_TOTAL)
        .only("trigger", "timeout"),
    alias("otelcol_exporter_queue_size", names::INGEST_QUEUE_BATCHES).with("exporter", "metronome"),
    alias("otelcol_exporter_queue_capacity", names::INGEST_QUEUE_CAPACITY_BATCHES)
        .with("exporter", "metronome"),
    alias("otelcol_exporter_sent_spans", names::INGEST_SPANS_APPENDED_TOTAL)
        .with("exporter", "metronome"),
    alias("otelcol_exporter_send_failed_spans", names::INGEST_APPEND_ERRORS_TOTAL)
        .with("exporter", "metronome"),
];

const QUERY_ROUTES: &[&str] = &[
    "api_traces",
    "api_v2_traces",
    "api_search",
    "api_v2_search",
    "api_metrics",
    "/tempopb.StreamingQuerier/",
];

const SEARCH_ROUTES: &[&str] = &["api_search", "api_v2_search", "/tempopb.StreamingQuerier/Search"];

/// Names that no upstream ever had, but that stand in dashboards and alerts that people use.
const SEED: &[Alias] = &[
    alias("tempo_querier_query_duration_seconds", names::API_REQUEST_DURATION_SECONDS)
        .routes(QUERY_ROUTES),
    alias("tempo_query_frontend_queries_duration_seconds", names::API_REQUEST_DURATION_SECONDS)
        .routes(QUERY_ROUTES),
    alias("tempo_querier_search_duration_seconds", names::API_REQUEST_DURATION_SECONDS)
        .routes(SEARCH_ROUTES),
    alias("tempo_ingester_wal_bytes", names::WAL_BYTES),
    alias("otelcol_processor_accepted_spans", names::INGEST_SPANS_TOTAL)
        .with("processor", "metronome"),
    alias("otelcol_processor_dropped_spans", names::INGEST_SPANS_REFUSED_TOTAL)
        .with("processor", "metronome"),
    alias("otelcol_process_memory_rss", process::RESIDENT_MEMORY_BYTES),
    alias("otelcol_process_cpu_seconds", process::CPU_SECONDS_TOTAL),
];

/// All samples of one metric in Prometheus text.
struct Family<'a> {
    name: &'a str,
    kind: &'a str,
    help: &'a str,
    samples: Vec<&'a str>,
}

/// Rewrites Prometheus text: kinds as the table of names has them, and each metric again under its
/// names in `sets`.
pub(super) fn expose(text: &str, sets: &[String]) -> String {
    let chosen = SETS.iter().filter(|(set, _)| sets.iter().any(|wanted| wanted == set));
    let aliases: Vec<&Alias> = chosen.flat_map(|(_, aliases)| aliases.iter()).collect();
    let mut out = String::with_capacity(text.len() * 3);
    for family in families(text) {
        write_family(&mut out, &family, family.name, &Labels::Same);
        for alias in aliases.iter().filter(|alias| alias.of == family.name) {
            write_family(&mut out, &family, alias.name, &alias.labels);
        }
    }
    out
}

fn families(text: &str) -> Vec<Family<'_>> {
    let mut families: Vec<Family<'_>> = Vec::new();
    let mut help_of = ("", "");
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            help_of = help.split_once(' ').unwrap_or((help, ""));
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let help = if help_of.0 == name { help_of.1 } else { "" };
            families.push(Family { name, kind, help, samples: Vec::new() });
        } else if let (false, Some(family)) = (line.is_empty(), families.last_mut()) {
            family.samples.push(line);
        }
    }
    families
}

/// Writes a family under `name`; nothing if no sample is left.
fn write_family(out: &mut String, family: &Family<'_>, name: &str, labels: &Labels) {
    let start = out.len();
    let rises = METRICS.iter().any(|own| own.name == family.name && own.kind == Kind::Seconds);
    let kind = if rises { "counter" } else { family.kind };
    if !family.help.is_empty() {
        out.extend(["# HELP ", name, " ", family.help, "\n"]);
    }
    out.extend(["# TYPE ", name, " ", kind, "\n"]);
    let head = out.len();
    for sample in &family.samples {
        let Some(rest) = sample.strip_prefix(family.name) else { continue };
        let suffix_len = rest.find(['{', ' ']).unwrap_or(rest.len());
        let (suffix, rest) = rest.split_at(suffix_len);
        if let Labels::Same = labels {
            out.extend([name, suffix, rest, "\n"]);
        } else if let Some(rest) = edited(rest, labels) {
            out.extend([name, suffix, &rest, "\n"]);
        }
    }
    if out.len() == head {
        out.truncate(start);
    } else {
        out.push('\n');
    }
}

/// `{labels} value` with its labels changed; `None` if the sample is left out.
fn edited(rest: &str, labels: &Labels) -> Option<String> {
    let (mut pairs, value) = pairs(rest);
    let added;
    match labels {
        Labels::Same => {}
        Labels::With(name, value) => {
            added = format!("{name}=\"{value}\"");
            pairs.insert(0, &added);
        }
        Labels::Only(name, value) => {
            let wanted = format!("{name}=\"{value}\"");
            let at = pairs.iter().position(|pair| *pair == wanted)?;
            pairs.remove(at);
        }
        Labels::Routes(routes) => {
            let route = pairs.iter().find_map(|pair| pair.strip_prefix("route=\""))?;
            routes.iter().find(|start| route.starts_with(**start))?;
        }
    }
    if pairs.is_empty() {
        Some(value.to_owned())
    } else {
        Some(format!("{{{}}}{value}", pairs.join(",")))
    }
}

/// The labels of a sample, each as `name="value"`, and what follows them. Values may hold any
/// character.
fn pairs(rest: &str) -> (Vec<&str>, &str) {
    let Some(mut rest) = rest.strip_prefix('{') else { return (Vec::new(), rest) };
    let mut pairs = Vec::new();
    loop {
        let (mut quoted, mut escaped) = (false, false);
        let end = rest.find(|c: char| {
            let ends = !quoted && matches!(c, ',' | '}');
            quoted ^= c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let (pair, behind) = rest.split_at(end.unwrap_or(rest.len()));
        if !pair.is_empty() {
            pairs.push(pair);
        }
        match behind.strip_prefix(',') {
            Some(behind) => rest = behind,
            None => return (pairs, behind.strip_prefix('}').unwrap_or(behind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use expect_test::expect;

    use super::*;

    #[test]
    fn every_alias_stands_for_a_metric_and_none_twice() {
        let own: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(own.len(), METRICS.len(), "a metric stands in the table twice");
        let process = [process::RESIDENT_MEMORY_BYTES, process::CPU_SECONDS_TOTAL];
        let mut seen = own.clone();
        for (set, aliases) in SETS {
            for alias in *aliases {
                let Alias { name, of, .. } = alias;
                assert!(
                    own.contains(of) || process.contains(of),
                    "{set}: {name} is an alias of nothing: {of}"
                );
                assert!(seen.insert(name), "{set}: {name} is taken");
                assert!(!name.starts_with("metronome_"), "{set}: {name} is ours");
            }
        }
    }

    const TEXT: &str = r#"# HELP metronome_ingest_bytes_total Bytes.
# TYPE metronome_ingest_bytes_total counter
metronome_ingest_bytes_total{tenant="a,}\"b\\"} 5
metronome_ingest_bytes_total 6

# TYPE metronome_kv_stall_seconds_total gauge
metronome_kv_stall_seconds_total 1.5

# HELP metronome_ingest_batch_flushes_total Writes.
# TYPE metronome_ingest_batch_flushes_total counter
metronome_ingest_batch_flushes_total{trigger="size"} 7

# TYPE metronome_api_request_duration_seconds histogram
metronome_api_request_duration_seconds_bucket{route="api_search",le="+Inf"} 1
metronome_api_request_duration_seconds_sum{route="api_search"} 0.5
metronome_api_request_duration_seconds_count{route="ready"} 2
"#;

    #[test]
    fn samples_are_shown_under_their_other_names() {
        let sets = ["tempo", "otelcol", "seed"].map(str::to_owned);
        expect![[r##"
            # HELP metronome_ingest_bytes_total Bytes.
            # TYPE metronome_ingest_bytes_total counter
            metronome_ingest_bytes_total{tenant="a,}\"b\\"} 5
            metronome_ingest_bytes_total 6

            # HELP tempo_distributor_bytes_received_total Bytes.
            # TYPE tempo_distributor_bytes_received_total counter
            tempo_distributor_bytes_received_total{tenant="a,}\"b\\"} 5
            tempo_distributor_bytes_received_total 6

            # HELP tempo_live_store_bytes_received_total Bytes.
            # TYPE tempo_live_store_bytes_received_total counter
            tempo_live_store_bytes_received_total{data_type="trace",tenant="a,}\"b\\"} 5
            tempo_live_store_bytes_received_total{data_type="trace"} 6

            # TYPE metronome_kv_stall_seconds_total counter
            metronome_kv_stall_seconds_total 1.5

            # HELP metronome_ingest_batch_flushes_total Writes.
            # TYPE metronome_ingest_batch_flushes_total counter
            metronome_ingest_batch_flushes_total{trigger="size"} 7

            # HELP otelcol_processor_batch_batch_size_trigger_send Writes.
            # TYPE otelcol_processor_batch_batch_size_trigger_send counter
            otelcol_processor_batch_batch_size_trigger_send 7

            # TYPE metronome_api_request_duration_seconds histogram
            metronome_api_request_duration_seconds_bucket{route="api_search",le="+Inf"} 1
            metronome_api_request_duration_seconds_sum{route="api_search"} 0.5
            metronome_api_request_duration_seconds_count{route="ready"} 2

            # TYPE tempo_request_duration_seconds histogram
            tempo_request_duration_seconds_bucket{route="api_search",le="+Inf"} 1
            tempo_request_duration_seconds_sum{route="api_search"} 0.5
            tempo_request_duration_seconds_count{route="ready"} 2

            # TYPE tempo_querier_query_duration_seconds histogram
            tempo_querier_query_duration_seconds_bucket{route="api_search",le="+Inf"} 1
            tempo_querier_query_duration_seconds_sum{route="api_search"} 0.5

            # TYPE tempo_query_frontend_queries_duration_seconds histogram
            tempo_query_frontend_queries_duration_seconds_bucket{route="api_search",le="+Inf"} 1
            tempo_query_frontend_queries_duration_seconds_sum{route="api_search"} 0.5

            # TYPE tempo_querier_search_duration_seconds histogram
            tempo_querier_search_duration_seconds_bucket{route="api_search",le="+Inf"} 1
            tempo_querier_search_duration_seconds_sum{route="api_search"} 0.5

        "##]]
        .assert_eq(&expose(TEXT, &sets));
        let plain = expose(TEXT, &[]);
        assert_eq!(plain.matches("# TYPE").count(), 4, "{plain}");
    }
}
