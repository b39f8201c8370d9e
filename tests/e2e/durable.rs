//! What was acknowledged outlives a kill; a clean stop leaves nothing to do.

use std::process::Command;

use tempfile::tempdir;

use crate::appliance::{Appliance, one_span};

fn load(server: &Appliance, args: &[&str]) -> std::process::Output {
    let endpoint = format!("http://127.0.0.1:{}", server.port("otlp_grpc"));
    let query = format!("http://127.0.0.1:{}", server.port("query_http"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_metronome"));
    command.args(["load", "--endpoint", &endpoint, "--query", &query]).args(args);
    command.output().unwrap()
}

fn check(output: &std::process::Output) {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn acknowledged_spans_outlive_kills() {
    let directory = tempdir().unwrap();
    let acks = directory.path().join("acks").display().to_string();
    let mut server = Appliance::start(&directory, &["block.max_bytes=4MiB"]);
    for _ in 0..3 {
        check(&load(&server, &["--traces", "1500", "--ack-file", &acks]));
        server.kill();
        server = Appliance::start(&directory, &["block.max_bytes=4MiB"]);
        check(&load(&server, &["--verify-only", "--ack-file", &acks]));
    }
}

#[test]
fn both_ports_speak_both_protocols() {
    let directory = tempdir().unwrap();
    let server = Appliance::start(&directory, &[]);
    let http = format!("http://127.0.0.1:{}", server.port("otlp_http"));
    let grpc = format!("http://127.0.0.1:{}", server.port("otlp_grpc"));
    for (endpoint, protocol, compression) in [
        (&http, "grpc", "gzip"),
        (&grpc, "http", "none"),
        (&http, "http", "zstd"),
        (&grpc, "grpc", "zstd"),
    ] {
        let query = format!("http://127.0.0.1:{}", server.port("query_http"));
        let output = Command::new(env!("CARGO_BIN_EXE_metronome"))
            .args(["load", "--endpoint", endpoint, "--query", &query, "--protocol", protocol])
            .args(["--compression", compression, "--traces", "100", "--verify"])
            .output()
            .unwrap();
        check(&output);
    }
}

#[test]
fn a_clean_stop_leaves_nothing_to_replay() {
    let directory = tempdir().unwrap();
    let server = Appliance::start(&directory, &[]);
    let id = "0af7651916cd43dd8448eb211c80319c";
    assert_eq!(server.send_json(&one_span(id, "shop", "a")).status, 200);
    assert_eq!(server.stop().0, Some(0));
    let server = Appliance::start(&directory, &[]);
    assert_eq!(server.search("{}")["traces"].as_array().unwrap().len(), 1);
    assert_eq!(server.metric("metronome_wal_replayed_traces_total"), 0.0);
    let blocks =
        std::fs::read_dir(directory.path().join("data/blocks/single-tenant")).unwrap().count();
    assert_eq!(blocks, 1);
    let (code, log) = server.stop();
    assert_eq!(code, Some(0));
    assert!(log.iter().all(|line| !line.contains("level=error")), "{log:?}");
}

#[test]
fn a_retry_is_counted_once() {
    let directory = tempdir().unwrap();
    let server = Appliance::start(&directory, &[]);
    let request = one_span("0af7651916cd43dd8448eb211c80319c", "shop", "a");
    for _ in 0..3 {
        assert_eq!(server.send_json(&request).status, 200);
    }
    let found = server.search("{}");
    assert_eq!(found["traces"][0]["spanSets"][0]["matched"], 1);
}
