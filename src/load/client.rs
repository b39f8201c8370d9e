//! One connection that exports OTLP requests, and what the server's answers mean.
//!
//! gRPC is framed here over HTTP/2: a request is one message that is at hand as bytes, so there is nothing for
//! a generated client to do but copy it.

use std::io::Write;
use std::time::Duration;

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use flate2::Compression as Level;
use flate2::write::GzEncoder;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HOST, RETRY_AFTER, TE};
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::load::LoadError;
use crate::otlp::wire::{Field, Reader};

const EXPORT_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// A gRPC message's flag and length.
const PREFIX_BYTES: usize = 5;

/// The fastest, as the Collector sends.
const ZSTD_LEVEL: i32 = 1;

/// An export's answer is some bytes; an error page is cut here.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Room for a trace of a hundred thousand spans.
const MAX_TRACE_BYTES: usize = 64 * 1024 * 1024;

/// As senders write it: with padding or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    Grpc,
    Http,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

/// Where a server is reached: `http://host:port`, the scheme may be left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Host and port.
    authority: String,
    /// What stands in front of the paths, without a slash at its end.
    path: String,
}

/// How requests are sent.
#[derive(Debug, Clone)]
pub struct Export {
    pub endpoint: Endpoint,
    pub protocol: Protocol,
    pub compression: Compression,
    pub tenant: Option<String>,
}

/// An open connection. Whatever goes wrong on it, it is of no further use.
#[derive(Debug)]
pub struct Connection {
    sender: Sender,
    /// Moves the bytes until the connection is dropped.
    _driver: JoinSet<()>,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// What the server said to an export.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Taken, but for so many spans.
    Accepted { refused: u64, message: String },
    /// Not taken; the same again later may be.
    Later { hint: Option<Duration>, reason: String },
    /// Not taken, and never will be.
    Refused { reason: String },
}

/// A connection that cannot be made or broke; for the log of a sender that tries again.
#[derive(Debug)]
pub struct Broken(pub String);

impl Endpoint {
    /// # Errors
    /// When the text is no address, or one that needs TLS.
    pub fn parse(text: &str) -> Result<Endpoint, LoadError> {
        let fault = |reason: &'static str| LoadError::Endpoint { text: text.to_owned(), reason };
        if text.starts_with("https://") {
            return Err(fault("TLS is not supported, use http://"));
        }
        let rest = text.strip_prefix("http://").unwrap_or(text);
        let uri: Uri = format!("http://{rest}").parse().map_err(|_| fault("it is no URL"))?;
        let authority = uri.authority().ok_or_else(|| fault("the host is missing"))?;
        if authority.port_u16().is_none() {
            return Err(fault("the port is missing"));
        }
        let path = uri.path().trim_end_matches('/').to_owned();
        Ok(Endpoint { authority: authority.as_str().to_owned(), path })
    }

    fn uri(&self, path: &str) -> String {
        format!("http://{}{}{path}", self.authority, self.path)
    }

    fn path(&self, path: &str) -> String {
        format!("{}{path}", self.path)
    }

    async fn connect(&self) -> Result<TokioIo<TcpStream>, Broken> {
        let stream = TcpStream::connect(&self.authority)
            .await
            .map_err(|error| Broken(format!("connect to {}: {error}", self.authority)))?;
        stream.set_nodelay(true).map_err(|error| Broken(format!("set TCP_NODELAY: {error}")))?;
        Ok(TokioIo::new(stream))
    }
}

impl Connection {
    /// Connects for exports.
    pub async fn open(export: &Export) -> Result<Connection, Broken> {
        match export.protocol {
            Protocol::Grpc => Connection::open_http2(&export.endpoint).await,
            Protocol::Http => Connection::open_http1(&export.endpoint).await,
        }
    }

    pub async fn open_http1(endpoint: &Endpoint) -> Result<Connection, Broken> {
        let stream = endpoint.connect().await?;
        let (sender, connection) = http1::handshake(stream).await.map_err(broken)?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // What ends the connection reaches the request in flight, which reports it.
            drop(connection.await);
        });
        Ok(Connection { sender: Sender::Http1(sender), _driver: driver })
    }

    async fn open_http2(endpoint: &Endpoint) -> Result<Connection, Broken> {
        let stream = endpoint.connect().await?;
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.max_frame_size(64 * 1024).max_send_buf_size(4 * 1024 * 1024);
        let (sender, connection) = builder.handshake(stream).await.map_err(broken)?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            drop(connection.await);
        });
        Ok(Connection { sender: Sender::Http2(sender), _driver: driver })
    }

    /// Sends one body made by [`Export::body`].
    pub async fn export(&mut self, export: &Export, body: Bytes) -> Result<Answer, Broken> {
        let request = export.request(body)?;
        let (status, headers, body, trailers) = self.call(request, MAX_ANSWER_BYTES).await?;
        Ok(match export.protocol {
            Protocol::Grpc => read_grpc(status, &headers, &body, &trailers),
            Protocol::Http => read_http(status, &headers, &body),
        })
    }

    /// Reads a resource of the query API as protobuf.
    pub async fn get(
        &mut self,
        endpoint: &Endpoint,
        path: &str,
        tenant: Option<&str>,
    ) -> Result<(StatusCode, Bytes), Broken> {
        let mut request = Request::builder().uri(endpoint.path(path));
        request = request.header(HOST, &endpoint.authority).header(ACCEPT, "application/protobuf");
        if let Some(tenant) = tenant {
            request = request.header("x-scope-orgid", tenant);
        }
        let request = request.body(Full::default()).map_err(|error| Broken(error.to_string()))?;
        let (status, _, body, _) = self.call(request, MAX_TRACE_BYTES).await?;
        Ok((status, body))
    }

    async fn call(
        &mut self,
        request: Request<Full<Bytes>>,
        max_bytes: usize,
    ) -> Result<(StatusCode, HeaderMap, Bytes, HeaderMap), Broken> {
        let response: Response<Incoming> = match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await.map_err(broken)?;
                sender.send_request(request).await.map_err(broken)?
            }
            Sender::Http2(sender) => {
                sender.ready().await.map_err(broken)?;
                sender.send_request(request).await.map_err(broken)?
            }
        };
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, max_bytes).collect().await;
        let body = body.map_err(|error| Broken(format!("read the answer: {error}")))?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        Ok((parts.status, parts.headers, body.to_bytes(), trailers))
    }
}

impl Export {
    /// How many bytes in front of the message [`Export::body`] needs to itself.
    #[must_use]
    pub const fn prefix_bytes() -> usize {
        PREFIX_BYTES
    }

    /// Makes the body of a request from an OTLP message with [`Export::prefix_bytes`] free bytes in front.
    ///
    /// # Errors
    /// When the message cannot be compressed or is too long to be framed.
    pub fn body(&self, prefixed: Vec<u8>) -> Result<Bytes, LoadError> {
        let mut body = match self.compression {
            Compression::None => prefixed,
            Compression::Gzip => {
                let mut encoder = GzEncoder::new(vec![0; PREFIX_BYTES], Level::fast());
                encoder.write_all(message_of(&prefixed)).map_err(LoadError::Compress)?;
                encoder.finish().map_err(LoadError::Compress)?
            }
            Compression::Zstd => {
                let message = zstd::bulk::compress(message_of(&prefixed), ZSTD_LEVEL);
                [&[0; PREFIX_BYTES], message.map_err(LoadError::Compress)?.as_slice()].concat()
            }
        };
        if self.protocol == Protocol::Http {
            return Ok(Bytes::from(body).slice(PREFIX_BYTES..));
        }
        let len = u32::try_from(message_of(&body).len()).map_err(|_| LoadError::TooLong)?;
        if let Some(prefix) = body.first_chunk_mut::<PREFIX_BYTES>() {
            let [a, b, c, d] = len.to_be_bytes();
            *prefix = [u8::from(self.compression != Compression::None), a, b, c, d];
        }
        Ok(Bytes::from(body))
    }

    fn request(&self, body: Bytes) -> Result<Request<Full<Bytes>>, Broken> {
        let encoding = match self.compression {
            Compression::None => None,
            Compression::Gzip => Some("gzip"),
            Compression::Zstd => Some("zstd"),
        };
        let mut request = Request::builder().method(Method::POST);
        request = match self.protocol {
            Protocol::Grpc => request
                .uri(self.endpoint.uri(EXPORT_PATH))
                .header(CONTENT_TYPE, "application/grpc")
                .header(TE, "trailers"),
            Protocol::Http => request
                .uri(self.endpoint.path("/v1/traces"))
                .header(HOST, &self.endpoint.authority)
                .header(CONTENT_TYPE, "application/x-protobuf"),
        };
        match (self.protocol, encoding) {
            (_, None) => {}
            (Protocol::Grpc, Some(name)) => request = request.header("grpc-encoding", name),
            (Protocol::Http, Some(name)) => request = request.header(CONTENT_ENCODING, name),
        }
        if let Some(tenant) = &self.tenant {
            request = request.header("x-scope-orgid", tenant);
        }
        request.body(Full::new(body)).map_err(|error| Broken(error.to_string()))
    }
}

/// What stands behind the prefix.
fn message_of(prefixed: &[u8]) -> &[u8] {
    prefixed.get(PREFIX_BYTES..).unwrap_or_default()
}

fn broken(error: hyper::Error) -> Broken {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    Broken(text)
}

/// Which gRPC codes may be tried again, by OTLP: CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE,
/// UNAVAILABLE, DATA_LOSS. RESOURCE_EXHAUSTED only with a hint.
const RETRYABLE: [u32; 6] = [1, 4, 10, 11, 14, 15];
const RESOURCE_EXHAUSTED: u32 = 8;

fn read_grpc(status: StatusCode, headers: &HeaderMap, body: &[u8], trailers: &HeaderMap) -> Answer {
    if status != StatusCode::OK {
        return read_http(status, headers, body);
    }
    // An answer without a message has its status in the headers.
    let header = |name: &str| trailers.get(name).or_else(|| headers.get(name));
    let text = |name: &str| header(name).and_then(|value| value.to_str().ok());
    let Some(code) = text("grpc-status").and_then(|code| code.parse::<u32>().ok()) else {
        return Answer::Later { hint: None, reason: "the answer has no grpc-status".to_owned() };
    };
    if code == 0 {
        return read_partial_success(message_of(body));
    }
    let reason = format!("grpc status {code}: {}", text("grpc-message").unwrap_or_default());
    let details = text("grpc-status-details-bin").and_then(|text| BASE64.decode(text).ok());
    let hint = details.and_then(|details| read_retry_info(&details));
    if RETRYABLE.contains(&code) || (code == RESOURCE_EXHAUSTED && hint.is_some()) {
        return Answer::Later { hint, reason };
    }
    Answer::Refused { reason }
}

fn read_http(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Answer {
    if status == StatusCode::OK {
        return read_partial_success(body);
    }
    let text = String::from_utf8_lossy(body);
    let printable = text.chars().filter(|c| !c.is_control()).take(300);
    let reason = format!("http status {}: {}", status.as_u16(), printable.collect::<String>());
    if !matches!(status.as_u16(), 429 | 502 | 503 | 504) {
        return Answer::Refused { reason };
    }
    let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    Answer::Later { hint: seconds.map(Duration::from_secs), reason }
}

/// Reads an `ExportTraceServiceResponse`.
fn read_partial_success(response: &[u8]) -> Answer {
    let partial = find_bytes(response, 1).unwrap_or_default();
    let message = find_bytes(partial, 2).unwrap_or_default();
    let refused = find_varint(partial, 1).unwrap_or(0);
    Answer::Accepted { refused, message: String::from_utf8_lossy(message).into_owned() }
}

/// Reads the delay from a `google.rpc.Status` with a `RetryInfo` among its details.
fn read_retry_info(status: &[u8]) -> Option<Duration> {
    let mut reader = Reader::new(status);
    while let Ok(Some((field, value))) = reader.next() {
        let Field::Bytes(detail) = value else { continue };
        if field == 3 && find_bytes(detail, 1)?.ends_with(b"google.rpc.RetryInfo") {
            let delay = find_bytes(find_bytes(detail, 2)?, 1).unwrap_or_default();
            let nanos = u32::try_from(find_varint(delay, 2).unwrap_or(0)).ok()?;
            let rest = Duration::from_nanos(u64::from(nanos));
            return Duration::from_secs(find_varint(delay, 1).unwrap_or(0)).checked_add(rest);
        }
    }
    None
}

/// The first field of a message with this number and a length.
fn find_bytes(message: &[u8], wanted: u32) -> Option<&[u8]> {
    let mut reader = Reader::new(message);
    while let Ok(Some((field, value))) = reader.next() {
        match value {
            Field::Bytes(bytes) if field == wanted => return Some(bytes),
            _ => {}
        }
    }
    None
}

fn find_varint(message: &[u8], wanted: u32) -> Option<u64> {
    let mut reader = Reader::new(message);
    while let Ok(Some((field, value))) = reader.next() {
        match value {
            Field::Varint(number) if field == wanted => return Some(number),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use crate::otlp::wire::{put_bytes_field, put_message, put_varint_field};

    use super::*;

    fn export(protocol: Protocol, compression: Compression) -> Export {
        let endpoint = Endpoint::parse("127.0.0.1:4317").unwrap();
        Export { endpoint, protocol, compression, tenant: None }
    }

    #[test]
    fn endpoints_are_urls_or_host_and_port() {
        let endpoint = Endpoint::parse("http://tempo:3200/prefix/").unwrap();
        assert_eq!(endpoint.path("/api/echo"), "/prefix/api/echo");
        assert_eq!(endpoint.uri("/x"), "http://tempo:3200/prefix/x");
        assert_eq!(Endpoint::parse("[::1]:4317").unwrap().authority, "[::1]:4317");
        for wrong in ["https://tempo:443", "tempo", "http://", "", "a b:1"] {
            assert!(Endpoint::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bodies_are_framed_and_compressed() {
        let prefixed = [b"\0\0\0\0\0".as_slice(), &[7; 1000]].concat();
        let plain = export(Protocol::Grpc, Compression::None).body(prefixed.clone()).unwrap();
        assert_eq!(plain[..6], [0, 0, 0, 3, 232, 7]);
        assert_eq!(plain.len(), 1005);
        let http = export(Protocol::Http, Compression::None).body(prefixed.clone()).unwrap();
        assert_eq!(http, [7; 1000].as_slice());
        let gzip = export(Protocol::Grpc, Compression::Gzip).body(prefixed.clone()).unwrap();
        assert_eq!(gzip[0], 1);
        assert_eq!(gzip[1..5], u32::try_from(gzip.len() - 5).unwrap().to_be_bytes());
        let mut inflated = Vec::new();
        #[expect(clippy::disallowed_types, reason = "the test's own bytes")]
        flate2::read::GzDecoder::new(&gzip[5..]).read_to_end(&mut inflated).unwrap();
        assert_eq!(inflated, [7; 1000]);
        let zstd = export(Protocol::Http, Compression::Zstd).body(prefixed.clone()).unwrap();
        assert_eq!(zstd::bulk::decompress(&zstd, 2000).unwrap(), [7; 1000]);
    }

    fn grpc(headers: &[(&'static str, &str)], body: &[u8]) -> Answer {
        let mut trailers = HeaderMap::new();
        for (name, value) in headers {
            trailers.insert(*name, value.parse().unwrap());
        }
        read_grpc(StatusCode::OK, &HeaderMap::new(), body, &trailers)
    }

    #[test]
    fn reads_partial_success() {
        let mut body = vec![0; PREFIX_BYTES];
        put_message(&mut body, 1, |partial| {
            put_varint_field(partial, 1, 3);
            put_bytes_field(partial, 2, b"refused 3 of 512 spans");
        });
        let message = "refused 3 of 512 spans".to_owned();
        let partial = Answer::Accepted { refused: 3, message };
        assert_eq!(grpc(&[("grpc-status", "0")], &body), partial);
        assert_eq!(read_http(StatusCode::OK, &HeaderMap::new(), &body[5..]), partial);
        let whole = Answer::Accepted { refused: 0, message: String::new() };
        assert_eq!(grpc(&[("grpc-status", "0")], &[0; 5]), whole);
    }

    #[test]
    fn resource_exhausted_is_retried_with_a_hint_only() {
        let mut status = Vec::new();
        put_varint_field(&mut status, 1, 8);
        put_message(&mut status, 3, |any| {
            put_bytes_field(any, 1, b"type.googleapis.com/google.rpc.RetryInfo");
            put_message(any, 2, |info| {
                put_message(info, 1, |delay| put_varint_field(delay, 2, 250_000_000));
            });
        });
        let details = BASE64.encode(&status);
        for details in [details.as_str(), details.trim_end_matches('=')] {
            let headers = [("grpc-status", "8"), ("grpc-status-details-bin", details)];
            let Answer::Later { hint, .. } = grpc(&headers, b"") else { panic!("not retryable") };
            assert_eq!(hint, Some(Duration::from_millis(250)));
        }
        assert!(matches!(grpc(&[("grpc-status", "8")], b""), Answer::Refused { .. }));
        assert!(matches!(grpc(&[("grpc-status", "14")], b""), Answer::Later { hint: None, .. }));
        assert!(matches!(grpc(&[("grpc-status", "3")], b""), Answer::Refused { .. }));
        assert!(matches!(grpc(&[], b""), Answer::Later { .. }));
    }

    #[test]
    fn http_answers_follow_otlp() {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, "2".parse().unwrap());
        let busy = read_http(StatusCode::SERVICE_UNAVAILABLE, &headers, b"busy\n");
        let reason = "http status 503: busy".to_owned();
        assert_eq!(busy, Answer::Later { hint: Some(Duration::from_secs(2)), reason });
        let bad = read_http(StatusCode::BAD_REQUEST, &headers, b"");
        assert!(matches!(bad, Answer::Refused { .. }));
    }

    #[test]
    fn details_may_be_any_bytes() {
        for len in 0..64 {
            read_retry_info(&vec![0x1a; len]);
            read_partial_success(&vec![0x0a; len]);
        }
    }
}
