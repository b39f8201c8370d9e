//! Takes requests off the wire, and puts answers on it.
//!
//! Every port speaks gRPC and HTTP, over HTTP/1.1 and HTTP/2 without TLS: what a connection speaks
//! is told by its first bytes, what a request is by its content type. So it does not matter which
//! of the two OTLP ports a sender was given. What a request holds is for `ingest` to judge.

mod answer;
mod body;
mod grpc;
mod http;
mod inflate;
mod tenant;

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hyper::{
    Request, Response,
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use metrics::{Counter, Gauge, counter, gauge};
use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpStream},
    select,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::config;
use crate::ingest::{Accepted, Ingest, Refusal, Refused};
use crate::model::TenantId;
use crate::receive::{
    answer::{Answer, Reply},
    body::MaxBytes,
};
use crate::telemetry::{
    INGEST_RETRY_HINTS_TOTAL, RECEIVE_BYTES_TOTAL, RECEIVE_CONNECTIONS, RECEIVE_OTHER_ITEMS_TOTAL,
    RECEIVE_REQUESTS_TOTAL, RECEIVE_SPANS_ACCEPTED_TOTAL, RECEIVE_SPANS_FAILED_TOTAL,
    RECEIVE_SPANS_REFUSED_TOTAL,
};

/// How long a connection may be open before it says something.
const FIRST_BYTES: Duration = Duration::from_secs(10);

/// Between looks at a connection that said half of what starts HTTP/2.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// How long a connection of HTTP/1 may be idle, or take for its headers: the library has one timer
/// for both. Longer than the minute or so for which senders keep connections.
const IDLE: Duration = Duration::from_secs(120);

/// How long a connection of HTTP/2 is idle until it is asked whether there still is a peer, and for
/// how long.
const PING: Duration = Duration::from_secs(120);
const PING_ANSWER: Duration = Duration::from_secs(20);

/// Batches are 100 kB to 1 MB, so that the default windows of 64 kB would stall each several times.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
const MAX_FRAME: u32 = 64 << 10;
const MAX_STREAMS: u32 = 250;
const MAX_HEADERS: u32 = 16 << 10;

/// How long requests have to end that were there when the server was told to stop.
const GRACE: Duration = Duration::from_secs(5);

/// After accepting failed: most often there are no file descriptors left, and waiting is all that
/// helps.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What starts a connection of HTTP/2. See RFC 9113, 3.4.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The first byte of TLS.
const TLS_HANDSHAKE: u8 = 0x16;

/// A port could not be opened.
#[derive(Debug, Error)]
#[error("cannot listen on {address}; is another program using the port?")]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

/// What all receivers share.
pub struct Receive {
    ingest: Arc<Ingest>,
    tenancy: Tenancy,
    max_grpc: MaxBytes,
    max_http: MaxBytes,
    grpc: TransportCounters,
    http: TransportCounters,
    bytes: Counter,
    connections: Gauge,
    others: [Other; 3],
    tls_told: AtomicBool,
}

/// Whose data a request brings.
enum Tenancy {
    /// One tenant's, whatever the header says.
    Off(TenantId),
    /// That of the tenant in the header.
    On,
}

/// Counters of requests that came in one way.
struct TransportCounters {
    spans_accepted: Counter,
    spans_refused: Counter,
    spans_failed: Counter,
    successes: Counter,
    refusals: Counter,
    failures: Counter,
    retry_hints: Counter,
}

/// What senders bring besides traces, and we do not keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signal {
    Metrics,
    Logs,
    Profiles,
}

struct Other {
    signal: Signal,
    items: Counter,
    told: AtomicBool,
}

/// Opens a port.
///
/// # Errors
/// When it is taken, or not this machine's.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| BindError { address, source })
}

/// Serves a port until `stop` is cancelled, then ends what was begun within a few seconds.
///
/// Dropping the future closes all connections at once.
pub async fn serve(listener: TcpListener, shared: Arc<Receive>, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        select! {
            // Cancel-safe: a connection that was not yet returned stays in the kernel's queue.
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let (shared, stop) = (Arc::clone(&shared), stop.clone());
                    connections.spawn(connection(stream, peer, shared, stop));
                }
                Err(error) => {
                    warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            // Cancel-safe by its documentation; frees what is kept of connections that ended.
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            // Cancel-safe: cancelled stays cancelled.
            () = stop.cancelled() => break,
        }
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    if timeout(GRACE, ended).await.is_err() {
        warn!(open = connections.len(), "connections did not end in time and are closed");
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    shared: Arc<Receive>,
    stop: CancellationToken,
) {
    shared.connections.increment(1.0);
    let first = select! {
        // Cancel-safe: it only looks, and the connection is dropped if it was not first.
        first = timeout(FIRST_BYTES, first_bytes(&stream)) => first.unwrap_or(First::Nothing),
        () = stop.cancelled() => First::Nothing,
    };
    match first {
        First::Http1 => serve_http1(stream, peer, &shared, &stop).await,
        First::Http2 => serve_http2(stream, peer, &shared, &stop).await,
        First::Tls => shared.tell_tls(peer),
        First::Nothing => {}
    }
    shared.connections.decrement(1.0);
}

/// What a connection speaks.
enum First {
    Http1,
    Http2,
    Tls,
    Nothing,
}

/// Looks at what came first, and leaves it there to be read.
async fn first_bytes(stream: &TcpStream) -> First {
    let mut seen = [0; PREFACE.len()];
    loop {
        let len = match stream.peek(&mut seen).await {
            Ok(len @ 1..) => len,
            _ => return First::Nothing,
        };
        match seen.get(..len) {
            Some([TLS_HANDSHAKE, ..]) => return First::Tls,
            Some(seen) if !PREFACE.starts_with(seen) => return First::Http1,
            Some(seen) if seen.len() == PREFACE.len() => return First::Http2,
            _ => sleep(LOOK_AGAIN).await,
        }
    }
}

async fn serve_http1(
    stream: TcpStream,
    peer: SocketAddr,
    shared: &Arc<Receive>,
    stop: &CancellationToken,
) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(IDLE);
    let service = service_fn(|request| respond(shared, stop, peer, request));
    let mut connection = std::pin::pin!(builder.serve_connection(no_delay(stream), service));
    let ended = select! {
        // Both arms are cancel-safe: the connection is only polled, and lives on.
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%peer, %error, "connection ended early");
    }
}

async fn serve_http2(
    stream: TcpStream,
    peer: SocketAddr,
    shared: &Arc<Receive>,
    stop: &CancellationToken,
) {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING_ANSWER);
    let service = service_fn(|request| {
        let (shared, stop) = (Arc::clone(shared), stop.clone());
        async move { respond(&shared, &stop, peer, request).await }
    });
    let mut connection = std::pin::pin!(builder.serve_connection(no_delay(stream), service));
    let ended = select! {
        // Both arms are cancel-safe: the connection is only polled, and lives on.
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%peer, %error, "connection ended early");
    }
}

/// Answers are small and awaited: they do not wait for more to send.
fn no_delay(stream: TcpStream) -> TokioIo<TcpStream> {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "TCP_NODELAY cannot be set");
    }
    TokioIo::new(stream)
}

async fn respond(
    shared: &Receive,
    stop: &CancellationToken,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<Reply>, Infallible> {
    let stopping = stop.is_cancelled();
    let response = if grpc::is_grpc(&request) {
        grpc::serve(shared, peer, stopping, request).await
    } else {
        http::serve(shared, peer, stopping, request).await
    };
    Ok(response)
}

impl Receive {
    #[must_use]
    pub fn new(
        ingest: Arc<Ingest>,
        sections: &config::Receive,
        tenancy: &config::Tenancy,
    ) -> Receive {
        let other = |signal: Signal| Other {
            signal,
            items: counter!(RECEIVE_OTHER_ITEMS_TOTAL, "signal" => signal.name()),
            told: AtomicBool::new(false),
        };
        Receive {
            ingest,
            tenancy: if tenancy.enabled { Tenancy::On } else { Tenancy::Off(TenantId::single()) },
            max_grpc: MaxBytes {
                bytes: sections.otlp_grpc.max_request.bytes(),
                key: "receive.otlp_grpc.max_request",
            },
            max_http: MaxBytes {
                bytes: sections.otlp_http.max_request.bytes(),
                key: "receive.otlp_http.max_request",
            },
            grpc: TransportCounters::new("grpc"),
            http: TransportCounters::new("http"),
            bytes: counter!(RECEIVE_BYTES_TOTAL, "receiver" => "otlp"),
            connections: gauge!(RECEIVE_CONNECTIONS, "receiver" => "otlp"),
            others: [Signal::Metrics, Signal::Logs, Signal::Profiles].map(other),
            tls_told: AtomicBool::new(false),
        }
    }

    /// Counts a request whose data are not kept, and says once how to stop the sender.
    fn discard(&self, signal: Signal, peer: SocketAddr) {
        for other in self.others.iter().filter(|other| other.signal == signal) {
            other.items.increment(1);
            if !other.told.swap(true, Ordering::Relaxed) {
                let (signal, stop) = (signal.name(), signal.stop());
                info!(%peer, "{signal} are not kept here; to stop their sender set {stop}");
            }
        }
    }

    fn tell_tls(&self, peer: SocketAddr) {
        if !self.tls_told.swap(true, Ordering::Relaxed) {
            warn!(%peer, "a sender speaks TLS to a port without it; give it an http:// endpoint");
        }
    }
}

impl TransportCounters {
    fn new(transport: &'static str) -> TransportCounters {
        let spans = |name| counter!(name, "receiver" => "otlp", "transport" => transport);
        let requests =
            |outcome| counter!(RECEIVE_REQUESTS_TOTAL, "receiver" => "otlp", "outcome" => outcome);
        let code = if transport == "grpc" { "UNAVAILABLE" } else { "503" };
        TransportCounters {
            spans_accepted: spans(RECEIVE_SPANS_ACCEPTED_TOTAL),
            spans_refused: spans(RECEIVE_SPANS_REFUSED_TOTAL),
            spans_failed: spans(RECEIVE_SPANS_FAILED_TOTAL),
            successes: requests("success"),
            refusals: requests("refused"),
            failures: requests("failure"),
            retry_hints: counter!(INGEST_RETRY_HINTS_TOTAL, "code" => code),
        }
    }

    /// Counts what became of a request, and turns a refusal into its answer.
    fn count(&self, outcome: Result<Accepted, Refused>) -> Result<Accepted, Answer> {
        match outcome {
            Ok(accepted) => {
                self.successes.increment(1);
                self.spans_accepted.increment(accepted.spans);
                self.spans_refused.increment(accepted.refused);
                Ok(accepted)
            }
            Err(Refused { spans, refusal: refusal @ Refusal::Undecodable(_) }) => {
                self.spans_failed.increment(spans);
                Err(self.count_refusal(refusal.into()))
            }
            Err(Refused { spans, refusal }) => {
                self.spans_refused.increment(spans);
                Err(self.count_refusal(refusal.into()))
            }
        }
    }

    fn count_refusal(&self, answer: Answer) -> Answer {
        if answer.retry.is_some() {
            self.retry_hints.increment(1);
            self.refusals.increment(1);
        } else {
            self.failures.increment(1);
        }
        answer
    }
}

impl Signal {
    const fn name(self) -> &'static str {
        match self {
            Signal::Metrics => "metrics",
            Signal::Logs => "logs",
            Signal::Profiles => "profiles",
        }
    }

    const fn stop(self) -> &'static str {
        match self {
            Signal::Metrics => "OTEL_METRICS_EXPORTER=none",
            Signal::Logs => "OTEL_LOGS_EXPORTER=none",
            Signal::Profiles => "its profiles exporter to none",
        }
    }
}
