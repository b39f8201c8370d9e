//! Identifiers of traces, spans, tenants and blocks, and the time range of a query.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;
use uuid::Uuid;

/// A trace id: 16 bytes, shown as 32 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct TraceId(pub [u8; 16]);

/// A span id: 8 bytes, shown as 16 lower-case hex digits. All zero means "none".
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct SpanId(pub [u8; 8]);

/// A block's id: a random UUID v4, as Tempo shards its work by id ranges.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockId(pub Uuid);

/// A valid tenant name, the value of `X-Scope-OrgID`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(Arc<str>);

/// Nanoseconds since the epoch, both ends inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    pub start_nanos: u64,
    pub end_nanos: u64,
}

/// Why a text is not a trace id. The texts are Tempo's: its users know them.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum IdError {
    #[error(
        "trace IDs can only contain hex characters: invalid character '{found}' at position {position}"
    )]
    NotHex { found: char, position: usize },
    #[error("trace IDs can't be larger than 128 bits")]
    TooLong,
    #[error("trace ID is empty")]
    Empty,
}

/// Why a text is not a tenant.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TenantError {
    #[error("no org id")]
    Empty,
    #[error("tenant ID is too long: max 150 characters")]
    TooLong,
    #[error("tenant ID is '.' or '..'")]
    Unsafe,
    #[error("tenant ID '{tenant}' contains unsupported character '{found}'")]
    Character { tenant: String, found: char },
}

impl TraceId {
    /// Parses 1 to 32 hex digits of any case, padded with zeros on the left.
    pub fn parse(hex: &str) -> Result<TraceId, IdError> {
        if hex.is_empty() {
            return Err(IdError::Empty);
        }
        let mut value: u128 = 0;
        for (at, found) in hex.chars().enumerate() {
            let digit = found
                .to_digit(16)
                .ok_or(IdError::NotHex { found, position: at.saturating_add(1) })?;
            value = (value << 4) | u128::from(digit);
        }
        if hex.len() > 32 {
            return Err(IdError::TooLong);
        }
        Ok(TraceId(value.to_be_bytes()))
    }

    /// The hex text without leading zeros, as Tempo prints ids in search results.
    pub fn trimmed(&self) -> String {
        let text = format!("{:x}", u128::from_be_bytes(self.0));
        if text == "0" { String::new() } else { text }
    }
}

impl SpanId {
    /// Whether this is the zero id, which stands for an absent parent.
    pub fn is_zero(&self) -> bool {
        self.0 == [0; 8]
    }
}

impl BlockId {
    /// A new random id.
    pub fn random() -> BlockId {
        BlockId(Uuid::new_v4())
    }

    /// Parses the folder name of a block: lower case with hyphens, nothing else.
    pub fn parse(text: &str) -> Option<BlockId> {
        let id = BlockId(Uuid::try_parse(text).ok()?);
        (id.to_string() == text).then_some(id)
    }
}

impl TenantId {
    /// The tenant of everything while tenancy is off; Tempo's name, as it is a folder in the bucket.
    pub fn single() -> TenantId {
        TenantId("single-tenant".into())
    }

    /// Checks Tempo's grammar: letters, digits and `!-_.*'()`, at most 150 bytes, not `.` or `..`.
    pub fn parse(text: &str) -> Result<TenantId, TenantError> {
        if text.is_empty() {
            return Err(TenantError::Empty);
        }
        if text.len() > 150 {
            return Err(TenantError::TooLong);
        }
        if text == "." || text == ".." {
            return Err(TenantError::Unsafe);
        }
        let bad = text.chars().find(|c| !c.is_ascii_alphanumeric() && !"!-_.*'()".contains(*c));
        match bad {
            Some(found) => Err(TenantError::Character { tenant: text.to_owned(), found }),
            None => Ok(TenantId(text.into())),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TimeRange {
    /// All of time.
    pub const ALL: TimeRange = TimeRange { start_nanos: 0, end_nanos: u64::MAX };

    /// Whether something that lasts from `start` to `end` touches this range.
    pub fn overlaps(&self, start: u64, end: u64) -> bool {
        start <= self.end_nanos && end >= self.start_nanos
    }
}

fn hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.as_hyphenated())
    }
}

impl fmt::Debug for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_ids_are_padded_and_trimmed() {
        let id = TraceId::parse("bEEf").unwrap();
        assert_eq!(id.to_string(), "0000000000000000000000000000beef");
        assert_eq!(id.trimmed(), "beef");
        assert_eq!(
            TraceId::parse("z").unwrap_err().to_string(),
            "trace IDs can only contain hex characters: invalid character 'z' at position 1"
        );
        assert_eq!(TraceId::parse(&"a".repeat(33)), Err(IdError::TooLong));
    }

    #[test]
    fn tenants_follow_tempos_grammar() {
        assert_eq!(TenantId::parse("a-b_c.d*'()!").unwrap().as_str(), "a-b_c.d*'()!");
        assert_eq!(
            TenantId::parse("a/b").unwrap_err().to_string(),
            "tenant ID 'a/b' contains unsupported character '/'"
        );
        assert!(TenantId::parse("..").is_err());
        assert!(TenantId::parse(&"a".repeat(151)).is_err());
    }

    #[test]
    fn block_ids_are_canonical_folder_names() {
        let id = BlockId::random();
        assert_eq!(BlockId::parse(&id.to_string()), Some(id));
        assert_eq!(BlockId::parse(&id.to_string().to_uppercase()), None);
    }
}
