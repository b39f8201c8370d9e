//! The metrics of the edge: how many requests, how long, how many at once.

use std::time::Instant;

use hyper::{Method, StatusCode};

use crate::telemetry::{API_REQUEST_DURATION_SECONDS, API_REQUESTS_INFLIGHT};

/// Counts one request from its construction to its drop. A request that is dropped without an
/// outcome was left by its client.
pub struct Meter {
    method: &'static str,
    route: &'static str,
    started: Instant,
    outcome: String,
}

/// The `method` of a gRPC call, as Tempo's metrics have it.
const GRPC: &str = "gRPC";

impl Meter {
    pub fn http(method: &Method, route: &'static str) -> Meter {
        Meter::start(method_label(method), route, "499")
    }

    /// `route` is the full method.
    pub fn grpc(route: &'static str) -> Meter {
        Meter::start(GRPC, route, "error")
    }

    pub fn status(mut self, status: StatusCode) {
        status.as_str().clone_into(&mut self.outcome);
    }

    pub fn success(mut self) {
        "success".clone_into(&mut self.outcome);
    }

    fn start(method: &'static str, route: &'static str, left: &str) -> Meter {
        metrics::gauge!(API_REQUESTS_INFLIGHT, "method" => method, "route" => route).increment(1);
        Meter { method, route, started: Instant::now(), outcome: left.to_owned() }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let (method, route) = (self.method, self.route);
        metrics::gauge!(API_REQUESTS_INFLIGHT, "method" => method, "route" => route).decrement(1);
        let outcome = std::mem::take(&mut self.outcome);
        metrics::histogram!(
            API_REQUEST_DURATION_SECONDS,
            "method" => method, "route" => route, "status_code" => outcome, "ws" => "false",
        )
        .record(self.started.elapsed());
    }
}

/// A closed set: a client can send any method.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "other",
    }
}
