//! The real binary, started on free ports and a directory of its own, and a small HTTP client for it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_metronome");
/// Nothing here takes as long; a test that waits for ever says nothing.
const DEADLINE: Duration = Duration::from_secs(30);

pub struct Appliance {
    child: Child,
    ports: Vec<(String, u16)>,
    log: mpsc::Receiver<String>,
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

pub fn command(path: &Path, settings: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    let own = [
        format!("storage.path={}", path.display()),
        "memory.limit=256MiB".to_owned(),
        "wal.min_free=1MiB".to_owned(),
        "receive.otlp_grpc.listen=127.0.0.1:0".to_owned(),
        "receive.otlp_http.listen=127.0.0.1:0".to_owned(),
        "query.http.listen=127.0.0.1:0".to_owned(),
        "query.grpc.listen=127.0.0.1:0".to_owned(),
    ];
    for setting in own.iter().map(String::as_str).chain(settings.iter().copied()) {
        command.args(["--set", setting]);
    }
    command.current_dir(std::env::temp_dir()).stderr(Stdio::piped()).stdout(Stdio::null());
    command
}

impl Appliance {
    /// Starts on a directory, and waits until queries are answered.
    pub fn start(directory: &TempDir, settings: &[&str]) -> Appliance {
        let mut child = command(&directory.path().join("data"), settings).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (told, log) = mpsc::channel();
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| drop(told.send(line)))
        });
        let mut appliance = Appliance { child, ports: Vec::new(), log };
        let deadline = Instant::now() + DEADLINE;
        loop {
            let line =
                appliance.log.recv_timeout(deadline.saturating_duration_since(Instant::now()));
            let line = line.expect("the start log ends with ready");
            let field = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name));
            if let (Some(part), Some(address)) = (field("part="), field("addr=")) {
                let port = address.rsplit(':').next().unwrap().parse().unwrap();
                appliance.ports.push((part.to_owned(), port));
            }
            if line.ends_with("msg=ready") {
                return appliance;
            }
        }
    }

    pub fn port(&self, part: &str) -> u16 {
        self.ports.iter().find(|(of, _)| of == part).unwrap().1
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("query_http", "GET", path, &[], b"")
    }

    pub fn get_json(&self, path: &str) -> serde_json::Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    pub fn search(&self, q: &str) -> serde_json::Value {
        self.get_json(&format!("/api/search?q={}", escaped(q)))
    }

    pub fn send_json(&self, json: &str) -> Answer {
        self.send(&[("Content-Type", "application/json")], json.as_bytes())
    }

    pub fn send(&self, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.ask("otlp_http", "POST", "/v1/traces", headers, body)
    }

    pub fn ask(
        &self,
        part: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port(part))).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("Content-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).unwrap();
        // A refusal may come before the body is read: then writing on fails, and the answer is there.
        drop(stream.write_all(body));
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer));
        let end = answer
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .expect("an answer has a head");
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut body = answer.split_off(end + 4);
        if head.to_lowercase().contains("transfer-encoding: chunked") {
            body = unchunked(&body);
        }
        Answer { status, head, body }
    }

    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").text();
        let lines = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// Waits until something holds.
    pub fn until(&self, what: &str, holds: impl Fn(&Appliance) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !holds(self) {
            assert!(Instant::now() < deadline, "{what} did not come true");
            std::thread::yield_now();
        }
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Stops by SIGTERM: the exit code and the rest of the log.
    pub fn stop(mut self) -> (Option<i32>, Vec<String>) {
        let killed = Command::new("kill").arg(self.pid().to_string()).status().unwrap();
        assert!(killed.success());
        let code = self.child.wait().unwrap().code();
        (code, self.log.try_iter().collect())
    }

    /// The most memory that the process ever had, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        // It has ended already in most tests.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let len = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        out.extend_from_slice(&rest[end + 2..end + 2 + len]);
        rest = &rest[end + 4 + len..];
        if len == 0 {
            break;
        }
    }
    out
}

pub fn escaped(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
            char::from(byte).to_string()
        }
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

pub fn now_nanos() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()
}

/// A request with one span, as the JSON of an SDK.
pub fn one_span(trace: &str, service: &str, name: &str) -> String {
    let start = now_nanos() - 1_000_000_000;
    let end = start + 250_000_000;
    format!(
        r#"{{"resourceSpans":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"{service}"}}}}]}},
        "scopeSpans":[{{"scope":{{"name":"lib"}},"spans":[{{"traceId":"{trace}","spanId":"00f067aa0ba902b7","name":"{name}","kind":2,
        "startTimeUnixNano":"{start}","endTimeUnixNano":"{end}","status":{{"code":2,"message":"no"}},
        "attributes":[{{"key":"http.route","value":{{"stringValue":"/cart"}}}},{{"key":"retries","value":{{"intValue":"3"}}}},
        {{"key":"items","value":{{"arrayValue":{{"values":[{{"stringValue":"a"}},{{"stringValue":"b"}}]}}}}}}],
        "events":[{{"timeUnixNano":"{end}","name":"exception","attributes":[{{"key":"exception.type","value":{{"stringValue":"Oops"}}}}]}}]}}]}}]}}]}}"#
    )
}
