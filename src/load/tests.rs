//! Whole runs against a small server that can be told to misbehave.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Mutex;

use bytes::Bytes;
use clap::Parser;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::otlp::wire::put_message;

use super::*;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    options: Options,
}

/// Takes exports and answers trace by id.
#[derive(Default)]
struct Server {
    /// So many exports are answered with "later" first.
    busy: Mutex<u32>,
    /// One span of each request is acknowledged and lost.
    forgetful: bool,
    /// The traces as requests that hold only them.
    traces: Mutex<HashMap<String, ExportTraceServiceRequest>>,
}

impl Server {
    /// Starts to serve; ends when the set is dropped.
    async fn start(self) -> (SocketAddr, JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Arc::new(self);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let server = Arc::clone(&server);
                connections.spawn(async move {
                    let service = service_fn(move |request| Arc::clone(&server).answer(request));
                    let builder = auto::Builder::new(TokioExecutor::new());
                    drop(builder.serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        (address, tasks)
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        if let Some(id) = parts.uri.path().strip_prefix("/api/v2/traces/") {
            return Ok(Response::new(Full::new(self.find(id))));
        }
        let grpc = parts.headers["content-type"] == "application/grpc";
        let busy = {
            let mut busy = self.busy.lock().unwrap();
            let was = *busy;
            *busy = was.saturating_sub(1);
            was > 0
        };
        if !busy {
            self.take(if grpc { &body[5..] } else { &body });
        }
        let mut response = Response::new(Full::default());
        if grpc {
            // An answer without a message has its status in the headers.
            let status = if busy { "14" } else { "0" };
            response.headers_mut().insert("grpc-status", status.parse().unwrap());
        } else if busy {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        Ok(response)
    }

    fn take(&self, request: &[u8]) {
        let mut request = ExportTraceServiceRequest::decode(request).unwrap();
        if self.forgetful {
            request.resource_spans[0].scope_spans[0].spans.pop();
        }
        let mut traces = self.traces.lock().unwrap();
        for resource in request.resource_spans {
            for scope in resource.scope_spans {
                for span in scope.spans {
                    let id = TraceId(span.trace_id.as_slice().try_into().unwrap());
                    let trace = traces.entry(id.to_string()).or_default();
                    let mut only = opentelemetry_proto::tonic::trace::v1::ResourceSpans::default();
                    only.scope_spans.push(Default::default());
                    only.scope_spans[0].spans.push(span);
                    trace.resource_spans.push(only);
                }
            }
        }
    }

    fn find(&self, id: &str) -> Bytes {
        let mut response = Vec::new();
        if let Some(trace) = self.traces.lock().unwrap().get(id) {
            put_message(&mut response, 1, |out| out.extend_from_slice(&trace.encode_to_vec()));
        }
        Bytes::from(response)
    }
}

async fn load(address: SocketAddr, arguments: &str) -> Result<Report, LoadError> {
    let (endpoint, query) = (format!("--endpoint={address}"), format!("--query=http://{address}"));
    let fixed = ["load", "--json", &endpoint, &query];
    let cli = Cli::parse_from(fixed.into_iter().chain(arguments.split_whitespace()));
    let now = UNIX_EPOCH + Duration::from_secs(1_780_000_000);
    let mut out = Vec::new();
    let report = run(cli.options, now, &mut out).await?;
    assert!(serde_json::from_slice::<serde_json::Value>(&out).unwrap().is_object());
    Ok(report)
}

#[tokio::test]
async fn finds_again_what_was_acknowledged() {
    for protocol in ["grpc", "http"] {
        let (address, _server) = Server::default().start().await;
        let arguments = format!("--traces 100 --verify --protocol {protocol}");
        let report = load(address, &arguments).await.unwrap();
        assert!(report.is_good());
        assert_eq!(report.acknowledged_spans, report.sent_spans);
        assert_eq!(report.acknowledged_requests, 3);
        let verified = report.verified.unwrap();
        assert_eq!((verified.found_traces, verified.repeated_spans), (100, 0));
    }
}

#[tokio::test]
async fn tries_again_when_told_to() {
    let server = Server { busy: Mutex::new(2), ..Server::default() };
    let (address, _server) = server.start().await;
    let report = load(address, "--traces 42 --senders 1").await.unwrap();
    assert_eq!((report.retried_requests, report.acknowledged_requests), (2, 1));
}

#[tokio::test]
async fn notices_what_was_lost() {
    let server = Server { forgetful: true, ..Server::default() };
    let (address, _server) = server.start().await;
    let report = load(address, "--traces 84 --verify --protocol http").await.unwrap();
    assert!(!report.is_good());
    let verified = report.verified.unwrap();
    assert_eq!((verified.incomplete_traces, verified.lost_spans), (2, 2));
}

#[tokio::test]
async fn verifies_later_by_the_ack_file() {
    let dir = tempfile::tempdir().unwrap();
    let acks = dir.path().join("acks");
    let acks = acks.to_str().unwrap();
    let (address, _server) = Server::default().start().await;
    load(address, &format!("--traces 50 --seed 9 --ack-file {acks}")).await.unwrap();
    let report = load(address, &format!("--verify-only --ack-file {acks}")).await.unwrap();
    assert_eq!(report.verified.unwrap().found_traces, 50);
    let (stranger, _server) = Server::default().start().await;
    let report = load(stranger, &format!("--verify-only --ack-file {acks}")).await.unwrap();
    assert_eq!(report.verified.unwrap().lost_traces, 50);
}

#[tokio::test]
async fn gives_up_on_a_server_that_stays_away() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let report = load(address, "--traces 100 --retry-for 100ms").await.unwrap();
    assert!(!report.is_good());
    assert_eq!(report.acknowledged_spans, 0);
    assert_eq!(report.unanswered_spans, report.sent_spans);
    assert!(report.first_fault.is_some_and(|fault| fault.starts_with("connect to")));
}
