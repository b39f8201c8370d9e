//! Repetition and definition levels: what they are, and how wide.

/// Bits that a level of at most `max` takes.
pub fn width(max: u16) -> u32 {
    u16::BITS - max.leading_zeros()
}
