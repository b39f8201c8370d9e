//! Answers: their forms, their compression, and the body that carries them.
#![deny(clippy::indexing_slicing)]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use flate2::write::GzEncoder;
use hyper::body::{Frame, SizeHint};
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName,
    HeaderValue, VARY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{HeaderMap, Response, StatusCode};
use prost::Message;

pub const JSON: &str = "application/json";
pub const PROTOBUF: &str = "application/protobuf";
pub const LLM: &str = "application/vnd.grafana.llm+json";
pub const TEXT: &str = "text/plain; charset=utf-8";

/// Smaller answers are not compressed: Tempo's threshold.
const COMPRESS_FROM: usize = 1024;

/// The fastest level of either method: the network between Grafana and its store is seldom the
/// narrow place.
const ZSTD_LEVEL: i32 = 1;
const GZIP_LEVEL: u32 = 1;

/// The form in which a client wants its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Json,
    Protobuf,
    /// JSON in words for language models.
    Llm,
}

impl Form {
    /// Decides as Tempo does: by the first of three texts that the `Accept` header holds anywhere.
    pub fn of(headers: &HeaderMap) -> Form {
        let accept = text_of(headers, ACCEPT);
        if accept.contains(PROTOBUF) {
            return Form::Protobuf;
        }
        if !accept.contains(JSON) && accept.contains("application/vnd.grafana.llm") {
            return Form::Llm;
        }
        Form::Json
    }
}

/// How an answer's bytes are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Zstd,
    Gzip,
}

impl Encoding {
    /// zstd if the client offers it, else gzip.
    pub fn of(headers: &HeaderMap) -> Option<Encoding> {
        let offers = text_of(headers, ACCEPT_ENCODING);
        let offered = |name: &str| offers.split(',').any(|offer| is_offer(offer, name));
        match () {
            () if offered("zstd") => Some(Encoding::Zstd),
            () if offered("gzip") => Some(Encoding::Gzip),
            () => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Encoding::Zstd => "zstd",
            Encoding::Gzip => "gzip",
        }
    }

    fn compress(self, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        match self {
            Encoding::Zstd => zstd::bulk::compress(bytes, ZSTD_LEVEL),
            Encoding::Gzip => {
                let level = flate2::Compression::new(GZIP_LEVEL);
                let mut gzip = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), level);
                gzip.write_all(bytes)?;
                gzip.finish()
            }
        }
    }
}

/// Whether an element of `Accept-Encoding` names this encoding and does not forbid it with `q=0`.
fn is_offer(offer: &str, name: &str) -> bool {
    let mut parts = offer.split(';').map(str::trim);
    let named = parts.next().is_some_and(|found| found.eq_ignore_ascii_case(name));
    let weight = parts.find_map(|part| part.strip_prefix("q="));
    named && weight.and_then(|q| q.parse().ok()) != Some(0.0_f32)
}

fn text_of(headers: &HeaderMap, name: HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// An answer without a body and a content type.
pub fn empty(status: StatusCode) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    response
}

/// Plain text. Nobody shall guess another type: the text may quote the client.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = typed(TEXT, body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A 200 of this content type.
pub fn typed(content_type: &'static str, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A message in protobuf or, in all other cases, JSON.
pub fn message<M: Message>(form: Form, message: &M, json: fn(&M) -> Vec<u8>) -> Response<Bytes> {
    match form {
        Form::Protobuf => typed(PROTOBUF, message.encode_to_vec()),
        Form::Json | Form::Llm => typed(JSON, json(message)),
    }
}

/// Compresses an answer that is worth it. Says in any case that the answer depends on
/// `Accept-Encoding`.
pub fn compressed(mut response: Response<Bytes>, encoding: Option<Encoding>) -> Response<Bytes> {
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    let Some(encoding) = encoding.filter(|_| response.body().len() >= COMPRESS_FROM) else {
        return response;
    };
    // Compressing into memory does not fail; if it did, the plain answer is as good.
    if let Ok(smaller) = encoding.compress(response.body()) {
        *response.body_mut() = smaller.into();
        let name = HeaderValue::from_static(encoding.name());
        response.headers_mut().insert(CONTENT_ENCODING, name);
    }
    response
}

/// A body that is all there: chunks, and trailers behind them.
#[derive(Debug, Default)]
pub struct Body {
    chunks: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Body {
    pub fn new(chunks: impl IntoIterator<Item = Bytes>, trailers: Option<HeaderMap>) -> Body {
        Body { chunks: chunks.into_iter().filter(|chunk| !chunk.is_empty()).collect(), trailers }
    }
}

/// The answer with its body to be sent.
pub fn whole(response: Response<Bytes>) -> Response<Body> {
    response.map(|bytes| Body::new([bytes], None))
}

/// The answer to HEAD: the length is that of the body which a GET would bring.
pub fn head_only(response: Response<Bytes>) -> Response<Body> {
    let (mut head, bytes) = response.into_parts();
    head.headers.insert(CONTENT_LENGTH, bytes.len().into());
    Response::from_parts(head, Body::default())
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(chunk) = self.chunks.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.chunks.is_empty() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.chunks.iter().map(|chunk| chunk.len() as u64).sum())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn the_form_goes_by_parts_of_accept() {
        let of = |accept: &str| Form::of(&headers(ACCEPT, accept));
        assert_eq!(of("application/json;q=1, application/protobuf;q=0"), Form::Protobuf);
        assert_eq!(of("application/vnd.grafana.llm"), Form::Llm);
        assert_eq!(of("application/vnd.grafana.llm, application/json"), Form::Json);
        assert_eq!(of("text/html"), Form::Json);
        assert_eq!(Form::of(&HeaderMap::new()), Form::Json);
    }

    #[test]
    fn zstd_is_taken_before_gzip() {
        let of = |offers: &str| Encoding::of(&headers(ACCEPT_ENCODING, offers));
        assert_eq!(of("gzip, deflate, br, zstd"), Some(Encoding::Zstd));
        assert_eq!(of("GZIP;q=0.5"), Some(Encoding::Gzip));
        assert_eq!(of("zstd;q=0, gzip"), Some(Encoding::Gzip));
        assert_eq!(of("gzip; q=0.0"), None);
        assert_eq!(of("br"), None);
        assert_eq!(Encoding::of(&HeaderMap::new()), None);
    }

    #[test]
    #[expect(clippy::disallowed_types, reason = "the bytes are our own")]
    fn only_large_answers_are_compressed() {
        for encoding in [Encoding::Zstd, Encoding::Gzip] {
            let small = compressed(typed(JSON, vec![b'x'; 1023]), Some(encoding));
            assert_eq!(small.body().len(), 1023);
            assert_eq!(small.headers()[VARY], "Accept-Encoding");
            assert!(!small.headers().contains_key(CONTENT_ENCODING));
            let large = compressed(typed(JSON, vec![b'x'; 1024]), Some(encoding));
            assert_eq!(large.headers()[CONTENT_ENCODING], encoding.name());
            let mut plain = Vec::new();
            match encoding {
                Encoding::Zstd => plain = zstd::bulk::decompress(large.body(), 4096).unwrap(),
                Encoding::Gzip => {
                    let mut gzip = flate2::bufread::GzDecoder::new(&large.body()[..]);
                    gzip.read_to_end(&mut plain).unwrap();
                }
            }
            assert_eq!(plain, vec![b'x'; 1024]);
        }
    }

    #[test]
    fn head_tells_the_length_and_sends_nothing() {
        let response = head_only(text(StatusCode::OK, "ready\n"));
        assert_eq!(response.headers()[CONTENT_LENGTH], "6");
        assert!(hyper::body::Body::is_end_stream(response.body()));
    }

    proptest! {
        #[test]
        fn no_header_panics(bytes: Vec<u8>) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let headers = HeaderMap::from_iter([(ACCEPT, value.clone()), (ACCEPT_ENCODING, value)]);
                let _ = (Form::of(&headers), Encoding::of(&headers));
            }
        }
    }
}
