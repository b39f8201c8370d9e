//! The command line: its arguments, its exit codes, and the health check for images without a
//! shell.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use thiserror::Error;

use crate::load;

/// A tracing store in one process: OTLP in, Tempo's blocks on disk, Tempo's query API out.
#[derive(Debug, Parser)]
#[command(name = "metronome", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// The config file; without it, tempo.toml in the current directory, if there is one.
    #[arg(long, visible_alias = "config.file", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Sets one key, over what the file says; may be given many times.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,

    /// Checks the configuration and ends.
    #[arg(long = "config.verify")]
    pub verify: bool,

    /// Asks a running metronome whether it is ready, and ends.
    #[arg(long)]
    pub health: bool,

    /// Whom --health asks.
    #[arg(long = "health.url", value_name = "URL", default_value = DEFAULT_HEALTH_URL)]
    pub health_url: String,

    #[command(subcommand)]
    pub command: Option<Command>,
}

const DEFAULT_HEALTH_URL: &str = "http://localhost:3200/ready";

/// What else the program can do besides serving.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Sends realistic traces to a running metronome, and reads them back.
    Load(load::Options),
}

/// What the process ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Clean,
    /// The start, or what was asked for, failed.
    Failed,
    /// An argument or the config is wrong: `EX_USAGE` of sysexits.h.
    Usage,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Clean => 0,
            Exit::Failed => 1,
            Exit::Usage => 64,
        })
    }
}

/// Reads the arguments, the program's name first. Help and faults are printed here; then the
/// process ends with the code.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, Exit> {
    Cli::try_parse_from(args.into_iter().map(go_flag)).map_err(|error| {
        // Help goes to standard output, faults to standard error; a closed one leaves nothing to
        // do.
        drop(error.print());
        if error.use_stderr() { Exit::Usage } else { Exit::Clean }
    })
}

/// `-config.file=x` is `--config.file=x`, as in Tempo, whose flags may begin with one dash.
fn go_flag(arg: OsString) -> OsString {
    match arg.to_str() {
        Some(text) if ["-config", "-health"].iter().any(|flag| text.starts_with(flag)) => {
            OsString::from(format!("-{text}"))
        }
        _ => arg,
    }
}

/// Why a health check says no.
#[derive(Debug, Error)]
pub enum HealthError {
    #[error("{0} is not a URL that can be asked; write http://host:port/ready")]
    Url(String),
    #[error("{url} does not answer")]
    Unreachable {
        url: String,
        #[source]
        source: io::Error,
    },
    #[error("{url} is not ready: {answer}")]
    NotReady { url: String, answer: String },
}

/// The whole check takes no longer than this for each step: connect, send, receive.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

/// A status line is shorter; more is no answer of ours.
const MAX_STATUS_LINE: u64 = 1024;

/// Asks `url` once, over plain HTTP/1.1, and succeeds if it answers 200.
pub fn check_health(url: &str) -> Result<(), HealthError> {
    let (host, path) = split_url(url).ok_or_else(|| HealthError::Url(url.to_owned()))?;
    let status = ask(&host, &path)
        .map_err(|source| HealthError::Unreachable { url: url.to_owned(), source })?;
    match status.split(' ').nth(1) {
        Some("200") => Ok(()),
        _ => Err(HealthError::NotReady { url: url.to_owned(), answer: status }),
    }
}

/// `host:port` and the path.
fn split_url(url: &str) -> Option<(String, String)> {
    let rest = url.strip_prefix("http://")?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let plain = |c: char| c.is_ascii_graphic();
    if host.is_empty() || !host.chars().chain(path.chars()).all(plain) {
        return None;
    }
    let host = if has_port { host.to_owned() } else { format!("{host}:80") };
    Some((host, if path.is_empty() { "/".to_owned() } else { path.to_owned() }))
}

/// The status line of the answer.
fn ask(host: &str, path: &str) -> io::Result<String> {
    let mut stream = connect(host)?;
    stream.set_read_timeout(Some(HEALTH_TIMEOUT))?;
    stream.set_write_timeout(Some(HEALTH_TIMEOUT))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut status = String::new();
    BufReader::new(io::Read::take(stream, MAX_STATUS_LINE)).read_line(&mut status)?;
    Ok(status.trim_end().to_owned())
}

/// Tries every address of the host, since `localhost` has two.
fn connect(host: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in host.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, HEALTH_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    fn parsed(args: &[&str]) -> Result<Cli, Exit> {
        parse(["metronome"].iter().chain(args).map(OsString::from))
    }

    #[test]
    fn the_config_file_has_three_spellings() {
        let spellings: &[&[&str]] = &[
            &["--config", "a.toml"],
            &["--config=a.toml"],
            &["--config.file=a.toml"],
            &["--config.file", "a.toml"],
            &["-config.file=a.toml"],
        ];
        for args in spellings {
            assert_eq!(parsed(args).unwrap().config, Some(PathBuf::from("a.toml")), "{args:?}");
        }
    }

    #[test]
    fn arguments_are_read() {
        let cli = parsed(&["--set", "wal.sync=off", "--set=a.b=c=d", "--config.verify"]).unwrap();
        assert_eq!(cli.set, ["wal.sync=off", "a.b=c=d"]);
        assert!(cli.verify && !cli.health && cli.command.is_none());
        let cli = parsed(&["-health", "--health.url=http://a:1/x"]).unwrap();
        assert!(cli.health);
        assert_eq!(cli.health_url, "http://a:1/x");
        assert!(matches!(parsed(&["load"]).unwrap().command, Some(Command::Load(_))));
    }

    #[test]
    fn what_cannot_be_read_is_a_usage_error() {
        let cases: &[(&[&str], Exit)] = &[
            (&["--confg", "a"], Exit::Usage),
            (&["serve"], Exit::Usage),
            (&["--config"], Exit::Usage),
            (&["--config", "a.toml", "load"], Exit::Usage),
            (&["--help"], Exit::Clean),
            (&["--version"], Exit::Clean),
        ];
        for (args, exit) in cases {
            assert_eq!(parsed(args).err(), Some(*exit), "{args:?}");
        }
    }

    #[test]
    fn urls_are_split() {
        let cases = [
            ("http://localhost:3200/ready", Some(("localhost:3200", "/ready"))),
            ("http://[::1]:3200", Some(("[::1]:3200", "/"))),
            ("http://host/a?b", Some(("host:80", "/a?b"))),
            ("https://host:1/", None),
            ("host:1", None),
            ("http:///ready", None),
            ("http://host:1/a b", None),
            ("http://host:1/a\r\nX: y", None),
        ];
        for (url, expected) in cases {
            let split = split_url(url);
            let split = split.as_ref().map(|(host, path)| (host.as_str(), path.as_str()));
            assert_eq!(split, expected, "{url:?}");
        }
    }

    #[test]
    fn health_is_what_the_server_says() {
        let cases = [
            ("HTTP/1.1 200 OK\r\n\r\nready\n", ""),
            (
                "HTTP/1.1 503 Service Unavailable\r\n\r\n",
                "is not ready: HTTP/1.1 503 Service Unavailable",
            ),
            ("", "is not ready: "),
        ];
        for (answer, problem) in cases {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}/ready", listener.local_addr().unwrap());
            let server = thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 512];
                let len = stream.read(&mut request).unwrap();
                assert!(request[..len].starts_with(b"GET /ready HTTP/1.1\r\nHost: 127.0.0.1:"));
                stream.write_all(answer.as_bytes()).unwrap();
            });
            let error = check_health(&url).err().map(|error| error.to_string()).unwrap_or_default();
            assert_eq!(error.strip_prefix(&format!("{url} ")).unwrap_or_default(), problem);
            server.join().unwrap();
            assert!(matches!(check_health(&url), Err(HealthError::Unreachable { .. })));
        }
    }
}
