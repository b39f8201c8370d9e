//! Tempo's bloom filters over trace ids: one file a shard, in the format of Go's bits-and-blooms.
#![deny(clippy::indexing_slicing)]

use crate::model::TraceId;

/// False positives of the filter. Tempo's default, kept so that blocks cost its readers the same.
const FALSE_POSITIVE: f64 = 0.01;
/// Bytes of a shard at most; Tempo's default.
const SHARD_BYTES: usize = 100 * 1024;
/// A filter with more hash functions than this is not one.
const MAX_HASHES: u64 = 64;

/// The shards of a block's filter.
pub struct Bloom {
    shards: Vec<Shard>,
    hashes: u64,
}

struct Shard {
    bits: u64,
    words: Vec<u64>,
}

impl Bloom {
    /// An empty filter for so many traces.
    pub fn new(traces: usize) -> Bloom {
        let n = traces.max(1) as f64;
        let ln2 = std::f64::consts::LN_2;
        let bits = (-n * FALSE_POSITIVE.ln() / (ln2 * ln2)).ceil();
        let hashes = (ln2 * bits / n).ceil() as u64;
        let count = ((bits / (8.0 * SHARD_BYTES as f64)).ceil() as usize).clamp(1, 1000);
        let each = (bits as u64).div_ceil(count as u64).next_multiple_of(64).max(64);
        let shard = || Shard { bits: each, words: vec![0; (each / 64) as usize] };
        Bloom { shards: (0..count).map(|_| shard()).collect(), hashes }
    }

    pub fn add(&mut self, id: &TraceId) {
        let at = shard_of(id, self.shards.len());
        let Some(shard) = self.shards.get_mut(at) else { return };
        let hashes = hash(id);
        for n in 0..self.hashes {
            let bit = position(&hashes, n, shard.bits);
            if let Some(word) = shard.words.get_mut((bit / 64) as usize) {
                *word |= 1 << (bit % 64);
            }
        }
    }

    /// The files `bloom-0`, `bloom-1`, …
    pub fn files(&self) -> Vec<Vec<u8>> {
        let file = |shard: &Shard| {
            let head = [shard.bits, self.hashes, shard.bits];
            head.iter().chain(&shard.words).flat_map(|word| word.to_be_bytes()).collect()
        };
        self.shards.iter().map(file).collect()
    }
}

/// The shard that an id belongs to.
pub fn shard_of(id: &TraceId, shards: usize) -> usize {
    let fnv =
        id.0.iter()
            .fold(2_166_136_261u32, |hash, byte| hash.wrapping_mul(16_777_619) ^ u32::from(*byte));
    fnv as usize % shards.max(1)
}

/// Whether a shard's file may hold an id; nothing if the file is damaged.
pub fn may_contain(file: &[u8], id: &TraceId) -> Option<bool> {
    let word = |at: usize| {
        let bytes = file.get(at.checked_mul(8)?..)?.first_chunk()?;
        Some(u64::from_be_bytes(*bytes))
    };
    let (bits, hashes, len) = (word(0)?, word(1)?, word(2)?);
    let words = usize::try_from(bits.div_ceil(64)).ok()?;
    if bits == 0 || len != bits || hashes > MAX_HASHES || file.len() / 8 < words.checked_add(3)? {
        return None;
    }
    let all = hash(id);
    for n in 0..hashes {
        let bit = position(&all, n, bits);
        if word(usize::try_from(bit / 64).ok()? + 3)? >> (bit % 64) & 1 == 0 {
            return Some(false);
        }
    }
    Some(true)
}

fn position(hashes: &[u64; 4], n: u64, bits: u64) -> u64 {
    let [h0, h1, h2, h3] = *hashes;
    let base = if n.is_multiple_of(2) { h0 } else { h1 };
    let step = if (n + n % 2) % 4 / 2 == 0 { h2 } else { h3 };
    base.wrapping_add(n.wrapping_mul(step)) % bits
}

fn hash(id: &TraceId) -> [u64; 4] {
    let (h0, h1) = murmur3(&id.0, &[]);
    let (h2, h3) = murmur3(&id.0, &[1]);
    [h0, h1, h2, h3]
}

const C1: u64 = 0x87c3_7b91_1142_53d5;
const C2: u64 = 0x4cf5_ad43_2745_937f;

/// MurmurHash3 x64 128 with seed 0 of one block of 16 bytes and a tail of fewer than 9.
fn murmur3(block: &[u8; 16], tail: &[u8]) -> (u64, u64) {
    let half = |from: usize| {
        let bytes = block.get(from..).and_then(|rest| rest.first_chunk());
        bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
    };
    let mix1 = |k: u64| k.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2);
    let mix2 = |k: u64| k.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1);
    let mut h1 = mix1(half(0)).rotate_left(27);
    h1 = h1.wrapping_mul(5).wrapping_add(0x52dc_e729);
    let mut h2 = mix2(half(8)).rotate_left(31).wrapping_add(h1);
    h2 = h2.wrapping_mul(5).wrapping_add(0x3849_5ab5);
    if !tail.is_empty() {
        h1 ^= mix1(tail.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)));
    }
    let len = (16 + tail.len()) as u64;
    h1 ^= len;
    h2 ^= len;
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    h1 = finish(h1);
    h2 = finish(h2);
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    (h1, h2)
}

fn finish(mut k: u64) -> u64 {
    k ^= k >> 33;
    k = k.wrapping_mul(0xff51_afd7_ed55_8ccd);
    k ^= k >> 33;
    k = k.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    k ^ k >> 33
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_and_bits_are_tempos() {
        let id = TraceId::parse("2291d8cdc310411e7ec27378a661c935").unwrap();
        assert_eq!(
            hash(&id),
            [
                0xc9a4_b363_ba29_7903,
                0x289a_116a_c6f6_31fb,
                0x1da0_4f7b_be75_dccf,
                0x4062_616d_207d_6be3
            ]
        );
        let bits: Vec<u64> = (0..7).map(|n| position(&hash(&id), n, 819_200)).collect();
        assert_eq!(bits, [358_659, 761_310, 348_361, 18_536, 322_623, 314_730, 720_981]);
        assert_eq!(shard_of(&id, 1 << 31), 0x7c89_15a7);
        let id = TraceId::parse("1").unwrap();
        let bits: Vec<u64> = (0..7).map(|n| position(&hash(&id), n, 819_200)).collect();
        assert_eq!(bits, [557_604, 548_096, 97_154, 260_469, 806_484, 479_164, 28_222]);
    }

    #[test]
    fn every_id_is_found_and_few_others() {
        let id = |n: u64| TraceId(u128::from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes());
        for traces in [1, 100, 200_000] {
            let mut bloom = Bloom::new(traces);
            (0..traces as u64).for_each(|n| bloom.add(&id(n)));
            let files = bloom.files();
            let asks = |n: u64| may_contain(&files[shard_of(&id(n), files.len())], &id(n)).unwrap();
            assert!((0..traces as u64).all(asks));
            let wrong = (1_000_000..1_010_000).filter(|n| asks(*n)).count();
            assert!(wrong < 300, "{wrong} of 10000 false positives at {traces}");
        }
    }

    #[test]
    fn damaged_files_are_no_answer() {
        let id = TraceId::default();
        assert_eq!(may_contain(&[], &id), None);
        assert_eq!(may_contain(&[0xff; 24], &id), None);
        assert_eq!(may_contain(&[0; 64], &id), None);
    }
}
