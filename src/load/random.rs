//! Numbers that look random and are a pure function of what they were seeded with.
//!
//! SplitMix64: one multiplication chain per number, and any number can be had without those before it.

/// The step of SplitMix64, 2^64 divided by the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A sequence of numbers.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    #[inline]
    #[must_use]
    pub const fn new(seed: u64) -> Random {
        Random(seed)
    }

    #[inline]
    pub const fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        scramble(self.0)
    }

    /// A number in `0..end`, or 0 if `end` is 0.
    #[inline]
    pub const fn below(&mut self, end: u64) -> u64 {
        share(self.number(), end)
    }

    /// A number in `first..=last`.
    #[inline]
    pub const fn within(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    /// A number in `0..end` where small ones are more frequent, as popular things are.
    #[inline]
    pub const fn popular(&mut self, end: u64) -> u64 {
        let (one, other) = (self.below(end), self.below(end));
        if one < other { one } else { other }
    }

    /// True in so many of a hundred cases.
    #[inline]
    pub const fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of the choices, the first ones more often; `None` if there are none.
    #[inline]
    pub fn choose<'a, T>(&mut self, choices: &'a [T]) -> Option<&'a T> {
        let index = self.popular(choices.len() as u64);
        choices.get(usize::try_from(index).ok()?)
    }
}

/// A number from two: the same for the same two, otherwise unlike.
#[inline]
#[must_use]
pub const fn mix(one: u64, other: u64) -> u64 {
    scramble(scramble(one.wrapping_add(GOLDEN)) ^ other.wrapping_mul(GOLDEN))
}

/// SplitMix64's finalizer.
#[inline]
const fn scramble(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Maps a number of 64 bits evenly to `0..end`.
#[inline]
const fn share(number: u64, end: u64) -> u64 {
    ((number as u128 * end as u128) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_within_its_bounds_and_reaches_them() {
        let mut random = Random::new(1);
        let numbers: Vec<u64> = (0..1000).map(|_| random.within(3, 6)).collect();
        assert!((3..=6).all(|number| numbers.contains(&number)));
        assert!(numbers.iter().all(|number| (3..=6).contains(number)));
    }

    #[test]
    fn prefers_the_first_choices() {
        let mut random = Random::new(2);
        let first = (0..1000).filter(|_| random.choose(&[0, 1, 2, 3]) == Some(&0)).count();
        assert!((350..520).contains(&first), "{first} of 1000");
        assert_eq!(random.choose::<u8>(&[]), None);
    }
}
