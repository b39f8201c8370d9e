//! The one walk over an `ExportTraceServiceRequest` that everything behind it relies on.
//!
//! What a checked request promises: protobuf, well formed down to the last value, each field of the
//! wire type that OTLP gives it, no groups, no deprecated field 1000; one resource per
//! `ResourceSpans` and one scope per `ScopeSpans` at most; per span one trace id of 16 bytes and
//! one span id of 8, neither all zero, a parent id that is absent or 8 bytes and not the span's
//! own, one status at most; link ids empty or 16 and 8 bytes; strings valid UTF-8; values nested no
//! deeper than [`MAX_DEPTH`]. A request that keeps all this is passed on as it came; else `repair`
//! writes it anew.
#![deny(clippy::indexing_slicing)]

use thiserror::Error;

use crate::otlp::{
    refusal::{Refusals, Warnings},
    repair,
    wire::{BYTES, FIXED32, FIXED64, Reader, VARINT, WireError, is_group, tag},
};

/// Values in values: an attribute's own value is at depth 1, so at this depth there are no lists.
/// Nobody reads deeper ones.
pub(super) const MAX_DEPTH: u32 = 32;

/// `ResourceSpans` field 1000: scope spans under the name they had before OTLP 0.15.
pub(super) const DEPRECATED_SCOPE_SPANS: u32 = 1000;

/// What a walk over a request found.
#[derive(Debug, PartialEq, Eq)]
pub enum Checked {
    /// The request may be used as it is.
    Clean { spans: u64 },
    /// The request had faults. This one has none, and holds the `spans` that could be kept.
    Repaired { request: Vec<u8>, spans: u64, refused: Refusals, warnings: Warnings },
}

/// The bytes are no request at all.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error("body is no OTLP ExportTraceServiceRequest")]
pub struct DecodeError(#[from] pub WireError);

/// Why a walk stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Not protobuf: nothing can be kept.
    Wire(WireError),
    /// Something to repair.
    Dirty,
}

impl From<WireError> for Fault {
    #[inline]
    fn from(error: WireError) -> Fault {
        Fault::Wire(error)
    }
}

/// Checks a request; allocates only if it has to be repaired.
///
/// # Errors
/// When the bytes are not protobuf, or not of this shape.
pub fn check(request: &[u8]) -> Result<Checked, DecodeError> {
    match walk(request) {
        Ok(spans) => Ok(Checked::Clean { spans }),
        Err(Fault::Dirty) => Ok(repair::repair(request)?),
        Err(Fault::Wire(error)) => Err(DecodeError(error)),
    }
}

/// The number of spans in a clean request.
fn walk(request: &[u8]) -> Result<u64, Fault> {
    const RESOURCE_SPANS: u32 = tag(1, BYTES);
    let mut reader = Reader::new(request);
    let mut spans = 0;
    while let Some(tag) = reader.tag()? {
        match tag {
            RESOURCE_SPANS => spans += resource_spans(reader.bytes()?)?,
            _ => skip_unknown(&mut reader, tag, 1)?,
        }
    }
    Ok(spans)
}

fn resource_spans(message: &[u8]) -> Result<u64, Fault> {
    const RESOURCE: u32 = tag(1, BYTES);
    const SCOPE_SPANS: u32 = tag(2, BYTES);
    const SCHEMA_URL: u32 = tag(3, BYTES);
    const DEPRECATED: u32 = tag(DEPRECATED_SCOPE_SPANS, BYTES);
    let mut reader = Reader::new(message);
    let mut spans = 0;
    let mut resources = 0;
    while let Some(tag) = reader.tag()? {
        match tag {
            RESOURCE => {
                resource(reader.bytes()?)?;
                once(&mut resources)?;
            }
            SCOPE_SPANS => spans += scope_spans(reader.bytes()?)?,
            SCHEMA_URL => text(reader.bytes()?)?,
            DEPRECATED => return Err(Fault::Dirty),
            _ => skip_unknown(&mut reader, tag, 3)?,
        }
    }
    Ok(spans)
}

fn resource(message: &[u8]) -> Result<(), Fault> {
    const ATTRIBUTES: u32 = tag(1, BYTES);
    const DROPPED: u32 = tag(2, VARINT);
    const ENTITY_REFS: u32 = tag(3, BYTES);
    let mut reader = Reader::new(message);
    while let Some(tag) = reader.tag()? {
        match tag {
            ATTRIBUTES => key_value(reader.bytes()?, 1)?,
            DROPPED => drop(reader.varint()?),
            ENTITY_REFS => entity_ref(reader.bytes()?)?,
            _ => skip_unknown(&mut reader, tag, 3)?,
        }
    }
    Ok(())
}

fn entity_ref(message: &[u8]) -> Result<(), Fault> {
    const SCHEMA_URL: u32 = tag(1, BYTES);
    const TYPE: u32 = tag(2, BYTES);
    const ID_KEYS: u32 = tag(3, BYTES);
    const DESCRIPTION_KEYS: u32 = tag(4, BYTES);
    let mut reader = Reader::new(message);
    while let Some(tag) = reader.tag()? {
        match tag {
            SCHEMA_URL | TYPE | ID_KEYS | DESCRIPTION_KEYS => text(reader.bytes()?)?,
            _ => skip_unknown(&mut reader, tag, 4)?,
        }
    }
    Ok(())
}

fn scope_spans(message: &[u8]) -> Result<u64, Fault> {
    const SCOPE: u32 = tag(1, BYTES);
    const SPANS: u32 = tag(2, BYTES);
    const SCHEMA_URL: u32 = tag(3, BYTES);
    let mut reader = Reader::new(message);
    let mut spans = 0;
    let mut scopes = 0;
    while let Some(tag) = reader.tag()? {
        match tag {
            SCOPE => {
                scope(reader.bytes()?)?;
                once(&mut scopes)?;
            }
            SPANS => {
                span(reader.bytes()?)?;
                spans += 1;
            }
            SCHEMA_URL => text(reader.bytes()?)?,
            _ => skip_unknown(&mut reader, tag, 3)?,
        }
    }
    Ok(spans)
}

fn scope(message: &[u8]) -> Result<(), Fault> {
    const NAME: u32 = tag(1, BYTES);
    const VERSION: u32 = tag(2, BYTES);
    const ATTRIBUTES: u32 = tag(3, BYTES);
    const DROPPED: u32 = tag(4, VARINT);
    let mut reader = Reader::new(message);
    while let Some(tag) = reader.tag()? {
        match tag {
            NAME | VERSION => text(reader.bytes()?)?,
            ATTRIBUTES => key_value(reader.bytes()?, 1)?,
            DROPPED => drop(reader.varint()?),
            _ => skip_unknown(&mut reader, tag, 4)?,
        }
    }
    Ok(())
}

pub(super) fn span(message: &[u8]) -> Result<(), Fault> {
    const TRACE_ID: u32 = tag(1, BYTES);
    const SPAN_ID: u32 = tag(2, BYTES);
    const TRACE_STATE: u32 = tag(3, BYTES);
    const PARENT_SPAN_ID: u32 = tag(4, BYTES);
    const NAME: u32 = tag(5, BYTES);
    const KIND: u32 = tag(6, VARINT);
    const START: u32 = tag(7, FIXED64);
    const END: u32 = tag(8, FIXED64);
    const ATTRIBUTES: u32 = tag(9, BYTES);
    const DROPPED_ATTRIBUTES: u32 = tag(10, VARINT);
    const EVENTS: u32 = tag(11, BYTES);
    const DROPPED_EVENTS: u32 = tag(12, VARINT);
    const LINKS: u32 = tag(13, BYTES);
    const DROPPED_LINKS: u32 = tag(14, VARINT);
    const STATUS: u32 = tag(15, BYTES);
    const FLAGS: u32 = tag(16, FIXED32);
    let mut reader = Reader::new(message);
    let (mut trace_ids, mut span_ids, mut parents, mut statuses) = (0, 0, 0, 0);
    let (mut span_id, mut parent) = ([0; 8], [0; 8]);
    while let Some(tag) = reader.tag()? {
        match tag {
            ATTRIBUTES => key_value(reader.bytes()?, 1)?,
            TRACE_ID => {
                id::<16>(reader.bytes()?)?;
                once(&mut trace_ids)?;
            }
            SPAN_ID => {
                span_id = id(reader.bytes()?)?;
                once(&mut span_ids)?;
            }
            PARENT_SPAN_ID => {
                parent = *sized(reader.bytes()?)?;
                once(&mut parents)?;
            }
            NAME | TRACE_STATE => text(reader.bytes()?)?,
            START | END => drop(reader.fixed64()?),
            KIND | DROPPED_ATTRIBUTES | DROPPED_EVENTS | DROPPED_LINKS => drop(reader.varint()?),
            STATUS => {
                status(reader.bytes()?)?;
                once(&mut statuses)?;
            }
            FLAGS => drop(reader.fixed32()?),
            EVENTS => event(reader.bytes()?)?,
            LINKS => link(reader.bytes()?)?,
            _ => skip_unknown(&mut reader, tag, 16)?,
        }
    }
    // An id of a span that has none is zero, and so is the parent: equal as well.
    if trace_ids == 0 || span_ids == 0 || span_id == parent { Err(Fault::Dirty) } else { Ok(()) }
}

fn event(message: &[u8]) -> Result<(), Fault> {
    const TIME: u32 = tag(1, FIXED64);
    const NAME: u32 = tag(2, BYTES);
    const ATTRIBUTES: u32 = tag(3, BYTES);
    const DROPPED: u32 = tag(4, VARINT);
    let mut reader = Reader::new(message);
    while let Some(tag) = reader.tag()? {
        match tag {
            TIME => drop(reader.fixed64()?),
            NAME => text(reader.bytes()?)?,
            ATTRIBUTES => key_value(reader.bytes()?, 1)?,
            DROPPED => drop(reader.varint()?),
            _ => skip_unknown(&mut reader, tag, 4)?,
        }
    }
    Ok(())
}

fn link(message: &[u8]) -> Result<(), Fault> {
    const TRACE_ID: u32 = tag(1, BYTES);
    const SPAN_ID: u32 = tag(2, BYTES);
    const TRACE_STATE: u32 = tag(3, BYTES);
    const ATTRIBUTES: u32 = tag(4, BYTES);
    const DROPPED: u32 = tag(5, VARINT);
    const FLAGS: u32 = tag(6, FIXED32);
    let mut reader = Reader::new(message);
    while let Some(tag) = reader.tag()? {
        match tag {
            TRACE_ID => absent_or_sized::<16>(reader.bytes()?)?,
            SPAN_ID => absent_or_sized::<8>(reader.bytes()?)?,
            TRACE_STATE => text(reader.bytes()?)?,
            ATTRIBUTES => key_value(reader.bytes()?, 1)?,
            DROPPED => drop(reader.varint()?),
            FLAGS => drop(reader.fixed32()?),
            _ => skip_unknown(&mut reader, tag, 6)?,
        }
    }
    Ok(())
}

fn status(message: &[u8]) -> Result<(), Fault> {
    const REMOVED_CODE: u32 = tag(1, VARINT);
    const MESSAGE: u32 = tag(2, BYTES);
    const CODE: u32 = tag(3, VARINT);
    let mut reader = Reader::new(message);
    while let Some(tag) = reader.tag()? {
        match tag {
            MESSAGE => text(reader.bytes()?)?,
            CODE | REMOVED_CODE => drop(reader.varint()?),
            _ => skip_unknown(&mut reader, tag, 3)?,
        }
    }
    Ok(())
}

#[inline]
fn key_value(message: &[u8], depth: u32) -> Result<(), Fault> {
    const KEY: u32 = tag(1, BYTES);
    const VALUE: u32 = tag(2, BYTES);
    let mut reader = Reader::new(message);
    while let Some(tag) = reader.tag()? {
        match tag {
            KEY => text(reader.bytes()?)?,
            VALUE => any_value(reader.bytes()?, depth)?,
            _ => skip_unknown(&mut reader, tag, 2)?,
        }
    }
    Ok(())
}

#[inline]
fn any_value(message: &[u8], depth: u32) -> Result<(), Fault> {
    const STRING: u32 = tag(1, BYTES);
    const BOOL: u32 = tag(2, VARINT);
    const INT: u32 = tag(3, VARINT);
    const DOUBLE: u32 = tag(4, FIXED64);
    const ARRAY: u32 = tag(5, BYTES);
    const KVLIST: u32 = tag(6, BYTES);
    const BYTES_VALUE: u32 = tag(7, BYTES);
    let mut reader = Reader::new(message);
    while let Some(tag) = reader.tag()? {
        match tag {
            STRING => text(reader.bytes()?)?,
            BOOL | INT => drop(reader.varint()?),
            DOUBLE => drop(reader.fixed64()?),
            ARRAY | KVLIST if depth == MAX_DEPTH => return Err(Fault::Dirty),
            ARRAY => array(reader.bytes()?, depth + 1)?,
            KVLIST => kvlist(reader.bytes()?, depth + 1)?,
            BYTES_VALUE => drop(reader.bytes()?),
            _ => skip_unknown(&mut reader, tag, 7)?,
        }
    }
    Ok(())
}

/// An array whose values are at `depth`.
#[inline(never)]
fn array(message: &[u8], depth: u32) -> Result<(), Fault> {
    const VALUES: u32 = tag(1, BYTES);
    let mut reader = Reader::new(message);
    while let Some(tag) = reader.tag()? {
        match tag {
            VALUES => any_value(reader.bytes()?, depth)?,
            _ => skip_unknown(&mut reader, tag, 1)?,
        }
    }
    Ok(())
}

/// A list of keys and values, the values at `depth`.
#[inline(never)]
fn kvlist(message: &[u8], depth: u32) -> Result<(), Fault> {
    const VALUES: u32 = tag(1, BYTES);
    let mut reader = Reader::new(message);
    while let Some(tag) = reader.tag()? {
        match tag {
            VALUES => key_value(reader.bytes()?, depth)?,
            _ => skip_unknown(&mut reader, tag, 1)?,
        }
    }
    Ok(())
}

/// Skips a field that the message does not know; `known` is its highest known number.
#[cold]
fn skip_unknown(reader: &mut Reader<'_>, tag: u32, known: u32) -> Result<(), Fault> {
    if is_group(tag) {
        return Err(Fault::Dirty);
    }
    if tag >> 3 <= known {
        return Err(Fault::Wire(WireError::Type));
    }
    Ok(reader.skip(tag)?)
}

/// A field that stands once: readers that take its first and its last value must agree.
#[inline(always)]
fn once(seen: &mut u32) -> Result<(), Fault> {
    *seen += 1;
    if *seen > 1 { Err(Fault::Dirty) } else { Ok(()) }
}

#[inline(always)]
fn id<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Fault> {
    let id = sized(bytes)?;
    if *id == [0; N] { Err(Fault::Dirty) } else { Ok(*id) }
}

#[inline(always)]
fn sized<const N: usize>(bytes: &[u8]) -> Result<&[u8; N], Fault> {
    bytes.try_into().map_err(|_| Fault::Dirty)
}

#[inline(always)]
fn absent_or_sized<const N: usize>(bytes: &[u8]) -> Result<(), Fault> {
    if bytes.is_empty() || bytes.len() == N { Ok(()) } else { Err(Fault::Dirty) }
}

/// Nearly all strings are short and ASCII, which a few word-wide looks can tell.
#[inline(always)]
fn text(bytes: &[u8]) -> Result<(), Fault> {
    if is_ascii(bytes) || std::str::from_utf8(bytes).is_ok() { Ok(()) } else { Err(Fault::Dirty) }
}

#[inline(always)]
fn is_ascii(bytes: &[u8]) -> bool {
    const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
    const HIGH_BITS_32: u32 = 0x8080_8080;
    // First and last word may overlap: cheaper than a tail byte by byte.
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let ends = u64::from_ne_bytes(*first) | u64::from_ne_bytes(*last);
        let middle = if bytes.len() > 16 { words(bytes) } else { 0 };
        return (ends | middle) & HIGH_BITS == 0;
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return (u32::from_ne_bytes(*first) | u32::from_ne_bytes(*last)) & HIGH_BITS_32 == 0;
    }
    bytes.iter().fold(0, |all, byte| all | byte) < 0x80
}

/// All whole words of the bytes, or-ed.
#[inline(always)]
fn words(bytes: &[u8]) -> u64 {
    let (words, _) = bytes.as_chunks();
    words.iter().fold(0, |all, word| all | u64::from_ne_bytes(*word))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::otlp::{
        refusal::{Warning, describe},
        repair::TOO_DEEP,
        wire::{
            put_bytes_field, put_fixed32_field, put_fixed64_field, put_message, put_tag,
            put_varint_field,
        },
    };

    const TRACE: [u8; 16] = [7; 16];
    const SPAN: [u8; 8] = [8; 8];

    /// A request of one resource, one scope and the spans given.
    fn request(spans: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        put_message(&mut out, 1, |out| {
            put_message(out, 1, |out| attribute(out, 1, b"service.name", b"cart"));
            put_message(out, 2, |out| {
                put_message(out, 1, |out| put_bytes_field(out, 1, b"lib"));
                spans.iter().for_each(|span| put_bytes_field(out, 2, span));
            });
        });
        out
    }

    fn attribute(out: &mut Vec<u8>, field: u32, key: &[u8], value: &[u8]) {
        put_message(out, field, |out| {
            put_bytes_field(out, 1, key);
            put_message(out, 2, |out| put_bytes_field(out, 1, value));
        });
    }

    /// A span with these ids and whatever `more` writes behind them.
    fn span(trace: &[u8], id: &[u8], more: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes_field(&mut out, 1, trace);
        put_bytes_field(&mut out, 2, id);
        more(&mut out);
        out
    }

    fn good() -> Vec<u8> {
        span(&TRACE, &SPAN, |out| {
            put_bytes_field(out, 3, b"a=b");
            put_bytes_field(out, 4, &[9; 8]);
            put_bytes_field(out, 5, "GET /grüße".as_bytes());
            put_varint_field(out, 6, 77);
            put_fixed64_field(out, 7, u64::MAX);
            put_fixed64_field(out, 8, 1);
            attribute(out, 9, b"", b"a longer value, of more than two words");
            put_message(out, 11, |out| attribute(out, 3, b"k", b"v"));
            put_message(out, 13, |out| put_bytes_field(out, 1, &TRACE));
            put_message(out, 15, |out| put_varint_field(out, 3, 9));
            put_fixed32_field(out, 16, 0x101);
            put_bytes_field(out, 99, b"\xff unknown");
        })
    }

    fn nested(depth: u32) -> Vec<u8> {
        let mut value = Vec::new();
        put_bytes_field(&mut value, 1, b"x");
        for level in 1..depth {
            let mut list = Vec::new();
            let inner = value;
            match level % 2 {
                0 => put_bytes_field(&mut list, 1, &inner),
                _ => put_message(&mut list, 1, |out| put_bytes_field(out, 2, &inner)),
            }
            value = Vec::new();
            put_bytes_field(&mut value, if level % 2 == 0 { 5 } else { 6 }, &list);
        }
        span(&TRACE, &SPAN, |out| put_message(out, 9, |out| put_bytes_field(out, 2, &value)))
    }

    fn group(span: &mut Vec<u8>) {
        put_tag(span, 50, 3);
        put_varint_field(span, 1, 5);
        put_tag(span, 50, 4);
    }

    /// What becomes of a request with one span: `clean`, the repaired span's bytes, or the text of
    /// its refusal.
    fn fate(span: Vec<u8>) -> Result<Option<Vec<u8>>, String> {
        match check(&request(&[span])).map_err(|error| error.to_string())? {
            Checked::Clean { spans } => {
                assert_eq!(spans, 1);
                Ok(None)
            }
            Checked::Repaired { refused, warnings, spans: 0, request } => {
                assert_eq!((refused.spans(), request), (1, Vec::new()));
                Err(describe(1, &refused, &warnings))
            }
            Checked::Repaired { request, spans, refused, .. } => {
                assert_eq!((spans, refused.spans()), (1, 0));
                assert_eq!(check(&request), Ok(Checked::Clean { spans: 1 }));
                Ok(Some(request))
            }
        }
    }

    #[test]
    fn good_requests_stay_as_they_are() {
        assert_eq!(check(b""), Ok(Checked::Clean { spans: 0 }));
        assert_eq!(check(&request(&[])), Ok(Checked::Clean { spans: 0 }));
        let odd_parent = span(&TRACE, &SPAN, |out| put_bytes_field(out, 4, &[0; 8]));
        assert_eq!(check(&request(&[good(), odd_parent])), Ok(Checked::Clean { spans: 2 }));
        assert_eq!(fate(nested(MAX_DEPTH)), Ok(None));
    }

    #[test]
    fn spans_without_ids_are_refused() {
        let nothing = |_: &mut Vec<u8>| {};
        let cases = [
            (span(&[], &SPAN, nothing), "invalid_trace_id (empty; e.g. span 0808…0808 name \"\")"),
            (
                span(&[0; 16], &SPAN, nothing),
                "invalid_trace_id (all zero; e.g. trace 0000…0000 name \"\")",
            ),
            (
                span(&[0; 8], &SPAN, nothing),
                "invalid_trace_id (all zero; e.g. trace 0000…0000 name \"\")",
            ),
            (
                span(&[1; 15], &SPAN, nothing),
                "invalid_trace_id (15 bytes; e.g. trace 0101…0101 name \"\")",
            ),
            (span(&TRACE, &[], nothing), "invalid_span_id (empty; e.g. trace 0707…0707 name \"\")"),
            (
                span(&TRACE, &[0; 8], nothing),
                "invalid_span_id (all zero; e.g. trace 0707…0707 name \"\")",
            ),
            (
                span(&TRACE, &[1; 7], nothing),
                "invalid_span_id (7 bytes; e.g. trace 0707…0707 name \"\")",
            ),
            (Vec::new(), "invalid_trace_id (empty; e.g. a span with name \"\")"),
        ];
        for (span, text) in cases {
            assert_eq!(fate(span), Err(format!("refused 1 of 1 spans: 1 {text}")));
        }
    }

    #[test]
    fn faults_that_can_be_repaired_are() {
        let with =
            |field, bytes: &[u8]| span(&TRACE, &SPAN, |out| put_bytes_field(out, field, bytes));
        let link = |ids: &[(u32, &[u8])]| {
            let mut link = Vec::new();
            ids.iter().for_each(|(field, id)| put_bytes_field(&mut link, *field, id));
            with(13, &link)
        };
        let plain = || span(&TRACE, &SPAN, |_| {});
        let status = |out: &mut Vec<u8>| put_bytes_field(out, 15, &[0x18, 2]);
        let mut padded = [0; 16];
        padded[8..].fill(7);
        let cases = [
            (span(&[7; 8], &SPAN, status), span(&padded, &SPAN, status)),
            (with(4, &[1; 5]), plain()),
            (with(4, &SPAN), plain()),
            (with(4, &[]), plain()),
            (with(1, &TRACE), plain()),
            (span(&TRACE, &SPAN, group), plain()),
            (with(5, b"\xc3\x28"), with(5, "\u{fffd}(".as_bytes())),
            (with(9, &[0x0a, 1, 0xff]), with(9, &[0x0a, 3, 0xef, 0xbf, 0xbd])),
            (link(&[(1, &[7; 8]), (2, &[1])]), link(&[(1, &padded)])),
        ];
        for (span, repaired) in cases {
            assert_eq!(fate(span.clone()), Ok(Some(request(&[repaired]))), "{span:?}");
        }
    }

    #[test]
    fn nine_of_ten_are_kept() {
        let mut spans = vec![good(); 9];
        spans.insert(4, span(&TRACE, &[], |_| {}));
        let Ok(Checked::Repaired { request: kept, spans, refused, warnings }) =
            check(&request(&spans))
        else {
            panic!("one span is bad")
        };
        assert_eq!((spans, refused.spans(), warnings.is_empty()), (9, 1, true));
        assert_eq!(kept, request(&vec![good(); 9]));
    }

    #[test]
    fn values_nested_too_deep_become_text() {
        for depth in [MAX_DEPTH + 1, MAX_DEPTH + 2, 20_000] {
            let Ok(Checked::Repaired { request, spans: 1, warnings, .. }) =
                check(&request(&[nested(depth)]))
            else {
                panic!("{depth} levels are too many")
            };
            let mut expected = crate::otlp::refusal::Warnings::default();
            expected.add(Warning::TooDeep);
            assert_eq!(warnings, expected);
            assert!(String::from_utf8_lossy(&request).contains(TOO_DEEP));
            assert_eq!(check(&request), Ok(Checked::Clean { spans: 1 }));
        }
    }

    #[test]
    fn the_old_field_of_scope_spans_is_moved() {
        let build = |field| {
            let mut out = Vec::new();
            put_message(&mut out, 1, |out| {
                put_message(out, field, |out| put_bytes_field(out, 2, &good()))
            });
            out
        };
        let Ok(Checked::Repaired { request, spans: 1, .. }) = check(&build(DEPRECATED_SCOPE_SPANS))
        else {
            panic!("field 1000 is deprecated")
        };
        assert_eq!(request, build(2));
    }

    #[test]
    fn resources_given_twice_are_joined() {
        let mut twice = Vec::new();
        put_message(&mut twice, 1, |out| {
            put_message(out, 1, |out| attribute(out, 1, b"a", b"1"));
            put_message(out, 2, |out| put_bytes_field(out, 2, &good()));
            put_message(out, 1, |out| attribute(out, 1, b"b", b"\xff"));
        });
        let mut once = Vec::new();
        put_message(&mut once, 1, |out| {
            put_message(out, 1, |out| {
                attribute(out, 1, b"a", b"1");
                attribute(out, 1, b"b", "\u{fffd}".as_bytes());
            });
            put_message(out, 2, |out| put_bytes_field(out, 2, &good()));
        });
        let Ok(Checked::Repaired { request, spans: 1, .. }) = check(&twice) else {
            panic!("two resources are too many")
        };
        assert_eq!(request, once);
    }

    #[test]
    fn what_is_no_request_is_refused_whole() {
        let cases: [&[u8]; 5] =
            [b"{}", b"garbage", &[0x0a, 0x05, 0x0a], &[0x08, 1], &[0x0a, 3, 0x12, 1, 0x0a]];
        for bytes in cases {
            assert!(check(bytes).is_err(), "{bytes:?}");
        }
        let wrong_type = span(&TRACE, &SPAN, |out| put_varint_field(out, 5, 1));
        assert!(check(&request(&[wrong_type])).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn any_bytes_are_answered(bytes: Vec<u8>) {
            if let Ok(Checked::Repaired { request, spans, .. }) = check(&bytes) {
                prop_assert_eq!(check(&request), Ok(Checked::Clean { spans }));
            }
        }

        #[test]
        fn a_request_with_changed_bytes_is_answered(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
            let mut bytes = request(&[good(), nested(5), good()]);
            for (place, byte) in changes {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            if let Ok(Checked::Repaired { request, spans, .. }) = check(&bytes) {
                prop_assert_eq!(check(&request), Ok(Checked::Clean { spans }));
            }
        }

        #[test]
        fn ascii_is_told_from_the_rest(bytes in prop::collection::vec(prop_oneof![9 => 0u8..128, 1 => any::<u8>()], 0..40)) {
            prop_assert_eq!(is_ascii(&bytes), bytes.is_ascii());
        }
    }
}
