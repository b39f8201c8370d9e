//! OTLP over gRPC: unary calls, framed by hand so that a message is read once, under a permit, as
//! it came.
//!
//! A call's message is five bytes of prefix (compressed or not, length) and so many bytes. See the
//! gRPC specification "gRPC over HTTP2".

use std::{fmt::Display, net::SocketAddr};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use bytes::Bytes;
use hyper::{
    HeaderMap, Request, Response, StatusCode, Version,
    body::Body,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};

use crate::ingest::{Accepted, Payload, Permit};
use crate::otlp::wire::{put_bytes_field, put_message, put_varint_field};
use crate::receive::{
    Receive, Signal,
    answer::{Answer, Code, Reply},
    body,
    inflate::Compression,
};

const PREFIX_BYTES: usize = 5;

const CONTENT: HeaderValue = HeaderValue::from_static("application/grpc");
const ACCEPTED_ENCODINGS: HeaderValue = HeaderValue::from_static("identity,gzip,zstd");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const GRPC_ENCODING: &str = "grpc-encoding";
const GRPC_ACCEPT_ENCODING: &str = "grpc-accept-encoding";

/// `HealthCheckResponse{1 status}`: 1 is SERVING, 2 is NOT_SERVING.
const SERVING: &[u8] = &[0x08, 1];
const NOT_SERVING: &[u8] = &[0x08, 2];

/// What can be called.
#[derive(Debug, PartialEq, Eq)]
enum Method {
    Traces,
    Other(Signal),
    Health,
}

/// Whether a request is gRPC: by its content type, but for gRPC-Web, which is framed in another
/// way.
pub(super) fn is_grpc<B>(request: &Request<B>) -> bool {
    let content_type = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = content_type.and_then(|value| value.strip_prefix(b"application/grpc"));
    request.version() == Version::HTTP_2 && matches!(rest, Some([] | [b'+' | b';' | b' ', ..]))
}

/// Answers a call. Errors are in the trailers: the HTTP status is always 200.
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
    let answered = match method(head.uri.path()) {
        Ok(Method::Traces) if stopping => Err(shared.grpc.count_refusal(Answer::stopping())),
        Ok(Method::Traces) => export(shared, &head.headers, &mut body).await,
        Ok(Method::Other(signal)) => {
            body::drain(&mut body).await;
            shared.discard(signal, peer);
            Ok(Vec::new())
        }
        Ok(Method::Health) => Ok(if stopping { NOT_SERVING } else { SERVING }.to_vec()),
        Err(answer) => Err(answer),
    };
    match answered {
        Ok(message) => success(&message),
        Err(answer) => failure(&answer),
    }
}

fn method(path: &str) -> Result<Method, Answer> {
    let path = path.trim_start_matches('/');
    let (service, method) = path.split_once('/').unwrap_or((path, ""));
    let called = match service {
        "opentelemetry.proto.collector.trace.v1.TraceService" => Method::Traces,
        "opentelemetry.proto.collector.metrics.v1.MetricsService" => Method::Other(Signal::Metrics),
        "opentelemetry.proto.collector.logs.v1.LogsService" => Method::Other(Signal::Logs),
        "opentelemetry.proto.collector.profiles.v1development.ProfilesService" => {
            Method::Other(Signal::Profiles)
        }
        "grpc.health.v1.Health" => Method::Health,
        _ => return Err(unimplemented(format!("unknown service {service}"))),
    };
    let known = if called == Method::Health { "Check" } else { "Export" };
    if method == known {
        return Ok(called);
    }
    Err(unimplemented(format!("unknown method {method} for service {service}")))
}

async fn export<B>(shared: &Receive, headers: &HeaderMap, body: &mut B) -> Result<Vec<u8>, Answer>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Display,
{
    let counters = &shared.grpc;
    let received = async {
        let tenant = shared.tenancy.resolve(headers)?;
        let compression = compression(headers)?;
        let (message, permit) = read_message(shared, compression, body).await?;
        Ok((tenant, message, permit))
    };
    let (tenant, message, permit) = received.await.map_err(|it| counters.count_refusal(it))?;
    let outcome = shared.ingest.push(&tenant, Payload::Protobuf(message), permit).await;
    Ok(export_response(&counters.count(outcome)?))
}

/// How messages are compressed that say they are.
fn compression(headers: &HeaderMap) -> Result<Option<Compression>, Answer> {
    let Some(name) = headers.get(GRPC_ENCODING) else { return Ok(None) };
    match name.as_bytes().to_ascii_lowercase().as_slice() {
        b"identity" => Ok(None),
        b"gzip" => Ok(Some(Compression::Gzip)),
        b"zstd" => Ok(Some(Compression::Zstd)),
        other => {
            let name = String::from_utf8_lossy(other);
            Err(unimplemented(format!("grpc-encoding {name} is unknown; use gzip or zstd")))
        }
    }
}

/// Reads the one message of a call. Its length is judged, and its memory taken, before it is read.
async fn read_message<B>(
    shared: &Receive,
    compression: Option<Compression>,
    body: &mut B,
) -> Result<(Bytes, Permit), Answer>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Display,
{
    let (compressed, len, first) = read_prefix(body).await?;
    shared.max_grpc.check(u64::from(len))?;
    let compression = match (compressed, compression) {
        (0, _) => None,
        (1, Some(compression)) => Some(compression),
        (1, None) => {
            return Err(Answer::bad_request(
                "message is compressed, but no grpc-encoding says how",
            ));
        }
        _ => return Err(Answer::bad_request("message does not start with 0 or 1")),
    };
    let expected = body::expected_bytes(Some(u64::from(len)), compression.is_some(), false);
    let mut permit = body::permit(&shared.ingest, expected).await?;
    let len = usize::try_from(len).map_err(|_| Answer::bad_request("message is too long"))?;
    let message = body::read_exact(body, first, len).await?;
    shared.bytes.increment((PREFIX_BYTES + len) as u64);
    let message = match compression {
        None => message,
        Some(how) => body::inflate(how, message, shared.max_grpc, &mut permit).await?,
    };
    Ok((message, permit))
}

/// The flag, the length, and the bytes that came along with them.
async fn read_prefix<B>(body: &mut B) -> Result<(u8, u32, Bytes), Answer>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Display,
{
    let ends = || Answer::bad_request("call has no message");
    let mut first = body::next_data(body).await?.ok_or_else(ends)?;
    while first.len() < PREFIX_BYTES {
        let more = body::next_data(body).await?.ok_or_else(ends)?;
        first = [first, more].concat().into();
    }
    match first.split_first_chunk::<PREFIX_BYTES>() {
        Some((&[compressed, a, b, c, d], _)) => {
            Ok((compressed, u32::from_be_bytes([a, b, c, d]), first.slice(PREFIX_BYTES..)))
        }
        None => Err(ends()),
    }
}

/// `ExportTraceServiceResponse`.
pub(super) fn export_response(accepted: &Accepted) -> Vec<u8> {
    let mut out = Vec::new();
    if accepted.message.is_empty() {
        return out;
    }
    put_message(&mut out, 1, |out| {
        if accepted.refused > 0 {
            put_varint_field(out, 1, accepted.refused);
        }
        put_bytes_field(out, 2, accepted.message.as_bytes());
    });
    out
}

fn unimplemented(message: String) -> Answer {
    Answer::new(Code::Unimplemented, StatusCode::NOT_FOUND, message)
}

fn success(message: &[u8]) -> Response<Reply> {
    let mut data = Vec::with_capacity(PREFIX_BYTES + message.len());
    data.push(0);
    let len = u32::try_from(message.len()).expect("answers are short");
    data.extend_from_slice(&len.to_be_bytes());
    data.extend_from_slice(message);
    let mut trailers = HeaderMap::new();
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    response(Reply::with_trailers(data, trailers))
}

fn failure(answer: &Answer) -> Response<Reply> {
    let mut response = response(Reply::default());
    let headers = response.headers_mut();
    headers.insert(GRPC_STATUS, HeaderValue::from(answer.code as u16));
    let message = HeaderValue::try_from(percent_encoded(&answer.message));
    headers.insert(GRPC_MESSAGE, message.expect("percent-encoded text is visible ASCII"));
    if answer.code == Code::Unimplemented {
        headers.insert(GRPC_ACCEPT_ENCODING, ACCEPTED_ENCODINGS);
    }
    if answer.retry.is_some() {
        let details = HeaderValue::try_from(STANDARD_NO_PAD.encode(answer.to_protobuf()));
        headers.insert(GRPC_DETAILS, details.expect("base64 is visible ASCII"));
    }
    response
}

fn response(reply: Reply) -> Response<Reply> {
    let mut response = Response::new(reply);
    response.headers_mut().insert(CONTENT_TYPE, CONTENT);
    response
}

/// `grpc-message`: all but visible ASCII as `%XX`.
fn percent_encoded(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receive::body::tests::Pieces;

    #[test]
    fn methods_are_told_by_their_path() {
        let traces = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
        assert_eq!(method(traces), Ok(Method::Traces));
        assert_eq!(method("/grpc.health.v1.Health/Check"), Ok(Method::Health));
        let logs = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
        assert_eq!(method(logs), Ok(Method::Other(Signal::Logs)));
        for (path, message) in [
            ("/a.B/C", "unknown service a.B"),
            (
                "/grpc.health.v1.Health/Watch",
                "unknown method Watch for service grpc.health.v1.Health",
            ),
            ("/", "unknown service "),
        ] {
            let answer = method(path).unwrap_err();
            assert_eq!((answer.code, answer.message.as_str()), (Code::Unimplemented, message));
        }
    }

    #[test]
    fn grpc_is_told_by_its_content_type() {
        let cases = [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;x=y", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ];
        for (content_type, expected) in cases {
            let request = Request::builder()
                .version(Version::HTTP_2)
                .header(CONTENT_TYPE, content_type)
                .body(())
                .unwrap();
            assert_eq!(is_grpc(&request), expected, "{content_type}");
        }
    }

    #[tokio::test]
    async fn a_prefix_may_come_in_pieces() {
        let mut body = Pieces::new(&[&[1], &[0, 0], &[0, 3, 7], &[8, 9]]);
        let (compressed, len, first) = read_prefix(&mut body).await.unwrap();
        assert_eq!((compressed, len, &first[..]), (1, 3, &[7][..]));
        let message = body::read_exact(&mut body, first, 3).await.unwrap();
        assert_eq!(&message[..], [7, 8, 9]);
        assert!(read_prefix(&mut Pieces::new(&[&[0, 0, 0]])).await.is_err());
    }

    #[test]
    fn a_refusal_is_in_the_headers() {
        let response = failure(&Answer::stopping());
        let header = |name| response.headers().get(name).and_then(|it| it.to_str().ok());
        assert_eq!(header("grpc-status"), Some("14"));
        assert_eq!(header("grpc-message"), Some("server is stopping; try again"));
        let details = header("grpc-status-details-bin").unwrap();
        let details = STANDARD_NO_PAD.decode(details).unwrap();
        assert_eq!(details, Answer::stopping().to_protobuf());
        let response = failure(&Answer::bad_request("5 % of\n7 ä"));
        let message = response.headers().get("grpc-message").unwrap();
        assert_eq!(message, "5 %25 of%0A7 %C3%A4");
        assert!(!response.headers().contains_key("grpc-status-details-bin"));
    }

    #[test]
    fn an_answer_tells_of_refused_spans() {
        assert_eq!(export_response(&Accepted::default()), b"");
        let partial = Accepted { spans: 9, refused: 1, message: "why".into() };
        assert_eq!(export_response(&partial), b"\x0a\x07\x08\x01\x12\x03why");
    }
}
