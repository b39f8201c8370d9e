//! The spans of what knows the goods: catalog, search, recommendation, inventory.

use crate::load::shop::Kind::{Client, Consumer, Server};
use crate::load::shop::Value::{Bool, Double, Int, OneStr, Str, Strs, Within};
use crate::load::shop::operations::front::ASK_CATALOG;
use crate::load::shop::operations::{
    FLAGS, HTTP_500, INNER_HTTP, JVM, KAFKA, OK, OTELGRPC, OTELPGX, PASSED_ON, PLAIN, POSTGRES,
    REDIS, RPC, RPC_INTERNAL,
};
use crate::load::shop::{Event, Failure, Link, Operation, Scope};

const REDISOTEL: Scope = ("github.com/redis/go-redis/extra/redisotel", "9.17.2");

const TOMCAT: Scope = ("io.opentelemetry.tomcat-10.0", "2.23.0-alpha");

const OPENSEARCH: Scope = ("io.opentelemetry.opensearch-rest-3.0", "2.23.0-alpha");

const RANKING: Scope = ("shop.search.ranking", "3.8.2");

const PYTHON_GRPC: Scope = ("opentelemetry.instrumentation.grpc", "0.60b1");

const MODEL: Scope = ("recommendation.model", "0.18.0");

const TONIC: Scope = ("inventory::grpc", "0.41.3");

const SQLX: Scope = ("sqlx", "0.9.0");

const RECONCILE: Scope = ("inventory::reconcile", "0.41.3");

const CACHE_MISS: Event =
    Event { name: "cache miss", attributes: &[("cache.key", Str("product:{product}"))] };

// catalog

pub const CATALOG_GET: Operation = Operation {
    service: "catalog",
    scope: OTELGRPC,
    name: "shop.catalog.v1.Catalog/GetProduct",
    kind: Server,
    attributes: &[
        RPC,
        &[
            ("rpc.service", Str("shop.catalog.v1.Catalog")),
            ("rpc.method", Str("GetProduct")),
            ("app.product.id", Str("sku-{product}")),
            ("app.product.price", Double(1.0, 900.0)),
            ("app.product.category", OneStr(&["lighting", "seating", "tables", "outdoor", "bath"])),
        ],
    ],
    failure: Some(RPC_INTERNAL),
    ..PLAIN
};
pub const CATALOG_CACHE: Operation = Operation {
    service: "catalog",
    scope: REDISOTEL,
    name: "get",
    kind: Client,
    attributes: &[
        REDIS,
        &[
            ("db.operation.name", Str("GET")),
            ("db.query.text", Str("GET product:{product}")),
            ("db.query.summary", Str("GET")),
            ("code.function.name", Str("cache.(*Store).Product")),
        ],
    ],
    events: &[CACHE_MISS],
    ..PLAIN
};
pub const CATALOG_SELECT: Operation = Operation {
    service: "catalog",
    scope: OTELPGX,
    name: "SELECT products",
    kind: Client,
    attributes: &[
        POSTGRES,
        &[
            ("db.operation.name", Str("SELECT")),
            ("db.collection.name", Str("products")),
            ("db.query.text", Str("SELECT id, name, price, stock FROM products WHERE id = $1")),
            ("db.query.parameter.0", Str("sku-{product}")),
            ("pgx.prepare_stmt.name", Str("stmtcache_5f1c0e")),
        ],
    ],
    failure: Some(Failure {
        message: "ERROR: canceling statement due to statement timeout (SQLSTATE 57014)",
        attributes: &[
            ("db.response.status_code", Str("57014")),
            ("error.type", Str("*pgconn.PgError")),
        ],
        events: &[Event {
            name: "exception",
            attributes: &[
                ("exception.type", Str("*pgconn.PgError")),
                (
                    "exception.message",
                    Str("ERROR: canceling statement due to statement timeout (SQLSTATE 57014)"),
                ),
            ],
        }],
        origin: true,
    }),
    ..PLAIN
};

// search

pub const SEARCH_QUERY: Operation = Operation {
    service: "search",
    scope: TOMCAT,
    name: "GET /v3/query",
    kind: Server,
    attributes: &[
        INNER_HTTP,
        JVM,
        OK,
        &[
            ("http.request.method", Str("GET")),
            ("http.route", Str("/v3/query")),
            ("url.path", Str("/v3/query")),
            ("url.query", Str("size=24")),
        ],
    ],
    failure: Some(HTTP_500),
    ..PLAIN
};
pub const SEARCH_INDEX: Operation = Operation {
    service: "search",
    scope: OPENSEARCH,
    name: "POST /products/_search",
    kind: Client,
    attributes: &[
        JVM,
        &[
            ("db.system.name", Str("opensearch")),
            ("db.operation.name", Str("search")),
            ("db.collection.name", Str("products")),
            ("db.query.text", Str(r#"{"query":{"match":{"name":"?"}},"size":24}"#)),
            ("http.request.method", Str("POST")),
            ("server.address", Str("opensearch")),
            ("server.port", Int(9200)),
            ("url.full", Str("http://opensearch:9200/products/_search")),
            ("app.search.hits", Within(0, 127)),
            ("app.search.took_ms", Double(0.5, 80.0)),
        ],
    ],
    failure: Some(Failure {
        message: "search_phase_execution_exception: all shards failed",
        attributes: &[("error.type", Str("org.opensearch.client.ResponseException"))],
        events: &[Event {
            name: "exception",
            attributes: &[
                ("exception.type", Str("org.opensearch.client.ResponseException")),
                ("exception.message", Str("search_phase_execution_exception: all shards failed")),
                ("exception.stacktrace", Str(JAVA_SEARCH_STACK)),
            ],
        }],
        origin: true,
    }),
    ..PLAIN
};
pub const SEARCH_RANK: Operation = Operation {
    service: "search",
    scope: RANKING,
    name: "rank results",
    attributes: &[
        JVM,
        FLAGS,
        &[
            ("ranking.model", OneStr(&["bm25-v4", "hybrid-v2"])),
            ("ranking.candidates", Within(128, 16_383)),
            ("ranking.top_score", Double(0.2, 1.0)),
            ("ranking.personalised", Bool(false)),
            ("ranking.features", Strs(&["price", "margin", "clicks_7d", "stock"])),
            ("code.function.name", Str("shop.search.Ranker.rank")),
        ],
    ],
    ..PLAIN
};

// recommendation

pub const RECOMMENDATION_LIST: Operation = Operation {
    service: "recommendation",
    scope: PYTHON_GRPC,
    name: "/shop.recommendation.v1.Recommendation/List",
    kind: Server,
    attributes: &[
        RPC,
        &[
            ("rpc.service", Str("shop.recommendation.v1.Recommendation")),
            ("rpc.method", Str("List")),
            ("user.id", Str("u{user}")),
            ("app.products.count", Within(1, 12)),
        ],
    ],
    failure: Some(Failure {
        message: "model server did not answer in time",
        attributes: &[("rpc.grpc.status_code", Int(4)), ("error.type", Str("TimeoutError"))],
        ..PASSED_ON
    }),
    ..PLAIN
};
pub const RECOMMENDATION_MODEL: Operation = Operation {
    service: "recommendation",
    scope: MODEL,
    name: "predict",
    attributes: &[&[
        ("model.name", Str("two-tower")),
        ("model.version", OneStr(&["2026-10-28", "2026-11-11"])),
        ("model.batch_size", Int(32)),
        ("model.score.max", Double(0.4, 1.0)),
        ("model.score.mean", Double(0.05, 0.4)),
        ("model.device", Str("cpu")),
        ("model.warm", Bool(true)),
        ("model.features", Strs(&["views_30d", "basket", "locale", "season"])),
        ("app.products.count", Within(1, 12)),
        ("thread.id", Within(2_097_152, 200_000_000)),
        ("code.function.name", Str("recommendation.model.predict")),
    ]],
    failure: Some(Failure {
        message: "model server did not answer in time",
        attributes: &[("error.type", Str("TimeoutError"))],
        events: &[Event {
            name: "exception",
            attributes: &[
                ("exception.type", Str("TimeoutError")),
                ("exception.message", Str("model server did not answer in time")),
                ("exception.stacktrace", Str(PYTHON_STACK)),
                ("exception.escaped", Str("False")),
            ],
        }],
        origin: true,
    }),
    ..PLAIN
};

// inventory

pub const INVENTORY_RESERVE: Operation = Operation {
    service: "inventory",
    scope: TONIC,
    name: "shop.inventory.v1.Inventory/Reserve",
    kind: Server,
    attributes: &[
        RPC,
        &[
            ("rpc.service", Str("shop.inventory.v1.Inventory")),
            ("rpc.method", Str("Reserve")),
            ("app.warehouse", OneStr(&["muc-1", "ham-2", "waw-1"])),
            ("app.stock.left", Within(128, 16_383)),
            ("code.module.name", Str("inventory::grpc")),
        ],
    ],
    failure: Some(RPC_INTERNAL),
    ..PLAIN
};
pub const INVENTORY_UPDATE: Operation = Operation {
    service: "inventory",
    scope: SQLX,
    name: "UPDATE stock",
    attributes: &[
        POSTGRES,
        &[
            ("db.operation.name", Str("UPDATE")),
            ("db.collection.name", Str("stock")),
            ("db.query.text", Str("UPDATE stock SET reserved = reserved + $1 WHERE sku = $2")),
            ("db.query.parameter.1", Str("sku-{product}")),
            ("db.response.affected_rows", Int(1)),
        ],
    ],
    ..CATALOG_SELECT
};
pub const INVENTORY_CONSUME: Operation = Operation {
    service: "inventory",
    scope: TONIC,
    name: "orders.placed process",
    kind: Consumer,
    attributes: &[
        KAFKA,
        &[
            ("messaging.operation.name", Str("process")),
            ("messaging.operation.type", Str("process")),
            ("messaging.consumer.group.name", Str("inventory")),
            ("messaging.batch.message_count", Within(1, 100)),
        ],
    ],
    link: Link::EarlierTrace(&[("messaging.kafka.offset", Within(16_384, 2_097_151))]),
    ..PLAIN
};
pub const RECONCILE_RUN: Operation = Operation {
    service: "inventory",
    scope: RECONCILE,
    name: "reconcile stock",
    attributes: &[&[
        ("job.name", Str("reconcile-stock")),
        ("job.schedule", Str("*/5 * * * *")),
        ("job.run.id", Str("{request}")),
        ("job.dry_run", Bool(false)),
        ("job.items", Within(128, 16_383)),
        ("job.drift.percent", Double(0.0, 3.0)),
        ("job.warehouses", Strs(&["muc-1", "ham-2", "waw-1"])),
        ("thread.id", Within(1, 12)),
        ("thread.name", Str("tokio-runtime-worker")),
        ("code.module.name", Str("inventory::reconcile")),
        ("code.line.number", Int(141)),
    ]],
    link: Link::EarlierTrace(&[("link.reason", Str("previous run"))]),
    failure: Some(Failure { message: "reconciliation stopped early", ..PASSED_ON }),
    ..PLAIN
};
pub const RECONCILE_ASK_CATALOG: Operation =
    Operation { service: "inventory", scope: TONIC, ..ASK_CATALOG };

const JAVA_SEARCH_STACK: &str = "\
org.opensearch.client.ResponseException: search_phase_execution_exception: all shards failed
\tat org.opensearch.client.RestClient.convertResponse(RestClient.java:376)
\tat org.opensearch.client.RestClient.performRequest(RestClient.java:346)
\tat shop.search.Index.query(Index.java:112)
\tat shop.search.QueryController.query(QueryController.java:48)
";

const PYTHON_STACK: &str = r#"Traceback (most recent call last):
  File "/app/recommendation/model.py", line 64, in predict
    scores = self.client.infer(batch, timeout=0.2)
  File "/app/recommendation/client.py", line 31, in infer
    raise TimeoutError("model server did not answer in time")
TimeoutError: model server did not answer in time
"#;
