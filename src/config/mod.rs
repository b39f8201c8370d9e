//! The configuration: one file, `--set` over it, the environment in it.
//!
//! It is read and judged once, before anything starts. Layers get their own section by value, never
//! the whole [`Config`].

mod budget;
mod overlay;
mod sections;
mod units;
mod validate;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use toml::{Table, Value};

pub use budget::Budget;
pub use sections::{
    BackendKind, Block, BlockVersion, CompatNames, Listen, Live, LogFormat, LogLevel, Memory,
    MemoryLimit, Otlp, Query, Receive, Retention, S3, Shutdown, Storage, SyncMode, Telemetry,
    Tenancy, Wal,
};
pub use units::{ByteSize, Secret, UnitError, parse_duration, show_duration};

/// Read where no `--config` is given, if it is there.
const DEFAULT_FILE: &str = "tempo.toml";

/// All there is to configure.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub receive: Receive,
    pub query: Query,
    pub storage: Storage,
    pub wal: Wal,
    pub memory: Memory,
    pub live: Live,
    pub block: Block,
    pub retention: Retention,
    pub tenancy: Tenancy,
    pub telemetry: Telemetry,
    pub shutdown: Shutdown,
}

/// One thing that is wrong with a config, and the way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The full key, or what stands in its place.
    pub key: String,
    pub problem: String,
}

impl Fault {
    fn new(key: impl Into<String>, problem: impl Into<String>) -> Fault {
        Fault { key: key.into(), problem: problem.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.problem)
    }
}

/// A config that nothing can start with.
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("config {}: cannot be read", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("config {}: {problem}", path.display())]
    Syntax { path: PathBuf, problem: String },
    /// All faults, one per line.
    #[error("{}", lines(.0))]
    Faults(Vec<Fault>),
}

fn lines(faults: &[Fault]) -> String {
    let lines: Vec<String> = faults.iter().map(|fault| format!("config: {fault}")).collect();
    lines.join("\n")
}

/// Loads `file`, or else `tempo.toml` if there is one, with `set` (`section.key=value`) over it.
pub fn load(file: Option<&Path>, set: &[String]) -> Result<Config, ConfigError> {
    let path = file.unwrap_or(Path::new(DEFAULT_FILE));
    let written = match fs::read_to_string(path) {
        Ok(text) => parse(path, &text)?,
        Err(error) if file.is_none() && error.kind() == io::ErrorKind::NotFound => Table::new(),
        Err(source) => return Err(ConfigError::Read { path: path.to_owned(), source }),
    };
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    let env = |name: &str| std::env::var(name).ok();
    assemble(written, set, &env)
}

fn parse(path: &Path, text: &str) -> Result<Table, ConfigError> {
    let syntax = |problem: String| ConfigError::Syntax { path: path.to_owned(), problem };
    if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
        return Err(syntax(YAML.to_owned()));
    }
    match toml::from_str(text) {
        Ok(table) => Ok(table),
        Err(_) if looks_like_yaml(text) => Err(syntax(YAML.to_owned())),
        Err(error) => {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            Err(syntax(format!("line {line} is not TOML: {}", error.message().trim())))
        }
    }
}

const YAML: &str = "is YAML, and this version understands TOML only: write what you changed of \
                    Tempo's settings in TOML, with the keys of metronome's tempo.toml";

/// The first line that says something is a key with a colon, or a document's start.
fn looks_like_yaml(text: &str) -> bool {
    let mut lines =
        text.lines().map(str::trim_end).filter(|l| !l.is_empty() && !l.starts_with('#'));
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    lines.next().is_some_and(|line| match line.split_once(':') {
        Some((key, value)) => {
            key.chars().all(is_name) && (value.is_empty() || value.starts_with(' '))
        }
        None => line == "---",
    })
}

/// Puts the parts together and checks the whole.
fn assemble(
    mut written: Table,
    set: &[String],
    env: overlay::Env<'_>,
) -> Result<Config, ConfigError> {
    let mut faults = Vec::new();
    for assignment in set {
        overlay::assign(&mut written, assignment, &mut faults);
    }
    let config = overlay::apply(&written, env, &mut faults);
    faults.extend(config.validate());
    if faults.is_empty() { Ok(config) } else { Err(ConfigError::Faults(faults)) }
}

impl Config {
    /// Everything about these values that would not work; empty if they do.
    pub fn validate(&self) -> Vec<Fault> {
        validate::faults(self)
    }

    /// The whole config as TOML, secrets masked.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("every section is a table of plain values")
    }

    /// Only what is not as the defaults have it.
    pub fn to_toml_changes(&self) -> String {
        let own = Table::try_from(self).expect("every section is a table of plain values");
        toml::to_string(&changes(own, &overlay::known_keys())).expect("a part of a valid table")
    }
}

fn changes(own: Table, default: &Table) -> Table {
    let mut changed = Table::new();
    for (key, value) in own {
        match (value, default.get(&key)) {
            (value, Some(default)) if value == *default => {}
            (Value::Table(own), Some(Value::Table(default))) => {
                changed.insert(key, Value::Table(changes(own, default)));
            }
            (value, _) => {
                changed.insert(key, value);
            }
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: &str = include_str!("../../tempo.toml");

    #[test]
    fn the_file_at_the_root_is_the_defaults() {
        let written: Table = toml::from_str(DEFAULTS).unwrap();
        assert_eq!(keys(&written), keys(&overlay::known_keys()));
        assert_eq!(assemble(written, &[], &|_| None).unwrap(), Config::default());
    }

    fn keys(table: &Table) -> Vec<String> {
        let mut keys = Vec::new();
        for (key, value) in table {
            match value {
                Value::Table(inner) => keys.extend(keys_below(key, inner)),
                _ => keys.push(key.clone()),
            }
        }
        keys.sort();
        keys
    }

    fn keys_below(above: &str, table: &Table) -> Vec<String> {
        keys(table).into_iter().map(|key| format!("{above}.{key}")).collect()
    }

    #[test]
    fn the_effective_config_reads_back_with_secrets_masked() {
        let mut config = Config::default();
        config.storage.s3.secret_key = Secret::new("open sesame");
        let shown = config.to_toml();
        assert!(!shown.contains("sesame"), "{shown}");
        config.storage.s3.secret_key = Secret::new("***");
        assert_eq!(assemble(toml::from_str(&shown).unwrap(), &[], &|_| None).unwrap(), config);
    }

    #[test]
    fn a_file_that_is_no_toml_says_so() {
        let cases = [
            ("a.toml", "[wal]\nsync = \"off\"\n", ""),
            ("a.toml", "", ""),
            ("a.toml", "# text: y\nwal: 3", "config a.toml: is YAML,"),
            ("a.toml", "---\nserver:", "config a.toml: is YAML,"),
            ("a.toml", "server:\n  http_listen_port: 3200\n", "config a.toml: is YAML,"),
            ("a.yaml", "x = 1", "config a.yaml: is YAML,"),
            ("a.yml", "", "config a.yml: is YAML,"),
            (
                "a.toml",
                "[wal]\nsync = \"always\"\nsync = \"off\"",
                "config a.toml: line 3 is not TOML: duplicate key",
            ),
            ("a.toml", "\n[wal\n", "config a.toml: line 2 is not TOML: "),
        ];
        for (path, text, start) in cases {
            let problem = parse(Path::new(path), text).err().map(|error| error.to_string());
            let problem = problem.unwrap_or_default();
            let expected = problem.starts_with(start) && problem.is_empty() == start.is_empty();
            assert!(expected, "{path} {text:?}: {problem}");
        }
    }

    #[test]
    fn a_named_file_must_be_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("own.toml");
        assert!(matches!(load(Some(&path), &[]), Err(ConfigError::Read { .. })));
        fs::write(&path, "wal.sync = \"off\"").unwrap();
        assert_eq!(load(Some(&path), &[]).unwrap().wal.sync, SyncMode::Off);
        let set = ["wal.sync=interval".to_owned()];
        assert_eq!(load(Some(&path), &set).unwrap().wal.sync, SyncMode::Interval);
    }
}
