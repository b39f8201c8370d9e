//! What may not stand in a config though each value by itself is well-formed.

use std::net::SocketAddr;

use crate::config::{BackendKind, ByteSize, Config, Fault, MemoryLimit, S3, show_duration};

/// Below this the storage engine alone would not fit its share.
const MIN_MEMORY: ByteSize = ByteSize::mib(64);

/// A smaller block costs more in files and requests than it saves.
const MIN_BLOCK: ByteSize = ByteSize::mib(1);

/// All of it, so that one look is enough.
pub(super) fn faults(config: &Config) -> Vec<Fault> {
    let mut faults = Vec::new();
    check_listeners(config, &mut faults);
    check_requests(config, &mut faults);
    check_queries(config, &mut faults);
    check_storage(config, &mut faults);
    check_lifetimes(config, &mut faults);
    faults
}

fn check_listeners(config: &Config, faults: &mut Vec<Fault>) {
    let listeners = [
        ("receive.otlp_grpc.listen", config.receive.otlp_grpc.listen),
        ("receive.otlp_http.listen", config.receive.otlp_http.listen),
        ("query.http.listen", config.query.http.listen),
        ("query.grpc.listen", config.query.grpc.listen),
    ];
    let mut earlier: Vec<(&str, SocketAddr)> = Vec::new();
    for (key, address) in listeners {
        let Some(address) = address else { continue };
        let clash = earlier.iter().find(|(_, other)| clash(*other, address));
        if let Some((other, _)) = clash {
            faults.push(Fault::new(
                key,
                format!("{address} is taken by {other}; give it a port of its own"),
            ));
        }
        earlier.push((key, address));
    }
    if config.query.http.listen.is_none() {
        let problem = "cannot be off: health and status are served there";
        faults.push(Fault::new("query.http.listen", problem));
    }
}

fn check_requests(config: &Config, faults: &mut Vec<Fault>) {
    let requests = [
        ("receive.otlp_grpc.max_request", config.receive.otlp_grpc.max_request),
        ("receive.otlp_http.max_request", config.receive.otlp_http.max_request),
    ];
    for (key, max_request) in requests {
        if max_request < ByteSize::kib(1) || max_request > ByteSize::gib(1) {
            faults.push(Fault::new(key, format!("{max_request} is not between 1KiB and 1GiB")));
        }
    }
}

fn check_queries(config: &Config, faults: &mut Vec<Fault>) {
    let query = &config.query;
    let prefix = &query.http_api_prefix;
    if !prefix.is_empty() && (!prefix.starts_with('/') || prefix.ends_with('/')) {
        let problem = format!("{prefix:?} must begin with a slash and not end with one");
        faults.push(Fault::new("query.http_api_prefix", problem));
    }
    let limits = [
        ("query.default_limit", query.default_limit, query.max_limit, "query.max_limit"),
        (
            "query.default_spans_per_spanset",
            query.default_spans_per_spanset,
            query.max_spans_per_spanset,
            "query.max_spans_per_spanset",
        ),
    ];
    for (key, default, max, max_key) in limits {
        if default == 0 {
            faults.push(Fault::new(key, "must be at least 1"));
        } else if max != 0 && default > max {
            faults.push(Fault::new(key, format!("{default} is more than {max_key}, {max}")));
        }
    }
}

fn check_storage(config: &Config, faults: &mut Vec<Fault>) {
    if config.storage.path.as_os_str().is_empty() {
        faults.push(Fault::new("storage.path", "must name a directory"));
    }
    if config.storage.backend == BackendKind::S3 {
        let problem = "this version stores locally only; write backend = \"local\"";
        faults.push(Fault::new("storage.backend", problem));
        check_s3(&config.storage.s3, faults);
    }
    if let MemoryLimit::Bytes(limit) = config.memory.limit
        && limit < MIN_MEMORY
    {
        faults.push(Fault::new("memory.limit", format!("{limit} is less than {MIN_MEMORY}")));
    }
    if config.block.max_bytes < MIN_BLOCK {
        let problem = format!("{} is less than {MIN_BLOCK}", config.block.max_bytes);
        faults.push(Fault::new("block.max_bytes", problem));
    }
}

fn check_s3(s3: &S3, faults: &mut Vec<Fault>) {
    if s3.bucket.is_empty() {
        faults.push(Fault::new("storage.s3.bucket", "must name the bucket"));
    }
    let is_url = ["http://", "https://"].iter().any(|scheme| s3.endpoint.starts_with(scheme));
    if !s3.endpoint.is_empty() && !is_url {
        let problem = format!("{:?} must begin with http:// or https://", s3.endpoint);
        faults.push(Fault::new("storage.s3.endpoint", problem));
    }
    if s3.access_key.is_empty() != s3.secret_key.is_empty() {
        faults.push(Fault::new("storage.s3.secret_key", "goes with access_key: set both or none"));
    }
}

fn check_lifetimes(config: &Config, faults: &mut Vec<Fault>) {
    let positive = [
        ("query.timeout", config.query.timeout),
        ("wal.sync_interval", config.wal.sync_interval),
        ("live.trace_idle", config.live.trace_idle),
        ("live.max_trace_age", config.live.max_trace_age),
        ("block.max_duration", config.block.max_duration),
        ("shutdown.grace", config.shutdown.grace),
    ];
    for (key, duration) in positive {
        if duration.is_zero() {
            faults.push(Fault::new(key, "must be more than zero"));
        }
    }
    let ordered = [
        (
            "live.trace_idle",
            config.live.trace_idle,
            "live.max_trace_age",
            config.live.max_trace_age,
        ),
        (
            "block.max_duration",
            config.block.max_duration,
            "retention.period",
            config.retention.period,
        ),
    ];
    for (key, shorter, longer_key, longer) in ordered {
        if shorter > longer && !longer.is_zero() {
            let (shorter, longer) = (show_duration(shorter), show_duration(longer));
            let problem = format!("{shorter} is longer than {longer_key}, {longer}");
            faults.push(Fault::new(key, problem));
        }
    }
}

/// Whether two listeners want the same port of the same interface. Port 0 is a free port each.
fn clash(one: SocketAddr, two: SocketAddr) -> bool {
    let same_ip = one.ip() == two.ip() || one.ip().is_unspecified() || two.ip().is_unspecified();
    one.port() != 0 && one.port() == two.port() && same_ip
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use crate::config::assemble;

    fn check(file: &str, expected: Expect) {
        let answer = match assemble(toml::from_str(file).unwrap(), &[], &|_| None) {
            Ok(config) => config.to_toml_changes(),
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&answer);
    }

    #[test]
    fn values_that_do_not_work_are_all_named() {
        check(
            r#"
            [receive.otlp_grpc]
            listen = "127.0.0.1:3200"
            max_request = "2GiB"
            [receive.otlp_http]
            listen = "127.0.0.1:0"
            [query]
            http_api_prefix = "tempo/"
            default_limit = 30
            max_limit = 10
            default_spans_per_spanset = 0
            timeout = "0s"
            [storage]
            path = ""
            [memory]
            limit = "10MiB"
            [block]
            max_bytes = "1KiB"
            max_duration = "2d"
            [retention]
            period = "1d"
            [live]
            trace_idle = "1m"
            [wal]
            synk = "off"
            "#,
            expect![[r#"
                config: wal.synk: unknown key; did you mean wal.sync?
                config: query.http.listen: 0.0.0.0:3200 is taken by receive.otlp_grpc.listen; give it a port of its own
                config: receive.otlp_grpc.max_request: 2GiB is not between 1KiB and 1GiB
                config: query.http_api_prefix: "tempo/" must begin with a slash and not end with one
                config: query.default_limit: 30 is more than query.max_limit, 10
                config: query.default_spans_per_spanset: must be at least 1
                config: storage.path: must name a directory
                config: memory.limit: 10MiB is less than 64MiB
                config: block.max_bytes: 1KiB is less than 1MiB
                config: query.timeout: must be more than zero
                config: live.trace_idle: 1m is longer than live.max_trace_age, 30s
                config: block.max_duration: 2d is longer than retention.period, 1d"#]],
        );
    }

    #[test]
    fn a_bucket_is_checked_and_then_refused() {
        check(
            r#"
            [storage]
            backend = "s3"
            s3.endpoint = "minio:9000"
            s3.access_key = "me"
            "#,
            expect![[r#"
                config: storage.backend: this version stores locally only; write backend = "local"
                config: storage.s3.bucket: must name the bucket
                config: storage.s3.endpoint: "minio:9000" must begin with http:// or https://
                config: storage.s3.secret_key: goes with access_key: set both or none"#]],
        );
    }

    #[test]
    fn what_is_off_or_unlimited_is_no_fault() {
        check(
            r#"
            receive.otlp_grpc.listen = ""
            query.grpc.listen = ""
            query.max_limit = 0
            query.max_spans_per_spanset = 0
            retention.period = "0s"
            receive.otlp_http.listen = "127.0.0.2:3200"
            query.http.listen = "127.0.0.1:3200"
            "#,
            expect![[r#"
                [query]
                max_limit = 0
                max_spans_per_spanset = 0

                [query.grpc]
                listen = ""

                [query.http]
                listen = "127.0.0.1:3200"

                [receive.otlp_grpc]
                listen = ""

                [receive.otlp_http]
                listen = "127.0.0.2:3200"

                [retention]
                period = "0s"
            "#]],
        );
        check(
            "query.http.listen = \"\"",
            expect!["config: query.http.listen: cannot be off: health and status are served there"],
        );
    }
}
