//! What a sender is told: one answer, in the words of gRPC or of HTTP.
//!
//! A status says whether to send the same spans again, and a hint when; see `Retry-After` and
//! `RetryInfo`.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::{
    HeaderMap, StatusCode,
    body::{Body, Frame, SizeHint},
};
use serde_json::Value;

use crate::ingest::{RESTART_RETRY, Refusal};
use crate::otlp::wire::{put_bytes_field, put_message, put_varint_field};

const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// Status codes of gRPC, those that senders get from us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    Cancelled = 1,
    InvalidArgument = 3,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Unavailable = 14,
    Unauthenticated = 16,
}

/// A refusal, ready for either protocol.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) code: Code,
    pub(super) status: StatusCode,
    pub(super) message: String,
    /// When to send the same spans again; without it, never.
    pub(super) retry: Option<Duration>,
    /// The connection is of no further use.
    pub(super) close: bool,
}

impl Answer {
    pub(super) fn new(code: Code, status: StatusCode, message: impl Into<String>) -> Answer {
        Answer { code, status, message: message.into(), retry: None, close: false }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Answer {
        Answer::new(Code::InvalidArgument, StatusCode::BAD_REQUEST, message)
    }

    fn unavailable(message: String, retry: Duration) -> Answer {
        let answer = Answer::new(Code::Unavailable, StatusCode::SERVICE_UNAVAILABLE, message);
        Answer { retry: Some(retry), ..answer }
    }

    /// For a server that is about to stop.
    pub(super) fn stopping() -> Answer {
        Answer::from(Refusal::Stopping { retry: RESTART_RETRY })
    }

    /// `Retry-After` of HTTP: whole seconds, at least one.
    pub(super) fn retry_after_secs(&self) -> Option<u64> {
        self.retry
            .map(|retry| retry.as_millis().div_ceil(1000).max(1))
            .map(|secs| u64::try_from(secs).unwrap_or(u64::MAX))
    }

    /// `google.rpc.Status` in protobuf.
    pub(super) fn to_protobuf(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint_field(&mut out, 1, self.code as u64);
        put_bytes_field(&mut out, 2, self.message.as_bytes());
        if let Some(retry) = self.retry {
            put_message(&mut out, 3, |out| {
                put_bytes_field(out, 1, RETRY_INFO.as_bytes());
                put_message(out, 2, |out| put_message(out, 1, |out| put_duration(out, retry)));
            });
        }
        out
    }

    /// `google.rpc.Status` in JSON.
    pub(super) fn to_json(&self) -> String {
        let (code, message) = (self.code as u64, Value::from(self.message.as_str()));
        let Some(retry) = self.retry else {
            return format!(r#"{{"code":{code},"message":{message}}}"#);
        };
        let delay = match retry.subsec_millis() {
            0 => format!("{}s", retry.as_secs()),
            millis => format!("{}.{millis:03}s", retry.as_secs()),
        };
        format!(
            r#"{{"code":{code},"message":{message},"details":[{{"@type":"{RETRY_INFO}","retryDelay":"{delay}"}}]}}"#
        )
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Answer {
        let message = refusal.to_string();
        match refusal {
            Refusal::Undecodable(_) | Refusal::AllInvalid(_) => Answer::bad_request(message),
            Refusal::TooLarge { .. } => {
                Answer::new(Code::ResourceExhausted, StatusCode::PAYLOAD_TOO_LARGE, message)
            }
            Refusal::TooManyTenants(_) => {
                Answer::new(Code::ResourceExhausted, StatusCode::FORBIDDEN, message)
            }
            Refusal::Overloaded { retry }
            | Refusal::DiskFull { retry }
            | Refusal::Failed { retry, .. } => Answer::unavailable(message, retry),
            Refusal::Stopping { retry } => {
                Answer { close: true, ..Answer::unavailable(message, retry) }
            }
        }
    }
}

/// `google.protobuf.Duration`.
fn put_duration(out: &mut Vec<u8>, duration: Duration) {
    put_varint_field(out, 1, duration.as_secs());
    put_varint_field(out, 2, u64::from(duration.subsec_nanos()));
}

/// The body of a response: all of its bytes at once, then trailers if the protocol has them.
#[derive(Debug, Default)]
pub(super) struct Reply {
    data: Bytes,
    trailers: Option<HeaderMap>,
}

impl Reply {
    pub(super) fn new(data: impl Into<Bytes>) -> Reply {
        Reply { data: data.into(), trailers: None }
    }

    pub(super) fn with_trailers(data: impl Into<Bytes>, trailers: HeaderMap) -> Reply {
        Reply { data: data.into(), trailers: Some(trailers) }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if !self.data.is_empty() {
            let data = std::mem::take(&mut self.data);
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_empty() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.data.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TenantId;

    #[test]
    fn every_refusal_says_whether_to_come_back() {
        let retry = Duration::from_millis(300);
        let cases = [
            (Refusal::Undecodable("x".into()), 3, 400, None),
            (Refusal::AllInvalid("x".into()), 3, 400, None),
            (Refusal::TooLarge { size: 2, limit: 1, key: "k" }, 8, 413, None),
            (Refusal::TooManyTenants(TenantId::single()), 8, 403, None),
            (Refusal::Overloaded { retry }, 14, 503, Some(1)),
            (Refusal::DiskFull { retry: Duration::from_secs(5) }, 14, 503, Some(5)),
            (
                Refusal::Failed { why: "x".into(), retry: Duration::from_millis(4001) },
                14,
                503,
                Some(5),
            ),
            (Refusal::Stopping { retry }, 14, 503, Some(1)),
        ];
        for (refusal, code, status, after) in cases {
            let answer = Answer::from(refusal);
            let said = (answer.code as u64, answer.status.as_u16(), answer.retry_after_secs());
            assert_eq!(said, (code, status, after), "{answer:?}");
        }
        assert!(Answer::stopping().close);
    }

    #[test]
    fn a_status_is_the_same_in_both_encodings() {
        let answer = Answer::from(Refusal::Overloaded { retry: Duration::from_millis(1250) });
        assert_eq!(
            answer.to_json(),
            r#"{"code":14,"message":"no memory for this request now; try again","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"1.250s"}]}"#
        );
        let mut expected = vec![0x08, 14];
        put_bytes_field(&mut expected, 2, answer.message.as_bytes());
        put_message(&mut expected, 3, |out| {
            put_bytes_field(out, 1, RETRY_INFO.as_bytes());
            // RetryInfo{1 Duration{1 seconds 1, 2 nanos 250,000,000}}
            put_bytes_field(out, 2, &[0x0a, 7, 8, 1, 0x10, 0x80, 0xe5, 0x9a, 0x77]);
        });
        assert_eq!(answer.to_protobuf(), expected);
        assert_eq!(Answer::bad_request("a\"b").to_json(), r#"{"code":3,"message":"a\"b"}"#);
    }
}
