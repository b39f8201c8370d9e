//! Bad input is refused for itself alone: each fault has its answer, nothing else is disturbed, memory stays bounded.

use std::io::Write;

use metronome::otlp::wire;
use tempfile::tempdir;

use crate::appliance::{Appliance, now_nanos, one_span};

const PROTOBUF: (&str, &str) = ("Content-Type", "application/x-protobuf");

fn request(spans: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    wire::put_message(&mut out, 1, |out| {
        wire::put_message(out, 2, |out| {
            spans.iter().for_each(|span| wire::put_bytes_field(out, 2, span));
        });
    });
    out
}

fn span(trace: &[u8], id: &[u8], name: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    wire::put_bytes_field(&mut out, 1, trace);
    wire::put_bytes_field(&mut out, 2, id);
    wire::put_bytes_field(&mut out, 5, name);
    let now = u64::try_from(now_nanos()).unwrap();
    wire::put_fixed64_field(&mut out, 7, now);
    wire::put_fixed64_field(&mut out, 8, now + 1);
    out
}

/// A span with a value in a value in a value …
fn deep_span(depth: usize) -> Vec<u8> {
    // From the inside out; lengths are written behind, so the bytes are made backwards.
    let mut reversed: Vec<u8> = Vec::new();
    let wrap = |reversed: &mut Vec<u8>, tag: u8| {
        let mut head = vec![tag];
        wire::put_varint(&mut head, reversed.len() as u64);
        reversed.extend(head.iter().rev());
    };
    for _ in 0..depth {
        wrap(&mut reversed, 0x0a);
        wrap(&mut reversed, 0x2a);
    }
    let value: Vec<u8> = reversed.into_iter().rev().collect();
    let mut out = span(&[7; 16], &[7; 8], b"deep");
    wire::put_message(&mut out, 9, |out| {
        wire::put_bytes_field(out, 1, b"deep");
        wire::put_bytes_field(out, 2, &value);
    });
    out
}

fn gzip(bytes: usize) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let zeros = vec![0; 1 << 20];
    (0..bytes >> 20).for_each(|_| packed.write_all(&zeros).unwrap());
    packed.finish().unwrap()
}

#[test]
fn each_fault_has_its_answer_and_harms_nobody() {
    let directory = tempdir().unwrap();
    let server = Appliance::start(&directory, &[]);
    let good = request(&[span(&[1; 16], &[1; 8], b"good")]);
    let cut = &good[..good.len() - 3];
    let gzipped = |body: &[u8]| server.send(&[PROTOBUF, ("Content-Encoding", "gzip")], body);
    let cases = [
        ("truncated protobuf", server.send(&[PROTOBUF], cut), 400),
        ("wrong gzip", gzipped(b"\x1f\x8bnot gzip at all"), 400),
        ("gzip bomb", gzipped(&gzip(1 << 30)), 413),
        ("64 MiB", server.send(&[PROTOBUF], &vec![0; 64 << 20]), 413),
        ("JSON that ends early", server.send_json(r#"{"resourceSpans":["#), 400),
        ("unknown type", server.send(&[("Content-Type", "text/plain")], b"x"), 415),
        ("unknown encoding", server.send(&[PROTOBUF, ("Content-Encoding", "br")], b"x"), 415),
        ("GET", server.ask("otlp_http", "GET", "/v1/traces", &[], b""), 405),
        ("wrong path", server.ask("otlp_http", "POST", "/", &[PROTOBUF], b""), 404),
        ("zero trace id", server.send(&[PROTOBUF], &request(&[span(&[0; 16], &[1; 8], b"x")])), 400),
        ("no span id", server.send(&[PROTOBUF], &request(&[span(&[1; 16], b"", b"x")])), 400),
        ("metrics", server.ask("otlp_http", "POST", "/v1/metrics", &[PROTOBUF], b""), 200),
        ("20,000 values deep", server.send(&[PROTOBUF], &request(&[deep_span(10_000)])), 200),
        ("not UTF-8", server.send(&[PROTOBUF], &request(&[span(&[2; 16], &[2; 8], b"a\xffb")])), 200),
        ("64-bit trace id", server.send(&[PROTOBUF], &request(&[span(&[3; 8], &[3; 8], b"short")])), 200),
        (
            "one bad of three",
            server.send_json(&one_span("00000000000000000000000000000000", "x", "x").replace(
                r#""spans":["#,
                r#""spans":[{"traceId":"04040404040404040404040404040404","spanId":"0404040404040404","name":"kept"},"#,
            )),
            200,
        ),
    ];
    for (what, answer, status) in &cases {
        assert_eq!(answer.status, *status, "{what}: {}", answer.text());
        assert!(*status == 200 || !answer.body.is_empty(), "{what} is not explained");
    }
    let partial = cases.last().unwrap().1.json();
    assert_eq!(partial["partialSuccess"]["rejectedSpans"], "1");
    let found = |id: &str| server.get(&format!("/api/traces/{id}")).text();
    assert!(found("02020202020202020202020202020202").contains("a\u{fffd}b"));
    assert!(found("00000000000000000303030303030303").contains("short"));
    assert!(found("04040404040404040404040404040404").contains("kept"));
    assert!(
        found("07070707070707070707070707070707").contains("<too deep>")
            || found("07070707070707070707070707070707").contains("too deep")
    );
    assert_eq!(server.send(&[PROTOBUF], &good).status, 200);
    assert!(found("01010101010101010101010101010101").contains("good"));
    assert!(server.peak_memory() < 256 << 20, "{} MiB", server.peak_memory() >> 20);
}

#[test]
fn half_a_request_holds_up_nobody() {
    let directory = tempdir().unwrap();
    let server = Appliance::start(&directory, &[]);
    let slow: Vec<std::net::TcpStream> = (0..50)
        .map(|_| {
            let mut stream = std::net::TcpStream::connect(("127.0.0.1", server.port("otlp_http"))).unwrap();
            let head = "POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: 1000\r\n\r\nab";
            stream.write_all(head.as_bytes()).unwrap();
            stream
        })
        .collect();
    let answer = server.send_json(&one_span("0af7651916cd43dd8448eb211c80319c", "shop", "a"));
    assert_eq!(answer.status, 200);
    assert_eq!(slow.len(), 50);
}
