//! OTLP over HTTP: what may be sent where and in which form, and the answers. Lenient where nothing
//! can be misread.
//!
//! There is no CORS: browsers on other origins are not served.

use std::{fmt::Display, net::SocketAddr};

use bytes::Bytes;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode, Version,
    body::Body,
    header::{
        ACCEPT_ENCODING, ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT,
        HeaderValue, RETRY_AFTER,
    },
};
use serde_json::Value;

use crate::ingest::{Accepted, Payload, Permit};
use crate::receive::{
    Receive, Signal,
    answer::{Answer, Reply},
    body,
    grpc::export_response,
    inflate::Compression,
};

/// A sender that compresses twice may be a misconfigured proxy; thrice is an attack.
const MAX_ENCODINGS: usize = 2;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");

const NOT_FOUND: &str = "404 page not found";
const WRONG_METHOD: &str = "405 method not allowed, supported: [POST]";
const WRONG_TYPE: &str =
    "415 unsupported media type, supported: [application/json, application/x-protobuf]";
const WRONG_ENCODING: &str =
    "415 unsupported content encoding, supported: gzip, zstd, deflate, snappy";
const OUR_ENCODINGS: HeaderValue = HeaderValue::from_static("gzip, zstd, deflate, snappy");
const WHERE_TO: &str = "404 page not found: traces go to /v1/traces; \
    with OTEL_EXPORTER_OTLP_TRACES_ENDPOINT give the full URL, \
    with OTEL_EXPORTER_OTLP_ENDPOINT only host and port";

/// What a path takes.
#[derive(Debug, PartialEq, Eq)]
enum Route {
    Traces,
    Other(Signal),
    /// Where senders arrive that were given half a URL.
    Root,
    Unknown,
}

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Protobuf,
    Json,
    /// Shows in the body's first bytes.
    Unsaid,
}

/// The form of a body, and what answers call it: what the sender called it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Content {
    form: Form,
    name: HeaderValue,
}

/// Answers a request.
pub(super) async fn serve<B>(
    shared: &Receive,
    peer: SocketAddr,
    stopping: bool,
    request: Request<B>,
) -> Response<Reply>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Display,
{
    let (head, mut body) = request.into_parts();
    // Who asked whether to send the body has not sent it.
    let sends_all = head.version < Version::HTTP_2 && !head.headers.contains_key(EXPECT);
    let response = match (route(head.uri.path()), &head.method) {
        (Route::Unknown, _) => text(StatusCode::NOT_FOUND, NOT_FOUND),
        (Route::Root, &Method::POST) => text(StatusCode::NOT_FOUND, WHERE_TO),
        (Route::Root, _) => text(StatusCode::NOT_FOUND, NOT_FOUND),
        (_, method) if method != Method::POST => {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, WRONG_METHOD);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            response
        }
        (Route::Other(signal), _) => {
            body::drain(&mut body).await;
            shared.discard(signal, peer);
            success(&content(&head.headers).unwrap_or_default(), &Accepted::default())
        }
        (Route::Traces, _) => traces(shared, stopping, &head.headers, &mut body).await,
    };
    if sends_all && !response.status().is_success() {
        body::drain(&mut body).await;
    }
    response
}

fn route(path: &str) -> Route {
    let path = path.strip_suffix('/').unwrap_or(path);
    match path {
        "" => Route::Root,
        _ if path.ends_with("/v1/traces") => Route::Traces,
        _ if path.ends_with("/v1/metrics") => Route::Other(Signal::Metrics),
        _ if path.ends_with("/v1/logs") => Route::Other(Signal::Logs),
        _ if path.ends_with("/v1/profiles") || path.ends_with("/v1development/profiles") => {
            Route::Other(Signal::Profiles)
        }
        _ => Route::Unknown,
    }
}

async fn traces<B>(
    shared: &Receive,
    stopping: bool,
    headers: &HeaderMap,
    body: &mut B,
) -> Response<Reply>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Display,
{
    let Some(mut content) = content(headers) else {
        return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, WRONG_TYPE);
    };
    let Some(encodings) = encodings(headers) else {
        let mut response = text(StatusCode::UNSUPPORTED_MEDIA_TYPE, WRONG_ENCODING);
        response.headers_mut().insert(ACCEPT_ENCODING, OUR_ENCODINGS);
        return response;
    };
    let received = async {
        if stopping {
            return Err(Answer::stopping());
        }
        let tenant = shared.tenancy.resolve(headers)?;
        let (body, permit) = read(shared, headers, content.form, &encodings, body).await?;
        Ok((tenant, body, permit))
    };
    let (tenant, body, permit) = match received.await {
        Ok(received) => received,
        Err(answer) => return failure(&content, &shared.http.count_refusal(answer)),
    };
    content = content.seen(&body);
    let payload = match content.form {
        Form::Json => Payload::Json(body),
        _ => Payload::Protobuf(body),
    };
    let outcome = shared.ingest.push(&tenant, payload, permit).await;
    match shared.http.count(outcome) {
        Ok(accepted) => success(&content, &accepted),
        Err(answer) => failure(&content, &answer),
    }
}

/// The body as it was before it was encoded.
async fn read<B>(
    shared: &Receive,
    headers: &HeaderMap,
    form: Form,
    encodings: &[Compression],
    body: &mut B,
) -> Result<(Bytes, Permit), Answer>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Display,
{
    let max = shared.max_http;
    let len = body.size_hint().exact().or_else(|| content_length(headers));
    max.check(len.unwrap_or(0))?;
    let (compressed, json) = (!encodings.is_empty(), form != Form::Protobuf);
    let mut permit =
        body::permit(&shared.ingest, body::expected_bytes(len, compressed, json)).await?;
    let mut bytes = match len.and_then(|len| usize::try_from(len).ok()) {
        Some(len) => {
            let first = if len > 0 { body::next_data(body).await? } else { None };
            body::read_exact(body, first.unwrap_or_default(), len).await?
        }
        None => {
            let factor = body::expected_bytes(Some(1), compressed, json);
            body::read_all(body, max, &mut permit, factor).await?
        }
    };
    shared.bytes.increment(bytes.len() as u64);
    for &compression in encodings {
        bytes = body::inflate(compression, bytes, max, &mut permit).await?;
    }
    let expected = body::expected_bytes(Some(bytes.len() as u64), false, json);
    body::grow(&mut permit, expected).await?;
    Ok((bytes, permit))
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The form that the content type names; `None` if it names none of ours.
fn content(headers: &HeaderMap) -> Option<Content> {
    let Some(name) = headers.get(CONTENT_TYPE) else { return Some(Content::default()) };
    let media_type = name.to_str().ok()?.split(';').next().unwrap_or_default();
    let form = match media_type.trim().to_ascii_lowercase().as_str() {
        "application/x-protobuf" | "application/protobuf" | "application/octet-stream" => {
            Form::Protobuf
        }
        "application/json" | "text/json" => Form::Json,
        "" => Form::Unsaid,
        _ => return None,
    };
    if form == Form::Unsaid {
        return Some(Content::default());
    }
    Some(Content { form, name: HeaderValue::try_from(media_type.trim()).ok()? })
}

impl Default for Content {
    fn default() -> Content {
        Content { form: Form::Unsaid, name: PROTOBUF }
    }
}

impl Content {
    /// The same, decided by the body if it was not said.
    fn seen(self, body: &[u8]) -> Content {
        match self.form {
            Form::Unsaid if body.trim_ascii_start().starts_with(b"{") => {
                Content { form: Form::Json, name: JSON }
            }
            Form::Unsaid => Content { form: Form::Protobuf, name: PROTOBUF },
            Form::Json | Form::Protobuf => self,
        }
    }
}

/// What to undo, in this order; `None` if one of it is unknown, or there is too much of it.
fn encodings(headers: &HeaderMap) -> Option<Vec<Compression>> {
    let mut encodings = Vec::new();
    for value in headers.get_all(CONTENT_ENCODING) {
        for name in value.to_str().ok()?.split(',') {
            match name.trim().to_ascii_lowercase().as_str() {
                "" | "identity" => {}
                "gzip" | "x-gzip" => encodings.push(Compression::Gzip),
                "zstd" => encodings.push(Compression::Zstd),
                "deflate" | "zlib" => encodings.push(Compression::Deflate),
                "snappy" | "x-snappy-framed" => encodings.push(Compression::Snappy),
                _ => return None,
            }
        }
    }
    encodings.reverse();
    (encodings.len() <= MAX_ENCODINGS).then_some(encodings)
}

fn success(content: &Content, accepted: &Accepted) -> Response<Reply> {
    let body = match content.form {
        Form::Json => json_response(accepted).into_bytes(),
        Form::Protobuf | Form::Unsaid => export_response(accepted),
    };
    let mut response = Response::new(Reply::new(body));
    response.headers_mut().insert(CONTENT_TYPE, content.name.clone());
    response
}

/// `ExportTraceServiceResponse` in JSON.
fn json_response(accepted: &Accepted) -> String {
    let Accepted { refused, message, .. } = accepted;
    let said = match (refused, message.as_str()) {
        (0, "") => String::new(),
        (0, message) => format!(r#""errorMessage":{}"#, Value::from(message)),
        (_, message) => {
            format!(r#""rejectedSpans":"{refused}","errorMessage":{}"#, Value::from(message))
        }
    };
    format!(r#"{{"partialSuccess":{{{said}}}}}"#)
}

fn failure(content: &Content, answer: &Answer) -> Response<Reply> {
    let body = match content.form {
        Form::Json => answer.to_json().into_bytes(),
        Form::Protobuf | Form::Unsaid => answer.to_protobuf(),
    };
    let mut response = Response::new(Reply::new(body));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content.name.clone());
    if let Some(secs) = answer.retry_after_secs() {
        headers.insert(RETRY_AFTER, HeaderValue::from(secs));
    }
    if answer.close {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn text(status: StatusCode, text: &'static str) -> Response<Reply> {
    let mut response = Response::new(Reply::new(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_that_can_mean_one_thing() {
        let cases = [
            ("/v1/traces", Route::Traces),
            ("/v1/traces/", Route::Traces),
            ("/otlp/v1/traces", Route::Traces),
            ("/v1/traces/v1/traces", Route::Traces),
            ("/v1/metrics", Route::Other(Signal::Metrics)),
            ("/v1/logs/", Route::Other(Signal::Logs)),
            ("/v1development/profiles", Route::Other(Signal::Profiles)),
            ("/", Route::Root),
            ("", Route::Root),
            ("/v1", Route::Unknown),
            ("/xv1/traces", Route::Unknown),
            ("/v1/tracesx", Route::Unknown),
        ];
        for (path, expected) in cases {
            assert_eq!(route(path), expected, "{path}");
        }
    }

    #[test]
    fn content_types_are_read_leniently() {
        let cases = [
            ("application/x-protobuf", Some((Form::Protobuf, "application/x-protobuf"))),
            ("Application/Protobuf", Some((Form::Protobuf, "Application/Protobuf"))),
            ("application/octet-stream", Some((Form::Protobuf, "application/octet-stream"))),
            ("application/json; charset=utf-8", Some((Form::Json, "application/json"))),
            ("text/json", Some((Form::Json, "text/json"))),
            ("", Some((Form::Unsaid, "application/x-protobuf"))),
            ("text/plain", None),
            ("application/grpc-web", None),
        ];
        for (header, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, header.parse().unwrap());
            let expected =
                expected.map(|(form, name)| Content { form, name: HeaderValue::from_static(name) });
            assert_eq!(content(&headers), expected, "{header}");
        }
        let unsaid = || content(&HeaderMap::new()).unwrap();
        assert_eq!(unsaid().seen(b" {}").form, Form::Json);
        assert_eq!(unsaid().seen(b"\x0a\x00").form, Form::Protobuf);
    }

    #[test]
    fn encodings_are_undone_from_the_last() {
        use Compression::{Deflate, Gzip, Snappy, Zstd};
        let cases = [
            ("identity", Some(vec![])),
            ("GZIP", Some(vec![Gzip])),
            ("x-gzip", Some(vec![Gzip])),
            ("gzip, zstd", Some(vec![Zstd, Gzip])),
            ("deflate,identity", Some(vec![Deflate])),
            ("zlib", Some(vec![Deflate])),
            ("snappy", Some(vec![Snappy])),
            ("gzip,gzip,gzip", None),
            ("br", None),
        ];
        for (header, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_ENCODING, header.parse().unwrap());
            assert_eq!(encodings(&headers), expected, "{header}");
        }
    }

    #[test]
    fn answers_are_in_the_form_of_the_request() {
        let partial = Accepted { spans: 1, refused: 3, message: "why".into() };
        let said = r#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"why"}}"#;
        assert_eq!(json_response(&partial), said);
        assert_eq!(json_response(&Accepted::default()), r#"{"partialSuccess":{}}"#);
        let json = Content { form: Form::Json, name: JSON };
        let response = failure(&json, &Answer::stopping());
        assert_eq!(response.status(), 503);
        let header = |name| response.headers().get(name).and_then(|it| it.to_str().ok());
        assert_eq!(header("retry-after"), Some("1"));
        assert_eq!(header("connection"), Some("close"));
        assert_eq!(header("content-type"), Some("application/json"));
    }
}
