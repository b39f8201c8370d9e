//! A set of row numbers.

/// One bit a row. Rows at or beyond `len` are never set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bitmap {
    words: Vec<u64>,
    len: usize,
}

impl Bitmap {
    pub fn none(len: usize) -> Bitmap {
        Bitmap { words: vec![0; len.div_ceil(64)], len }
    }

    pub fn all(len: usize) -> Bitmap {
        Bitmap::from_fn(len, |_| true)
    }

    /// The rows for which `keep` holds.
    pub fn from_fn(len: usize, mut keep: impl FnMut(usize) -> bool) -> Bitmap {
        let word = |at: usize| {
            let rows = at * 64..len.min(at * 64 + 64);
            rows.enumerate().fold(0, |word, (bit, row)| word | (u64::from(keep(row)) << bit))
        };
        Bitmap { words: (0..len.div_ceil(64)).map(word).collect(), len }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub fn get(&self, row: usize) -> bool {
        self.words.get(row / 64).is_some_and(|word| word >> (row % 64) & 1 == 1)
    }

    /// Adds a row; one beyond the end is ignored.
    pub fn set(&mut self, row: usize) {
        if row < self.len
            && let Some(word) = self.words.get_mut(row / 64)
        {
            *word |= 1 << (row % 64);
        }
    }

    pub fn and(&mut self, other: &Bitmap) {
        self.words.iter_mut().zip(&other.words).for_each(|(a, b)| *a &= b);
    }

    pub fn or(&mut self, other: &Bitmap) {
        self.words.iter_mut().zip(&other.words).for_each(|(a, b)| *a |= b);
    }

    pub fn invert(&mut self) {
        self.words.iter_mut().for_each(|word| *word = !*word);
        if let (Some(last), rest @ 1..) = (self.words.last_mut(), self.len % 64) {
            *last &= (1 << rest) - 1;
        }
    }

    /// Whether any row of `rows` is set.
    pub fn any_in(&self, rows: std::ops::Range<usize>) -> bool {
        let (from, to) = (rows.start, rows.end.min(self.len));
        if from >= to {
            return false;
        }
        let (first, last) = (from / 64, (to - 1) / 64);
        let mask = |at: usize| {
            let low = if at == first { !0 << (from % 64) } else { !0 };
            let high = if at == last { !0 >> (63 - (to - 1) % 64) } else { !0 };
            low & high
        };
        (first..=last).any(|at| self.words.get(at).is_some_and(|word| word & mask(at) != 0))
    }

    /// The rows, ascending.
    pub fn rows(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(at, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
                rest &= rest - 1;
                Some(at * 64 + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_behave_like_sets() {
        for len in [0, 1, 63, 64, 65, 200] {
            let third = Bitmap::from_fn(len, |row| row % 3 == 0);
            let rows: Vec<_> = (0..len).filter(|row| row % 3 == 0).collect();
            assert_eq!(third.rows().collect::<Vec<_>>(), rows);
            assert_eq!(third.count(), rows.len());
            let mut inverse = third.clone();
            inverse.invert();
            assert_eq!(inverse.count(), len - rows.len());
            inverse.or(&third);
            assert_eq!(inverse, Bitmap::all(len));
            inverse.and(&third);
            assert_eq!(inverse, third);
        }
    }

    #[test]
    fn ranges_are_searched_to_the_bit() {
        let mut set = Bitmap::none(200);
        set.set(130);
        set.set(500);
        for (from, to) in [(0, 130), (131, 200), (130, 130), (150, 9000)] {
            assert!(!set.any_in(from..to), "{from}..{to}");
        }
        for (from, to) in [(0, 131), (130, 131), (64, 200), (130, 9000)] {
            assert!(set.any_in(from..to), "{from}..{to}");
        }
        assert_eq!(set.count(), 1);
    }
}
