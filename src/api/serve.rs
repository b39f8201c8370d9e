//! The listener: HTTP/1.1 and HTTP/2 without TLS on one port, told apart by the first bytes.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use crate::api::Api;

/// A client that has not sent its request's head by then is cut off.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// What requests under way get to finish after the stop.
const GRACE: Duration = Duration::from_secs(5);

/// How long to wait when a connection cannot be accepted, which is mostly for want of file
/// descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Room for a URL of 64 KiB, the longest that hyper parses, and the headers beside it.
const MAX_HEADER_LIST: u32 = 128 << 10;

/// gRPC clients put all their queries on one connection.
const MAX_STREAMS: u32 = 1000;

/// A peer that vanished without a goodbye is noticed by unanswered pings.
const PING_EVERY: Duration = Duration::from_secs(60);

/// Answers connections until `stop`, then finishes the requests under way for a short while.
pub async fn serve(listener: TcpListener, shared: Arc<Api>, stop: CancellationToken) {
    let builder = builder();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            // Cancel-safe: only waits for a flag.
            () = stop.cancelled() => break,
            // Cancel-safe: a connection is either returned or still in the backlog.
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let (shared, stop) = (Arc::clone(&shared), stop.clone());
                    connections.spawn(connection(builder.clone(), stream, shared, stop));
                }
                Err(e) => {
                    warn!(err = %e, "a connection to the query port was not accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            // Cancel-safe: a task that ended stays in the set until it is returned.
            Some(ended) = connections.join_next() => if let Err(e) = ended {
                error!(err = %e, "a connection to the query port ended in a panic");
            },
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(GRACE, all).await.is_err() {
        warn!(connections = connections.len(), "queries were cut off by the stop");
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEADER_LIST)
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(PING_EVERY);
    builder
}

async fn connection(
    builder: Builder<TokioExecutor>,
    stream: TcpStream,
    shared: Arc<Api>,
    stop: CancellationToken,
) {
    // The builder would wait for the first byte for ever.
    let mut first = [0];
    let speaks = stop.run_until_cancelled(timeout(HEADER_TIMEOUT, stream.peek(&mut first))).await;
    if !matches!(speaks, Some(Ok(Ok(1)))) {
        return;
    }
    if let Err(e) = stream.set_nodelay(true) {
        debug!(err = %e, "a connection cannot be set to send at once");
    }
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(shared.handle(request).await) }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        // The connection is polled on below, so nothing of it is lost.
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(e) = ended {
        debug!(err = %e, "a connection to the query port broke");
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};
    use hyper::Request;
    use hyper::client::conn::http2;
    use hyper::header::{CONTENT_TYPE, HeaderMap};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::api::State;
    use crate::api::tests::api;

    /// An edge on a free port, and what ends it.
    async fn started(api: Api) -> (std::net::SocketAddr, CancellationToken, JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, Arc::new(api), stop.clone()));
        (address, stop, tasks)
    }

    async fn http1(address: std::net::SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Head and trailers of a gRPC answer, and its body.
    async fn grpc(
        sender: &mut http2::SendRequest<Full<bytes::Bytes>>,
        path: &str,
        body: &'static [u8],
    ) -> (HeaderMap, HeaderMap, bytes::Bytes) {
        let request = Request::post(format!("http://localhost{path}"))
            .header(CONTENT_TYPE, "application/grpc+proto")
            .body(Full::new(bytes::Bytes::from_static(body)))
            .unwrap();
        let (head, body) = sender.send_request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap();
        let trailers = body.trailers().cloned().unwrap_or_default();
        (head.headers, trailers, body.to_bytes())
    }

    #[tokio::test]
    async fn both_protocols_on_one_port() {
        let api = api();
        api.readiness.set(State::Ready);
        let (address, stop, mut tasks) = started(api).await;
        let answer =
            http1(address, "GET /ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nready\n"), "{answer}");
        let answer =
            http1(address, "HEAD /ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        assert!(answer.contains("content-length: 6\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");

        let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tasks.spawn(async { connection.await.unwrap() });
        let plain = Request::get("http://localhost/api/echo").body(Full::default()).unwrap();
        let echo = sender.send_request(plain).await.unwrap().into_body().collect().await.unwrap();
        assert_eq!(echo.to_bytes(), "echo\n");
        let check = "/grpc.health.v1.Health/Check";
        let (head, trailers, body) = grpc(&mut sender, check, &[0, 0, 0, 0, 0]).await;
        assert_eq!(head["content-type"], "application/grpc");
        assert_eq!(trailers["grpc-status"], "0");
        assert_eq!(body, [0, 0, 0, 0, 2, 8, 1][..]);
        let search = "/tempopb.StreamingQuerier/Search";
        let (head, ..) = grpc(&mut sender, search, &[0, 0, 0, 0, 2, 0x48, 101]).await;
        assert_eq!(head["grpc-status"], "3");
        assert_eq!(head["grpc-message"], "spans per span set exceeds 100. received 101");
        let (head, ..) = grpc(&mut sender, "/tempopb.StreamingQuerier/Nope", &[0; 5]).await;
        assert_eq!(head["grpc-status"], "12");
        let range = "/tempopb.StreamingQuerier/MetricsQueryRange";
        assert_eq!(grpc(&mut sender, range, &[0; 5]).await.0["grpc-status"], "12");

        drop(sender);
        stop.cancel();
        while tasks.join_next().await.is_some() {}
    }
}
