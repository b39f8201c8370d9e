//! gRPC: `tempopb.StreamingQuerier` and `grpc.health.v1.Health`, on every port of the edge.
//!
//! A call is one request message and a stream of answers. On the wire each message stands behind
//! five bytes: a flag (1 = compressed) and its length, big endian. The status comes in trailers, or
//! in the head if there is nothing else. A query is answered by its full result, cut into packets
//! that clients accept.
#![deny(clippy::indexing_slicing)]

use std::fmt::Write;
use std::io::Read;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Limited};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Response, Version};
use prost::Message;
use tracing::{debug, error};
use zstd::stream::read::Decoder;

use crate::api::answer::Body;
use crate::api::meter::Meter;
use crate::api::wire::{
    HealthCheckRequest, HealthCheckResponse, SearchRequest, SearchResponse, SearchTagValuesRequest,
    SearchTagValuesResponse, SearchTagValuesV2Response, SearchTagsRequest, SearchTagsResponse,
    SearchTagsV2Response, SearchTagsV2Scope, ServingStatus,
};
use crate::api::{Api, ApiError, NO_METRICS, State, now_nanos, search, tags};
use crate::model::TenantId;

/// The largest message that is sent: Tempo's `max_grpc_streaming_packet_size`.
const PACKET_BYTES: usize = 1 << 20;

/// Room in a packet for what stands beside the items.
const PACKET_RESERVE: usize = 512;

/// The largest request that is read. A query has at most 128 KiB of text.
const MAX_REQUEST: usize = 1 << 20;

/// The largest window of zstd, 8 MiB: what its encoders use at usual levels. The decoder allocates
/// it.
const ZSTD_WINDOW_LOG: u32 = 23;

/// A request is sent whole with the call; one that takes longer never comes.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest error text that fits a header of any client.
const MAX_MESSAGE_BYTES: usize = 4096;

/// The calls that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Search,
    Tags,
    TagsV2,
    TagValues,
    TagValuesV2,
    QueryRange,
    QueryInstant,
    Health,
}

/// gRPC's status codes, as far as they are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    Ok = 0,
    Cancelled = 1,
    InvalidArgument = 3,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

/// Why a call failed.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    code: Code,
    text: String,
}

impl Method {
    const ALL: [Method; 8] = [
        Method::Search,
        Method::Tags,
        Method::TagsV2,
        Method::TagValues,
        Method::TagValuesV2,
        Method::QueryRange,
        Method::QueryInstant,
        Method::Health,
    ];

    fn path(self) -> &'static str {
        match self {
            Method::Search => "/tempopb.StreamingQuerier/Search",
            Method::Tags => "/tempopb.StreamingQuerier/SearchTags",
            Method::TagsV2 => "/tempopb.StreamingQuerier/SearchTagsV2",
            Method::TagValues => "/tempopb.StreamingQuerier/SearchTagValues",
            Method::TagValuesV2 => "/tempopb.StreamingQuerier/SearchTagValuesV2",
            Method::QueryRange => "/tempopb.StreamingQuerier/MetricsQueryRange",
            Method::QueryInstant => "/tempopb.StreamingQuerier/MetricsQueryInstant",
            Method::Health => "/grpc.health.v1.Health/Check",
        }
    }

    fn find(path: &str) -> Option<Method> {
        Method::ALL.into_iter().find(|method| method.path() == path)
    }
}

impl Fault {
    fn new(code: Code, text: impl Into<String>) -> Fault {
        Fault { code, text: text.into() }
    }
}

impl From<ApiError> for Fault {
    fn from(error: ApiError) -> Fault {
        let code = match error {
            ApiError::Bad(_) => Code::InvalidArgument,
            ApiError::NoTenant => Code::Unauthenticated,
            ApiError::TooLarge(_) => Code::ResourceExhausted,
            ApiError::Starting(_) => Code::Unavailable,
            ApiError::Cancelled => Code::Cancelled,
            ApiError::Timeout | ApiError::Internal(_) => Code::Internal,
        };
        Fault::new(code, error.to_string())
    }
}

/// Whether a request is a gRPC call; all others are HTTP.
pub fn is_grpc(head: &Parts) -> bool {
    let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    head.version == Version::HTTP_2 && content_type.is_some_and(|t| t.contains("application/grpc"))
}

/// Answers one call. The HTTP status is always 200: faults are gRPC's.
pub async fn handle<B>(api: &Api, head: &Parts, body: B) -> Response<Body>
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let method = Method::find(head.uri.path());
    let meter = Meter::grpc(method.map_or("notfound", Method::path));
    match call(api, method, head, body).await {
        Ok(packets) => {
            meter.success();
            finished(packets)
        }
        Err(fault) => {
            let path = head.uri.path();
            match fault.code {
                Code::Internal => error!(path, err = fault.text, "a query failed"),
                _ => debug!(path, err = fault.text, "a query was refused"),
            }
            refused(&fault)
        }
    }
}

async fn call<B>(
    api: &Api,
    method: Option<Method>,
    head: &Parts,
    body: B,
) -> Result<Vec<Bytes>, Fault>
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let unknown = || Fault::new(Code::Unimplemented, format!("unknown method {}", head.uri.path()));
    let method = method.ok_or_else(unknown)?;
    let body = tokio::time::timeout(READ_TIMEOUT, Limited::new(body, MAX_REQUEST).collect()).await;
    let body = match body {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(e)) => return Err(Fault::new(Code::ResourceExhausted, format!("request: {e}"))),
        Err(_) => return Err(Fault::new(Code::Cancelled, "the request did not arrive in time")),
    };
    let encoding = head.headers.get("grpc-encoding").map(HeaderValue::as_bytes).unwrap_or_default();
    let message = unframe(&body, encoding)?;
    if method == Method::Health {
        return health(api, &message);
    }
    let tenants = api.tenants(&head.headers)?;
    answer(api, method, &tenants, message).await
}

async fn answer(
    api: &Api,
    method: Method,
    tenants: &[TenantId],
    message: Bytes,
) -> Result<Vec<Bytes>, Fault> {
    let now = now_nanos();
    match method {
        Method::Search => {
            let request = search::plan(decode::<SearchRequest>(message)?, &api.limits, now)?;
            let result = search::run(api, tenants, request).await?;
            let work = move |result| frames(&search_packets(search::to_message(result)));
            Ok(api.compute(search::size(&result), move || work(result)).await)
        }
        Method::Tags => {
            let request = decode::<SearchTagsRequest>(message)?;
            Ok(frames(&tags_packets(tags::grpc_names(api, tenants, request, now).await?)))
        }
        Method::TagsV2 => {
            let request = decode::<SearchTagsRequest>(message)?;
            Ok(frames(&tags_v2_packets(tags::grpc_names_v2(api, tenants, request, now).await?)))
        }
        Method::TagValues => {
            let request = decode::<SearchTagValuesRequest>(message)?;
            Ok(frames(&values_packets(tags::grpc_values(api, tenants, request, now).await?)))
        }
        Method::TagValuesV2 => {
            let request = decode::<SearchTagValuesRequest>(message)?;
            let response = tags::grpc_values_v2(api, tenants, request, now).await?;
            Ok(frames(&values_v2_packets(response)))
        }
        Method::QueryRange | Method::QueryInstant => {
            Err(Fault::new(Code::Unimplemented, NO_METRICS))
        }
        Method::Health => health(api, &message),
    }
}

/// All services have one health: that of the process.
fn health(api: &Api, message: &Bytes) -> Result<Vec<Bytes>, Fault> {
    decode::<HealthCheckRequest>(message.clone())?;
    let status = match api.readiness.get() {
        State::Ready => ServingStatus::Serving,
        State::Starting(_) | State::Stopping => ServingStatus::NotServing,
    };
    Ok(frames(&[HealthCheckResponse { status: status.into() }]))
}

fn decode<M: Message + Default>(message: Bytes) -> Result<M, Fault> {
    let bad = |e| Fault::new(Code::InvalidArgument, format!("the request is not readable: {e}"));
    M::decode(message).map_err(bad)
}

/// The one message of a request.
#[expect(clippy::disallowed_types, reason = "inflate has a cap, and receive is a neighbour")]
fn unframe(body: &Bytes, encoding: &[u8]) -> Result<Bytes, Fault> {
    let bad = |text: &str| Fault::new(Code::InvalidArgument, text);
    let Some((head, rest)) = body.split_first_chunk::<5>() else {
        return Err(bad("the request holds no message"));
    };
    let [flag, length @ ..] = *head;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    let message = rest.get(..length).ok_or_else(|| bad("the request is shorter than it says"))?;
    match (flag, encoding) {
        (0, _) => Ok(body.slice_ref(message)),
        (1, b"gzip") => inflate(flate2::bufread::GzDecoder::new(message)),
        (1, b"zstd") => inflate(zstd_reader(message)?),
        _ => Err(Fault::new(Code::Unimplemented, "grpc-encoding is none of gzip, zstd, identity")),
    }
}

fn zstd_reader(message: &[u8]) -> Result<impl Read, Fault> {
    let fault = |e| Fault::new(Code::Internal, format!("zstd: {e}"));
    let mut decoder = Decoder::with_buffer(message).map_err(fault)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(fault)?;
    Ok(decoder)
}

/// Reads at most as much as a plain request may have.
fn inflate(reader: impl Read) -> Result<Bytes, Fault> {
    let mut out = Vec::new();
    let limit = MAX_REQUEST as u64 + 1;
    if let Err(e) = reader.take(limit).read_to_end(&mut out) {
        return Err(Fault::new(Code::InvalidArgument, format!("the request is not readable: {e}")));
    }
    if out.len() > MAX_REQUEST {
        let text = format!("the request is larger than {MAX_REQUEST} bytes");
        return Err(Fault::new(Code::ResourceExhausted, text));
    }
    Ok(out.into())
}

fn frames<M: Message>(messages: &[M]) -> Vec<Bytes> {
    let frame = |message: &M| {
        let length = message.encoded_len();
        let mut out = BytesMut::with_capacity(length.saturating_add(5));
        out.put_u8(0);
        out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        out.put_slice(&message.encode_to_vec());
        out.freeze()
    };
    messages.iter().map(frame).collect()
}

/// Cuts items into runs that fit a packet; a larger item stands alone. Always at least one run, if
/// an empty one.
fn runs<T>(items: Vec<T>, size: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    // A tag and a length stand before each item.
    const OVERHEAD: usize = 6;
    let mut runs = Vec::new();
    let (mut run, mut bytes) = (Vec::new(), PACKET_RESERVE);
    for item in items {
        let cost = size(&item).saturating_add(OVERHEAD);
        if bytes.saturating_add(cost) > PACKET_BYTES && !run.is_empty() {
            runs.push(std::mem::take(&mut run));
            bytes = PACKET_RESERVE;
        }
        bytes = bytes.saturating_add(cost);
        run.push(item);
    }
    runs.push(run);
    runs
}

/// Every packet repeats the metrics: Grafana reads them unseen.
fn search_packets(response: SearchResponse) -> Vec<SearchResponse> {
    let SearchResponse { traces, metrics } = response;
    let runs = runs(traces, Message::encoded_len).into_iter();
    runs.map(|traces| SearchResponse { traces, metrics: metrics.clone() }).collect()
}

fn tags_packets(response: SearchTagsResponse) -> Vec<SearchTagsResponse> {
    let SearchTagsResponse { tag_names, metrics } = response;
    let runs = runs(tag_names, String::len).into_iter();
    runs.map(|tag_names| SearchTagsResponse { tag_names, metrics: metrics.clone() }).collect()
}

/// A scope can be larger than a packet, so tags are cut and each packet names the scopes of its
/// own.
fn tags_v2_packets(response: SearchTagsV2Response) -> Vec<SearchTagsV2Response> {
    let SearchTagsV2Response { scopes, metrics } = response;
    let tags = scopes.into_iter().flat_map(|scope| {
        let name = scope.name;
        scope.tags.into_iter().map(move |tag| (name.clone(), tag))
    });
    let packet = |run: Vec<(String, String)>| {
        let mut scopes: Vec<SearchTagsV2Scope> = Vec::new();
        for (name, tag) in run {
            match scopes.last_mut() {
                Some(scope) if scope.name == name => scope.tags.push(tag),
                _ => scopes.push(SearchTagsV2Scope { name, tags: vec![tag] }),
            }
        }
        SearchTagsV2Response { scopes, metrics: metrics.clone() }
    };
    runs(tags.collect(), |(_, tag)| tag.len()).into_iter().map(packet).collect()
}

fn values_packets(response: SearchTagValuesResponse) -> Vec<SearchTagValuesResponse> {
    let SearchTagValuesResponse { tag_values, metrics } = response;
    let runs = runs(tag_values, String::len).into_iter();
    runs.map(|tag_values| SearchTagValuesResponse { tag_values, metrics: metrics.clone() })
        .collect()
}

fn values_v2_packets(response: SearchTagValuesV2Response) -> Vec<SearchTagValuesV2Response> {
    let SearchTagValuesV2Response { tag_values, metrics } = response;
    let runs = runs(tag_values, Message::encoded_len).into_iter();
    runs.map(|tag_values| SearchTagValuesV2Response { tag_values, metrics: metrics.clone() })
        .collect()
}

fn finished(packets: Vec<Bytes>) -> Response<Body> {
    let mut trailers = HeaderMap::new();
    put_status(&mut trailers, Code::Ok, "");
    respond(Body::new(packets, Some(trailers)))
}

/// The status stands in the head, and nothing follows.
fn refused(fault: &Fault) -> Response<Body> {
    let mut response = respond(Body::default());
    put_status(response.headers_mut(), fault.code, &fault.text);
    response
}

fn respond(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-accept-encoding", HeaderValue::from_static("identity,gzip,zstd"));
    response
}

fn put_status(headers: &mut HeaderMap, code: Code, text: &str) {
    headers.insert("grpc-status", HeaderValue::from(code as u16));
    if let Ok(text) = HeaderValue::try_from(percent_encoded(text))
        && !text.is_empty()
    {
        headers.insert("grpc-message", text);
    }
}

/// gRPC's form of a text in a header: what is not printable ASCII, and `%`, is escaped.
fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if out.len() >= MAX_MESSAGE_BYTES {
            break;
        }
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            _ => write!(out, "%{byte:02X}").expect("writing to a string does not fail"),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::wire::{MetadataMetrics, SearchMetrics, TagValue, TraceSearchMetadata};

    fn framed(flag: u8, message: &[u8]) -> Bytes {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[flag][..], &length, message].concat().into()
    }

    #[test]
    fn one_message_is_read_plain_or_compressed() {
        assert_eq!(unframe(&framed(0, b"abc"), b"gzip").unwrap(), "abc");
        let zstd = zstd::bulk::compress(b"abc", 1).unwrap();
        assert_eq!(unframe(&framed(1, &zstd), b"zstd").unwrap(), "abc");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gzip, b"abc").unwrap();
        assert_eq!(unframe(&framed(1, &gzip.finish().unwrap()), b"gzip").unwrap(), "abc");
        let code = |body: &[u8], encoding| {
            unframe(&Bytes::copy_from_slice(body), encoding).unwrap_err().code
        };
        assert_eq!(code(b"", b""), Code::InvalidArgument);
        assert_eq!(code(b"\0\0\0\0\x02a", b""), Code::InvalidArgument);
        assert_eq!(code(b"\x01\0\0\0\x01a", b"br"), Code::Unimplemented);
        assert_eq!(code(b"\x01\0\0\0\x01a", b"gzip"), Code::InvalidArgument);
    }

    #[test]
    fn a_bomb_is_refused() {
        let bomb = zstd::bulk::compress(&vec![0; MAX_REQUEST + 1], 1).unwrap();
        let fault = unframe(&framed(1, &bomb), b"zstd").unwrap_err();
        assert_eq!(fault.code, Code::ResourceExhausted);
    }

    #[test]
    fn an_empty_result_is_one_message_with_metrics() {
        let empty = SearchResponse { traces: Vec::new(), metrics: Some(SearchMetrics::default()) };
        let packets = frames(&search_packets(empty));
        assert_eq!(packets, [Bytes::from_static(&[0, 0, 0, 0, 2, 0x12, 0])]);
    }

    #[test]
    fn large_results_are_cut_into_packets() {
        let trace = TraceSearchMetadata { trace_id: "a".repeat(1000), ..Default::default() };
        let traces = vec![trace; 3000];
        let metrics = Some(SearchMetrics { inspected_bytes: u64::MAX, ..Default::default() });
        let packets = search_packets(SearchResponse { traces, metrics: metrics.clone() });
        assert_eq!(packets.len(), 3);
        assert!(packets.iter().all(|p| p.metrics == metrics && p.encoded_len() <= PACKET_BYTES));
        assert_eq!(packets.iter().map(|p| p.traces.len()).sum::<usize>(), 3000);

        let large = TagValue { kind: "string".to_owned(), value: "v".repeat(2 * PACKET_BYTES) };
        let tag_values = vec![large.clone(), TagValue::default(), large];
        let packets = values_v2_packets(SearchTagValuesV2Response { tag_values, metrics: None });
        assert_eq!(packets.iter().map(|p| p.tag_values.len()).collect::<Vec<_>>(), [1, 1, 1]);
    }

    #[test]
    fn a_large_scope_is_cut_between_tags() {
        let scope = |name: &str, tags: usize| SearchTagsV2Scope {
            name: name.to_owned(),
            tags: (0..tags).map(|n| format!("{n:01000}")).collect(),
        };
        let metrics = Some(MetadataMetrics::default());
        let scopes = vec![scope("resource", 600), scope("span", 600), scope("link", 1)];
        let packets = tags_v2_packets(SearchTagsV2Response { scopes, metrics });
        let shape: Vec<Vec<(&str, usize)>> = packets
            .iter()
            .map(|p| p.scopes.iter().map(|s| (s.name.as_str(), s.tags.len())).collect())
            .collect();
        assert_eq!(
            shape,
            [vec![("resource", 600), ("span", 441)], vec![("span", 159), ("link", 1)]]
        );
        assert!(packets.iter().all(|p| p.encoded_len() <= PACKET_BYTES));
        let none = tags_v2_packets(SearchTagsV2Response::default());
        assert_eq!(none.len(), 1);
    }

    #[test]
    fn faults_have_tempos_codes() {
        let code = |error| Fault::from(error).code;
        assert_eq!(code(ApiError::Bad(String::new())), Code::InvalidArgument);
        assert_eq!(code(ApiError::NoTenant), Code::Unauthenticated);
        assert_eq!(code(ApiError::Timeout), Code::Internal);
        let response = refused(&Fault::new(Code::InvalidArgument, "100 % wrong: é\n"));
        assert_eq!(response.headers()["grpc-status"], "3");
        assert_eq!(response.headers()["grpc-message"], "100 %25 wrong: %C3%A9%0A");
    }

    proptest! {
        #[test]
        fn no_body_panics(flag in 0u8..3, length in 0u8..9, rest: Vec<u8>) {
            let body = Bytes::from([&[flag, 0, 0, 0, length][..], &rest].concat());
            for encoding in [&b"gzip"[..], b"zstd", b""] {
                if let Ok(message) = unframe(&body, encoding) {
                    drop(decode::<SearchRequest>(message));
                }
            }
        }
    }
}
