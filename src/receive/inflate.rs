//! Decompression with a bound: output grows step by step with what arrives, never by what a header
//! claims.
//!
//! Nobody else in the program reads compressed requests. Several gzip members or zstd frames in a
//! row are one body.
#![deny(clippy::indexing_slicing)]
#![expect(clippy::disallowed_types, reason = "the one place with a cap")]

use std::io::{self, Read};

use bytes::{Buf, Bytes, buf::Reader};
use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use thiserror::Error;

/// Bytes written by one step: some hundred microseconds of work.
pub(super) const STEP_BYTES: usize = 128 << 10;

/// Largest window of zstd, 32 MiB: a frame of one segment has as large a window as its content, and
/// content may be 20 MiB. It is filled by what is decompressed, so it is never larger than the
/// output.
const ZSTD_WINDOW_LOG: u32 = 25;

/// No snappy element of a byte or more makes more than 64 bytes of output; three bytes make 64.
const SNAPPY_RATIO: usize = 64;

const SNAPPY_FRAMED: &[u8] = b"\xff\x06\x00\x00sNaPpY";

/// How bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Zstd,
    /// Zlib or raw deflate: senders mean either by this name.
    Deflate,
    /// A block, or frames.
    Snappy,
}

/// The bytes are not compressed in the way they are said to be.
#[derive(Debug, Error)]
#[error("body is not valid {name}: {source}")]
pub(super) struct InflateError {
    name: &'static str,
    source: io::Error,
}

/// A body that is being decompressed.
pub(super) struct Inflate {
    compression: Compression,
    source: Source,
}

enum Source {
    Stream(Box<dyn Read + Send>),
    /// A snappy block, of which the length is known and believable.
    Block(Bytes, usize),
}

impl Compression {
    const fn name(self) -> &'static str {
        match self {
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
            Compression::Deflate => "deflate",
            Compression::Snappy => "snappy",
        }
    }
}

impl Inflate {
    pub(super) fn new(compression: Compression, body: Bytes) -> Result<Inflate, InflateError> {
        let error = |source| InflateError { name: compression.name(), source };
        let source = match compression {
            Compression::Gzip => stream(MultiGzDecoder::new(body.reader())),
            Compression::Zstd => stream(zstd_reader(body.reader()).map_err(error)?),
            Compression::Deflate if is_zlib(&body) => stream(ZlibDecoder::new(body.reader())),
            Compression::Deflate => stream(DeflateDecoder::new(body.reader())),
            Compression::Snappy if body.starts_with(SNAPPY_FRAMED) => {
                stream(snap::read::FrameDecoder::new(body.reader()))
            }
            Compression::Snappy => {
                let len = snap::raw::decompress_len(&body).map_err(|it| error(it.into()))?;
                if len / SNAPPY_RATIO > body.len() {
                    return Err(error(io::Error::other("it claims a length that it cannot have")));
                }
                Source::Block(body, len)
            }
        };
        Ok(Inflate { compression, source })
    }

    /// The length that a block has to have, and so may not be over the limit; 0 if it shows as we
    /// go.
    pub(super) fn claimed(&self) -> u64 {
        match self.source {
            Source::Stream(_) => 0,
            Source::Block(_, len) => len as u64,
        }
    }

    /// Bytes that the next step writes at most.
    pub(super) fn next_step(&self) -> usize {
        match self.source {
            Source::Stream(_) => STEP_BYTES,
            Source::Block(_, len) => len,
        }
    }

    /// Appends up to `room` bytes, a block as a whole. Returns how many; fewer than `room` at the
    /// end.
    pub(super) fn step(&mut self, out: &mut Vec<u8>, room: usize) -> Result<usize, InflateError> {
        let written = match &mut self.source {
            Source::Stream(reader) => reader.take(room as u64).read_to_end(out),
            Source::Block(block, len) => {
                let (start, block) = (out.len(), std::mem::take(block));
                out.resize(start.saturating_add(*len), 0);
                let target = out.get_mut(start..).unwrap_or_default();
                self.source = stream(io::empty());
                snap::raw::Decoder::new().decompress(&block, target).map_err(io::Error::from)
            }
        };
        written.map_err(|source| InflateError { name: self.compression.name(), source })
    }
}

fn stream(reader: impl Read + Send + 'static) -> Source {
    Source::Stream(Box::new(reader))
}

fn zstd_reader(
    body: Reader<Bytes>,
) -> io::Result<zstd::stream::read::Decoder<'static, Reader<Bytes>>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(body)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG)?;
    Ok(decoder)
}

/// A zlib header: method 8, and a checksum that divides by 31.
fn is_zlib(body: &[u8]) -> bool {
    match body {
        [first, second, ..] => first & 0x0f == 8 && u16::from_be_bytes([*first, *second]) % 31 == 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression as Level, write};
    use proptest::prelude::*;

    use super::*;

    const ALL: [Compression; 4] =
        [Compression::Gzip, Compression::Zstd, Compression::Deflate, Compression::Snappy];

    /// All of a body, up to a little over the limit.
    fn inflate(compression: Compression, body: Vec<u8>, limit: usize) -> Option<Vec<u8>> {
        let mut inflate = Inflate::new(compression, body.into()).ok()?;
        let mut out = Vec::new();
        while out.len() <= limit {
            let room = inflate.next_step();
            if inflate.step(&mut out, room).ok()? < room {
                return Some(out);
            }
        }
        Some(out)
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = write::GzEncoder::new(Vec::new(), Level::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(data: &[u8]) -> Vec<u8> {
        let mut encoder = write::ZlibEncoder::new(Vec::new(), Level::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn deflate(data: &[u8]) -> Vec<u8> {
        let mut encoder = write::DeflateEncoder::new(Vec::new(), Level::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(data: &[u8]) -> Vec<u8> {
        zstd::stream::encode_all(data, 1).unwrap()
    }

    fn snappy(data: &[u8]) -> Vec<u8> {
        snap::raw::Encoder::new().compress_vec(data).unwrap()
    }

    fn framed_snappy(data: &[u8]) -> Vec<u8> {
        let mut encoder = snap::write::FrameEncoder::new(Vec::new());
        encoder.write_all(data).unwrap();
        encoder.into_inner().unwrap()
    }

    #[test]
    fn bodies_of_every_kind_come_back() {
        let (a, b) = (b"the same words, ".repeat(40_000), b"the same words, ".to_vec());
        let both = [&a[..], &b[..]].concat();
        let cases = [
            (Compression::Gzip, gzip(&a), &a),
            (Compression::Gzip, [gzip(&a), gzip(&b)].concat(), &both),
            (Compression::Zstd, zstd(&a), &a),
            (Compression::Zstd, [zstd(&a), zstd(&b)].concat(), &both),
            (Compression::Deflate, zlib(&a), &a),
            (Compression::Deflate, deflate(&a), &a),
            (Compression::Snappy, snappy(&a), &a),
            (Compression::Snappy, framed_snappy(&a), &a),
        ];
        for (compression, body, expected) in cases {
            let truncated = body[..body.len() - 3].to_vec();
            assert_eq!(inflate(compression, truncated, 1 << 30), None, "{compression:?}");
            let found = inflate(compression, body, 1 << 30);
            assert!(found.as_ref() == Some(expected), "{compression:?}");
        }
        let high = zstd::bulk::compress(&a, 22).unwrap();
        assert_eq!(inflate(Compression::Zstd, high, 1 << 30), Some(a));
    }

    #[test]
    fn bombs_do_not_go_off() {
        let zeros = vec![0; 64 << 20];
        for bomb in [gzip(&zeros), [gzip(&zeros), gzip(&zeros)].concat()] {
            let out = inflate(Compression::Gzip, bomb, 1 << 20).unwrap();
            assert!(out.len() <= (1 << 20) + STEP_BYTES && out.capacity() < 4 << 20);
        }
        let out = inflate(Compression::Zstd, zstd(&zeros), 1 << 20).unwrap();
        assert!(out.len() <= (1 << 20) + STEP_BYTES);
        // A zstd frame and a snappy block that claim 2 GiB and hold next to nothing.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 0x80, 0x01, 0, 0];
        assert_eq!(inflate(Compression::Zstd, frame.to_vec(), 1 << 20), None);
        let block = [0x80, 0x80, 0x80, 0x80, 0x08, 0x00, 0x61];
        assert_eq!(inflate(Compression::Snappy, block.to_vec(), 1 << 20), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn any_bytes_are_answered(bytes: Vec<u8>) {
            for compression in ALL {
                drop(inflate(compression, bytes.clone(), 1 << 20));
            }
        }

        #[test]
        fn damaged_bodies_are_answered(at: prop::sample::Index, byte: u8) {
            let data = b"0123456789".repeat(100);
            for (compression, mut body) in ALL.into_iter().zip([gzip(&data), zstd(&data), zlib(&data), snappy(&data)]) {
                let at = at.index(body.len());
                body[at] = byte;
                drop(inflate(compression, body, 1 << 20));
            }
        }
    }
}
