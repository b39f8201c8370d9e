//! Literals that need more than a table: durations, quoted strings.

use std::str::Chars;

/// Units of the long form in the order they must be written, with their nanoseconds.
const LONG_UNITS: [(&str, i64); 7] = [
    ("y", 365 * 24 * 3_600_000_000_000),
    ("w", 7 * 24 * 3_600_000_000_000),
    ("d", 24 * 3_600_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
];

/// Units of the decimal form (Go's), which come in any order.
const DECIMAL_UNITS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Whether a character can follow a number within a duration.
pub(super) fn is_duration_char(c: char) -> bool {
    matches!(c, 'n' | 's' | 'u' | '\u{b5}' | 'm' | 'h' | 'd' | 'w' | 'y' | '0'..='9' | '.')
}

/// Nanoseconds of a duration; `None` if it is none or does not fit.
pub(super) fn duration(text: &str) -> Option<i64> {
    long_duration(text).or_else(|| decimal_duration(text))
}

/// `1w2d`: whole numbers, units from large to small, each at most once.
fn long_duration(text: &str) -> Option<i64> {
    let mut units = LONG_UNITS.iter();
    let mut rest = text;
    let mut total = 0_i64;
    while !rest.is_empty() {
        let (count, after) = split_while(rest, |c| c.is_ascii_digit());
        let (unit, after) = split_while(after, char::is_alphabetic);
        let (_, nanos) = units.find(|(name, _)| *name == unit)?;
        total = total.checked_add(count.parse::<i64>().ok()?.checked_mul(*nanos)?)?;
        rest = after;
    }
    Some(total)
}

/// `1.5h30s`: decimal numbers, any unit up to hours, any order.
fn decimal_duration(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut total = 0_u64;
    while !rest.is_empty() {
        let (whole, after) = split_while(rest, |c| c.is_ascii_digit());
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => split_while(after, |c| c.is_ascii_digit()),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let (unit, after) = split_while(after, |c| c != '.' && !c.is_ascii_digit());
        let (_, nanos) = DECIMAL_UNITS.iter().find(|(name, _)| *name == unit)?;
        let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
        let part = whole.checked_mul(*nanos)?.checked_add(fraction_nanos(fraction, *nanos))?;
        total = total.checked_add(part)?;
        rest = after;
    }
    i64::try_from(total).ok()
}

/// Nanoseconds of the digits behind a decimal point, cut off below one nanosecond.
fn fraction_nanos(digits: &str, unit_nanos: u64) -> u64 {
    // The longest unit has 3.6e12 nanoseconds, so digits after the 18th cannot count.
    let (mut value, mut scale) = (0_u128, 1_u128);
    for digit in digits.bytes().take(18) {
        value = value * 10 + u128::from(digit - b'0');
        scale *= 10;
    }
    u64::try_from(value * u128::from(unit_nanos) / scale).unwrap_or(u64::MAX)
}

/// The value of a string in double quotes; `text` is what stands between them. The error names the
/// escape.
pub(super) fn unescape(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            push_char(&mut bytes, c);
            continue;
        }
        let escape = chars.clone();
        match chars.next() {
            Some('a') => bytes.push(0x07),
            Some('b') => bytes.push(0x08),
            Some('f') => bytes.push(0x0c),
            Some('n') => bytes.push(b'\n'),
            Some('r') => bytes.push(b'\r'),
            Some('t') => bytes.push(b'\t'),
            Some('v') => bytes.push(0x0b),
            Some(c @ ('\\' | '"')) => push_char(&mut bytes, c),
            Some('x') => bytes.push(byte_escape(&mut chars, 2, 16)?),
            Some('u') => push_char(&mut bytes, char_escape(&mut chars, 4)?),
            Some('U') => push_char(&mut bytes, char_escape(&mut chars, 8)?),
            Some('0'..='7') => {
                chars = escape;
                bytes.push(byte_escape(&mut chars, 3, 8)?);
            }
            Some(c) => return Err(format!("unknown escape \\{c}")),
            None => return Err("unfinished escape".to_owned()),
        }
    }
    String::from_utf8(bytes).map_err(|_| "string is not valid UTF-8".to_owned())
}

fn push_char(bytes: &mut Vec<u8>, c: char) {
    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

fn byte_escape(chars: &mut Chars<'_>, digits: usize, radix: u32) -> Result<u8, String> {
    let value = number_escape(chars, digits, radix)?;
    u8::try_from(value).map_err(|_| format!("escape {value:#o} is larger than a byte"))
}

fn char_escape(chars: &mut Chars<'_>, digits: usize) -> Result<char, String> {
    let value = number_escape(chars, digits, 16)?;
    char::from_u32(value).ok_or_else(|| format!("escape {value:#x} is no character"))
}

fn number_escape(chars: &mut Chars<'_>, digits: usize, radix: u32) -> Result<u32, String> {
    let mut value = 0_u32;
    for _ in 0..digits {
        let digit = chars.next().and_then(|c| c.to_digit(radix));
        let digit = digit.ok_or_else(|| format!("escape needs {digits} digits"))?;
        value = value.wrapping_mul(radix) | digit;
    }
    Ok(value)
}

/// Splits before the first character that `belongs` refuses.
pub(super) fn split_while(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !belongs(c)).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let cases = [
            ("1w2d", Some(777_600_000_000_000)),
            ("1y1d", Some(366 * 86_400_000_000_000)),
            ("1d12h", Some(129_600_000_000_000)),
            ("90m", Some(5_400_000_000_000)),
            ("1h2m3s4ms5us6ns", Some(3_723_004_005_006)),
            ("1.5h", Some(5_400_000_000_000)),
            (".75s", Some(750_000_000)),
            ("3.s", Some(3_000_000_000)),
            ("30s1m", Some(90_000_000_000)),
            ("2us4\u{b5}s", Some(6_000)),
            ("1.5ns", Some(1)),
            ("0.0000000000000000000001h", Some(0)),
            ("9223372036854775807ns", Some(i64::MAX)),
            ("2562047h47m16.854775807s", Some(i64::MAX)),
            ("9223372036854775808ns", None),
            ("300y", None),
            ("1.5d", None),
            ("1d1.5h", None),
            ("1h1d", None),
            ("4d3w", None),
            ("1h1h", Some(7_200_000_000_000)),
            ("1d1d", None),
            ("3n", None),
            ("1h30", None),
            ("1.2.3s", None),
            (".s", None),
        ];
        for (text, nanos) in cases {
            assert_eq!(duration(text), nanos, "{text}");
        }
    }

    #[test]
    fn escapes() {
        let cases = [
            (r"plain", Ok("plain")),
            (r#"\a\b\f\n\r\t\v\\\""#, Ok("\u{7}\u{8}\u{c}\n\r\t\u{b}\\\"")),
            (r"\x48\151\u0021\U0001F680", Ok("Hi!\u{1f680}")),
            (r"\303\244", Ok("ä")),
            (r"\xff", Err("string is not valid UTF-8")),
            (r"\'", Err(r"unknown escape \'")),
            (r"\s", Err(r"unknown escape \s")),
            (r"\u00", Err("escape needs 4 digits")),
            (r"\48", Err("escape needs 3 digits")),
            (r"\777", Err("escape 0o777 is larger than a byte")),
            (r"\ud800", Err("escape 0xd800 is no character")),
            (r"\", Err("unfinished escape")),
        ];
        for (text, value) in cases {
            let read = unescape(text);
            assert_eq!(read.as_deref().map_err(String::as_str), value, "{text}");
        }
    }
}
