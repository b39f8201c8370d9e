//! `meta.json` and the list of dedicated columns, as Tempo writes and reads them.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::model::BlockId;

/// A format version that this build reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V4,
    V5,
}

/// A block's `meta.json`: the commit point of a block, never changed once written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Meta {
    pub format: String,
    #[serde(rename = "blockID")]
    pub block_id: String,
    #[serde(rename = "tenantID", default)]
    pub tenant_id: String,
    pub start_time: String,
    pub end_time: String,
    #[serde(default)]
    pub total_objects: u64,
    /// Bytes of `data.parquet`, exactly.
    #[serde(default)]
    pub size: u64,
    #[serde(default)]
    pub compaction_level: u32,
    #[serde(default)]
    pub index_page_size: u32,
    /// Row groups.
    #[serde(default)]
    pub total_records: u32,
    #[serde(default)]
    pub bloom_shards: u32,
    #[serde(default)]
    pub footer_size: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dedicated_columns: Vec<Dedicated>,
    #[serde(default)]
    pub replication_factor: u32,
}

/// An attribute with a column of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dedicated {
    #[serde(rename = "s", default, skip_serializing_if = "DedicatedScope::is_span")]
    pub scope: DedicatedScope,
    #[serde(rename = "n")]
    pub name: String,
    #[serde(rename = "t", default, skip_serializing_if = "DedicatedType::is_string")]
    pub kind: DedicatedType,
    #[serde(rename = "o", default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DedicatedScope {
    #[default]
    Span,
    Resource,
    Event,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DedicatedType {
    #[default]
    String,
    Int,
}

/// Why a `meta.json` is of no use.
#[derive(Debug, Error)]
pub enum MetaError {
    #[error("meta.json is not valid")]
    Json(#[from] serde_json::Error),
    #[error("format {0:?} is unknown; this build reads vParquet4 and vParquet5")]
    Format(String),
    #[error("block id {0:?} is not a UUID")]
    BlockId(String),
    #[error("time {0:?} is not RFC 3339")]
    Time(String),
}

impl Version {
    pub fn name(self) -> &'static str {
        match self {
            Version::V4 => "vParquet4",
            Version::V5 => "vParquet5",
        }
    }

    /// Dedicated string columns in each scope. Ten, as Tempo 2.10 knows no more.
    pub fn max_strings(self) -> usize {
        10
    }

    /// Dedicated integer columns in each scope.
    pub fn max_ints(self) -> usize {
        match self {
            Version::V4 => 0,
            Version::V5 => 5,
        }
    }
}

impl DedicatedScope {
    fn is_span(&self) -> bool {
        *self == DedicatedScope::Span
    }
}

impl DedicatedType {
    fn is_string(&self) -> bool {
        *self == DedicatedType::String
    }
}

impl Dedicated {
    /// Tempo 3.1's default list, in its order: blocks of both can then be compacted together.
    pub fn defaults() -> Vec<Dedicated> {
        use DedicatedScope::{Resource, Span};
        use DedicatedType::{Int, String};
        let column = |(scope, name, kind): (DedicatedScope, &str, DedicatedType)| Dedicated {
            scope,
            name: name.to_owned(),
            kind,
            options: Vec::new(),
        };
        [
            (Resource, "k8s.cluster.name", String),
            (Resource, "k8s.namespace.name", String),
            (Resource, "k8s.pod.name", String),
            (Resource, "k8s.container.name", String),
            (Span, "http.request.method", String),
            (Span, "http.response.status_code", Int),
            (Span, "url.path", String),
            (Span, "url.route", String),
            (Span, "server.address", String),
            (Span, "server.port", Int),
            (Span, "http.method", String),
            (Span, "http.url", String),
            (Span, "http.route", String),
            (Span, "http.status_code", Int),
        ]
        .map(column)
        .into()
    }
}

impl Meta {
    /// Reads a `meta.json`.
    ///
    /// # Errors
    /// When it is not JSON, or lacks what nothing can do without.
    pub fn parse(json: &[u8]) -> Result<Meta, MetaError> {
        let meta: Meta = serde_json::from_slice(json)?;
        meta.version()?;
        meta.id()?;
        meta.range_nanos()?;
        Ok(meta)
    }

    pub fn version(&self) -> Result<Version, MetaError> {
        match self.format.as_str() {
            "vParquet4" => Ok(Version::V4),
            "vParquet5" => Ok(Version::V5),
            other => Err(MetaError::Format(other.to_owned())),
        }
    }

    pub fn id(&self) -> Result<BlockId, MetaError> {
        BlockId::parse(&self.block_id).ok_or_else(|| MetaError::BlockId(self.block_id.clone()))
    }

    /// Start and end of the block's traces. The end is rounded up: Tempo floors it.
    pub fn range_nanos(&self) -> Result<(u64, u64), MetaError> {
        let parse = |text: &str| {
            super::time::parse_rfc3339(text).ok_or_else(|| MetaError::Time(text.to_owned()))
        };
        let (start, end) = (parse(&self.start_time)?, parse(&self.end_time)?);
        Ok((start.min(end), end.max(start).saturating_add(999_999_999)))
    }

    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers always serialise")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tempos_own_meta_reads_and_keeps_its_columns() {
        let json = br#"{"format":"vParquet5","blockID":"6168ebb7-2050-4b9d-908c-17c49061ab43","tenantID":"single-tenant","startTime":"2026-11-21T00:08:39Z","endTime":"2026-11-21T00:08:40Z",
            "totalObjects":309,"size":223906,"compactionLevel":0,"indexPageSize":0,"totalRecords":1,"bloomShards":1,"footerSize":13754,"minID":"AA==",
            "dedicatedColumns":[{"s":"resource","n":"k8s.cluster.name"},{"n":"http.request.method"},{"n":"http.response.status_code","t":"int"}],"replicationFactor":1}"#;
        let meta = Meta::parse(json).unwrap();
        assert_eq!(meta.total_objects, 309);
        assert_eq!(meta.dedicated_columns[2].kind, DedicatedType::Int);
        assert_eq!(meta.dedicated_columns[0].scope, DedicatedScope::Resource);
        assert_eq!(Meta::parse(&meta.to_json()).unwrap(), meta);
        let columns = serde_json::to_string(&meta.dedicated_columns).unwrap();
        assert_eq!(
            columns,
            r#"[{"s":"resource","n":"k8s.cluster.name"},{"n":"http.request.method"},{"n":"http.response.status_code","t":"int"}]"#
        );
    }

    #[test]
    fn unknown_formats_and_bad_times_are_named() {
        let text = |meta: &str| Meta::parse(meta.as_bytes()).unwrap_err().to_string();
        let meta = |format, time| {
            format!(
                r#"{{"format":"{format}","blockID":"6168ebb7-2050-4b9d-908c-17c49061ab43","startTime":"{time}","endTime":"{time}"}}"#
            )
        };
        assert!(text(&meta("vParquet9", "2026-11-21T00:08:39Z")).contains("vParquet9"));
        assert!(text(&meta("vParquet5", "yesterday")).contains("yesterday"));
    }
}
