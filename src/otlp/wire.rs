//! Protobuf's wire format: reading fields from borrowed bytes, writing them to a `Vec`. Knows no
//! message.
//!
//! Nothing here allocates while reading, and no input makes it panic.
#![deny(clippy::indexing_slicing)]

use thiserror::Error;

/// A varint: kind of a field's tag.
pub const VARINT: u32 = 0;
/// Eight bytes, little endian.
pub const FIXED64: u32 = 1;
/// A length, then so many bytes: strings, bytes, messages.
pub const BYTES: u32 = 2;
/// Four bytes, little endian.
pub const FIXED32: u32 = 5;

const GROUP_START: u32 = 3;
const GROUP_END: u32 = 4;

/// Groups in groups beyond this are an attack: the format dropped groups in 2008.
const MAX_GROUP_DEPTH: usize = 32;

/// The longest varint: ten times seven bits hold 64.
const MAX_VARINT_BYTES: usize = 10;

/// Why bytes are not protobuf.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum WireError {
    #[error("a message ends inside a field")]
    Truncated,
    #[error("a varint is longer than 64 bits")]
    Varint,
    #[error("a field has number 0 or one over 2^29")]
    Number,
    #[error("a field has an unknown wire type, or not the one its message defines")]
    Type,
    #[error("a group does not end, or ends without a start")]
    Group,
}

/// One field's value. What the bytes mean is for the message's reader to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

/// Reads the fields of one message, in the order they stand.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

/// The tag of a field: its number and its wire type in one number, as it stands on the wire.
#[must_use]
pub const fn tag(field: u32, wire_type: u32) -> u32 {
    field << 3 | wire_type
}

impl<'a> Reader<'a> {
    #[inline]
    #[must_use]
    pub const fn new(message: &'a [u8]) -> Reader<'a> {
        Reader { rest: message }
    }

    /// The next field, or `None` at the end of the message. Groups are skipped as unknown fields.
    ///
    /// # Errors
    /// When the bytes are not protobuf; the reader is then of no further use.
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "it can fail, so it is no Iterator")]
    pub fn next(&mut self) -> Result<Option<(u32, Field<'a>)>, WireError> {
        while let Some(tag) = self.tag()? {
            let value = match tag & 7 {
                VARINT => Field::Varint(self.varint()?),
                FIXED64 => Field::Fixed64(self.fixed64()?),
                BYTES => Field::Bytes(self.bytes()?),
                FIXED32 => Field::Fixed32(self.fixed32()?),
                _ => {
                    self.skip(tag)?;
                    continue;
                }
            };
            return Ok(Some((tag >> 3, value)));
        }
        Ok(None)
    }

    /// The next field's [`tag`], or `None` at the end. The caller then reads the value, or skips
    /// it.
    ///
    /// # Errors
    /// When the bytes are no tag.
    #[inline(always)]
    pub fn tag(&mut self) -> Result<Option<u32>, WireError> {
        match self.rest.split_first() {
            None => Ok(None),
            // One byte, and a number other than 0: fields 1 to 15, nearly all there are.
            Some((&byte @ 8..=0x7f, rest)) => {
                self.rest = rest;
                Ok(Some(u32::from(byte)))
            }
            Some(_) => self.long_tag().map(Some),
        }
    }

    #[inline]
    fn long_tag(&mut self) -> Result<u32, WireError> {
        match u32::try_from(self.varint()?) {
            Ok(tag) if tag >> 3 != 0 => Ok(tag),
            _ => Err(WireError::Number),
        }
    }

    /// # Errors
    /// When the message ends first, or the number has more than 64 bits.
    #[inline(always)]
    pub fn varint(&mut self) -> Result<u64, WireError> {
        match self.rest.split_first() {
            Some((&byte @ 0..=0x7f, rest)) => {
                self.rest = rest;
                Ok(u64::from(byte))
            }
            Some(_) => self.long_varint(),
            None => Err(WireError::Truncated),
        }
    }

    #[inline]
    fn long_varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0u64;
        let mut rest = self.rest;
        for place in 0..MAX_VARINT_BYTES {
            let Some((&byte, after)) = rest.split_first() else { return Err(WireError::Truncated) };
            rest = after;
            value |= u64::from(byte & 0x7f) << (place * 7);
            if byte < 0x80 {
                // The tenth byte holds the 64th bit alone.
                if place == MAX_VARINT_BYTES - 1 && byte > 1 {
                    return Err(WireError::Varint);
                }
                self.rest = rest;
                return Ok(value);
            }
        }
        Err(WireError::Varint)
    }

    /// A length and that many bytes.
    ///
    /// # Errors
    /// When the message ends first.
    #[inline(always)]
    pub fn bytes(&mut self) -> Result<&'a [u8], WireError> {
        let len = usize::try_from(self.varint()?).map_err(|_| WireError::Truncated)?;
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// # Errors
    /// When the message ends first.
    #[inline(always)]
    pub fn fixed64(&mut self) -> Result<u64, WireError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(u64::from_le_bytes(*bytes))
    }

    /// # Errors
    /// When the message ends first.
    #[inline(always)]
    pub fn fixed32(&mut self) -> Result<u32, WireError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(u32::from_le_bytes(*bytes))
    }

    /// Skips the value of the field whose tag was just read, groups with all that is in them.
    ///
    /// # Errors
    /// When the value is not well formed.
    pub fn skip(&mut self, tag: u32) -> Result<(), WireError> {
        if tag & 7 == GROUP_START { self.skip_group(tag >> 3) } else { self.skip_plain(tag) }
    }

    fn skip_plain(&mut self, tag: u32) -> Result<(), WireError> {
        match tag & 7 {
            VARINT => self.varint().map(drop),
            FIXED64 => self.fixed64().map(drop),
            BYTES => self.bytes().map(drop),
            FIXED32 => self.fixed32().map(drop),
            GROUP_END => Err(WireError::Group),
            _ => Err(WireError::Type),
        }
    }

    fn skip_group(&mut self, field: u32) -> Result<(), WireError> {
        let mut open = vec![field];
        while let Some(&innermost) = open.last() {
            let tag = self.tag()?.ok_or(WireError::Truncated)?;
            match tag & 7 {
                GROUP_START if open.len() == MAX_GROUP_DEPTH => return Err(WireError::Group),
                GROUP_START => open.push(tag >> 3),
                GROUP_END if tag >> 3 == innermost => drop(open.pop()),
                _ => self.skip_plain(tag)?,
            }
        }
        Ok(())
    }

    /// The bytes not yet read.
    #[inline]
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

/// True for the tags that open or close a group.
#[inline]
#[must_use]
pub const fn is_group(tag: u32) -> bool {
    matches!(tag & 7, GROUP_START | GROUP_END)
}

/// How many bytes [`put_varint`] writes for a value.
#[inline]
#[must_use]
pub const fn varint_len(value: u64) -> usize {
    // Seven bits to a byte; `| 1` because zero takes one byte as well.
    ((value | 1).ilog2() / 7 + 1) as usize
}

#[inline]
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(low_bits(value) | 0x80);
        value >>= 7;
    }
    out.push(low_bits(value));
}

#[inline]
const fn low_bits(value: u64) -> u8 {
    (value & 0x7f) as u8
}

#[inline]
pub fn put_tag(out: &mut Vec<u8>, field: u32, wire_type: u32) {
    put_varint(out, u64::from(tag(field, wire_type)));
}

#[inline]
pub fn put_varint_field(out: &mut Vec<u8>, field: u32, value: u64) {
    put_tag(out, field, VARINT);
    put_varint(out, value);
}

#[inline]
pub fn put_bytes_field(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_tag(out, field, BYTES);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[inline]
pub fn put_fixed64_field(out: &mut Vec<u8>, field: u32, value: u64) {
    put_tag(out, field, FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

#[inline]
pub fn put_fixed32_field(out: &mut Vec<u8>, field: u32, value: u32) {
    put_tag(out, field, FIXED32);
    out.extend_from_slice(&value.to_le_bytes());
}

#[inline]
pub fn put_double_field(out: &mut Vec<u8>, field: u32, value: f64) {
    put_fixed64_field(out, field, value.to_bits());
}

/// Writes a sub-message in place: its length goes in front when `body` is done.
///
/// Room for a one-byte length is left at once, so only messages over 127 bytes are moved, by a few
/// bytes.
#[inline]
pub fn put_message<R>(out: &mut Vec<u8>, field: u32, body: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    put_tag(out, field, BYTES);
    out.push(0);
    let start = out.len();
    let result = body(out);
    let end = out.len();
    let len = (end - start) as u64;
    let more = varint_len(len) - 1;
    if more > 0 {
        out.resize(end + more, 0);
        out.copy_within(start..end, start + more);
    }
    let mut rest = len;
    for byte in out.iter_mut().skip(start - 1).take(more + 1) {
        *byte = low_bits(rest) | if rest >= 0x80 { 0x80 } else { 0 };
        rest >>= 7;
    }
    result
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn writes_and_reads_every_kind_of_field() {
        let mut out = Vec::new();
        put_varint_field(&mut out, 1, u64::MAX);
        put_fixed64_field(&mut out, 2, 7);
        put_bytes_field(&mut out, 16, b"x");
        put_fixed32_field(&mut out, 536_870_911, 9);
        let mut reader = Reader::new(&out);
        assert_eq!(reader.next(), Ok(Some((1, Field::Varint(u64::MAX)))));
        assert_eq!(reader.next(), Ok(Some((2, Field::Fixed64(7)))));
        assert_eq!(reader.next(), Ok(Some((16, Field::Bytes(b"x")))));
        assert_eq!(reader.next(), Ok(Some((536_870_911, Field::Fixed32(9)))));
        assert_eq!(reader.next(), Ok(None));
    }

    #[test]
    fn names_what_is_wrong() {
        let cases: &[(&[u8], WireError)] = &[
            (&[0x08], WireError::Truncated),
            (&[0x0a, 2, 0], WireError::Truncated),
            (&[0x09, 0, 0, 0, 0, 0, 0, 0], WireError::Truncated),
            (&[0x00], WireError::Number),
            (&[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2], WireError::Varint),
            (&[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1], WireError::Varint),
            (&[0x0e], WireError::Type),
            (&[0x0c], WireError::Group),
            (&[0x0b], WireError::Truncated),
            (&[0x0b, 0x14], WireError::Group),
            (&[0x0a, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1], WireError::Truncated),
        ];
        for (bytes, error) in cases {
            assert_eq!(Reader::new(bytes).next(), Err(*error), "{bytes:?}");
        }
    }

    #[test]
    fn groups_are_skipped_to_a_bounded_depth() {
        let nested = [0x0b, 0x10, 5, 0x13, 0x14, 0x0c, 0x18, 1];
        assert_eq!(Reader::new(&nested).next(), Ok(Some((3, Field::Varint(1)))));
        let deep = vec![0x0b; 100_000];
        assert_eq!(Reader::new(&deep).next(), Err(WireError::Group));
    }

    #[test]
    fn a_message_gets_its_length_in_front() {
        for len in [0usize, 1, 127, 128, 16_383, 16_384, 70_000] {
            let body = vec![7u8; len];
            let mut out = vec![1, 2];
            put_message(&mut out, 3, |out| out.extend_from_slice(&body));
            let mut expected = vec![1, 2];
            put_bytes_field(&mut expected, 3, &body);
            assert_eq!(out, expected, "{len}");
        }
    }

    proptest! {
        #[test]
        fn varints_round_trip(value: u64) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            prop_assert_eq!(out.len(), varint_len(value));
            prop_assert_eq!(Reader::new(&out).varint(), Ok(value));
        }

        #[test]
        fn any_bytes_are_read_to_an_end(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            while let Ok(Some(_)) = reader.next() {}
        }
    }
}
