//! The spans of what handles an order: cart, checkout, payment, shipping, notification.

use crate::load::shop::Kind::{Client, Consumer, Producer, Server};
use crate::load::shop::Value::{Bool, Double, Int, OneInt, OneStr, Str, Strs, Within};
use crate::load::shop::operations::front::{ASK_CART, ASK_CATALOG};
use crate::load::shop::operations::goods::CATALOG_SELECT;
use crate::load::shop::operations::{
    BUYER, FLAGS, HTTP_500, HTTP_500_SEEN, INNER_HTTP, JVM, KAFKA, OK, OTELGRPC, OTELHTTP, OTELPGX,
    PASSED_ON, PLAIN, POSTGRES, RACK, REDIS, RPC, RPC_INTERNAL, RUBY_STACK,
};
use crate::load::shop::{Event, Failure, Link, Operation, Scope};

const FRANZ: Scope = ("github.com/twmb/franz-go/plugin/kotel", "1.6.0");

const NODE_KAFKA: Scope = ("@opentelemetry/instrumentation-kafkajs", "0.19.0");

const NODE_MAIL: Scope = ("notification.mail", "1.4.4");

const ASPNET: Scope = ("Microsoft.AspNetCore", "10.0.1");

const STACK_EXCHANGE: Scope = ("OpenTelemetry.Instrumentation.StackExchangeRedis", "1.14.0-beta.1");

const CHECKOUT: Scope = ("shop/checkout", "1.9.12");

const JAVA_GRPC: Scope = ("io.opentelemetry.grpc-1.6", "2.23.0-alpha");

const JDBC: Scope = ("io.opentelemetry.jdbc", "2.23.0-alpha");

const JAVA_HTTP: Scope = ("io.opentelemetry.java-http-client", "2.23.0-alpha");

const QUOTE: Scope = ("shipping.quote", "2.5.7");

const RETRY: Event = Event {
    name: "retry",
    attributes: &[("retry.attempt", Int(1)), ("retry.reason", Str("connection reset by peer"))],
};

const MESSAGE_READ: Event = Event {
    name: "message",
    attributes: &[
        ("rpc.message.type", Str("RECEIVED")),
        ("rpc.message.id", Int(1)),
        ("rpc.message.uncompressed_size", Within(128, 16_383)),
    ],
};

// cart

pub const CART_GET: Operation = Operation {
    service: "cart",
    scope: ASPNET,
    name: "GET carts/{id}",
    kind: Server,
    attributes: &[
        INNER_HTTP,
        OK,
        &[
            ("http.request.method", Str("GET")),
            ("http.route", Str("carts/{id}")),
            ("url.path", Str("/carts/{cart}")),
            ("server.address", Str("cart")),
            ("server.port", Int(5000)),
            ("app.cart.items", Within(1, 20)),
        ],
    ],
    failure: Some(HTTP_500),
    ..PLAIN
};
pub const CART_READ: Operation = Operation {
    service: "cart",
    scope: STACK_EXCHANGE,
    name: "HGETALL",
    kind: Client,
    attributes: &[
        REDIS,
        &[
            ("db.operation.name", Str("HGETALL")),
            ("db.query.text", Str("HGETALL cart:{cart}")),
            ("db.redis.flags", Str("DemandMaster")),
            ("db.redis.database_index", Int(0)),
        ],
    ],
    events: &[
        Event { name: "Enqueued", attributes: &[] },
        Event { name: "Sent", attributes: &[] },
        Event { name: "ResponseReceived", attributes: &[] },
    ],
    failure: Some(Failure {
        message: "Timeout performing HGETALL (5000ms), next: HGETALL, inst: 1, qu: 0, qs: 12",
        attributes: &[("error.type", Str("StackExchange.Redis.RedisTimeoutException"))],
        events: &[Event {
            name: "exception",
            attributes: &[
                ("exception.type", Str("StackExchange.Redis.RedisTimeoutException")),
                ("exception.message", Str("Timeout performing HGETALL (5000ms), inst: 1, qs: 12")),
            ],
        }],
        origin: true,
    }),
    ..PLAIN
};
pub const CART_WRITE: Operation = Operation {
    name: "HMSET",
    attributes: &[
        REDIS,
        &[
            ("db.operation.name", Str("HMSET")),
            ("db.query.text", Str("HMSET cart:{cart} sku-{product} ?")),
            ("db.redis.flags", Str("DemandMaster")),
            ("db.redis.database_index", Int(0)),
            ("app.product.id", Str("sku-{product}")),
        ],
    ],
    events: &[],
    ..CART_READ
};

// checkout

pub const CHECKOUT_PLACE: Operation = Operation {
    service: "checkout",
    scope: OTELGRPC,
    name: "shop.checkout.v1.Checkout/PlaceOrder",
    kind: Server,
    attributes: &[
        RPC,
        BUYER,
        &[
            ("rpc.service", Str("shop.checkout.v1.Checkout")),
            ("rpc.method", Str("PlaceOrder")),
            ("app.order.id", Str("ord_{order}")),
            ("app.order.amount", Double(5.0, 2_500.0)),
            ("app.order.currency", OneStr(&["EUR", "USD", "GBP", "PLN", "SEK"])),
        ],
    ],
    events: &[
        MESSAGE_READ,
        Event { name: "charged", attributes: &[("app.payment.provider", Str("acme-pay"))] },
    ],
    failure: Some(RPC_INTERNAL),
    ..PLAIN
};
pub const CHECKOUT_PREPARE: Operation = Operation {
    service: "checkout",
    scope: CHECKOUT,
    name: "prepare order items",
    attributes: &[
        FLAGS,
        BUYER,
        &[
            ("app.order.id", Str("ord_{order}")),
            ("app.order.items", Within(1, 20)),
            ("app.order.weight_kg", Double(0.1, 40.0)),
            ("app.shipping.country", OneStr(&["DE", "US", "FR", "PL", "SE", "NL", "AT"])),
            ("app.voucher.used", Bool(false)),
        ],
    ],
    failure: Some(Failure { message: "order could not be prepared", ..PASSED_ON }),
    ..PLAIN
};
pub const CHECKOUT_ASK_CART: Operation =
    Operation { service: "checkout", scope: OTELHTTP, name: "HTTP GET", kind: Client, ..ASK_CART };
pub const CHECKOUT_ASK_CATALOG: Operation =
    Operation { service: "checkout", scope: OTELGRPC, ..ASK_CATALOG };
pub const CHECKOUT_ASK_SHIPPING: Operation = Operation {
    service: "checkout",
    scope: OTELHTTP,
    name: "HTTP POST",
    kind: Client,
    attributes: &[
        INNER_HTTP,
        OK,
        &[
            ("http.request.method", Str("POST")),
            ("server.address", Str("shipping")),
            ("server.port", Int(9292)),
            ("url.full", Str("http://shipping:9292/quotes")),
            ("app.order.id", Str("ord_{order}")),
        ],
    ],
    failure: Some(HTTP_500_SEEN),
    ..PLAIN
};
pub const CHECKOUT_ASK_PAYMENT: Operation = Operation {
    service: "checkout",
    scope: OTELGRPC,
    name: "shop.payment.v2.Payment/Charge",
    attributes: &[
        RPC,
        &[
            ("rpc.service", Str("shop.payment.v2.Payment")),
            ("rpc.method", Str("Charge")),
            ("server.address", Str("payment")),
            ("app.order.id", Str("ord_{order}")),
        ],
    ],
    ..ASK_CATALOG
};
pub const CHECKOUT_RESERVE: Operation = Operation {
    name: "shop.inventory.v1.Inventory/Reserve",
    attributes: &[
        RPC,
        &[
            ("rpc.service", Str("shop.inventory.v1.Inventory")),
            ("rpc.method", Str("Reserve")),
            ("server.address", Str("inventory")),
            ("app.product.id", Str("sku-{product}")),
        ],
    ],
    ..CHECKOUT_ASK_PAYMENT
};
pub const CHECKOUT_INSERT: Operation = Operation {
    service: "checkout",
    scope: OTELPGX,
    name: "INSERT orders",
    attributes: &[
        POSTGRES,
        &[
            ("db.operation.name", Str("INSERT")),
            ("db.collection.name", Str("orders")),
            ("db.query.text", Str("INSERT INTO orders (id, user_id, total) VALUES ($1, $2, $3)")),
            ("db.query.parameter.0", Str("ord_{order}")),
            ("pgx.prepare_stmt.name", Str("stmtcache_a07d31")),
        ],
    ],
    ..CATALOG_SELECT
};
pub const CHECKOUT_PUBLISH: Operation = Operation {
    service: "checkout",
    scope: FRANZ,
    name: "orders.placed publish",
    kind: Producer,
    attributes: &[
        KAFKA,
        &[
            ("messaging.operation.name", Str("publish")),
            ("messaging.operation.type", Str("send")),
            ("messaging.client.id", Str("checkout-producer")),
            ("messaging.message.id", Str("{request}")),
        ],
    ],
    events: &[RETRY],
    ..PLAIN
};

// payment

pub const PAYMENT_CHARGE: Operation = Operation {
    service: "payment",
    scope: JAVA_GRPC,
    name: "shop.payment.v2.Payment/Charge",
    kind: Server,
    attributes: &[
        RPC,
        JVM,
        &[
            ("rpc.service", Str("shop.payment.v2.Payment")),
            ("rpc.method", Str("Charge")),
            ("app.payment.method", OneStr(&["card", "paypal", "klarna", "sepa"])),
            ("app.payment.id", Str("pay_{order}")),
        ],
    ],
    failure: Some(Failure {
        message: "card declined",
        attributes: &[("rpc.grpc.status_code", Int(9)), ("error.type", Str("9"))],
        events: &[Event {
            name: "exception",
            attributes: &[
                ("exception.type", Str("shop.payment.CardDeclinedException")),
                ("exception.message", Str("card of u{user} declined: insufficient funds")),
                ("exception.stacktrace", Str(JAVA_PAYMENT_STACK)),
            ],
        }],
        origin: true,
    }),
    ..PLAIN
};
pub const PAYMENT_INSERT: Operation = Operation {
    service: "payment",
    scope: JDBC,
    name: "INSERT shop.payments",
    kind: Client,
    attributes: &[
        JVM,
        &[
            ("db.system.name", Str("postgresql")),
            ("db.namespace", Str("shop")),
            ("db.operation.name", Str("INSERT")),
            ("db.collection.name", Str("payments")),
            ("db.query.text", Str("INSERT INTO payments (id, order_id, state) VALUES (?, ?, ?)")),
            ("server.address", Str("postgres-0")),
            ("server.port", Int(5432)),
            ("db.response.returned_rows", Int(1)),
            ("app.payment.id", Str("pay_{order}")),
        ],
    ],
    ..PLAIN
};
pub const PAYMENT_BANK: Operation = Operation {
    service: "payment",
    scope: JAVA_HTTP,
    name: "POST",
    kind: Client,
    attributes: &[
        JVM,
        &[
            ("http.request.method", Str("POST")),
            ("http.response.status_code", OneInt(&[200, 200, 202, 402])),
            ("url.full", Str("https://api.acme-pay.example/v1/charges/{request}")),
            ("server.address", Str("api.acme-pay.example")),
            ("server.port", Int(443)),
            ("network.protocol.version", Str("1.1")),
            ("http.request.resend_count", Int(0)),
            ("app.payment.risk", Double(0.0, 1.0)),
            ("peer.service", Str("acme-pay")),
        ],
    ],
    ..PLAIN
};

// shipping

pub const SHIPPING_QUOTE: Operation = Operation {
    service: "shipping",
    scope: RACK,
    name: "POST /quotes",
    kind: Server,
    attributes: &[
        INNER_HTTP,
        OK,
        &[
            ("http.request.method", Str("POST")),
            ("http.route", Str("/quotes")),
            ("url.path", Str("/quotes")),
            ("user_agent.original", Str("Go-http-client/1.1")),
            ("app.order.id", Str("ord_{order}")),
        ],
    ],
    failure: Some(HTTP_500),
    ..PLAIN
};
pub const SHIPPING_COMPUTE: Operation = Operation {
    service: "shipping",
    scope: QUOTE,
    name: "compute quote",
    attributes: &[&[
        ("app.shipping.carrier", OneStr(&["dhl", "ups", "dpd", "gls"])),
        ("app.shipping.country", OneStr(&["DE", "US", "FR", "PL", "SE", "NL", "AT"])),
        ("app.shipping.cost", Double(2.9, 49.0)),
        ("app.shipping.express", Bool(false)),
        ("app.shipping.parcels", Within(1, 6)),
        ("app.shipping.zones", Strs(&["eu-1", "eu-2"])),
        ("app.order.id", Str("ord_{order}")),
        ("code.function.name", Str("Quote#compute")),
        ("code.line.number", Int(57)),
        ("thread.id", Within(128, 16_383)),
    ]],
    failure: Some(Failure {
        message: "no tariff for this parcel",
        attributes: &[("error.type", Str("Shipping::NoTariff"))],
        events: &[Event {
            name: "exception",
            attributes: &[
                ("exception.type", Str("Shipping::NoTariff")),
                ("exception.message", Str("no tariff for order ord_{order}")),
                ("exception.stacktrace", Str(RUBY_STACK)),
            ],
        }],
        origin: true,
    }),
    ..PLAIN
};

// notification

pub const NOTIFICATION_CONSUME: Operation = Operation {
    service: "notification",
    scope: NODE_KAFKA,
    name: "orders.placed process",
    kind: Consumer,
    attributes: &[
        KAFKA,
        &[
            ("messaging.operation.name", Str("process")),
            ("messaging.operation.type", Str("process")),
            ("messaging.consumer.group.name", Str("notification")),
            ("messaging.client.id", Str("notification-1")),
        ],
    ],
    link: Link::EarlierTrace(&[("messaging.kafka.offset", Within(16_384, 2_097_151))]),
    ..PLAIN
};
pub const NOTIFICATION_MAIL: Operation = Operation {
    service: "notification",
    scope: NODE_MAIL,
    name: "send mail",
    kind: Client,
    attributes: &[
        BUYER,
        &[
            ("mail.template", OneStr(&["order-confirmation", "order-confirmation-v2"])),
            (
                "mail.to.domain",
                OneStr(&["gmail.com", "gmx.de", "outlook.com", "web.de", "orange.fr"]),
            ),
            ("mail.message.id", Str("<{request}@shop.example.com>")),
            ("mail.size", Within(16_384, 2_097_151)),
            ("mail.attachments", Strs(&["invoice.pdf", "terms.pdf"])),
            ("server.address", Str("smtp.mail.example")),
            ("server.port", Int(587)),
            ("network.protocol.name", Str("smtp")),
            ("app.order.id", Str("ord_{order}")),
        ],
    ],
    failure: Some(Failure {
        message: "451 4.7.1 Greylisted, please try again",
        attributes: &[("error.type", Str("SMTPError"))],
        events: &[Event {
            name: "exception",
            attributes: &[
                ("exception.type", Str("SMTPError")),
                ("exception.message", Str("451 4.7.1 Greylisted, please try again")),
                ("exception.stacktrace", Str(NODE_STACK)),
            ],
        }],
        origin: true,
    }),
    ..PLAIN
};

const JAVA_PAYMENT_STACK: &str = "\
shop.payment.CardDeclinedException: insufficient funds
\tat shop.payment.AcmePay.charge(AcmePay.java:87)
\tat shop.payment.PaymentService.charge(PaymentService.java:41)
\tat io.grpc.stub.ServerCalls$UnaryServerCallHandler.onHalfClose(ServerCalls.java:182)
";

const NODE_STACK: &str = "\
SMTPError: 451 4.7.1 Greylisted, please try again
    at SMTPConnection._formatError (/app/node_modules/nodemailer/lib/smtp-connection/index.js:809:19)
    at async Mailer.send (/app/dist/mailer.js:42:9)
";
