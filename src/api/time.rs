//! Durations, moments and time ranges as clients write them. Pure: `now` is given.
#![deny(clippy::indexing_slicing)]

use std::time::Duration;

use crate::api::ApiError;
use crate::api::params::{Params, bad};
use crate::model::TimeRange;

const SECOND: u64 = 1_000_000_000;

/// What search, tags and values look at when no range is given: Tempo's `query_backend_after`.
const RECENT: u64 = 15 * 60 * SECOND;

/// What a text or number means as a time: a whole second, or an instant, which is a second of no
/// length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub first_nanos: u64,
    pub last_nanos: u64,
}

impl Moment {
    pub fn second(secs: u64) -> Moment {
        let first_nanos = secs.saturating_mul(SECOND);
        Moment { first_nanos, last_nanos: first_nanos.saturating_add(SECOND - 1) }
    }

    pub fn instant(nanos: u64) -> Moment {
        Moment { first_nanos: nanos, last_nanos: nanos }
    }

    /// Unix seconds (up to 10 characters), unix nanoseconds (longer), seconds with a fraction, or
    /// RFC 3339.
    pub fn parse(text: &str) -> Option<Moment> {
        if let Some(nanos) = fraction(text) {
            return Some(Moment::instant(nanos));
        }
        if let Ok(number) = text.parse::<i64>() {
            let number = u64::try_from(number).unwrap_or(0);
            let moment = if text.len() <= 10 { Moment::second } else { Moment::instant };
            return Some(moment(number));
        }
        rfc3339(text).map(Moment::instant)
    }
}

/// The range of a search: whole seconds, both or neither; 0 is absent. The last second counts to
/// its end, so a span of this very second is found by who asks up to now.
pub fn search_range(
    start: u32,
    end: u32,
    longest: Duration,
    now_nanos: u64,
) -> Result<TimeRange, ApiError> {
    if start == 0 && end == 0 {
        return Ok(recent(now_nanos));
    }
    if start == 0 {
        let reason = "only one of start and end provided: must provide both or neither";
        return Err(bad(format!("error parsing date range: {reason}")));
    }
    if end <= start {
        return Err(not_before(start, end));
    }
    let secs = u64::from(end - start);
    if !longest.is_zero() && secs > longest.as_secs() {
        return Err(bad(format!(
            "range specified by start and end exceeds {}. received start={start} end={end}",
            go_seconds(longest.as_secs())
        )));
    }
    Ok(between(Moment::second(start.into()), Moment::second(end.into())))
}

/// `since` as the start and the end of a search, in whole seconds. `None` without the parameter.
pub fn since_seconds(params: &Params, now_nanos: u64) -> Result<Option<(u32, u32)>, ApiError> {
    let Some(since) = since(params)? else { return Ok(None) };
    let seconds = |nanos: u64| u32::try_from(nanos / SECOND).unwrap_or(u32::MAX);
    Ok(Some((seconds(now_nanos.saturating_sub(since)), seconds(now_nanos))))
}

/// The range of a question for tags, from the URL: `start` and `end` in any form, each optional, or
/// `since`.
pub fn tags_range(params: &Params, now_nanos: u64) -> Result<TimeRange, ApiError> {
    let length = since(params)?;
    let moment = |name: &str| match params.get(name) {
        None => Ok(None),
        Some(text) => match Moment::parse(text) {
            Some(moment) => Ok(Some(moment)),
            None => Err(bad(format!("invalid {name}: {text:?} is not a unix time or RFC 3339"))),
        },
    };
    let (start, end) = (moment("start")?, moment("end")?);
    let (start, end) = if length.is_some() { (None, None) } else { (start, end) };
    open_range(start, end, length.unwrap_or(RECENT), now_nanos)
}

/// The range of a question for tags, from a message: seconds, 0 is absent.
pub fn tags_range_of_seconds(start: u32, end: u32, now_nanos: u64) -> Result<TimeRange, ApiError> {
    let moment = |secs: u32| (secs != 0).then(|| Moment::second(secs.into()));
    open_range(moment(start), moment(end), RECENT, now_nanos)
}

/// The range of a trace by id, in seconds. `None` is all time.
pub fn trace_range(params: &Params) -> Result<Option<TimeRange>, ApiError> {
    let (start, end) = (params.i64("start")?, params.i64("end")?);
    if let (Some(start), Some(end)) = (start, end)
        && end <= start
    {
        return Err(not_before(start, end));
    }
    if start.is_none() && end.is_none() {
        return Ok(None);
    }
    let second = |secs: i64| Moment::second(u64::try_from(secs).unwrap_or(0));
    Ok(Some(TimeRange {
        start_nanos: start.map_or(TimeRange::ALL.start_nanos, |s| second(s).first_nanos),
        end_nanos: end.map_or(TimeRange::ALL.end_nanos, |s| second(s).last_nanos),
    }))
}

/// Parses a Go duration, `1h2m`, `1.5s`, to nanoseconds. The faults are Go's.
pub fn go_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let sign = if text.starts_with('-') { -1 } else { 1 };
    if unsigned == "0" {
        return Ok(0);
    }
    if unsigned.is_empty() {
        return Err(invalid());
    }
    let mut sum: i64 = 0;
    let mut rest = unsigned;
    while !rest.is_empty() {
        let number = leading(rest, |c| c.is_ascii_digit() || c == '.');
        rest = rest.strip_prefix(number).ok_or_else(invalid)?;
        let unit = leading(rest, |c| !c.is_ascii_digit() && c != '.');
        rest = rest.strip_prefix(unit).ok_or_else(invalid)?;
        if !number.bytes().any(|b| b.is_ascii_digit()) {
            return Err(invalid());
        }
        let scale = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => SECOND,
            "m" => 60 * SECOND,
            "h" => 3600 * SECOND,
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            _ => return Err(format!("time: unknown unit {unit:?} in duration {text:?}")),
        };
        let part = scaled(number, scale).and_then(|nanos| i64::try_from(nanos).ok());
        sum = part.and_then(|nanos| sum.checked_add(nanos)).ok_or_else(invalid)?;
    }
    Ok(sum * sign)
}

/// Parses a Prometheus duration, `1h30m`, `2d`, to nanoseconds: whole numbers, each unit once, the
/// largest first.
pub fn prometheus_duration(text: &str) -> Option<u64> {
    const DAY: u64 = 24 * 3600;
    const UNITS: [(&str, u64); 7] = [
        ("y", 365 * DAY * SECOND),
        ("w", 7 * DAY * SECOND),
        ("d", DAY * SECOND),
        ("h", 3600 * SECOND),
        ("m", 60 * SECOND),
        ("s", SECOND),
        ("ms", 1_000_000),
    ];
    if text == "0" {
        return Some(0);
    }
    let mut units = UNITS.iter();
    let mut rest = text;
    let mut sum: u64 = 0;
    while !rest.is_empty() || text.is_empty() {
        let number = leading(rest, |c| c.is_ascii_digit());
        let behind = rest.strip_prefix(number)?;
        let unit = leading(behind, |c| c.is_ascii_alphabetic());
        rest = behind.strip_prefix(unit)?;
        let (_, nanos) = units.find(|(name, _)| *name == unit)?;
        sum = sum.checked_add(number.parse::<u64>().ok()?.checked_mul(*nanos)?)?;
    }
    Some(sum)
}

/// Nanoseconds of the value of `since`.
fn since(params: &Params) -> Result<Option<u64>, ApiError> {
    let Some(text) = params.get("since") else { return Ok(None) };
    match prometheus_duration(text) {
        Some(nanos) => Ok(Some(nanos)),
        None => Err(bad(format!("invalid since: not a valid duration string: {text:?}"))),
    }
}

fn recent(now_nanos: u64) -> TimeRange {
    TimeRange { start_nanos: now_nanos.saturating_sub(RECENT), end_nanos: now_nanos }
}

fn between(start: Moment, end: Moment) -> TimeRange {
    TimeRange { start_nanos: start.first_nanos, end_nanos: end.last_nanos }
}

/// A missing end is now; a missing start is `length` before the end, or before now if that is
/// earlier.
fn open_range(
    start: Option<Moment>,
    end: Option<Moment>,
    length: u64,
    now_nanos: u64,
) -> Result<TimeRange, ApiError> {
    let end = end.unwrap_or(Moment::instant(now_nanos));
    let before = || end.first_nanos.min(now_nanos).saturating_sub(length);
    let start = start.unwrap_or_else(|| Moment::instant(before()));
    if end.last_nanos <= start.last_nanos {
        return Err(not_before(start.first_nanos / SECOND, end.first_nanos / SECOND));
    }
    Ok(between(start, end))
}

fn not_before(start: impl std::fmt::Display, end: impl std::fmt::Display) -> ApiError {
    bad(format!("http parameter start must be before end. received start={start} end={end}"))
}

/// The longest prefix of such characters.
fn leading(text: &str, wanted: impl Fn(char) -> bool) -> &str {
    let end = text.find(|c| !wanted(c)).unwrap_or(text.len());
    text.get(..end).unwrap_or_default()
}

/// `1.25` times `scale`, cut to whole numbers. `None` with two dots or when it does not fit.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
    let whole = whole.checked_mul(scale)?;
    let digits = leading(fraction, |c| c.is_ascii_digit());
    if digits.len() != fraction.len() {
        return None;
    }
    // Digits behind the 18th are below a nanosecond of any unit.
    let digits = digits.get(..18).unwrap_or(digits);
    let numerator = if digits.is_empty() { 0 } else { digits.parse::<u128>().ok()? };
    let denominator = 10u128.pow(u32::try_from(digits.len()).ok()?);
    whole.checked_add(u64::try_from(numerator * u128::from(scale) / denominator).ok()?)
}

/// `1700000000.5` as nanoseconds. `None` without a dot.
fn fraction(text: &str) -> Option<u64> {
    let plain = text.contains('.') && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if plain && text != "." { scaled(text, SECOND) } else { None }
}

/// `2006-01-02T15:04:05.999Z`, or an offset such as `+02:00` instead of the `Z`. Times before 1970
/// are 1970.
fn rfc3339(text: &str) -> Option<u64> {
    let (date, time) = text.split_once(['T', 't'])?;
    let zone_at = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = (time.get(..zone_at)?, time.get(zone_at..)?);
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let (clock, fraction) = match clock.split_once('.') {
        Some((_, "")) => return None,
        Some((clock, digits)) => (clock, scaled(&format!("0.{digits}"), SECOND)?),
        None => (clock, 0),
    };
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    let real = (1..=12).contains(&month) && (1..=days_in(year, month)).contains(&day);
    if !real || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let secs = days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    let secs = secs - offset(zone)?;
    Some(u64::try_from(secs).map_or(0, |secs| secs.saturating_mul(SECOND).saturating_add(fraction)))
}

/// Seconds east of Greenwich.
fn offset(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let [hours, minutes] = numbers(zone.get(1..)?, ':', [2, 2])?;
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

/// Numbers of exactly so many digits each, with a character between them.
fn numbers<const N: usize>(text: &str, between: char, lengths: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(between);
    let mut found = [0; N];
    for (slot, length) in found.iter_mut().zip(lengths) {
        let part = parts.next()?;
        let fits = part.len() == length && part.bytes().all(|b| b.is_ascii_digit());
        *slot = if fits { part.parse().ok()? } else { return None };
    }
    parts.next().is_none().then_some(found)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days of the proleptic Gregorian calendar: years counted from March, so that the leap day is the
/// last one.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let days_before_month = (153 * month_from_march + 2) / 5;
    let days_before_year =
        365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    days_before_year + days_before_month + day - 719_469
}

/// A duration of whole seconds as Go prints it: `168h0m0s`.
fn go_seconds(secs: u64) -> String {
    let (hours, minutes, seconds) = (secs / 3600, secs / 60 % 60, secs % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_700_000_000 * SECOND + 5;
    const WEEK: Duration = Duration::from_secs(168 * 3600);

    fn params(query: &str) -> Params {
        Params::parse(Some(query))
    }

    fn text<T: std::fmt::Debug>(result: Result<T, ApiError>) -> String {
        result.unwrap_err().to_string()
    }

    fn range(start_nanos: u64, end_nanos: u64) -> TimeRange {
        TimeRange { start_nanos, end_nanos }
    }

    #[test]
    fn go_durations() {
        assert_eq!(go_duration("1h2m"), Ok(3_720_000_000_000));
        assert_eq!(go_duration("1.5s"), Ok(1_500_000_000));
        assert_eq!(go_duration("-.5ms"), Ok(-500_000));
        assert_eq!(go_duration("10µs"), Ok(10_000));
        assert_eq!(go_duration("0"), Ok(0));
        let fails = [
            ("1", "time: missing unit in duration \"1\""),
            ("1x", "time: unknown unit \"x\" in duration \"1x\""),
            ("", "time: invalid duration \"\""),
            ("s", "time: invalid duration \"s\""),
            (".s", "time: invalid duration \".s\""),
            ("1.2.3s", "time: invalid duration \"1.2.3s\""),
            ("9999999h", "time: invalid duration \"9999999h\""),
        ];
        for (duration, message) in fails {
            assert_eq!(go_duration(duration), Err(message.to_owned()));
        }
    }

    #[test]
    fn prometheus_durations() {
        assert_eq!(prometheus_duration("1h30m"), Some(5400 * SECOND));
        assert_eq!(prometheus_duration("2d"), Some(2 * 86_400 * SECOND));
        assert_eq!(prometheus_duration("1w1ms"), Some(7 * 86_400 * SECOND + 1_000_000));
        assert_eq!(prometheus_duration("0"), Some(0));
        for fault in ["", "5", "m", "1.5h", "1m1h", "1m1m", "-1m", "1000y"] {
            assert_eq!(prometheus_duration(fault), None, "{fault:?}");
        }
    }

    #[test]
    fn moments() {
        assert_eq!(Moment::parse("1700000000"), Some(Moment::second(1_700_000_000)));
        assert_eq!(
            Moment::parse("1700000000000000001"),
            Some(Moment::instant(1_700_000_000_000_000_001))
        );
        assert_eq!(
            Moment::parse("1700000000.25"),
            Some(Moment::instant(1_700_000_000_250_000_000))
        );
        let at = |text| Moment::parse(text).map(|m| m.first_nanos);
        assert_eq!(at("2023-11-14T22:13:20Z"), Some(1_700_000_000 * SECOND));
        assert_eq!(at("2023-11-15T00:13:20.5+02:00"), Some(1_700_000_000_500_000_000));
        assert_eq!(at("2024-02-29T00:00:00Z"), Some(1_709_164_800 * SECOND));
        assert_eq!(at("1969-12-31T23:59:59Z"), Some(0));
        assert_eq!(at("-5"), Some(0));
        for fault in
            ["", "x", ".", "1.2.3", "2023-02-29T00:00:00Z", "2023-11-14", "2023-11-14T22:13:20"]
        {
            assert_eq!(Moment::parse(fault), None, "{fault:?}");
        }
    }

    #[test]
    fn search_ranges() {
        let recent = range(NOW - RECENT, NOW);
        assert_eq!(search_range(0, 0, WEEK, NOW), Ok(recent));
        assert_eq!(search_range(4, 5, WEEK, NOW), Ok(range(4 * SECOND, 6 * SECOND - 1)));
        assert_eq!(
            text(search_range(5, 4, WEEK, NOW)),
            "http parameter start must be before end. received start=5 end=4"
        );
        assert_eq!(
            text(search_range(0, 4, WEEK, NOW)),
            "error parsing date range: only one of start and end provided: must provide both or neither"
        );
        assert_eq!(
            text(search_range(1, 604_802, WEEK, NOW)),
            "range specified by start and end exceeds 168h0m0s. received start=1 end=604802"
        );
        assert!(search_range(1, 604_801, WEEK, NOW).is_ok());
        assert!(search_range(1, u32::MAX, Duration::ZERO, NOW).is_ok());
        let since = since_seconds(&params("since=1m"), NOW);
        assert_eq!(since, Ok(Some((1_699_999_940, 1_700_000_000))));
        assert!(since_seconds(&params("since=5"), NOW).is_err());
    }

    #[test]
    fn tag_ranges() {
        let of = |query: &str| tags_range(&params(query), NOW);
        assert_eq!(of("start="), Ok(range(NOW - RECENT, NOW)));
        assert_eq!(of("since=1h&start=5"), Ok(range(NOW - 3600 * SECOND, NOW)));
        assert_eq!(of("start=4&end=5"), Ok(range(4 * SECOND, 6 * SECOND - 1)));
        assert_eq!(of("end=2000"), Ok(range(1100 * SECOND, 2001 * SECOND - 1)));
        assert_eq!(
            text(of("start=5&end=4")),
            "http parameter start must be before end. received start=5 end=4"
        );
        assert!(text(of("start=x")).starts_with("invalid start: "));
        assert_eq!(tags_range_of_seconds(0, 0, NOW), Ok(range(NOW - RECENT, NOW)));
    }

    #[test]
    fn trace_ranges() {
        let of = |query: &str| trace_range(&params(query));
        assert_eq!(of(""), Ok(None));
        assert_eq!(of("start=1"), Ok(Some(range(SECOND, u64::MAX))));
        assert_eq!(of("start=-1&end=1"), Ok(Some(range(0, 2 * SECOND - 1))));
        assert_eq!(
            text(of("start=2&end=1")),
            "http parameter start must be before end. received start=2 end=1"
        );
        assert!(text(of("start=x")).starts_with("invalid start: "));
    }

    #[test]
    fn durations_print_as_in_go() {
        assert_eq!(go_seconds(168 * 3600), "168h0m0s");
        assert_eq!(go_seconds(61), "1m1s");
        assert_eq!(go_seconds(0), "0s");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*|[-+]?[0-9.hmsuµyZT:-]{0,30}", a: u32, b: u32, now: u64) {
            drop((go_duration(&text), prometheus_duration(&text), Moment::parse(&text)));
            let query = params(&format!("start={text}&end={text}&since={text}"));
            drop((tags_range(&query, now), trace_range(&query), since_seconds(&query, now)));
            drop((search_range(a, b, WEEK, now), tags_range_of_seconds(a, b, now)));
        }

        #[test]
        fn every_day_follows_the_one_before(days in 0i64..200_000) {
            let (mut year, mut left) = (1970, days);
            let length = |year: i64| 337 + days_in(year, 2);
            while left >= length(year) {
                left -= length(year);
                year += 1;
            }
            let mut month = 1;
            while left >= days_in(year, month) {
                left -= days_in(year, month);
                month += 1;
            }
            prop_assert_eq!(days_since_1970(year, month, left + 1), days);
        }
    }
}
