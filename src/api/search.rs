//! Search: what is asked over HTTP or gRPC, and the answer's message.

use std::collections::BTreeMap;

use bytes::Bytes;
use hyper::Response;

use crate::api::params::{self, Params, bad};
use crate::api::time::{go_duration, search_range, since_seconds};
use crate::api::wire::{
    AnyKind, AnyValue, ArrayValue, KeyValue, SearchMetrics, SearchRequest as Message,
    SearchResponse, ServiceStats, Span, SpanSet, TraceSearchMetadata,
};
use crate::api::{Api, ApiError, Call, answer, json};
use crate::config;
use crate::model::{TenantId, Value};
use crate::query::{
    SearchQuery, SearchRequest, SearchResult, SearchStats, SpanHit, Spanset, TraceHit,
};

/// The longest TraceQL text: Tempo's `max_query_expression_size_bytes`.
const MAX_QUERY_BYTES: usize = 131_072;

/// What stands for the root service of a trace whose root is unknown.
const NO_ROOT: &str = "<root span not yet received>";

/// About so many bytes of answer per span.
const SPAN_BYTES: usize = 256;

/// Parameters that are never tags.
const RESERVED: [&str; 9] =
    ["q", "tags", "minDuration", "maxDuration", "limit", "spss", "start", "end", "since"];

pub async fn search(api: &Api, call: &Call) -> Result<Response<Bytes>, ApiError> {
    let message = from_params(&call.params, &api.limits, call.now_nanos)?;
    let request = plan(message, &api.limits, call.now_nanos)?;
    let result = run(api, &call.tenants, request).await?;
    let form = call.form;
    Ok(api
        .compute(size(&result), move || answer::message(form, &to_message(result), json::search))
        .await)
}

/// Runs a search. A search for tags answers with traces alone.
pub async fn run(
    api: &Api,
    tenants: &[TenantId],
    request: SearchRequest,
) -> Result<SearchResult, ApiError> {
    let by_tags = matches!(request.q, SearchQuery::Tags { .. });
    let mut result = api.timed(api.query()?.search(tenants, request)).await?;
    if by_tags {
        for hit in &mut result.traces {
            hit.spansets.clear();
            hit.services.clear();
        }
    }
    Ok(result)
}

/// About how many bytes the answer will have.
pub fn size(result: &SearchResult) -> usize {
    let spans = result.traces.iter().flat_map(|hit| &hit.spansets).map(|set| set.spans.len());
    (result.traces.len() + spans.sum::<usize>()).saturating_mul(SPAN_BYTES)
}

/// The message that a gRPC client would send for these parameters.
fn from_params(
    params: &Params,
    limits: &config::Query,
    now_nanos: u64,
) -> Result<Message, ApiError> {
    let (min, max) = (millis(params, "minDuration")?, millis(params, "maxDuration")?);
    if max.is_some() && max < min {
        return Err(bad("invalid maxDuration: must be greater than minDuration"));
    }
    let limit = params.u32("limit")?;
    if limit == Some(0) {
        return Err(bad("invalid limit: must be a positive number"));
    }
    let (start, end) = match since_seconds(params, now_nanos)? {
        Some(range) => range,
        None => (params.u32("start")?.unwrap_or_default(), params.u32("end")?.unwrap_or_default()),
    };
    Ok(Message {
        tags: tags(params)?,
        min_duration_ms: min.unwrap_or(0),
        max_duration_ms: max.unwrap_or(0),
        limit: limit.unwrap_or(0),
        start,
        end,
        query: params.get("q").unwrap_or_default().to_owned(),
        spans_per_span_set: params.u32("spss")?.unwrap_or(limits.default_spans_per_spanset),
    })
}

/// The tags of `tags=`, or the parameters themselves where nothing else says what is wanted: the
/// form of Tempo's first clients.
fn tags(params: &Params) -> Result<BTreeMap<String, String>, ApiError> {
    match (params.get("tags"), params.get("q")) {
        (Some(_), Some(_)) => Err(both()),
        (Some(tags), None) => params::logfmt(tags),
        (None, Some(_)) => Ok(BTreeMap::new()),
        (None, None) if params.get("start").or(params.get("end")).is_some() => Ok(BTreeMap::new()),
        (None, None) => {
            let mut present = params.present();
            present.retain(|name, _| !RESERVED.contains(name));
            Ok(present.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
        }
    }
}

fn both() -> ApiError {
    bad("invalid request: can't specify tags and q in the same query")
}

/// A Go duration in whole milliseconds.
fn millis(params: &Params, name: &str) -> Result<Option<u32>, ApiError> {
    let Some(text) = params.get(name) else { return Ok(None) };
    let nanos = go_duration(text).map_err(|fault| bad(format!("invalid {name}: {fault}")))?;
    match u32::try_from(nanos / 1_000_000) {
        Ok(millis) if nanos >= 0 => Ok(Some(millis)),
        _ => Err(bad(format!("invalid {name}: {text} is out of range"))),
    }
}

/// Checks a message and fills in what it leaves open.
pub fn plan(
    message: Message,
    limits: &config::Query,
    now_nanos: u64,
) -> Result<SearchRequest, ApiError> {
    if !message.tags.is_empty() && !message.query.is_empty() {
        return Err(both());
    }
    if message.query.len() > MAX_QUERY_BYTES {
        return Err(bad(format!(
            "TraceQL expression exceeds the configured maximum size of {MAX_QUERY_BYTES} bytes, \
             reduce the query expression size or contact your system administrator"
        )));
    }
    let limit = if message.limit == 0 { limits.default_limit } else { message.limit };
    if limits.max_limit != 0 && limit > limits.max_limit {
        return Err(bad(format!("limit {limit} exceeds max limit {}", limits.max_limit)));
    }
    let (spss, max_spss) = (message.spans_per_span_set, limits.max_spans_per_spanset);
    if max_spss != 0 && spss > max_spss {
        return Err(bad(format!("spans per span set exceeds {max_spss}. received {spss}")));
    }
    let longest = limits.max_search_duration;
    let range = search_range(message.start, message.end, longest, now_nanos)?;
    let q = if message.query.is_empty() {
        by_tags(&message)
    } else {
        SearchQuery::TraceQl(message.query)
    };
    Ok(SearchRequest { q, range, limit: to_usize(limit), spans_per_spanset: to_usize(spss) })
}

fn by_tags(message: &Message) -> SearchQuery {
    let nanos = |millis: u32| (millis != 0).then(|| u64::from(millis) * 1_000_000);
    SearchQuery::Tags {
        tags: message.tags.clone().into_iter().collect(),
        min_duration_nanos: nanos(message.min_duration_ms),
        max_duration_nanos: nanos(message.max_duration_ms),
    }
}

fn to_usize(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

pub fn to_message(result: SearchResult) -> SearchResponse {
    SearchResponse {
        traces: result.traces.into_iter().map(trace).collect(),
        metrics: Some(metrics(&result.stats)),
    }
}

fn metrics(stats: &SearchStats) -> SearchMetrics {
    SearchMetrics {
        inspected_traces: stats.inspected_traces,
        inspected_bytes: stats.inspected_bytes,
        total_blocks: stats.total_blocks,
        completed_jobs: stats.completed_jobs,
        total_jobs: stats.total_jobs,
        total_block_bytes: stats.total_block_bytes,
        inspected_spans: stats.inspected_spans,
    }
}

fn trace(hit: TraceHit) -> TraceSearchMetadata {
    let root_service = hit.root_service.filter(|service| !service.is_empty());
    let span_sets: Vec<SpanSet> = hit.spansets.into_iter().map(span_set).collect();
    let services = hit.services.into_iter().map(|(service, stats)| {
        let stats = ServiceStats { span_count: stats.spans, error_count: stats.errors };
        (service.to_string(), stats)
    });
    TraceSearchMetadata {
        trace_id: hit.id.trimmed(),
        root_service_name: root_service.as_deref().unwrap_or(NO_ROOT).to_owned(),
        root_trace_name: hit.root_name.as_deref().unwrap_or_default().to_owned(),
        start_time_unix_nano: hit.start_nanos,
        duration_ms: u32::try_from(hit.duration_nanos / 1_000_000).unwrap_or(u32::MAX),
        span_set: span_sets.first().cloned(),
        span_sets,
        service_stats: services.collect(),
    }
}

fn span_set(set: Spanset) -> SpanSet {
    SpanSet {
        spans: set.spans.into_iter().map(span).collect(),
        matched: set.matched,
        attributes: attributes(set.attributes),
    }
}

fn span(hit: SpanHit) -> Span {
    Span {
        span_id: hit.id.to_string(),
        name: hit.name.as_deref().unwrap_or_default().to_owned(),
        start_time_unix_nano: hit.start_nanos,
        duration_nanos: hit.duration_nanos,
        attributes: attributes(hit.attributes),
    }
}

fn attributes(attributes: Vec<(String, Value)>) -> Vec<KeyValue> {
    let value = |value: &Value| AnyValue { kind: Some(kind(value)) };
    attributes.into_iter().map(|(key, v)| KeyValue { key, value: Some(value(&v)) }).collect()
}

fn kind(value: &Value) -> AnyKind {
    match value {
        Value::Str(text) => AnyKind::String(text.to_string()),
        Value::Int(value) => AnyKind::Int(*value),
        Value::Float(value) => AnyKind::Double(*value),
        Value::Bool(value) => AnyKind::Bool(*value),
        Value::StrArray(items) => array(items, |item| AnyKind::String(item.to_string())),
        Value::IntArray(items) => array(items, |item| AnyKind::Int(*item)),
        Value::FloatArray(items) => array(items, |item| AnyKind::Double(*item)),
        Value::BoolArray(items) => array(items, |item| AnyKind::Bool(*item)),
    }
}

fn array<T>(items: &[T], kind: impl Fn(&T) -> AnyKind) -> AnyKind {
    let values = items.iter().map(|item| AnyValue { kind: Some(kind(item)) });
    AnyKind::Array(ArrayValue { values: values.collect() })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;
    use crate::model::{SpanId, TimeRange, TraceId};
    use crate::query;

    const NOW: u64 = 1_700_000_000_000_000_000;

    fn planned(query: &str) -> Result<SearchRequest, String> {
        let limits = config::Query::default();
        let message = from_params(&Params::parse(Some(query)), &limits, NOW);
        message.and_then(|m| plan(m, &limits, NOW)).map_err(|e| e.to_string())
    }

    fn refused(query: &str) -> String {
        planned(query).err().unwrap_or_default()
    }

    fn by_tags(query: &str) -> (Vec<(String, String)>, Option<u64>, Option<u64>) {
        match planned(query).unwrap().q {
            SearchQuery::Tags { tags, min_duration_nanos, max_duration_nanos } => {
                (tags, min_duration_nanos, max_duration_nanos)
            }
            SearchQuery::TraceQl(q) => panic!("{q} is no search for tags"),
        }
    }

    fn check(hit: TraceHit, expected: Expect) {
        let stats = SearchStats { inspected_bytes: 17_255, ..SearchStats::default() };
        let result = SearchResult { traces: vec![hit], stats };
        let json = json::search(&to_message(result));
        expected.assert_eq(str::from_utf8(&json).unwrap());
    }

    fn hit(id: &str) -> TraceHit {
        TraceHit {
            id: TraceId::parse(id).unwrap(),
            root_service: None,
            root_name: None,
            start_nanos: 5,
            duration_nanos: 999_999,
            spansets: Vec::new(),
            services: BTreeMap::new(),
        }
    }

    fn text(attributes: &[(&str, &str)]) -> Vec<(String, Value)> {
        attributes.iter().map(|(k, v)| ((*k).to_owned(), Value::str(v))).collect()
    }

    #[test]
    fn defaults_are_tempos() {
        let request = planned("q={}&tag=&other=1").unwrap();
        assert!(matches!(&request.q, SearchQuery::TraceQl(q) if q == "{}"));
        assert_eq!((request.limit, request.spans_per_spanset), (20, 3));
        let quarter = 15 * 60 * 1_000_000_000;
        assert_eq!(request.range, TimeRange { start_nanos: NOW - quarter, end_nanos: NOW });
        let none = plan(Message::default(), &config::Query::default(), NOW).unwrap();
        assert_eq!((none.limit, none.spans_per_spanset), (20, 0));
    }

    #[test]
    fn limits_are_checked() {
        assert_eq!(planned("q={}&limit=262144&spss=0&start=1&end=2").unwrap().limit, 262_144);
        assert_eq!(refused("q={}&limit=0"), "invalid limit: must be a positive number");
        assert_eq!(refused("q={}&limit=300000"), "limit 300000 exceeds max limit 262144");
        assert!(refused("q={}&limit=x").starts_with("invalid limit: "));
        assert_eq!(refused("q={}&spss=101"), "spans per span set exceeds 100. received 101");
        assert!(refused("q={}&start=1.5").starts_with("invalid start: "));
        let long = format!("q={}", "x".repeat(MAX_QUERY_BYTES + 1));
        let too_long = "TraceQL expression exceeds the configured maximum size of 131072 bytes, reduce the query expression size or contact your system administrator";
        assert_eq!(refused(&long), too_long);
        let since = planned("q={}&since=1h&start=9&end=1").unwrap().range;
        assert_eq!(since.start_nanos, NOW - 3600 * 1_000_000_000);
        let week = "range specified by start and end exceeds 168h0m0s. received start=";
        assert!(refused("q={}&since=8d").starts_with(week));
    }

    #[test]
    fn tags_are_logfmt_or_all_parameters() {
        let (tags, min, max) =
            by_tags("tags=a%3Db%20c%3D%22d%20e%22&minDuration=1.0009s&maxDuration=2s");
        assert_eq!(tags, [("a".to_owned(), "b".to_owned()), ("c".to_owned(), "d e".to_owned())]);
        assert_eq!((min, max), (Some(1_000_000_000), Some(2_000_000_000)));
        let (tags, ..) = by_tags("service.name=till&limit=5&since=5m&x=");
        assert_eq!(tags, [("service.name".to_owned(), "till".to_owned())]);
        assert_eq!(by_tags("service.name=till&start=1&end=2").0, []);
        let conflict = "invalid request: can't specify tags and q in the same query";
        assert_eq!(refused("tags=a%3Db&q={}"), conflict);
        assert_eq!(refused("tags=a%3D1%20a%3D2"), "invalid tags: tag a has been set twice");
        let unit = "invalid minDuration: time: missing unit in duration \"1\"";
        assert_eq!(refused("tags=a&minDuration=1"), unit);
        let order = "invalid maxDuration: must be greater than minDuration";
        assert_eq!(refused("tags=a&minDuration=2s&maxDuration=1s"), order);
        assert!(refused("tags=a&minDuration=-1s").starts_with("invalid minDuration: "));
        let message = Message {
            tags: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            query: "{}".to_owned(),
            ..Message::default()
        };
        let both = plan(message, &config::Query::default(), NOW).err().unwrap();
        assert_eq!(both.to_string(), conflict);
    }

    #[test]
    fn a_hit_without_a_root() {
        check(
            TraceHit { root_service: Some("".into()), ..hit("0beef") },
            expect![[
                r#"{"traces":[{"traceID":"beef","rootServiceName":"\u003croot span not yet received\u003e","startTimeUnixNano":"5"}],"metrics":{"inspectedBytes":"17255"}}"#
            ]],
        );
    }

    #[test]
    fn the_contracts_example() {
        let span = SpanHit {
            id: SpanId([0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb9]),
            name: None,
            start_nanos: 1_700_000_100_020_000_000,
            duration_nanos: 250_000_000,
            attributes: text(&[("status", "error"), ("http.method", "POST")]),
        };
        let set = Spanset { spans: vec![span], matched: 1, attributes: Vec::new() };
        check(
            TraceHit {
                root_service: Some("web".into()),
                root_name: Some("GET /cart".into()),
                start_nanos: 1_700_000_100_000_000_000,
                duration_nanos: 500_000_000,
                spansets: vec![set],
                services: BTreeMap::from([
                    ("web".into(), query::ServiceStats { spans: 2, errors: 0 }),
                    ("cart".into(), query::ServiceStats { spans: 1, errors: 1 }),
                ]),
                ..hit("0af7651916cd43dd8448eb211c80319c")
            },
            expect![[
                r#"{"traces":[{"traceID":"af7651916cd43dd8448eb211c80319c","rootServiceName":"web","rootTraceName":"GET /cart","startTimeUnixNano":"1700000100000000000","durationMs":500,"spanSet":{"spans":[{"spanID":"00f067aa0ba902b9","startTimeUnixNano":"1700000100020000000","durationNanos":"250000000","attributes":[{"key":"status","value":{"stringValue":"error"}},{"key":"http.method","value":{"stringValue":"POST"}}]}],"matched":1},"spanSets":[{"spans":[{"spanID":"00f067aa0ba902b9","startTimeUnixNano":"1700000100020000000","durationNanos":"250000000","attributes":[{"key":"status","value":{"stringValue":"error"}},{"key":"http.method","value":{"stringValue":"POST"}}]}],"matched":1}],"serviceStats":{"cart":{"spanCount":1,"errorCount":1},"web":{"spanCount":2}}}],"metrics":{"inspectedBytes":"17255"}}"#
            ]],
        );
    }

    #[test]
    fn pipeline_attributes_and_values_of_every_type() {
        let texts: [std::sync::Arc<str>; 1] = ["x".into()];
        let attributes = vec![
            ("count()".to_owned(), Value::Int(2)),
            ("a".to_owned(), Value::Float(0.5)),
            ("b".to_owned(), Value::Bool(true)),
            ("c".to_owned(), Value::StrArray(texts.into())),
            ("d".to_owned(), Value::IntArray([-1].into())),
            ("e".to_owned(), Value::FloatArray([1.5].into())),
            ("f".to_owned(), Value::BoolArray([false].into())),
        ];
        let set = Spanset { spans: Vec::new(), matched: 2, attributes };
        check(
            TraceHit { spansets: vec![set], ..hit("1") },
            expect![[
                r#"{"traces":[{"traceID":"1","rootServiceName":"\u003croot span not yet received\u003e","startTimeUnixNano":"5","spanSet":{"matched":2,"attributes":[{"key":"count()","value":{"intValue":"2"}},{"key":"a","value":{"doubleValue":0.5}},{"key":"b","value":{"boolValue":true}},{"key":"c","value":{"arrayValue":{"values":[{"stringValue":"x"}]}}},{"key":"d","value":{"arrayValue":{"values":[{"intValue":"-1"}]}}},{"key":"e","value":{"arrayValue":{"values":[{"doubleValue":1.5}]}}},{"key":"f","value":{"arrayValue":{"values":[{"boolValue":false}]}}}]},"spanSets":[{"matched":2,"attributes":[{"key":"count()","value":{"intValue":"2"}},{"key":"a","value":{"doubleValue":0.5}},{"key":"b","value":{"boolValue":true}},{"key":"c","value":{"arrayValue":{"values":[{"stringValue":"x"}]}}},{"key":"d","value":{"arrayValue":{"values":[{"intValue":"-1"}]}}},{"key":"e","value":{"arrayValue":{"values":[{"doubleValue":1.5}]}}},{"key":"f","value":{"arrayValue":{"values":[{"boolValue":false}]}}}]}]}],"metrics":{"inspectedBytes":"17255"}}"#
            ]],
        );
    }

    proptest! {
        #[test]
        fn no_query_string_panics(query in "((q|tags|limit|spss|start|end|since|minDuration|maxDuration|\\PC)=?[0-9smh%&\"]{0,8}&?){0,6}") {
            drop(planned(&query));
        }
    }
}
