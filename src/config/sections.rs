//! One struct per `[section]` of the config file, each with its defaults.
//!
//! Code has no other defaults. `tempo.toml` at the root shows the same values and says what they
//! mean to an operator.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tracing::level_filters::LevelFilter;

use crate::config::budget::{Budget, auto_limit};
use crate::config::units::{self, ByteSize, Secret};

const HOUR: u64 = 3600;

/// Every interface, over IPv4.
fn everywhere(port: u16) -> Option<SocketAddr> {
    Some(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
}

/// `[receive]`: where spans come in.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Receive {
    pub otlp_grpc: Otlp,
    pub otlp_http: Otlp,
}

impl Default for Receive {
    fn default() -> Receive {
        Receive {
            // Ports of the OTLP specification; sizes of Tempo's gRPC server and the Collector's
            // HTTP receiver.
            otlp_grpc: Otlp { listen: everywhere(4317), max_request: ByteSize::mib(16) },
            otlp_http: Otlp { listen: everywhere(4318), max_request: ByteSize::mib(20) },
        }
    }
}

/// `[receive.otlp_grpc]` and `[receive.otlp_http]`: one OTLP port. Their defaults differ, so it has
/// none of its own.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Otlp {
    /// `None` is off.
    #[serde(with = "units::listen")]
    pub listen: Option<SocketAddr>,
    /// Largest accepted request after decompression.
    pub max_request: ByteSize,
}

/// `[query]`: where questions come in, and how much one may ask.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Query {
    /// Put in front of every `/api` path, such as `/tempo`.
    pub http_api_prefix: String,
    /// Longest time range of one search; zero is unlimited.
    #[serde(with = "units::duration")]
    pub max_search_duration: Duration,
    /// Traces in a search answer that names no limit.
    pub default_limit: u32,
    /// Most traces that a search may ask for; zero is unlimited.
    pub max_limit: u32,
    /// Spans per trace in a search answer that names no number.
    pub default_spans_per_spanset: u32,
    /// Most spans per trace that a search may ask for; zero is unlimited.
    pub max_spans_per_spanset: u32,
    /// A query that runs longer is stopped.
    #[serde(with = "units::duration")]
    pub timeout: Duration,
    pub http: Listen,
    pub grpc: Listen,
}

impl Default for Query {
    fn default() -> Query {
        Query {
            http_api_prefix: String::new(),
            // Tempo's defaults, up to the timeout.
            max_search_duration: Duration::from_secs(168 * HOUR),
            default_limit: 20,
            max_limit: 262_144,
            default_spans_per_spanset: 3,
            max_spans_per_spanset: 100,
            timeout: Duration::from_secs(30),
            http: Listen { listen: everywhere(3200) },
            grpc: Listen { listen: everywhere(9095) },
        }
    }
}

/// `[query.http]` and `[query.grpc]`: one port that answers.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// `None` is off.
    #[serde(with = "units::listen")]
    pub listen: Option<SocketAddr>,
}

/// `[storage]`: where data is kept.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Storage {
    /// The directory of the WAL, the trace index and local blocks. One process owns it.
    pub path: PathBuf,
    pub backend: BackendKind,
    pub s3: S3,
}

impl Default for Storage {
    fn default() -> Storage {
        Storage { path: PathBuf::from("./data"), backend: BackendKind::Local, s3: S3::default() }
    }
}

/// Where blocks end up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendKind {
    Local,
    S3,
}

/// `[storage.s3]`: the bucket, read only with `backend = "s3"`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3 {
    pub bucket: String,
    /// Put in front of every object name.
    pub prefix: String,
    /// A server other than Amazon's, as a URL.
    pub endpoint: String,
    pub region: String,
    /// `endpoint/bucket/object` instead of `bucket.endpoint/object`.
    pub force_path_style: bool,
    /// Empty: the usual chain of AWS (environment, profile, service account).
    pub access_key: Secret,
    pub secret_key: Secret,
}

impl Default for S3 {
    fn default() -> S3 {
        S3 {
            bucket: String::new(),
            prefix: String::new(),
            endpoint: String::new(),
            region: "us-east-1".to_owned(),
            force_path_style: false,
            access_key: Secret::default(),
            secret_key: Secret::default(),
        }
    }
}

/// `[wal]`: what an acknowledgement is worth.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wal {
    pub sync: SyncMode,
    /// Time between two syncs with `sync = "interval"`.
    #[serde(with = "units::duration")]
    pub sync_interval: Duration,
    /// With less free disk space than this, spans are refused until there is more.
    pub min_free: ByteSize,
}

impl Default for Wal {
    fn default() -> Wal {
        Wal {
            sync: SyncMode::Always,
            sync_interval: Duration::from_millis(100),
            min_free: ByteSize::gib(1),
        }
    }
}

/// When the WAL is synced to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SyncMode {
    /// Before every acknowledgement.
    Always,
    /// Every `sync_interval`: a power cut loses that much of what was acknowledged.
    Interval,
    /// When the system likes: a power cut loses what it had not written.
    Off,
}

/// `[memory]`: one number for the whole process.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Memory {
    pub limit: MemoryLimit,
}

impl Memory {
    /// The shares of the layers. Reads the machine's limit if the config leaves it open.
    pub fn budget(&self) -> Budget {
        match self.limit {
            MemoryLimit::Auto => Budget::of(auto_limit()),
            MemoryLimit::Bytes(limit) => Budget::of(limit.bytes()),
        }
    }
}

/// What the process stays under.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemoryLimit {
    /// 80 % of the cgroup's limit, or else of the RAM.
    #[default]
    Auto,
    Bytes(ByteSize),
}

const AUTO: &str = "auto";

impl Serialize for MemoryLimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            MemoryLimit::Auto => serializer.serialize_str(AUTO),
            MemoryLimit::Bytes(bytes) => bytes.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for MemoryLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<MemoryLimit, D::Error> {
        let expecting = "\"auto\" or a size such as \"512MiB\"";
        let parse = |text: &str| match text {
            AUTO => Ok(MemoryLimit::Auto),
            _ => text.parse().map(MemoryLimit::Bytes),
        };
        deserializer.deserialize_any(units::Text { expecting, parse })
    }
}

/// `[live]`: traces that are still growing.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Live {
    /// A trace without a new span for this long is cut.
    #[serde(with = "units::duration")]
    pub trace_idle: Duration,
    /// A trace this old is cut though it still grows.
    #[serde(with = "units::duration")]
    pub max_trace_age: Duration,
}

impl Default for Live {
    fn default() -> Live {
        // Tempo 3's `max_trace_idle` and `max_trace_live`.
        Live { trace_idle: Duration::from_secs(5), max_trace_age: Duration::from_secs(30) }
    }
}

/// `[block]`: how cut traces become blocks.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Block {
    pub version: BlockVersion,
    /// A block is written at the latest after this long.
    #[serde(with = "units::duration")]
    pub max_duration: Duration,
    /// A block is written when about this much has gathered.
    pub max_bytes: ByteSize,
}

impl Default for Block {
    fn default() -> Block {
        Block {
            version: BlockVersion::VParquet5,
            max_duration: Duration::from_secs(300),
            max_bytes: ByteSize::mib(256),
        }
    }
}

/// The format that blocks are written in; more are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum BlockVersion {
    /// For readers older than Tempo 2.10.
    #[serde(rename = "vParquet4")]
    VParquet4,
    #[serde(rename = "vParquet5")]
    VParquet5,
}

/// `[retention]`: how long data is kept.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// A block whose last span is older than this is deleted; zero keeps all.
    #[serde(with = "units::duration")]
    pub period: Duration,
}

impl Default for Retention {
    fn default() -> Retention {
        // Tempo's `block_retention`.
        Retention { period: Duration::from_secs(14 * 24 * HOUR) }
    }
}

/// `[tenancy]`: whose data it is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tenancy {
    /// Every request names its tenant in `X-Scope-OrgID`; off: all data belongs to one tenant.
    pub enabled: bool,
}

/// `[telemetry]`: what the process tells about itself.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    pub log_level: LogLevel,
    pub log_format: LogFormat,
    /// Whose metric names `/metrics` shows besides our own.
    pub compat_names: Vec<CompatNames>,
}

impl Default for Telemetry {
    fn default() -> Telemetry {
        use CompatNames::{Otelcol, Seed, Tempo, Tempo2};
        Telemetry {
            log_level: LogLevel::Info,
            log_format: LogFormat::Logfmt,
            compat_names: vec![Tempo, Tempo2, Otelcol, Seed],
        }
    }
}

/// The least important lines that are still written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
}

impl LogLevel {
    pub fn filter(self) -> LevelFilter {
        match self {
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
        }
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Logfmt,
    Json,
}

/// A set of foreign metric names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CompatNames {
    /// Tempo 3.
    Tempo,
    /// Tempo 2, where it differs.
    Tempo2,
    /// The OpenTelemetry Collector.
    Otelcol,
    /// Names that only dashboards and alerts of the field have.
    Seed,
}

impl CompatNames {
    /// The name of the set, as the config and the alias table have it.
    pub fn as_str(self) -> &'static str {
        match self {
            CompatNames::Tempo => "tempo",
            CompatNames::Tempo2 => "tempo2",
            CompatNames::Otelcol => "otelcol",
            CompatNames::Seed => "seed",
        }
    }
}

/// `[shutdown]`: how long a clean stop may take.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shutdown {
    /// For each step of a stop; what is not done by then is left to the log and done at the next start.
    #[serde(with = "units::duration")]
    pub grace: Duration,
}

impl Default for Shutdown {
    fn default() -> Shutdown {
        Shutdown { grace: Duration::from_secs(60) }
    }
}
