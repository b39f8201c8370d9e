//! Values as a person writes them: sizes (`16MiB`), durations (`1h30m`), addresses
//! (`0.0.0.0:4317`), secrets.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};
use thiserror::Error;

/// A text that is not the value it should be. The message shows the right form.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum UnitError {
    #[error(
        "{0:?} is not a size; write a whole number with B, KiB, MiB, GiB or TiB, as in \"16MiB\""
    )]
    Size(String),
    #[error("{0:?} is not a duration; write whole numbers with ms, s, m, h or d, as in \"1h30m\"")]
    Duration(String),
    #[error("{0:?} is not an address; write an IP address and a port, as in \"0.0.0.0:4317\"")]
    Address(String),
}

/// A number of bytes: `16MiB` in text. A number without a unit counts bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// Largest first; of two names for near the same size, the binary one.
const SIZES: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

impl ByteSize {
    pub const fn kib(count: u64) -> ByteSize {
        ByteSize(count << 10)
    }

    pub const fn mib(count: u64) -> ByteSize {
        ByteSize(count << 20)
    }

    pub const fn gib(count: u64) -> ByteSize {
        ByteSize(count << 30)
    }

    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<ByteSize, UnitError> {
        parse_size(text).ok_or_else(|| UnitError::Size(text.to_owned()))
    }
}

fn parse_size(text: &str) -> Option<ByteSize> {
    let text = text.trim();
    let (count, unit) = text.split_at(digits(text));
    let count: u64 = count.parse().ok()?;
    let unit = unit.trim_start();
    if unit.is_empty() {
        return Some(ByteSize(count));
    }
    let (_, bytes) = SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    count.checked_mul(*bytes).map(ByteSize)
}

/// Length of the run of ASCII digits at the front.
fn digits(text: &str) -> usize {
    text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len())
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |bytes: u64| self.0 >= bytes && self.0.is_multiple_of(bytes);
        match SIZES.iter().find(|(_, bytes)| fits(*bytes)) {
            Some((unit, bytes)) => write!(f, "{}{unit}", self.0 / bytes),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
        let expecting = "a size such as \"16MiB\"";
        deserializer.deserialize_any(Text { expecting, parse: ByteSize::from_str })
    }
}

/// Largest first.
const DURATIONS: &[(&str, u64)] = &[
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Parses `5s`, `1h30m`, `14d`; `0` needs no unit. Up to 584 years.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    match sum_duration(text) {
        Some(nanos) => Ok(Duration::from_nanos(nanos)),
        None => Err(UnitError::Duration(text.to_owned())),
    }
}

fn sum_duration(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut sum = 0u64;
    while !rest.is_empty() {
        let (count, behind) = rest.split_at(digits(rest));
        let unit_len = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit_len);
        let (_, nanos) = DURATIONS.iter().find(|(name, _)| *name == unit)?;
        sum = sum.checked_add(count.parse::<u64>().ok()?.checked_mul(*nanos)?)?;
        rest = behind.trim_start();
    }
    Some(sum)
}

/// Shows a duration in the form that [`parse_duration`] reads: `1h30m`.
pub fn show_duration(duration: Duration) -> String {
    let mut rest = duration.as_nanos();
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    for (unit, nanos) in DURATIONS {
        let count = rest / u128::from(*nanos);
        rest %= u128::from(*nanos);
        if count > 0 {
            out.push_str(&count.to_string());
            out.push_str(unit);
        }
    }
    out
}

/// Serde form of a duration, for `#[serde(with = "units::duration")]`.
pub mod duration {
    use super::{Deserializer, Duration, Serializer, Text, parse_duration, show_duration};

    pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&show_duration(*value))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let expecting = "a duration such as \"30s\"";
        deserializer.deserialize_any(Text { expecting, parse: parse_duration })
    }
}

/// Parses an address to listen on. An empty text means off, `:4317` every IPv4 interface.
pub fn parse_listen(text: &str) -> Result<Option<SocketAddr>, UnitError> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = match text.rsplit_once(':') {
        Some(("", port)) => with_port(Ipv4Addr::UNSPECIFIED.into(), port),
        Some(("localhost", port)) => with_port(Ipv4Addr::LOCALHOST.into(), port),
        _ => text.parse().ok(),
    };
    parsed.map(Some).ok_or_else(|| UnitError::Address(text.to_owned()))
}

fn with_port(ip: IpAddr, port: &str) -> Option<SocketAddr> {
    port.parse().ok().map(|port| SocketAddr::new(ip, port))
}

/// Serde form of an address to listen on, where `""` means off.
pub mod listen {
    use super::{Deserializer, Serializer, SocketAddr, Text, parse_listen};

    pub fn serialize<S: Serializer>(
        value: &Option<SocketAddr>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(address) => serializer.collect_str(address),
            None => serializer.serialize_str(""),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SocketAddr>, D::Error> {
        let expecting = "an address such as \"0.0.0.0:4317\", or \"\" for off";
        deserializer.deserialize_any(Text { expecting, parse: parse_listen })
    }
}

/// A text that is never shown: it prints, and is saved, as `***`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "" } else { "***" })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        deserializer
            .deserialize_any(Text { expecting: "a text", parse: |text| Ok(Secret::new(text)) })
    }
}

/// Takes a text or a whole number, and parses its text.
pub(super) struct Text<T> {
    pub expecting: &'static str,
    pub parse: fn(&str) -> Result<T, UnitError>,
}

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(E::custom)
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<T, E> {
        (self.parse)(&number.to_string()).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_shown() {
        let cases: &[(&str, Option<u64>, &str)] = &[
            ("16MiB", Some(16 << 20), "16MiB"),
            ("16 mib", Some(16 << 20), "16MiB"),
            ("1024KiB", Some(1 << 20), "1MiB"),
            ("1TiB", Some(1 << 40), "1TiB"),
            ("20MB", Some(20_000_000), "20MB"),
            ("536870912", Some(512 << 20), "512MiB"),
            ("1500B", Some(1500), "1500B"),
            ("0", Some(0), "0B"),
            ("", None, ""),
            ("MiB", None, ""),
            ("-1MiB", None, ""),
            ("1.5GiB", None, ""),
            ("1 GiB 2", None, ""),
            ("16Mi", None, ""),
            ("99999999999TiB", None, ""),
            ("99999999999999999999", None, ""),
        ];
        for (text, bytes, shown) in cases {
            let size = text.parse::<ByteSize>().ok();
            assert_eq!(size.map(ByteSize::bytes), *bytes, "{text:?}");
            if let Some(size) = size {
                assert_eq!(size.to_string(), *shown, "{text:?}");
            }
        }
    }

    #[test]
    fn durations_are_read_and_shown() {
        let cases: &[(&str, Option<u64>, &str)] = &[
            ("5s", Some(5_000), "5s"),
            ("1h30m", Some(5_400_000), "1h30m"),
            ("1h 30m", Some(5_400_000), "1h30m"),
            ("90m", Some(5_400_000), "1h30m"),
            ("14d", Some(14 * 86_400_000), "14d"),
            ("168h", Some(7 * 86_400_000), "7d"),
            ("1s500ms", Some(1_500), "1s500ms"),
            ("0", Some(0), "0s"),
            ("0s", Some(0), "0s"),
            ("", None, ""),
            ("5", None, ""),
            ("s", None, ""),
            ("-5s", None, ""),
            ("1.5h", None, ""),
            ("5 s", None, ""),
            ("5S", None, ""),
            ("5é", None, ""),
            ("999999d", None, ""),
            ("99999999999999999999s", None, ""),
        ];
        for (text, millis, shown) in cases {
            let duration = parse_duration(text).ok();
            assert_eq!(duration, millis.map(Duration::from_millis), "{text:?}");
            if let Some(duration) = duration {
                assert_eq!(show_duration(duration), *shown, "{text:?}");
            }
        }
        let odd = Duration::new(1, 2_003_004);
        assert_eq!(parse_duration(&show_duration(odd)), Ok(odd));
    }

    #[test]
    fn addresses_are_read() {
        let cases: &[(&str, Option<&str>)] = &[
            ("0.0.0.0:4317", Some("0.0.0.0:4317")),
            (":4317", Some("0.0.0.0:4317")),
            ("localhost:0", Some("127.0.0.1:0")),
            ("[::1]:4317", Some("[::1]:4317")),
            ("4317", None),
            ("0.0.0.0", None),
            ("0.0.0.0:70000", None),
            ("example.com:4317", None),
        ];
        for (text, address) in cases {
            let parsed = parse_listen(text).ok().flatten().map(|address| address.to_string());
            assert_eq!(parsed.as_deref(), *address, "{text:?}");
        }
        assert_eq!(parse_listen(""), Ok(None));
    }

    #[test]
    fn a_secret_is_never_shown() {
        let secret = Secret::new("open sesame");
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
        assert_eq!(secret.reveal(), "open sesame");
        assert_eq!(Secret::default().to_string(), "");
    }
}
