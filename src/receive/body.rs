//! Reading bodies: under a permit, within a limit, not for ever, and without copies where one frame
//! holds all.

use std::{fmt::Display, time::Duration};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::{StatusCode, body::Body};
use tokio::{task::yield_now, time::timeout};

use crate::ingest::{Ingest, Permit, Refusal};
use crate::receive::{
    answer::{Answer, Code},
    inflate::{Compression, Inflate, InflateError},
};

/// How long a sender may send nothing in the middle of a request.
const STALL: Duration = Duration::from_secs(30);

/// Memory for a body of unknown length, before anything of it was read.
const UNKNOWN_BYTES: u64 = 64 << 10;

/// Bytes of memory per byte of body, from what bodies become: decompressed, or an encoded request
/// beside JSON.
const COMPRESSED_FACTOR: u64 = 3;
const JSON_FACTOR: u64 = 4;

/// Zstd keeps a window beside its output.
const ZSTD_FACTOR: u64 = 2;

/// How long, and by how much, a body is read that nobody wants.
const DRAIN: Duration = Duration::from_secs(5);
const DRAIN_BYTES: usize = 32 << 20;

/// How large a body may become, and which key of the configuration says so.
#[derive(Debug, Clone, Copy)]
pub(super) struct MaxBytes {
    pub(super) bytes: u64,
    pub(super) key: &'static str,
}

impl MaxBytes {
    pub(super) fn check(self, size: u64) -> Result<(), Answer> {
        let MaxBytes { bytes: limit, key } = self;
        if size > limit { Err(Refusal::TooLarge { size, limit, key }.into()) } else { Ok(()) }
    }
}

/// Memory that a body of this many bytes will take until it is durable.
pub(super) fn expected_bytes(len: Option<u64>, compressed: bool, json: bool) -> u64 {
    let compressed = if compressed { COMPRESSED_FACTOR } else { 1 };
    let json = if json { JSON_FACTOR } else { 1 };
    len.unwrap_or(UNKNOWN_BYTES).saturating_mul(compressed * json)
}

/// The next bytes of a body, or `None` at its end.
pub(super) async fn next_data<B>(body: &mut B) -> Result<Option<Bytes>, Answer>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Display,
{
    loop {
        let frame = match timeout(STALL, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => {
                let what = format!("body could not be read: {error}");
                return Err(Answer::new(Code::Cancelled, StatusCode::BAD_REQUEST, what));
            }
            Ok(None) => return Ok(None),
            Err(_) => {
                let what = format!("body stopped for {} s", STALL.as_secs());
                let answer = Answer::new(Code::Cancelled, StatusCode::REQUEST_TIMEOUT, what);
                return Err(Answer { close: true, ..answer });
            }
        };
        // All but data are trailers, which say nothing.
        if let Ok(data) = frame.into_data()
            && !data.is_empty()
        {
            return Ok(Some(data));
        }
    }
}

/// A body of a length that is known, `first` being what is there of it. The permit covers it
/// already.
pub(super) async fn read_exact<B>(body: &mut B, first: Bytes, len: usize) -> Result<Bytes, Answer>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Display,
{
    let whole = if first.len() == len {
        first
    } else {
        let mut whole = BytesMut::with_capacity(len);
        let mut next = first;
        loop {
            if next.len() > len - whole.len() {
                return Err(Answer::bad_request("body is longer than its length says"));
            }
            whole.extend_from_slice(&next);
            if whole.len() == len {
                break;
            }
            next = next_data(body).await?.ok_or_else(|| {
                let read = whole.len();
                Answer::bad_request(format!("body ends after {read} of {len} bytes"))
            })?;
        }
        whole.freeze()
    };
    match next_data(body).await? {
        None => Ok(whole),
        Some(_) => Err(Answer::bad_request("body is longer than its length says")),
    }
}

/// A body of unknown length, with memory taken as it grows.
pub(super) async fn read_all<B>(
    body: &mut B,
    max: MaxBytes,
    permit: &mut Permit,
    factor: u64,
) -> Result<Bytes, Answer>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Display,
{
    let Some(first) = next_data(body).await? else { return Ok(Bytes::new()) };
    max.check(first.len() as u64)?;
    let Some(second) = next_data(body).await? else { return Ok(first) };
    let mut whole = BytesMut::from(first);
    let mut next = second;
    loop {
        let len = whole.len() + next.len();
        max.check(len as u64)?;
        if len > whole.capacity() {
            let capacity = (whole.capacity() * 2).max(len);
            grow(permit, (capacity as u64).saturating_mul(factor)).await?;
            whole.reserve(capacity - whole.len());
        }
        whole.extend_from_slice(&next);
        match next_data(body).await? {
            Some(data) => next = data,
            None => return Ok(whole.freeze()),
        }
    }
}

/// Decompresses a body. Memory is taken step by step, for what is there and what comes of it.
pub(super) async fn inflate(
    compression: Compression,
    body: Bytes,
    max: MaxBytes,
    permit: &mut Permit,
) -> Result<Bytes, Answer> {
    let bad = |error: InflateError| Answer::bad_request(error.to_string());
    let compressed = body.len() as u64;
    let factor = if compression == Compression::Zstd { ZSTD_FACTOR } else { 1 };
    let mut inflate = Inflate::new(compression, body).map_err(bad)?;
    max.check(inflate.claimed())?;
    let mut out = Vec::new();
    loop {
        let room = inflate.next_step();
        if out.capacity() - out.len() < room {
            // Doubled, but not beyond the limit; the last step goes over it, to see that there is
            // more.
            let limit = usize::try_from(max.bytes).unwrap_or(usize::MAX);
            let capacity = (out.capacity() * 2).min(limit).max(out.len() + room);
            grow(permit, compressed + (capacity as u64).saturating_mul(factor)).await?;
            out.reserve_exact(capacity - out.len());
        }
        let written = inflate.step(&mut out, room).map_err(bad)?;
        max.check(out.len() as u64)?;
        if written < room {
            return Ok(out.into());
        }
        yield_now().await;
    }
}

/// Takes more memory for a request.
pub(super) async fn grow(permit: &mut Permit, bytes: u64) -> Result<(), Answer> {
    permit.grow_to(bytes).await.map_err(|full| Refusal::from(full).into())
}

/// Takes memory for a body that is about to be read.
pub(super) async fn permit(ingest: &Ingest, bytes: u64) -> Result<Permit, Answer> {
    Ok(ingest.permit(bytes).await?)
}

/// Reads a body and forgets it: senders over HTTP/1 read their answer only after they have written
/// all.
pub(super) async fn drain<B>(body: &mut B)
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Display,
{
    let read = async {
        let mut left = DRAIN_BYTES;
        while let Ok(Some(data)) = next_data(body).await {
            left = left.saturating_sub(data.len());
            if left == 0 {
                return;
            }
        }
    };
    // What was not read closes the connection.
    timeout(DRAIN, read).await.unwrap_or_default();
}

#[cfg(test)]
pub(super) mod tests {
    use std::{
        collections::VecDeque,
        convert::Infallible,
        pin::Pin,
        task::{Context, Poll},
    };

    use hyper::body::Frame;

    use super::*;
    use crate::ingest::Limit;

    /// A body that comes piece by piece.
    pub(crate) struct Pieces(VecDeque<Bytes>);

    impl Pieces {
        pub(crate) fn new(pieces: &[&'static [u8]]) -> Pieces {
            Pieces(pieces.iter().map(|piece| Bytes::from_static(piece)).collect())
        }
    }

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
        }
    }

    /// A body that never goes on.
    struct Silent;

    impl Body for Silent {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    const MAX: MaxBytes = MaxBytes { bytes: 10, key: "key" };

    #[tokio::test]
    async fn bodies_have_the_length_they_say() {
        let read = async |pieces: &[&'static [u8]], len| {
            let read = read_exact(&mut Pieces::new(pieces), Bytes::new(), len).await;
            read.map_err(|answer| answer.message)
        };
        assert_eq!(read(&[b"abc", b"", b"de"], 5).await, Ok("abcde".into()));
        assert_eq!(read(&[], 0).await, Ok(Bytes::new()));
        assert_eq!(read(&[b"abc"], 5).await, Err("body ends after 3 of 5 bytes".into()));
        let longer = Err("body is longer than its length says".into());
        assert_eq!(read(&[b"abc", b"d"], 3).await, longer);
        assert_eq!(read(&[b"abcd"], 3).await, longer);
    }

    #[tokio::test]
    async fn bodies_of_unknown_length_are_bounded() {
        let limit = Limit::new(1000);
        let mut permit = limit.permit(1).await.unwrap();
        let mut body = Pieces::new(&[b"abc", b"de", b"fghij"]);
        let read = read_all(&mut body, MAX, &mut permit, 4).await;
        assert_eq!(read, Ok("abcdefghij".into()));
        assert!(permit.bytes() >= 40);
        let mut body = Pieces::new(&[b"abc", b"defgh", b"ijk", b"never read"]);
        let read = read_all(&mut body, MAX, &mut permit, 1).await.unwrap_err();
        assert_eq!(read.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(next_data(&mut body).await, Ok(Some("never read".into())));
    }

    #[tokio::test]
    async fn what_is_inflated_is_bounded() {
        let limit = Limit::new(1 << 20);
        let mut permit = limit.permit(1).await.unwrap();
        let zeros = zstd::stream::encode_all(&[0; 5_000_000][..], 1).unwrap();
        let max = MaxBytes { bytes: 300_000, key: "key" };
        let bomb = inflate(Compression::Zstd, zeros.into(), max, &mut permit).await.unwrap_err();
        assert_eq!(bomb.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert!(permit.bytes() < 1 << 20);
        let exact = zstd::stream::encode_all(&[7; 300_000][..], 1).unwrap();
        let read = inflate(Compression::Zstd, exact.into(), max, &mut permit).await.unwrap();
        assert!(read.len() == 300_000 && read.iter().all(|&byte| byte == 7));
        let claim = Bytes::from_static(&[0x80, 0x80, 0x80, 0x01, 0, 0]);
        assert!(inflate(Compression::Snappy, claim, max, &mut permit).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_sender_is_not_waited_for() {
        let answer = next_data(&mut Silent).await.unwrap_err();
        assert_eq!((answer.status, answer.close), (StatusCode::REQUEST_TIMEOUT, true));
        drain(&mut Silent).await;
    }
}
