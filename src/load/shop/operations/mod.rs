//! What the spans of each service say. Here is what several services share.

pub mod front;
pub mod goods;
pub mod orders;

use crate::load::shop::Kind::Internal;
use crate::load::shop::Value::{Bool, Int, OneStr, Str, Strs, Within};
use crate::load::shop::{Attribute, Failure, Link, Operation, Scope};

const OTELHTTP: Scope = ("go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp", "0.64.0");

const OTELGRPC: Scope =
    ("go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc", "0.64.0");

const OTELPGX: Scope = ("github.com/exaring/otelpgx", "v0.9.3");

const RACK: Scope = ("OpenTelemetry::Instrumentation::Rack", "0.29.0");

/// What is left out of the operations below.
const PLAIN: Operation = Operation {
    service: "",
    scope: ("", ""),
    name: "",
    kind: Internal,
    attributes: &[],
    events: &[],
    link: Link::None,
    failure: None,
};

/// A failure that comes from further below.
const PASSED_ON: Failure = Failure { message: "", attributes: &[], events: &[], origin: false };

/// An HTTP server answers 500 for what failed below.
const HTTP_500: Failure = Failure {
    attributes: &[("http.response.status_code", Int(500)), ("error.type", Str("500"))],
    ..PASSED_ON
};

/// An HTTP client sees that.
const HTTP_500_SEEN: Failure = Failure { message: "500 Internal Server Error", ..HTTP_500 };

/// A gRPC server, or its client, passes on what failed below.
const RPC_INTERNAL: Failure = Failure {
    message: "rpc error: code = Internal desc = internal error",
    attributes: &[("rpc.grpc.status_code", Int(13)), ("error.type", Str("13"))],
    ..PASSED_ON
};

const INNER_HTTP: &[Attribute] = &[
    ("url.scheme", Str("http")),
    ("network.protocol.version", Str("1.1")),
    ("network.peer.address", OneStr(&["10.42.3.17", "10.42.3.18", "10.42.5.9", "10.42.7.101"])),
    ("network.peer.port", Within(16_384, 60_999)),
    ("http.response.body.size", Within(128, 16_383)),
];

const RPC: &[Attribute] = &[
    ("rpc.system", Str("grpc")),
    ("rpc.grpc.status_code", Int(0)),
    ("server.port", Int(8080)),
    ("network.type", Str("ipv4")),
    ("network.protocol.version", Str("2")),
    ("network.peer.address", OneStr(&["10.42.3.40", "10.42.5.61", "10.42.7.22"])),
    ("network.peer.port", Within(16_384, 60_999)),
];

const POSTGRES: &[Attribute] = &[
    ("db.system.name", Str("postgresql")),
    ("db.namespace", Str("shop")),
    ("server.address", Str("postgres-0")),
    ("server.port", Int(5432)),
    ("network.peer.address", Str("10.42.9.5")),
    ("db.response.returned_rows", Within(0, 127)),
];

const REDIS: &[Attribute] = &[
    ("db.system.name", Str("redis")),
    ("db.namespace", Int(0)),
    ("server.address", Str("redis-master")),
    ("server.port", Int(6379)),
    ("network.peer.address", OneStr(&["10.42.8.11", "10.42.8.12"])),
];

const JVM: &[Attribute] = &[
    ("thread.id", Within(16, 120)),
    ("thread.name", OneStr(&["http-nio-8080-exec-3", "http-nio-8080-exec-7", "grpc-executor-1"])),
];

const KAFKA: &[Attribute] = &[
    ("messaging.system", Str("kafka")),
    ("messaging.destination.name", Str("orders.placed")),
    ("messaging.destination.partition.id", OneStr(&["4", "1", "7", "0", "2", "5", "3", "6"])),
    ("messaging.kafka.offset", Within(16_384, 2_097_151)),
    ("messaging.kafka.message.key", Str("ord_{order}")),
    ("messaging.message.body.size", Within(128, 16_383)),
    ("server.address", OneStr(&["kafka-0", "kafka-1"])),
    ("server.port", Int(9092)),
];

const BUYER: &[Attribute] = &[
    ("user.id", Str("u{user}")),
    ("app.customer.tier", OneStr(&["none", "bronze", "silver", "gold"])),
];

const OK: &[Attribute] = &[("http.response.status_code", Int(200))];

const FLAGS: &[Attribute] = &[
    ("app.flags", Strs(&["new-header", "fast-lane"])),
    ("app.cache.hit", Bool(true)),
    ("app.locale", OneStr(&["de-DE", "en-GB", "fr-FR", "pl-PL", "nl-NL", "sv-SE"])),
];

const RUBY_STACK: &str = "\
/app/lib/rates.rb:23:in `fetch': no tariff (KeyError)
\tfrom /app/lib/quote.rb:57:in `compute'
\tfrom /app/app.rb:31:in `block in <class:App>'
";
