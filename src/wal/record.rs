//! One record of the log.
//!
//! ```text
//! offset  bytes
//!      0  1      version, 1
//!      1  4      CRC-32 of everything behind it, little endian
//!      5  4      bytes of the request before compression, little endian
//!      9  1      length of the tenant's name, t
//!     10  t      tenant
//!   10+t  …      the request: an OTLP ExportTraceServiceRequest, zstd
//! ```
#![deny(clippy::indexing_slicing)]

use thiserror::Error;

use crate::model::TenantId;

const VERSION: u8 = 1;
const HEAD: usize = 5;
/// A third of the cost of level 3, and nearly its size: see `benches/ingest.rs`.
const ZSTD_LEVEL: i32 = 1;
/// No request is larger: receivers refuse it. A claim beyond this is damage.
const MAX_REQUEST: usize = 1 << 30;

/// A record, its request still compressed.
#[derive(Debug)]
pub struct Record<'a> {
    pub tenant: TenantId,
    pub request_len: usize,
    compressed: &'a [u8],
}

/// Why a record cannot be used. It is skipped then; others are not touched.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum RecordError {
    #[error("a record of the log is damaged: {0}")]
    Damaged(&'static str),
    #[error(
        "a record of the log has version {0}, written by a newer release; this one reads version 1"
    )]
    Version(u8),
}

/// Encodes a request. Costs most of an append's CPU time, so senders do it, each for itself.
pub fn encode(tenant: &TenantId, request: &[u8]) -> Vec<u8> {
    let name = tenant.as_str().as_bytes();
    let mut out = Vec::with_capacity(HEAD + 5 + name.len() + request.len() / 4);
    out.push(VERSION);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&u32::try_from(request.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.push(u8::try_from(name.len()).expect("tenants have at most 150 bytes"));
    out.extend_from_slice(name);
    let compressed =
        zstd::bulk::compress(request, ZSTD_LEVEL).expect("compressing into memory cannot fail");
    out.extend_from_slice(&compressed);
    let crc = crc32fast::hash(out.get(HEAD..).unwrap_or_default());
    if let Some(place) = out.get_mut(1..HEAD) {
        place.copy_from_slice(&crc.to_le_bytes());
    }
    out
}

/// Reads and checks a record.
pub fn decode(bytes: &[u8]) -> Result<Record<'_>, RecordError> {
    let short = RecordError::Damaged("it is too short");
    let (head, rest) = bytes.split_first_chunk::<HEAD>().ok_or(short)?;
    let [version, crc @ ..] = *head;
    if version != VERSION {
        return Err(RecordError::Version(version));
    }
    if crc32fast::hash(rest) != u32::from_le_bytes(crc) {
        return Err(RecordError::Damaged("its checksum is wrong"));
    }
    let cut = || RecordError::Damaged("it is too short");
    let (len, rest) = rest.split_first_chunk().ok_or_else(cut)?;
    let request_len = u32::from_le_bytes(*len) as usize;
    let (name_len, rest) = rest.split_first().ok_or_else(cut)?;
    let (name, compressed) = rest.split_at_checked(usize::from(*name_len)).ok_or_else(cut)?;
    let name = std::str::from_utf8(name).ok().and_then(|name| TenantId::parse(name).ok());
    let tenant = name.ok_or(RecordError::Damaged("its tenant is not valid"))?;
    if request_len > MAX_REQUEST {
        return Err(RecordError::Damaged("its request is too large"));
    }
    Ok(Record { tenant, request_len, compressed })
}

impl Record<'_> {
    /// The request.
    pub fn request(&self) -> Result<Vec<u8>, RecordError> {
        let request = zstd::bulk::decompress(self.compressed, self.request_len);
        request.map_err(|_| RecordError::Damaged("its request cannot be decompressed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back() {
        let tenant = TenantId::parse("a").unwrap();
        let request = b"some request".repeat(50);
        let bytes = encode(&tenant, &request);
        let record = decode(&bytes).unwrap();
        assert_eq!((&record.tenant, record.request().unwrap()), (&tenant, request));
    }

    #[test]
    fn damage_at_any_byte_is_noticed() {
        let bytes = encode(&TenantId::single(), b"request");
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(decode(&damaged).is_err(), "at {at}");
            assert!(decode(&bytes[..at]).is_err(), "cut at {at}");
        }
        assert_eq!(decode(&[9, 0, 0, 0, 0]).unwrap_err(), RecordError::Version(9));
    }
}
