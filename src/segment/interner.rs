//! Byte strings, each kept once and named by a number.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

/// Distinct byte strings in order of first appearance; a code is the position.
///
/// Cost of a string already known: one hash, one probe, one comparison. At most 4 GiB of text and 2^32 - 2 strings, which
/// whoever fills it bounds long before.
pub struct Interner {
    text: Vec<u8>,
    ends: Vec<u32>,
    table: HashTable<Slot>,
    hasher: FixedState,
}

/// The hash stands beside the code, so that growing and most misses need not touch the text.
struct Slot {
    hash: u32,
    code: u32,
}

impl Default for Interner {
    fn default() -> Interner {
        Interner {
            text: Vec::new(),
            ends: Vec::new(),
            table: HashTable::new(),
            hasher: FixedState::default(),
        }
    }
}

impl Interner {
    /// The code of a string, and whether it is new.
    #[inline]
    pub fn intern(&mut self, bytes: &[u8]) -> (u32, bool) {
        let hash = self.hasher.hash_one(bytes);
        let short = (hash >> 32) as u32;
        let (text, ends) = (&self.text, &self.ends);
        let same = |slot: &Slot| slot.hash == short && slice(text, ends, slot.code) == bytes;
        if let Some(slot) = self.table.find(spread(short), same) {
            return (slot.code, false);
        }
        let code = self.ends.len() as u32;
        self.text.extend_from_slice(bytes);
        self.ends.push(self.text.len() as u32);
        self.table.insert_unique(spread(short), Slot { hash: short, code }, |s| spread(s.hash));
        (code, true)
    }

    /// The string of a code; empty for a code that was never given out.
    #[inline]
    pub fn get(&self, code: u32) -> &[u8] {
        slice(&self.text, &self.ends, code)
    }

    /// The code of a string, if it is known.
    pub fn find(&self, bytes: &[u8]) -> Option<u32> {
        let short = (self.hasher.hash_one(bytes) >> 32) as u32;
        let same = |slot: &Slot| slot.hash == short && self.get(slot.code) == bytes;
        self.table.find(spread(short), same).map(|slot| slot.code)
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of memory held.
    pub fn memory(&self) -> usize {
        self.text.capacity() + self.ends.capacity() * 4 + self.table.capacity() * 9
    }
}

/// The table takes its bucket from the low and its tag from the high bits: give it both from 32 kept ones.
#[inline]
fn spread(short: u32) -> u64 {
    u64::from(short) | u64::from(short) << 32
}

#[inline]
fn slice<'a>(text: &'a [u8], ends: &[u32], code: u32) -> &'a [u8] {
    let at = code as usize;
    let Some(&end) = ends.get(at) else { return &[] };
    let start = at.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or(0);
    text.get(start as usize..end as usize).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_strings_share_a_code() {
        let mut interner = Interner::default();
        for round in 0..2 {
            for n in 0..10_000u32 {
                let (code, new) = interner.intern(n.to_string().as_bytes());
                assert_eq!((code, new), (n, round == 0));
            }
        }
        assert_eq!(interner.get(77), b"77");
        assert_eq!(interner.find(b"9999"), Some(9999));
        assert_eq!(interner.find(b"x"), None);
        assert_eq!(interner.get(10_000), b"");
        assert_eq!(interner.intern(b""), (10_000, true));
    }
}
