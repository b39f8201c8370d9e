//! Parquet's value and level encodings, for reading bytes that nobody vouches for.
#![deny(clippy::indexing_slicing)]

use thiserror::Error;

/// Why an encoded stream cannot be read.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum Corrupt {
    #[error("a stream of values ends early")]
    Short,
    #[error("a length, count or width is impossible")]
    Bounds,
    #[error("text is not UTF-8")]
    Text,
    #[error("a page cannot be decompressed")]
    Compression,
    #[error("an encoding or codec is not supported")]
    Unsupported,
    #[error("levels of two columns do not fit together")]
    Levels,
    #[error("a header cannot be read")]
    Header,
}

/// A position in bytes.
#[derive(Clone, Copy)]
pub struct Cursor<'a> {
    pub rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Corrupt> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Corrupt::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    pub fn byte(&mut self) -> Result<u8, Corrupt> {
        let (&byte, rest) = self.rest.split_first().ok_or(Corrupt::Short)?;
        self.rest = rest;
        Ok(byte)
    }

    pub fn u32(&mut self) -> Result<u32, Corrupt> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Corrupt::Short)?;
        self.rest = rest;
        Ok(u32::from_le_bytes(*bytes))
    }

    pub fn varint(&mut self) -> Result<u64, Corrupt> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Corrupt::Bounds)
    }

    pub fn zigzag(&mut self) -> Result<i64, Corrupt> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }
}

/// What a hybrid may hold: dictionary codes, or levels, of which there are few.
pub trait Code: Copy {
    const BITS: u32;
    fn of(code: u32) -> Self;
}

impl Code for u32 {
    const BITS: u32 = 32;
    fn of(code: u32) -> u32 {
        code
    }
}

impl Code for u8 {
    const BITS: u32 = 8;
    fn of(code: u32) -> u8 {
        code as u8
    }
}

/// Appends `count` values of a run-length/bit-packing hybrid.
pub fn hybrid<T: Code>(
    cursor: &mut Cursor<'_>,
    width: u32,
    count: usize,
    out: &mut Vec<T>,
) -> Result<(), Corrupt> {
    if width > T::BITS {
        return Err(Corrupt::Bounds);
    }
    let end = out.len().checked_add(count).ok_or(Corrupt::Bounds)?;
    while out.len() < end {
        let left = end - out.len();
        let header = cursor.varint()?;
        let len = usize::try_from(header >> 1).map_err(|_| Corrupt::Bounds)?;
        if header & 1 == 0 {
            let mut bytes = [0; 4];
            let value = cursor.take(width.div_ceil(8) as usize)?;
            bytes.iter_mut().zip(value).for_each(|(byte, of)| *byte = *of);
            if len == 0 {
                return Err(Corrupt::Bounds);
            }
            out.resize(out.len() + len.min(left), T::of(u32::from_le_bytes(bytes)));
        } else {
            let bytes = len.checked_mul(width as usize).ok_or(Corrupt::Bounds)?;
            // The last group of a page may be cut short by some writers.
            let packed = cursor.take(bytes.min(cursor.rest.len()))?;
            let values = len.saturating_mul(8).min(left);
            if values == 0 || packed.len() < (values * width as usize).div_ceil(8) {
                return Err(Corrupt::Short);
            }
            unpack(packed, width, values, out);
        }
    }
    Ok(())
}

/// Appends `count` bit-packed values; missing bytes read as zero.
fn unpack<T: Code>(bytes: &[u8], width: u32, count: usize, out: &mut Vec<T>) {
    let start = out.len();
    out.resize(start + count, T::of(0));
    if width == 0 {
        return;
    }
    let mask = if width == 32 { u64::from(u32::MAX) } else { (1 << width) - 1 };
    let Some(values) = out.get_mut(start..) else { return };
    if width <= 8 {
        // Eight values take as many bytes as one has bits: they are taken from one word.
        for (at, group) in values.chunks_mut(8).enumerate() {
            let mut word = load(bytes, at * width as usize);
            for value in group {
                *value = T::of((word & mask) as u32);
                word >>= width;
            }
        }
        return;
    }
    let mut bit = 0;
    for value in values {
        // Eight bytes from the byte of a value's first bit hold it whole: 7 + 32 bits at most.
        *value = T::of((load(bytes, bit / 8) >> (bit % 8) & mask) as u32);
        bit += width as usize;
    }
}

/// Up to eight bytes from a position on, as a little-endian number.
fn load(bytes: &[u8], at: usize) -> u64 {
    let rest = bytes.get(at..).unwrap_or_default();
    if let Some(chunk) = rest.first_chunk() {
        return u64::from_le_bytes(*chunk);
    }
    rest.iter().take(8).rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// Reads dictionary codes: the width in a byte, then the hybrid.
pub fn codes(data: &[u8], count: usize, out: &mut Vec<u32>) -> Result<(), Corrupt> {
    let mut cursor = Cursor { rest: data };
    if count == 0 {
        return Ok(());
    }
    let width = u32::from(cursor.byte()?);
    hybrid(&mut cursor, width, count, out)
}

/// Reads DELTA_BINARY_PACKED. For a 32-bit column the low halves of the results are right.
pub fn delta(cursor: &mut Cursor<'_>, most: usize, out: &mut Vec<i64>) -> Result<(), Corrupt> {
    let block = usize::try_from(cursor.varint()?).map_err(|_| Corrupt::Bounds)?;
    let minis = usize::try_from(cursor.varint()?).map_err(|_| Corrupt::Bounds)?;
    let count = usize::try_from(cursor.varint()?).map_err(|_| Corrupt::Bounds)?;
    let mut last = cursor.zigzag()?;
    if count > most || block > 1 << 16 || minis == 0 || !block.is_multiple_of(minis) {
        return Err(Corrupt::Bounds);
    }
    let mini = block / minis;
    if mini == 0 || !mini.is_multiple_of(8) {
        return Err(Corrupt::Bounds);
    }
    if count == 0 {
        return Ok(());
    }
    out.reserve(count);
    out.push(last);
    let mut left = count - 1;
    while left > 0 {
        let min = cursor.zigzag()?;
        let widths = cursor.take(minis)?;
        for width in widths {
            if left == 0 {
                break;
            }
            let width = u32::from(*width);
            if width > 64 {
                return Err(Corrupt::Bounds);
            }
            let bytes = mini / 8 * width as usize;
            let packed = cursor.take(bytes.min(cursor.rest.len()))?;
            let values = mini.min(left);
            if packed.len() < (values * width as usize).div_ceil(8) {
                return Err(Corrupt::Short);
            }
            for at in 0..values {
                let above = unpack_u64(packed, width, at);
                last = last.wrapping_add(min).wrapping_add(above as i64);
                out.push(last);
            }
            left -= values;
        }
    }
    Ok(())
}

fn unpack_u64(bytes: &[u8], width: u32, at: usize) -> u64 {
    if width == 0 {
        return 0;
    }
    let bit = at * width as usize;
    let (byte, shift) = (bit / 8, (bit % 8) as u32);
    let low = load(bytes, byte) >> shift;
    let high = if shift > 0 { load(bytes, byte + 8) << (64 - shift) } else { 0 };
    let mask = if width == 64 { u64::MAX } else { (1 << width) - 1 };
    (low | high) & mask
}

/// Byte strings somewhere in one buffer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strings {
    bytes: Vec<u8>,
    /// Start and length of each.
    places: Vec<(u32, u32)>,
}

impl Strings {
    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn get(&self, at: usize) -> &[u8] {
        let Some(&(start, len)) = self.places.get(at) else { return &[] };
        let rest = self.bytes.get(start as usize..).unwrap_or_default();
        rest.get(..len as usize).unwrap_or_default()
    }

    pub fn str(&self, at: usize) -> &str {
        std::str::from_utf8(self.get(at)).unwrap_or("\u{fffd}")
    }

    /// Bytes of memory held.
    pub fn memory(&self) -> usize {
        self.bytes.capacity() + self.places.capacity() * size_of::<(u32, u32)>()
    }

    fn push(&mut self, value: &[u8]) -> Result<(), Corrupt> {
        let start = u32::try_from(self.bytes.len()).map_err(|_| Corrupt::Bounds)?;
        self.bytes.extend_from_slice(value);
        self.places.push((start, u32::try_from(value.len()).map_err(|_| Corrupt::Bounds)?));
        Ok(())
    }
}

/// Reads PLAIN byte arrays: the strings stay where they are.
pub fn plain_strings(data: &[u8], count: usize, out: &mut Strings) -> Result<(), Corrupt> {
    let base = out.bytes.len();
    if base + data.len() > u32::MAX as usize || count > data.len() / 4 {
        return Err(Corrupt::Bounds);
    }
    out.places.reserve(count);
    let mut cursor = Cursor { rest: data };
    for _ in 0..count {
        let len = cursor.u32()?;
        let start = base + data.len() - cursor.rest.len();
        cursor.take(len as usize)?;
        out.places.push((start as u32, len));
    }
    out.bytes.extend_from_slice(data);
    Ok(())
}

/// Reads DELTA_LENGTH_BYTE_ARRAY.
pub fn delta_length(data: &[u8], count: usize, out: &mut Strings) -> Result<(), Corrupt> {
    let mut cursor = Cursor { rest: data };
    let mut lengths = Vec::new();
    delta(&mut cursor, count, &mut lengths)?;
    for len in lengths {
        let len = usize::try_from(len as i32).map_err(|_| Corrupt::Bounds)?;
        out.push(cursor.take(len)?)?;
    }
    Ok(())
}

/// Reads DELTA_BYTE_ARRAY: each value shares a prefix with the one before.
pub fn delta_strings(data: &[u8], count: usize, out: &mut Strings) -> Result<(), Corrupt> {
    let mut cursor = Cursor { rest: data };
    let mut prefixes = Vec::new();
    delta(&mut cursor, count, &mut prefixes)?;
    let mut suffixes = Strings::default();
    delta_length(cursor.rest, count, &mut suffixes)?;
    let mut last: Vec<u8> = Vec::new();
    for (at, prefix) in prefixes.into_iter().enumerate() {
        let prefix = usize::try_from(prefix as i32).map_err(|_| Corrupt::Bounds)?;
        if prefix > last.len() {
            return Err(Corrupt::Bounds);
        }
        last.truncate(prefix);
        last.extend_from_slice(suffixes.get(at));
        out.push(&last)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::encode;
    use super::*;
    use proptest::prelude::*;

    fn runs() -> impl Strategy<Value = Vec<u32>> {
        let run = (0..5000u32, 1..30usize);
        prop::collection::vec(run, 0..60).prop_map(|runs| {
            runs.into_iter().flat_map(|(value, len)| std::iter::repeat_n(value, len)).collect()
        })
    }

    proptest! {
        #[test]
        fn hybrids_come_back(values in runs()) {
            let mut out = Vec::new();
            encode::codes(&mut out, &values);
            let mut back = Vec::new();
            codes(&out, values.len(), &mut back).unwrap();
            prop_assert_eq!(back, values);
        }

        #[test]
        fn deltas_come_back(values in prop::collection::vec(any::<i64>(), 0..400), shift in 0..64) {
            let values: Vec<i64> = values.into_iter().map(|value| value >> shift).collect();
            let mut out = Vec::new();
            encode::delta_i64(&mut out, &values);
            let mut back = Vec::new();
            delta(&mut Cursor { rest: &out }, values.len(), &mut back).unwrap();
            prop_assert_eq!(&back, &values);

            let narrow: Vec<i32> = values.iter().map(|value| *value as i32).collect();
            let (mut out, mut back) = (Vec::new(), Vec::new());
            encode::delta_i32(&mut out, &narrow);
            delta(&mut Cursor { rest: &out }, narrow.len(), &mut back).unwrap();
            prop_assert_eq!(back.into_iter().map(|value| value as i32).collect::<Vec<_>>(), narrow);
        }

        #[test]
        fn byte_strings_come_back(values in prop::collection::vec(".{0,12}", 0..100)) {
            let mut out = Vec::new();
            encode::delta_length(&mut out, values.iter().map(|value| value.as_bytes()));
            let mut back = Strings::default();
            delta_length(&out, values.len(), &mut back).unwrap();
            prop_assert_eq!((0..back.len()).map(|at| back.str(at).to_owned()).collect::<Vec<_>>(), values);
        }

        #[test]
        fn foreign_bytes_never_panic(data in prop::collection::vec(any::<u8>(), 0..300), count in 0..500usize) {
            let mut found: Vec<u32> = Vec::new();
            prop_assert!(codes(&data, count, &mut found).is_err() || found.len() == count);
            let mut numbers = Vec::new();
            let read = delta(&mut Cursor { rest: &data }, count, &mut numbers);
            prop_assert!(read.is_err() || numbers.len() <= count);
            for read in [plain_strings, delta_length, delta_strings] {
                let mut strings = Strings::default();
                prop_assert!(read(&data, count, &mut strings).is_err() || strings.len() <= count);
            }
        }
    }
}
