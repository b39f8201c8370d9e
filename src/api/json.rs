//! The JSON form of `wire`'s messages, as protobuf-JSON prints them: 64-bit integers as strings,
//! zero values left out, no key that Tempo lacks.

use std::fmt::Display;
use std::io::Write;

use crate::api::wire::{
    AnyKind, AnyValue, Exemplar, InstantSeries, KeyValue, MetadataMetrics, PartialStatus,
    QueryInstantResponse, QueryRangeResponse, Sample, SearchMetrics, SearchResponse,
    SearchTagValuesResponse, SearchTagValuesV2Response, SearchTagsResponse, SearchTagsV2Response,
    Span, SpanSet, TagValue, TimeSeries, TraceByIdMetrics, TraceSearchMetadata,
};
use crate::otlp::wire::WireError;

/// An object being written; a member whose value is zero or empty is left out unless its method
/// says otherwise.
struct Object<'a> {
    out: &'a mut Vec<u8>,
    members: usize,
}

impl Object<'_> {
    fn key(&mut self, name: &str) -> &mut Vec<u8> {
        if self.members > 0 {
            self.out.push(b',');
        }
        self.members += 1;
        string(self.out, name);
        self.out.push(b':');
        self.out
    }

    fn text(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            string(self.key(name), value);
        }
    }

    fn u32(&mut self, name: &str, value: u32) {
        if value != 0 {
            number(self.key(name), value);
        }
    }

    fn u64(&mut self, name: &str, value: u64) {
        if value != 0 {
            quoted(self.key(name), value);
        }
    }

    fn i64(&mut self, name: &str, value: i64) {
        if value != 0 {
            quoted(self.key(name), value);
        }
    }

    fn double(&mut self, name: &str, value: f64) {
        if value != 0.0 {
            double(self.key(name), value);
        }
    }

    /// An object, written even when it has no members.
    fn object(&mut self, name: &str, members: impl FnOnce(&mut Object<'_>)) {
        object(self.key(name), members);
    }

    /// A list, written even when it is empty.
    fn list<T>(&mut self, name: &str, items: &[T], item: impl Fn(&mut Vec<u8>, &T)) {
        let out = self.key(name);
        out.push(b'[');
        for (at, value) in items.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            item(out, value);
        }
        out.push(b']');
    }

    /// A list, left out when it is empty.
    fn list_if_any<T>(&mut self, name: &str, items: &[T], item: impl Fn(&mut Vec<u8>, &T)) {
        if !items.is_empty() {
            self.list(name, items, item);
        }
    }

    fn status(&mut self, status: i32, message: &str) {
        if status == PartialStatus::Partial as i32 {
            self.text("status", "PARTIAL");
        }
        self.text("message", message);
    }
}

/// Answer of trace by id, version 2; `trace` writes the JSON of the trace itself.
///
/// # Errors
/// Those of `trace`.
pub fn trace_by_id(
    metrics: &TraceByIdMetrics,
    partial: Option<&str>,
    trace: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
) -> Result<Vec<u8>, WireError> {
    let mut written = Ok(());
    let out = document(|top| {
        written = trace(top.key("trace"));
        top.object("metrics", |o| o.u64("inspectedBytes", metrics.inspected_bytes));
        if let Some(message) = partial {
            top.status(PartialStatus::Partial as i32, message);
        }
    });
    written.map(|()| out)
}

/// The same for language models: numbers are numbers, and the status is always there.
///
/// # Errors
/// Those of `trace`.
pub fn llm_trace(
    metrics: &TraceByIdMetrics,
    partial: Option<&str>,
    trace: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
) -> Result<Vec<u8>, WireError> {
    let mut written = Ok(());
    let out = document(|top| {
        written = trace(top.key("trace"));
        top.object("metrics", |o| number(o.key("inspectedBytes"), metrics.inspected_bytes));
        top.text("status", if partial.is_some() { "PARTIAL" } else { "COMPLETE" });
        top.text("message", partial.unwrap_or_default());
    });
    written.map(|()| out)
}

pub fn search(response: &SearchResponse) -> Vec<u8> {
    document(|top| {
        top.list("traces", &response.traces, trace);
        search_metrics(top, response.metrics.as_ref());
    })
}

pub fn tags(response: &SearchTagsResponse) -> Vec<u8> {
    document(|top| {
        top.list("tagNames", &response.tag_names, |out, name| string(out, name));
        metadata_metrics(top, response.metrics.as_ref());
    })
}

pub fn tags_v2(response: &SearchTagsV2Response) -> Vec<u8> {
    document(|top| {
        top.list("scopes", &response.scopes, |out, scope| {
            object(out, |o| {
                o.text("name", &scope.name);
                o.list("tags", &scope.tags, |out, tag| string(out, tag));
            });
        });
        metadata_metrics(top, response.metrics.as_ref());
    })
}

pub fn tag_values(response: &SearchTagValuesResponse) -> Vec<u8> {
    document(|top| {
        top.list("tagValues", &response.tag_values, |out, value| string(out, value));
        metadata_metrics(top, response.metrics.as_ref());
    })
}

pub fn tag_values_v2(response: &SearchTagValuesV2Response) -> Vec<u8> {
    document(|top| {
        top.list("tagValues", &response.tag_values, |out, value| {
            object(out, |o| {
                o.text("type", &value.kind);
                o.text("value", &value.value);
            });
        });
        metadata_metrics(top, response.metrics.as_ref());
    })
}

/// Values of a tag for language models: one list per type. The values come sorted by type.
pub fn llm_tag_values(response: &SearchTagValuesV2Response) -> Vec<u8> {
    document(|top| {
        top.object("tagValues", |types| {
            for same in response.tag_values.chunk_by(|a, b| a.kind == b.kind) {
                let kind = same.first().map_or("", |value| value.kind.as_str());
                types.list(kind, same, |out, value: &TagValue| string(out, &value.value));
            }
        });
        let bytes = response.metrics.as_ref().map_or(0, |metrics| metrics.inspected_bytes);
        top.object("metrics", |o| number(o.key("inspectedBytes"), bytes));
    })
}

pub fn query_range(response: &QueryRangeResponse) -> Vec<u8> {
    document(|top| {
        top.list("series", &response.series, series);
        search_metrics(top, response.metrics.as_ref());
        top.status(response.status, &response.message);
    })
}

pub fn query_instant(response: &QueryInstantResponse) -> Vec<u8> {
    document(|top| {
        top.list_if_any("series", &response.series, |out, series: &InstantSeries| {
            object(out, |o| {
                o.list_if_any("labels", &series.labels, key_value);
                o.double("value", series.value);
            });
        });
        search_metrics(top, response.metrics.as_ref());
        top.status(response.status, &response.message);
    })
}

fn document(members: impl FnOnce(&mut Object<'_>)) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    object(&mut out, members);
    out
}

fn object(out: &mut Vec<u8>, members: impl FnOnce(&mut Object<'_>)) {
    out.push(b'{');
    members(&mut Object { out, members: 0 });
    out.push(b'}');
}

fn trace(out: &mut Vec<u8>, trace: &TraceSearchMetadata) {
    object(out, |o| {
        o.text("traceID", &trace.trace_id);
        o.text("rootServiceName", &trace.root_service_name);
        o.text("rootTraceName", &trace.root_trace_name);
        o.u64("startTimeUnixNano", trace.start_time_unix_nano);
        o.u32("durationMs", trace.duration_ms);
        if let Some(set) = &trace.span_set {
            span_set(o.key("spanSet"), set);
        }
        o.list_if_any("spanSets", &trace.span_sets, span_set);
        if trace.service_stats.is_empty() {
            return;
        }
        o.object("serviceStats", |services| {
            for (service, stats) in &trace.service_stats {
                services.object(service, |o| {
                    o.u32("spanCount", stats.span_count);
                    o.u32("errorCount", stats.error_count);
                });
            }
        });
    });
}

fn span_set(out: &mut Vec<u8>, set: &SpanSet) {
    object(out, |o| {
        o.list_if_any("spans", &set.spans, span);
        o.u32("matched", set.matched);
        o.list_if_any("attributes", &set.attributes, key_value);
    });
}

fn span(out: &mut Vec<u8>, span: &Span) {
    object(out, |o| {
        o.text("spanID", &span.span_id);
        o.text("name", &span.name);
        o.u64("startTimeUnixNano", span.start_time_unix_nano);
        o.u64("durationNanos", span.duration_nanos);
        o.list_if_any("attributes", &span.attributes, key_value);
    });
}

fn series(out: &mut Vec<u8>, series: &TimeSeries) {
    object(out, |o| {
        o.list_if_any("labels", &series.labels, key_value);
        o.list_if_any("samples", &series.samples, |out, sample: &Sample| {
            object(out, |o| {
                o.i64("timestampMs", sample.timestamp_ms);
                o.double("value", sample.value);
            });
        });
        o.list_if_any("exemplars", &series.exemplars, |out, exemplar: &Exemplar| {
            object(out, |o| {
                o.list_if_any("labels", &exemplar.labels, key_value);
                o.double("value", exemplar.value);
                o.i64("timestampMs", exemplar.timestamp_ms);
            });
        });
    });
}

fn key_value(out: &mut Vec<u8>, attribute: &KeyValue) {
    object(out, |o| {
        o.text("key", &attribute.key);
        if let Some(value) = &attribute.value {
            any_value(o.key("value"), value);
        }
    });
}

/// The member of a set oneof is printed even if it is zero.
fn any_value(out: &mut Vec<u8>, value: &AnyValue) {
    object(out, |o| match &value.kind {
        None => {}
        Some(AnyKind::String(text)) => string(o.key("stringValue"), text),
        Some(AnyKind::Bool(value)) => {
            number(o.key("boolValue"), value);
        }
        Some(AnyKind::Int(value)) => quoted(o.key("intValue"), *value),
        Some(AnyKind::Double(value)) => double(o.key("doubleValue"), *value),
        Some(AnyKind::Array(array)) => {
            o.object("arrayValue", |o| o.list_if_any("values", &array.values, any_value));
        }
    });
}

fn search_metrics(top: &mut Object<'_>, metrics: Option<&SearchMetrics>) {
    let Some(metrics) = metrics else { return };
    top.object("metrics", |o| {
        o.u32("inspectedTraces", metrics.inspected_traces);
        o.u64("inspectedBytes", metrics.inspected_bytes);
        o.u32("totalBlocks", metrics.total_blocks);
        o.u32("completedJobs", metrics.completed_jobs);
        o.u32("totalJobs", metrics.total_jobs);
        o.u64("totalBlockBytes", metrics.total_block_bytes);
        o.u64("inspectedSpans", metrics.inspected_spans);
    });
}

fn metadata_metrics(top: &mut Object<'_>, metrics: Option<&MetadataMetrics>) {
    let Some(metrics) = metrics else { return };
    top.object("metrics", |o| {
        o.u64("inspectedBytes", metrics.inspected_bytes);
        o.u32("totalJobs", metrics.total_jobs);
        o.u32("completedJobs", metrics.completed_jobs);
        o.u32("totalBlocks", metrics.total_blocks);
        o.u64("totalBlockBytes", metrics.total_block_bytes);
    });
}

/// Anything that prints as JSON does.
fn number(out: &mut Vec<u8>, value: impl Display) {
    write!(out, "{value}").expect("writing to memory does not fail");
}

fn quoted(out: &mut Vec<u8>, value: impl Display) {
    write!(out, "\"{value}\"").expect("writing to memory does not fail");
}

/// The shortest digits that mean this value, with an exponent where Go's encoder uses one.
fn double(out: &mut Vec<u8>, value: f64) {
    let size = value.abs();
    if value.is_nan() {
        string(out, "NaN");
    } else if value.is_infinite() {
        string(out, if value > 0.0 { "Infinity" } else { "-Infinity" });
    } else if size >= 1e21 {
        number(out, format!("{value:e}").replace('e', "e+"));
    } else if size != 0.0 && size < 1e-6 {
        number(out, format_args!("{value:e}"));
    } else {
        number(out, value);
    }
}

/// `<`, `>` and `&` are escaped as Go does, so that JSON may stand in HTML.
fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            b'\n' => out.extend(b"\\n"),
            b'\r' => out.extend(b"\\r"),
            b'\t' => out.extend(b"\\t"),
            0..=0x1f | b'<' | b'>' | b'&' => number(out, format_args!("\\u{byte:04x}")),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::api::wire::ArrayValue;

    fn check(json: &[u8], expected: Expect) {
        serde_json::from_slice::<serde_json::Value>(json).unwrap();
        expected.assert_eq(str::from_utf8(json).unwrap());
    }

    fn attribute(key: &str, kind: AnyKind) -> KeyValue {
        KeyValue { key: key.to_owned(), value: Some(AnyValue { kind: Some(kind) }) }
    }

    #[test]
    fn empty_answers_keep_their_lists() {
        let metrics = Some(SearchMetrics::default());
        check(
            &search(&SearchResponse { traces: Vec::new(), metrics: metrics.clone() }),
            expect![[r#"{"traces":[],"metrics":{}}"#]],
        );
        check(&tags(&SearchTagsResponse::default()), expect![[r#"{"tagNames":[]}"#]]);
        check(&tags_v2(&SearchTagsV2Response::default()), expect![[r#"{"scopes":[]}"#]]);
        check(&tag_values(&SearchTagValuesResponse::default()), expect![[r#"{"tagValues":[]}"#]]);
        check(
            &query_range(&QueryRangeResponse { metrics: metrics.clone(), ..Default::default() }),
            expect![[r#"{"series":[],"metrics":{}}"#]],
        );
        check(
            &query_instant(&QueryInstantResponse { metrics, ..Default::default() }),
            expect![[r#"{"metrics":{}}"#]],
        );
    }

    #[test]
    fn values_of_every_kind() {
        let texts = ["a\"\\\n\u{1}<é", ""];
        let array = texts.map(|t| AnyValue { kind: Some(AnyKind::String(t.to_owned())) });
        let attributes = vec![
            attribute("s", AnyKind::String(String::new())),
            attribute("i", AnyKind::Int(0)),
            attribute("b", AnyKind::Bool(false)),
            attribute("d", AnyKind::Double(0.0)),
            attribute("a", AnyKind::Array(ArrayValue { values: array.to_vec() })),
            attribute("e", AnyKind::Array(ArrayValue::default())),
            KeyValue { key: "n".to_owned(), value: Some(AnyValue::default()) },
        ];
        let mut out = Vec::new();
        span_set(&mut out, &SpanSet { spans: Vec::new(), matched: 0, attributes });
        check(
            &out,
            expect![[
                r#"{"attributes":[{"key":"s","value":{"stringValue":""}},{"key":"i","value":{"intValue":"0"}},{"key":"b","value":{"boolValue":false}},{"key":"d","value":{"doubleValue":0}},{"key":"a","value":{"arrayValue":{"values":[{"stringValue":"a\"\\\n\u0001\u003cé"},{"stringValue":""}]}}},{"key":"e","value":{"arrayValue":{}}},{"key":"n","value":{}}]}"#
            ]],
        );
    }

    #[test]
    fn doubles_look_like_gos() {
        let cases = [
            (0.05, "0.05"),
            (8.0, "8"),
            (-0.0, "-0"),
            (1e21, "1e+21"),
            (-1.5e300, "-1.5e+300"),
            (1e-7, "1e-7"),
            (123_456_789_012_345_680_000.0, "123456789012345680000"),
            (f64::NAN, "\"NaN\""),
            (f64::INFINITY, "\"Infinity\""),
            (f64::NEG_INFINITY, "\"-Infinity\""),
        ];
        for (value, expected) in cases {
            let mut out = Vec::new();
            double(&mut out, value);
            assert_eq!(out, expected.as_bytes());
        }
    }

    #[test]
    fn metrics_answers() {
        let series = TimeSeries {
            labels: vec![attribute("resource.service.name", AnyKind::String("web".to_owned()))],
            samples: vec![
                Sample { value: 0.0, timestamp_ms: 1_700_000_040_000 },
                Sample { value: 0.05, timestamp_ms: 1_700_000_100_000 },
            ],
            exemplars: vec![Exemplar {
                labels: vec![attribute("trace:id", AnyKind::String("beef".to_owned()))],
                value: 0.05,
                timestamp_ms: 1_700_000_090_000,
            }],
        };
        let response = QueryRangeResponse {
            series: vec![series],
            metrics: Some(SearchMetrics { inspected_bytes: 13_308, ..Default::default() }),
            status: PartialStatus::Partial as i32,
            message: "cut".to_owned(),
        };
        check(
            &query_range(&response),
            expect![[
                r#"{"series":[{"labels":[{"key":"resource.service.name","value":{"stringValue":"web"}}],"samples":[{"timestampMs":"1700000040000"},{"timestampMs":"1700000100000","value":0.05}],"exemplars":[{"labels":[{"key":"trace:id","value":{"stringValue":"beef"}}],"value":0.05,"timestampMs":"1700000090000"}]}],"metrics":{"inspectedBytes":"13308"},"status":"PARTIAL","message":"cut"}"#
            ]],
        );
    }
}
