//! The spans of what customers meet first: gateway, storefront, accounts.

use crate::load::shop::Kind::{Client, Server};
use crate::load::shop::Value::{Double, Int, OneInt, OneStr, Str, Within};
use crate::load::shop::operations::{
    BUYER, FLAGS, HTTP_500, HTTP_500_SEEN, INNER_HTTP, OK, OTELHTTP, PASSED_ON, PLAIN, RACK, REDIS,
    RPC, RPC_INTERNAL, RUBY_STACK,
};
use crate::load::shop::{Attribute, Event, Failure, Operation, Scope};

const NODE_HTTP: Scope = ("@opentelemetry/instrumentation-http", "0.209.0");

const NODE_GRPC: Scope = ("@opentelemetry/instrumentation-grpc", "0.209.0");

const MYSQL: Scope = ("OpenTelemetry::Instrumentation::Mysql2", "0.33.0");

const RUBY_REDIS: Scope = ("OpenTelemetry::Instrumentation::Redis", "0.28.0");

const PUBLIC_HTTP: &[Attribute] = &[
    ("http.request.method", Str("GET")),
    ("url.scheme", Str("https")),
    ("server.address", Str("shop.example.com")),
    ("network.protocol.version", OneStr(&["2", "1.1"])),
    ("client.address", Str("203.0.113.{host}")),
    (
        "user_agent.original",
        OneStr(&[
            "Mozilla/5.0 (iPhone; CPU iPhone OS 26_1 like Mac OS X) Safari/604.1",
            "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Firefox/145.0",
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/142.0.0.0",
            "ShopApp/8.4.1 (Android 16; Pixel 10)",
            "Googlebot/2.1 (+http://www.google.com/bot.html)",
        ]),
    ),
    ("http.response.body.size", Within(128, 16_383)),
    ("session.id", Str("{session}")),
];

const PUBLIC_POST: &[Attribute] = &[
    ("http.request.method", Str("POST")),
    ("url.scheme", Str("https")),
    ("server.address", Str("shop.example.com")),
    ("network.protocol.version", Str("2")),
    ("client.address", Str("203.0.113.{host}")),
    ("user_agent.original", OneStr(&["ShopApp/8.4.1 (iOS 26.1)", "ShopApp/8.4.1 (Android 16)"])),
    ("http.request.body.size", Within(128, 16_383)),
    ("session.id", Str("{session}")),
];

const MYSQL_DB: &[Attribute] = &[
    ("db.system.name", Str("mysql")),
    ("db.namespace", Str("accounts")),
    ("server.address", Str("mysql-accounts")),
    ("server.port", Int(3306)),
    ("db.client.connection.pool.name", Str("accounts-rw")),
    ("db.response.returned_rows", Within(0, 127)),
    ("code.function.name", OneStr(&["Account.find_by_login", "Account.touch", "Session.open"])),
];

const OK_OR_NOT_FOUND: &[Attribute] =
    &[("http.response.status_code", OneInt(&[200, 200, 200, 200, 304, 404]))];

// gateway

pub const GATEWAY_PRODUCT: Operation = Operation {
    service: "gateway",
    scope: OTELHTTP,
    name: "GET /api/products/{id}",
    kind: Server,
    attributes: &[
        PUBLIC_HTTP,
        OK_OR_NOT_FOUND,
        &[
            ("http.route", Str("/api/products/{id}")),
            ("url.path", Str("/api/products/sku-{product}")),
        ],
    ],
    failure: Some(HTTP_500),
    ..PLAIN
};
pub const GATEWAY_SEARCH: Operation = Operation {
    name: "GET /api/search",
    attributes: &[
        PUBLIC_HTTP,
        OK,
        &[
            ("http.route", Str("/api/search")),
            ("url.path", Str("/api/search")),
            ("url.query", OneStr(&["q=lamp&sort=price", "q=chair", "q=red+sofa&page=2", "q=desk"])),
        ],
    ],
    ..GATEWAY_PRODUCT
};
pub const GATEWAY_CART: Operation = Operation {
    name: "GET /api/cart",
    attributes: &[
        PUBLIC_HTTP,
        OK,
        BUYER,
        &[("http.route", Str("/api/cart")), ("url.path", Str("/api/cart"))],
    ],
    ..GATEWAY_PRODUCT
};
pub const GATEWAY_ADD: Operation = Operation {
    name: "POST /api/cart/items",
    attributes: &[
        PUBLIC_POST,
        &[
            ("http.response.status_code", OneInt(&[201, 201, 201, 409])),
            ("http.route", Str("/api/cart/items")),
            ("url.path", Str("/api/cart/items")),
        ],
    ],
    ..GATEWAY_PRODUCT
};
pub const GATEWAY_CHECKOUT: Operation = Operation {
    name: "POST /api/checkout",
    attributes: &[
        PUBLIC_POST,
        BUYER,
        OK,
        &[
            ("http.route", Str("/api/checkout")),
            ("url.path", Str("/api/checkout")),
            ("http.request.id", Str("{request}")),
        ],
    ],
    ..GATEWAY_PRODUCT
};
pub const GATEWAY_LOGIN: Operation = Operation {
    name: "POST /api/login",
    attributes: &[
        PUBLIC_POST,
        &[
            ("http.response.status_code", OneInt(&[200, 200, 200, 401])),
            ("http.route", Str("/api/login")),
            ("url.path", Str("/api/login")),
        ],
    ],
    ..GATEWAY_PRODUCT
};
pub const TO_STOREFRONT: Operation = Operation {
    service: "gateway",
    scope: OTELHTTP,
    name: "HTTP GET",
    kind: Client,
    attributes: &[
        INNER_HTTP,
        OK,
        FLAGS,
        &[
            ("http.request.method", Str("GET")),
            ("server.address", Str("storefront")),
            ("server.port", Int(8080)),
            ("url.full", Str("http://storefront:8080/internal/page")),
        ],
    ],
    events: &[],
    failure: Some(HTTP_500_SEEN),
    ..PLAIN
};
pub const TO_ACCOUNTS: Operation = Operation {
    name: "HTTP POST",
    attributes: &[
        INNER_HTTP,
        OK,
        &[
            ("http.request.method", Str("POST")),
            ("server.address", Str("accounts")),
            ("server.port", Int(3000)),
            ("url.full", Str("http://accounts:3000/v2/sessions")),
            ("http.request.resend_count", Int(0)),
        ],
    ],
    ..TO_STOREFRONT
};

// storefront

pub const STOREFRONT_PAGE: Operation = Operation {
    service: "storefront",
    scope: NODE_HTTP,
    name: "GET /internal/page",
    kind: Server,
    attributes: &[
        INNER_HTTP,
        OK,
        BUYER,
        &[
            ("http.request.method", Str("GET")),
            ("http.route", Str("/internal/page")),
            ("url.path", Str("/internal/page")),
            ("app.render.ms", Double(0.5, 40.0)),
            ("app.experiment", OneStr(&["control", "layout-b", "layout-c"])),
        ],
    ],
    failure: Some(HTTP_500),
    ..PLAIN
};
pub const ASK_CATALOG: Operation = Operation {
    service: "storefront",
    scope: NODE_GRPC,
    name: "shop.catalog.v1.Catalog/GetProduct",
    kind: Client,
    attributes: &[
        RPC,
        &[
            ("rpc.service", Str("shop.catalog.v1.Catalog")),
            ("rpc.method", Str("GetProduct")),
            ("server.address", Str("catalog")),
            ("app.product.id", Str("sku-{product}")),
        ],
    ],
    failure: Some(RPC_INTERNAL),
    ..PLAIN
};
pub const ASK_RECOMMENDATION: Operation = Operation {
    name: "shop.recommendation.v1.Recommendation/List",
    attributes: &[
        RPC,
        &[
            ("rpc.service", Str("shop.recommendation.v1.Recommendation")),
            ("rpc.method", Str("List")),
            ("server.address", Str("recommendation")),
            ("app.deadline.ms", Int(250)),
        ],
    ],
    // The page is shown without recommendations, so the failure ends above this call.
    failure: Some(Failure {
        message: "4 DEADLINE_EXCEEDED: Deadline exceeded after 0.250s",
        attributes: &[("rpc.grpc.status_code", Int(4)), ("error.type", Str("4"))],
        ..PASSED_ON
    }),
    ..ASK_CATALOG
};
pub const ASK_SEARCH: Operation = Operation {
    service: "storefront",
    scope: NODE_HTTP,
    name: "GET",
    kind: Client,
    attributes: &[
        INNER_HTTP,
        OK,
        &[
            ("http.request.method", Str("GET")),
            ("server.address", Str("search")),
            ("server.port", Int(8080)),
            ("url.full", Str("http://search:8080/v3/query?size=24")),
            ("app.search.page", OneInt(&[1, 1, 2, 3])),
        ],
    ],
    failure: Some(HTTP_500_SEEN),
    ..PLAIN
};
pub const ASK_CART: Operation = Operation {
    attributes: &[
        INNER_HTTP,
        OK,
        &[
            ("http.request.method", Str("GET")),
            ("server.address", Str("cart")),
            ("server.port", Int(5000)),
            ("url.full", Str("http://cart:5000/carts/{cart}")),
            ("app.cart.id", Str("{cart}")),
        ],
    ],
    ..ASK_SEARCH
};
pub const ASK_CHECKOUT: Operation = Operation {
    name: "shop.checkout.v1.Checkout/PlaceOrder",
    attributes: &[
        RPC,
        BUYER,
        &[
            ("rpc.service", Str("shop.checkout.v1.Checkout")),
            ("rpc.method", Str("PlaceOrder")),
            ("server.address", Str("checkout")),
        ],
    ],
    ..ASK_CATALOG
};

// accounts

pub const ACCOUNTS_LOGIN: Operation = Operation {
    service: "accounts",
    scope: RACK,
    name: "POST /v2/sessions",
    kind: Server,
    attributes: &[
        INNER_HTTP,
        OK,
        &[
            ("http.request.method", Str("POST")),
            ("http.route", Str("/v2/sessions")),
            ("url.path", Str("/v2/sessions")),
            ("user_agent.original", Str("Go-http-client/1.1")),
            ("user.id", Str("u{user}")),
            ("app.login.method", OneStr(&["password", "passkey", "google"])),
        ],
    ],
    failure: Some(HTTP_500),
    ..PLAIN
};
pub const ACCOUNTS_SELECT: Operation = Operation {
    service: "accounts",
    scope: MYSQL,
    name: "select accounts",
    kind: Client,
    attributes: &[
        MYSQL_DB,
        &[
            ("db.operation.name", Str("SELECT")),
            ("db.collection.name", Str("accounts")),
            ("db.query.text", Str("SELECT * FROM accounts WHERE login = ? LIMIT 1")),
            ("db.query.summary", Str("SELECT accounts")),
        ],
    ],
    failure: Some(Failure {
        message: "Lost connection to MySQL server during query",
        attributes: &[
            ("error.type", Str("Mysql2::Error::ConnectionError")),
            ("db.response.status_code", Str("2013")),
        ],
        events: &[Event {
            name: "exception",
            attributes: &[
                ("exception.type", Str("Mysql2::Error::ConnectionError")),
                ("exception.message", Str("Lost connection to MySQL server during query")),
                ("exception.stacktrace", Str(RUBY_STACK)),
            ],
        }],
        origin: true,
    }),
    ..PLAIN
};
pub const ACCOUNTS_UPDATE: Operation = Operation {
    name: "update accounts",
    attributes: &[
        MYSQL_DB,
        &[
            ("db.operation.name", Str("UPDATE")),
            ("db.collection.name", Str("accounts")),
            ("db.query.text", Str("UPDATE accounts SET seen_at = ? WHERE id = ?")),
            ("db.query.parameter.1", Str("u{user}")),
        ],
    ],
    ..ACCOUNTS_SELECT
};
pub const ACCOUNTS_SESSION: Operation = Operation {
    service: "accounts",
    scope: RUBY_REDIS,
    name: "SETEX",
    kind: Client,
    attributes: &[
        REDIS,
        &[
            ("db.operation.name", Str("SETEX")),
            ("db.query.text", Str("SETEX session:{session} 86400 ?")),
            ("db.query.summary", Str("SETEX")),
            ("session.id", Str("{session}")),
            ("code.function.name", Str("SessionStore#open")),
        ],
    ],
    ..PLAIN
};
