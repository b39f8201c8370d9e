//! Parquet's value and level encodings, for writing.

use super::levels;

/// Appends a run-length/bit-packing hybrid of `values`, each below `1 << width`.
pub fn hybrid(out: &mut Vec<u8>, values: &[u32], width: u32) {
    let mut literal = 0;
    let mut at = 0;
    while at < values.len() {
        let value = values[at];
        let run = values[at..].iter().take_while(|other| **other == value).count();
        // Literals come in groups of eight: a run first fills the last group.
        let fill = (at - literal).next_multiple_of(8) - (at - literal);
        if run >= fill + 8 {
            at += fill;
            literals(out, &values[literal..at], width);
            put_varint(out, ((run - fill) as u64) << 1);
            out.extend_from_slice(&value.to_le_bytes()[..width.div_ceil(8) as usize]);
            at += run - fill;
            literal = at;
        } else {
            at += run;
        }
    }
    literals(out, &values[literal..], width);
}

fn literals(out: &mut Vec<u8>, values: &[u32], width: u32) {
    if values.is_empty() {
        return;
    }
    let groups = values.len().div_ceil(8);
    put_varint(out, (groups as u64) << 1 | 1);
    let end = out.len() + groups * width as usize;
    pack(out, values.iter().map(|value| u64::from(*value)), width);
    out.resize(end, 0);
}

/// Appends values bit by bit, the lowest first; the last byte is padded with zeros.
fn pack(out: &mut Vec<u8>, values: impl Iterator<Item = u64>, width: u32) {
    let (mut word, mut bits) = (0u128, 0u32);
    for value in values {
        word |= u128::from(value) << bits;
        bits += width;
        if bits >= 64 {
            out.extend_from_slice(&(word as u64).to_le_bytes());
            word >>= 64;
            bits -= 64;
        }
    }
    out.extend_from_slice(&(word as u64).to_le_bytes()[..bits.div_ceil(8) as usize]);
}

/// Appends levels as a data page of version 1 holds them: a length of four bytes, then the hybrid.
pub fn levels(out: &mut Vec<u8>, values: &[u32], max: u16) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    hybrid(out, values, levels::width(max));
    let len = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
}

/// As [`levels`], for `count` times the same level.
pub fn constant_levels(out: &mut Vec<u8>, value: u32, count: usize, max: u16) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    put_varint(out, (count as u64) << 1);
    out.extend_from_slice(&value.to_le_bytes()[..levels::width(max).div_ceil(8) as usize]);
    let len = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
}

/// Appends dictionary codes: the width in a byte, then the hybrid.
pub fn codes(out: &mut Vec<u8>, codes: &[u32]) {
    let max = codes.iter().copied().max().unwrap_or_default();
    let width = 32 - max.leading_zeros();
    out.push(width as u8);
    hybrid(out, codes, width);
}

/// Values per block and per miniblock of a delta encoding.
const BLOCK: usize = 128;
const MINIBLOCK: usize = 32;

/// Appends DELTA_BINARY_PACKED for a 64-bit column.
pub fn delta_i64(out: &mut Vec<u8>, values: &[i64]) {
    delta(out, values, |a, b| a.wrapping_sub(b), |delta, min| delta.wrapping_sub(min) as u64);
}

/// Appends DELTA_BINARY_PACKED for a 32-bit column, whose deltas wrap at 32 bits.
pub fn delta_i32(out: &mut Vec<u8>, values: &[i32]) {
    let narrow = |a: i64, b: i64| i64::from((a as i32).wrapping_sub(b as i32));
    let wide: Vec<i64> = values.iter().map(|value| i64::from(*value)).collect();
    delta(out, &wide, narrow, |delta, min| {
        u64::from((delta as i32).wrapping_sub(min as i32) as u32)
    });
}

fn delta(
    out: &mut Vec<u8>,
    values: &[i64],
    difference: impl Fn(i64, i64) -> i64,
    above: impl Fn(i64, i64) -> u64,
) {
    put_varint(out, BLOCK as u64);
    put_varint(out, (BLOCK / MINIBLOCK) as u64);
    put_varint(out, values.len() as u64);
    put_zigzag(out, values.first().copied().unwrap_or_default());
    let mut deltas = [0i64; BLOCK];
    let mut last = values.first().copied().unwrap_or_default();
    for block in values.get(1..).unwrap_or_default().chunks(BLOCK) {
        for (slot, value) in deltas.iter_mut().zip(block) {
            *slot = difference(*value, last);
            last = *value;
        }
        let deltas = &deltas[..block.len()];
        let min = deltas.iter().copied().min().unwrap_or_default();
        put_zigzag(out, min);
        let widths = out.len();
        out.extend_from_slice(&[0; BLOCK / MINIBLOCK]);
        for (at, mini) in deltas.chunks(MINIBLOCK).enumerate() {
            let all = mini.iter().fold(0, |all, delta| all | above(*delta, min));
            let width = 64 - all.leading_zeros();
            out[widths + at] = width as u8;
            let end = out.len() + MINIBLOCK / 8 * width as usize;
            pack(out, mini.iter().map(|delta| above(*delta, min)), width);
            out.resize(end, 0);
        }
    }
}

/// Appends DELTA_LENGTH_BYTE_ARRAY: the lengths, then all bytes.
pub fn delta_length<'a>(out: &mut Vec<u8>, values: impl Iterator<Item = &'a [u8]> + Clone) {
    let lengths: Vec<i32> = values.clone().map(|value| value.len() as i32).collect();
    delta_i32(out, &lengths);
    values.for_each(|value| out.extend_from_slice(value));
}

/// Appends PLAIN booleans.
pub fn bools(out: &mut Vec<u8>, values: &[bool]) {
    for group in values.chunks(8) {
        out.push(
            group.iter().enumerate().fold(0, |byte, (bit, value)| byte | u8::from(*value) << bit),
        );
    }
}

/// Appends a PLAIN byte array.
pub fn plain_bytes(out: &mut Vec<u8>, value: &[u8]) {
    out.extend_from_slice(&(value.len() as u32).to_le_bytes());
    out.extend_from_slice(value);
}

pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub fn put_zigzag(out: &mut Vec<u8>, value: i64) {
    put_varint(out, (value << 1 ^ value >> 63) as u64);
}
