//! Trace by id: `/api/traces/{id}` and `/api/v2/traces/{id}`.

use bytes::Bytes;
use hyper::{Response, StatusCode};
use prost::Message;
use uuid::Uuid;

use crate::api::answer::{self, Form};
use crate::api::params::{Params, bad};
use crate::api::time::trace_range;
use crate::api::wire::{PartialStatus, TraceByIdMetrics, TraceByIdResponse};
use crate::api::{Api, ApiError, Call, json};
use crate::model::{Span, TimeRange, Trace, TraceId};
use crate::otlp::llm::llm_trace;
use crate::otlp::render::{trace_v1, trace_v2};
use crate::otlp::wire::{BYTES, Reader, WireError, put_bytes_field, tag};
use crate::query::{FoundTrace, Sources};

/// The largest trace that version 1 answers with: Tempo's `max_bytes_per_trace`.
const MAX_TRACE_BYTES: usize = 5_000_000;

const NO_FILTER: &str = "the span filter q is not supported by this version";

/// The field of a span that holds its status.
const SPAN_STATUS: u32 = 15;

/// What a client asks for.
#[derive(Debug)]
struct Asked {
    id: TraceId,
    range: Option<TimeRange>,
    sources: Sources,
}

/// The bare trace, or 404 without a body.
pub async fn v1(api: &Api, call: &Call, id: &str) -> Result<Response<Bytes>, ApiError> {
    let asked = asked(id, &call.params)?;
    let Some(found) = find(api, call, asked).await? else {
        return Ok(answer::empty(StatusCode::NOT_FOUND));
    };
    let form = call.form;
    api.compute(found.trace.encoded_len(), move || answer_v1(found, form)).await
}

/// The trace with metrics and a status; 200 also if there is none, as clients of this version
/// expect.
pub async fn v2(api: &Api, call: &Call, id: &str) -> Result<Response<Bytes>, ApiError> {
    let asked = asked(id, &call.params)?;
    if call.params.get("q").is_some_and(|q| !q.trim().is_empty()) {
        return Err(bad(NO_FILTER));
    }
    let found = find(api, call, asked).await?;
    let size = found.as_ref().map_or(0, |found| found.trace.encoded_len());
    let form = call.form;
    api.compute(size, move || answer_v2(found, form)).await
}

async fn find(api: &Api, call: &Call, asked: Asked) -> Result<Option<FoundTrace>, ApiError> {
    let Asked { id, range, sources } = asked;
    api.timed(api.query()?.find_trace(&call.tenants, id, range, sources)).await
}

fn asked(id: &str, params: &Params) -> Result<Asked, ApiError> {
    let id = TraceId::parse(id).map_err(|e| bad(e.to_string()))?;
    let sources = match params.get("mode") {
        // There is no external store here, so asking for it is asking for all.
        None | Some("all" | "external") => Sources::All,
        Some("ingesters") => Sources::Recent,
        Some("blocks") => Sources::Blocks,
        Some(other) => return Err(bad(format!("invalid value for mode {other}"))),
    };
    // Ranges of block ids are for debugging Tempo: checked, and not needed.
    for name in ["blockStart", "blockEnd"] {
        if let Some(Err(e)) = params.get(name).map(Uuid::try_parse) {
            return Err(bad(format!("invalid value for {name}: {e}")));
        }
    }
    Ok(Asked { id, range: trace_range(params)?, sources })
}

fn answer_v1(found: FoundTrace, form: Form) -> Result<Response<Bytes>, ApiError> {
    let trace = encode(found.trace);
    if found.partial.is_some() && trace.len() > MAX_TRACE_BYTES {
        let text = format!("trace exceeds max size (max bytes: {MAX_TRACE_BYTES})");
        return Err(ApiError::TooLarge(text));
    }
    Ok(match form {
        Form::Protobuf => answer::typed(answer::PROTOBUF, trace),
        Form::Json | Form::Llm => {
            answer::typed(answer::JSON, trace_v1(&trace).map_err(unprintable)?)
        }
    })
}

fn answer_v2(found: Option<FoundTrace>, form: Form) -> Result<Response<Bytes>, ApiError> {
    let Some(found) = found else { return Ok(missing_v2(form)) };
    let metrics = TraceByIdMetrics { inspected_bytes: found.inspected_bytes };
    let partial = found.partial;
    let trace = encode(found.trace);
    let (content_type, body) = match form {
        Form::Protobuf => {
            let status = match partial {
                Some(_) => PartialStatus::Partial,
                None => PartialStatus::Complete,
            };
            let message = TraceByIdResponse {
                trace: Some(trace.into()),
                metrics: Some(metrics),
                status: status.into(),
                message: partial.unwrap_or_default(),
            };
            (answer::PROTOBUF, Ok(message.encode_to_vec()))
        }
        Form::Json => {
            let body = json::trace_by_id(&metrics, partial.as_deref(), |out| trace_v2(&trace, out));
            (answer::JSON, body)
        }
        Form::Llm => {
            let body = json::llm_trace(&metrics, partial.as_deref(), |out| llm_trace(&trace, out));
            (answer::LLM, body)
        }
    };
    Ok(answer::typed(content_type, body.map_err(unprintable)?))
}

fn unprintable(error: WireError) -> ApiError {
    ApiError::Internal(format!("the trace is damaged: {error}"))
}

fn missing_v2(form: Form) -> Response<Bytes> {
    match form {
        Form::Protobuf => {
            let message = TraceByIdResponse {
                trace: Some(Bytes::new()),
                metrics: Some(TraceByIdMetrics::default()),
                ..TraceByIdResponse::default()
            };
            answer::typed(answer::PROTOBUF, message.encode_to_vec())
        }
        Form::Json => answer::typed(answer::JSON, r#"{"trace":{},"metrics":{}}"#),
        Form::Llm => answer::typed(answer::LLM, "{}"),
    }
}

/// The trace's bytes, with a status in every span: Grafana crashes on a span without one.
fn encode(mut trace: Trace) -> Vec<u8> {
    let scopes = trace.resources.iter_mut().flat_map(|resource| &mut resource.scopes);
    for span in scopes.flat_map(|scope| &mut scope.spans) {
        ensure_status(span);
    }
    trace.encode()
}

fn ensure_status(span: &mut Span) {
    if has_status(&span.encoded) {
        return;
    }
    let mut encoded = span.encoded.to_vec();
    put_bytes_field(&mut encoded, SPAN_STATUS, &[]);
    span.encoded = encoded.into();
}

/// Whether a span's fields hold a status. Bytes that cannot be read are left as they are.
fn has_status(span: &[u8]) -> bool {
    let mut reader = Reader::new(span);
    while let Ok(found) = reader.tag() {
        let Some(found) = found else { return false };
        if found == tag(SPAN_STATUS, BYTES) || reader.skip(found).is_err() {
            return true;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use hyper::header::CONTENT_TYPE;

    use super::*;
    use crate::model::{ResourceSpans, ScopeSpans, SpanId};

    fn refused(id: &str, query: &str) -> String {
        let refused = asked(id, &Params::parse(Some(query))).unwrap_err();
        assert!(matches!(refused, ApiError::Bad(_)));
        refused.to_string()
    }

    fn span(encoded: &'static [u8]) -> Span {
        let encoded = Bytes::from_static(encoded);
        Span { id: SpanId([1; 8]), parent: SpanId::default(), kind: 1, start_nanos: 1, encoded }
    }

    fn found(encoded: &'static [u8], partial: Option<&str>) -> FoundTrace {
        let scopes = vec![ScopeSpans { scope: Bytes::new(), spans: vec![span(encoded)] }];
        let resources = vec![ResourceSpans { resource: Bytes::new(), scopes }];
        let partial = partial.map(str::to_owned);
        FoundTrace { trace: Trace { resources }, inspected_bytes: 7, partial }
    }

    /// A span with the name `a`, and with and without a status; resource, scope and status are
    /// empty messages.
    const NAMED: &[u8] = &[0x2a, 1, b'a'];
    const TRACE: &[u8] = &[0x0a, 0x0d, 0x0a, 0, 0x12, 9, 0x0a, 0, 0x12, 5, 0x2a, 1, b'a', 0x7a, 0];

    #[test]
    fn ids_and_parameters_are_checked() {
        let plain = asked("bEEf", &Params::default()).unwrap();
        assert_eq!(plain.id.to_string(), "0000000000000000000000000000beef");
        assert_eq!(plain.range, None);
        assert_eq!(asked("abc", &Params::default()).unwrap().id.trimmed(), "abc");
        let nothex =
            "trace IDs can only contain hex characters: invalid character 'z' at position 1";
        assert_eq!(refused("z", ""), nothex);
        assert_eq!(refused(&"a".repeat(33), ""), "trace IDs can't be larger than 128 bits");
        assert_eq!(refused("a", "mode=foo"), "invalid value for mode foo");
        assert!(refused("a", "blockStart=1").starts_with("invalid value for blockStart: "));
        let backwards = "http parameter start must be before end. received start=2 end=1";
        assert_eq!(refused("a", "start=2&end=1"), backwards);
        let query = "mode=blocks&blockEnd=ffffffff-ffff-ffff-ffff-ffffffffffff&start=&x=1";
        let blocks = asked("a", &Params::parse(Some(query))).unwrap();
        assert!(matches!(blocks.sources, Sources::Blocks));
    }

    #[test]
    fn a_missing_status_is_added() {
        let full = [NAMED, &[0x7a, 2, 0x18, 2]].concat();
        assert!(has_status(&full));
        assert!(!has_status(NAMED));
        assert!(has_status(&[0x2a, 9]), "broken bytes stay as they are");
        assert_eq!(encode(found(NAMED, None).trace), TRACE);
    }

    #[test]
    fn version_1_in_protobuf_is_the_bare_trace() {
        let answer = answer_v1(found(NAMED, None), Form::Protobuf).unwrap();
        assert_eq!(&answer.body()[..], TRACE);
        assert_eq!(answer.headers()[CONTENT_TYPE], "application/protobuf");
        let json = answer_v1(found(NAMED, None), Form::Llm).unwrap();
        assert_eq!(json.headers()[CONTENT_TYPE], "application/json");
        assert!(json.body().starts_with(b"{\"batches\":["));
    }

    #[test]
    fn version_1_refuses_a_cut_trace() {
        let mut large = found(NAMED, Some("cut"));
        large.trace.resources.push(ResourceSpans {
            resource: Bytes::from(vec![0; MAX_TRACE_BYTES]),
            scopes: Vec::new(),
        });
        let refused = answer_v1(large, Form::Json).unwrap_err();
        assert_eq!(refused.status().as_u16(), 422);
        assert_eq!(refused.to_string(), "trace exceeds max size (max bytes: 5000000)");
    }

    #[test]
    fn version_2_wraps_the_trace() {
        let of = |partial, form| answer_v2(Some(found(NAMED, partial)), form).unwrap();
        let answer = of(Some("cut"), Form::Protobuf);
        let decoded = TraceByIdResponse::decode(answer.body().clone()).unwrap();
        assert_eq!(decoded.trace.unwrap(), TRACE);
        assert_eq!(decoded.metrics.unwrap().inspected_bytes, 7);
        assert_eq!((decoded.status, decoded.message.as_str()), (1, "cut"));
        let json = of(Some("cut"), Form::Json);
        let json = String::from_utf8(json.body().to_vec()).unwrap();
        assert!(json.starts_with(r#"{"trace":{"resourceSpans":["#), "{json}");
        let end = r#"},"metrics":{"inspectedBytes":"7"},"status":"PARTIAL","message":"cut"}"#;
        assert!(json.ends_with(end), "{json}");
        let llm = of(None, Form::Llm);
        assert_eq!(llm.headers()[CONTENT_TYPE], "application/vnd.grafana.llm+json");
        let llm = String::from_utf8(llm.body().to_vec()).unwrap();
        let end = r#","metrics":{"inspectedBytes":7},"status":"COMPLETE"}"#;
        assert!(llm.ends_with(end), "{llm}");
    }

    #[test]
    fn version_2_answers_for_a_missing_trace() {
        let of = |form| answer_v2(None, form).unwrap().body().clone();
        assert_eq!(of(Form::Protobuf), [0x0a, 0, 0x12, 0][..]);
        assert_eq!(of(Form::Json), r#"{"trace":{},"metrics":{}}"#);
        assert_eq!(of(Form::Llm), "{}");
    }
}
