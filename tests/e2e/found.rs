//! What was acknowledged is found at once, and again when it is in a block.

use std::process::Command;

use tempfile::tempdir;

use crate::appliance::{Appliance, one_span};

const ID: &str = "0af7651916cd43dd8448eb211c80319c";

/// Every way to find the span of [`one_span`].
fn check_found(server: &Appliance) {
    let v2 = server.get_json(&format!("/api/v2/traces/{ID}"));
    let resource = &v2["trace"]["resourceSpans"][0];
    let span = &resource["scopeSpans"][0]["spans"][0];
    assert_eq!(span["name"], "GET /cart");
    assert_eq!(span["kind"], "SPAN_KIND_SERVER");
    assert_eq!(span["traceId"], "CvdlGRbNQ92ESOshHIAxnA==");
    assert_eq!(span["status"], serde_json::json!({"message": "no", "code": "STATUS_CODE_ERROR"}));
    assert_eq!(span["events"][0]["attributes"][0]["value"]["stringValue"], "Oops");
    assert_eq!(span["attributes"].as_array().unwrap().len(), 3);
    assert_eq!(resource["resource"]["attributes"][0]["value"]["stringValue"], "shop");
    let v1 = server.get_json(&format!("/api/traces/{ID}"));
    assert_eq!(v1["batches"], v2["trace"]["resourceSpans"]);
    for q in [
        r#"{ resource.service.name = "shop" }"#,
        r#"{ name = "GET /cart" && status = error && kind = server }"#,
        r#"{ span.retries > 2 && .http.route =~ "/c.*" }"#,
        r#"{ span.items = "b" && duration >= 250ms }"#,
        r#"{ event.exception.type = "Oops" && instrumentation:name = "lib" }"#,
        "{ nestedSetParent < 0 } | count() = 1",
        "{}",
    ] {
        let found = server.search(q);
        let traces = found["traces"].as_array().unwrap();
        assert_eq!(traces.len(), 1, "{q}");
        assert_eq!(traces[0]["traceID"], "af7651916cd43dd8448eb211c80319c");
        assert_eq!(traces[0]["rootServiceName"], "shop");
        assert_eq!(traces[0]["durationMs"], 250);
        assert_eq!(traces[0]["spanSets"][0]["matched"], 1, "{q}");
        assert_eq!(traces[0]["spanSet"], traces[0]["spanSets"][0]);
        assert_eq!(traces[0]["serviceStats"]["shop"]["errorCount"], 1);
    }
    let nothing = server.search(r#"{ span.retries = 4 || .nowhere = "x" }"#);
    assert_eq!(nothing["traces"], serde_json::json!([]));
    let tags = |query: &str| {
        server.get_json(&format!("/api/search?{query}"))["traces"].as_array().unwrap().len()
    };
    assert_eq!(tags("tags=service.name%3Dshop&minDuration=200ms"), 1);
    assert_eq!(tags("tags=service.name%3Dshop&minDuration=300ms"), 0);
    let names = server.get_json("/api/v2/search/tags?scope=span");
    assert_eq!(names["scopes"][0]["tags"], serde_json::json!(["http.route", "items", "retries"]));
    let values = server.get_json("/api/v2/search/tag/span.retries/values");
    assert_eq!(values["tagValues"], serde_json::json!([{"type": "int", "value": "3"}]));
    let values = server.get_json("/api/search/tag/service.name/values");
    assert_eq!(values["tagValues"], serde_json::json!(["shop"]));
}

#[test]
fn a_span_is_found_live_in_a_block_and_after_a_restart() {
    let directory = tempdir().unwrap();
    let quick = ["block.max_duration=1s", "live.trace_idle=50ms"];
    let server = Appliance::start(&directory, &["block.max_duration=1h"]);
    let answer = server.send_json(&one_span(ID, "shop", "GET /cart"));
    assert_eq!((answer.status, answer.text().as_str()), (200, r#"{"partialSuccess":{}}"#));
    check_found(&server);
    server.kill();
    let server = Appliance::start(&directory, &quick);
    server.until("a block", |server| server.metric("metronome_store_blocks_flushed_total") >= 1.0);
    check_found(&server);
    assert_eq!(server.stop().0, Some(0));
    check_found(&Appliance::start(&directory, &quick));
}

#[test]
fn answers_come_in_the_forms_that_grafana_asks_for() {
    let directory = tempdir().unwrap();
    let server = Appliance::start(&directory, &[]);
    server.send_json(&one_span(ID, "shop", "GET /cart"));
    let ask =
        |path: &str, accept| server.ask("query_http", "GET", path, &[("Accept", accept)], b"");
    let found = ask(&format!("/api/traces/{ID}"), "application/protobuf");
    assert!(found.head.to_lowercase().contains("content-type: application/protobuf"));
    assert_eq!(found.body.first(), Some(&0x0a));
    let missing = ask("/api/v2/traces/beef", "application/protobuf");
    assert_eq!(missing.body, [0x0a, 0, 0x12, 0]);
    let missing = server.get("/api/traces/beef");
    assert_eq!((missing.status, missing.body.len()), (404, 0));
    assert_eq!(
        server.get_json("/api/v2/traces/beef"),
        serde_json::json!({"trace": {}, "metrics": {}})
    );
    assert_eq!(server.get("/api/traces/xyz").status, 400);
    assert_eq!(server.get("/api/search?q=%7B%20foo%20%7D").status, 400);
    assert_eq!(server.get("/nowhere").status, 404);
    assert_eq!(server.get("/api/echo").text(), "echo\n");
    assert_eq!(server.get("/ready").text(), "ready\n");
    assert_eq!(server.get("/livez").status, 200);
    assert!(server.get_json("/api/status/buildinfo")["version"].as_str().unwrap() >= "2.7.0");
    let metrics = server.get("/metrics").text();
    for name in [
        "metronome_ingest_spans_total",
        "tempo_distributor_spans_received_total",
        "process_resident_memory_bytes",
    ] {
        assert!(metrics.contains(name), "{name}");
    }
}

#[test]
fn the_python_sdk_needs_only_the_endpoint() {
    let Ok(python) = std::env::var("METRONOME_PYTHON") else {
        eprintln!(
            "skipped: METRONOME_PYTHON names no Python with the OpenTelemetry SDK; scripts/test sets it"
        );
        return;
    };
    let directory = tempdir().unwrap();
    let server = Appliance::start(&directory, &[]);
    for (protocol, part) in
        [("grpc", "otlp_grpc"), ("http/protobuf", "otlp_http"), ("grpc", "otlp_http")]
    {
        let output = Command::new(&python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sdk/python_sdk.py"))
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{}", server.port(part)))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        let sent: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        let id =
            ["trace_id", "traceId", "trace"].iter().find_map(|key| sent[key].as_str()).unwrap();
        let found = server.get_json(&format!("/api/v2/traces/{id}"));
        assert!(!found["trace"]["resourceSpans"].as_array().unwrap().is_empty(), "{protocol}");
    }
}
