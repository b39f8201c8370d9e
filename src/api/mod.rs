//! The query edge: Tempo's HTTP API and its gRPC streaming twin, on top of `query`.
//!
//! Reads requests, checks them, asks `query`, and gives the answer the form that the client wants.
//! It computes no answer itself: everything here is parsing and rendering. Each request takes the
//! way of [`Api::handle`].

mod answer;
pub mod json;
mod meter;
mod params;
mod route;
mod search;
mod serve;
mod status;
mod stream;
mod tags;
mod time;
mod trace;
pub mod wire;

use std::future::Future;
use std::sync::OnceLock;
use std::time::SystemTime;

use bytes::Bytes;
use hyper::header::{ALLOW, HeaderValue, LOCATION};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use thiserror::Error;
use tracing::{debug, error};

use crate::config;
use crate::cpu::Cpu;
use crate::model::{TenantError, TenantId};
use crate::query::{Query, QueryError};

pub use answer::Body;
pub use serve::serve;
pub use status::{ConfigTexts, Readiness, State};

use answer::{Encoding, Form};
use meter::Meter;
use params::{Params, bad};
use route::{Route, Target};

/// Work on fewer bytes than this takes less time than it takes to hand it to another thread, or
/// about as much.
const INLINE_BYTES: usize = 128 << 10;

/// Everything that a request needs.
pub struct Api {
    /// Set once, when the store can be asked. Until then queries are refused.
    pub query: OnceLock<Query>,
    pub readiness: Readiness,
    pub limits: config::Query,
    pub tenancy: config::Tenancy,
    pub cpu: Cpu,
    pub config_texts: ConfigTexts,
}

/// What a client is told instead of an answer.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ApiError {
    #[error("{0}")]
    Bad(String),
    #[error("no org id")]
    NoTenant,
    #[error("{0}")]
    TooLarge(String),
    #[error("metronome is starting{0}")]
    Starting(String),
    #[error("context canceled")]
    Cancelled,
    #[error("context deadline exceeded")]
    Timeout,
    #[error("{0}")]
    Internal(String),
}

/// A query over HTTP, as far as all of them are alike.
struct Call {
    tenants: Vec<TenantId>,
    params: Params,
    form: Form,
    now_nanos: u64,
}

impl ApiError {
    fn status(&self) -> StatusCode {
        match self {
            ApiError::Bad(_) => StatusCode::BAD_REQUEST,
            ApiError::NoTenant => StatusCode::UNAUTHORIZED,
            ApiError::TooLarge(_) => StatusCode::UNPROCESSABLE_ENTITY,
            ApiError::Starting(_) => StatusCode::SERVICE_UNAVAILABLE,
            // 499 is nginx's number for a client that went away.
            ApiError::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            ApiError::Timeout => StatusCode::GATEWAY_TIMEOUT,
            ApiError::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Texts of the edge end their line, as Tempo's do; those of the query do not.
    fn answer(&self) -> Response<Bytes> {
        let end = if *self == ApiError::NoTenant { "\n" } else { "" };
        answer::text(self.status(), format!("{self}{end}"))
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> ApiError {
        match error {
            QueryError::Bad(text) => ApiError::Bad(text),
            QueryError::TooLarge(text) => ApiError::TooLarge(text),
            QueryError::Starting => ApiError::Starting(String::new()),
            QueryError::Cancelled => ApiError::Cancelled,
            QueryError::Internal(text) => ApiError::Internal(text),
        }
    }
}

impl Api {
    /// Answers one request of either protocol.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: hyper::body::Body<Data = Bytes> + Unpin,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let (head, body) = request.into_parts();
        if stream::is_grpc(&head) {
            return stream::handle(self, &head, body).await;
        }
        let target = route::find(head.uri.path(), &self.limits.http_api_prefix);
        let meter = Meter::http(&head.method, label(&target));
        let answer = match self.answer(&head, target).await {
            Ok(answer) => answer,
            Err(e) => {
                log(&e, head.uri.path());
                e.answer()
            }
        };
        let encoding = Encoding::of(&head.headers);
        let size = encoding.map_or(0, |_| answer.body().len());
        let answer = self.compute(size, move || answer::compressed(answer, encoding)).await;
        let status = answer.status().as_u16();
        debug!(method = %head.method, path = head.uri.path(), status, "query");
        meter.status(answer.status());
        if head.method == Method::HEAD { answer::head_only(answer) } else { answer::whole(answer) }
    }

    async fn answer(&self, head: &Parts, target: Target) -> Result<Response<Bytes>, ApiError> {
        let (route, variable) = match target {
            Target::Route(route, _) if route.only_get() && head.method != Method::GET => {
                let mut refusal = answer::empty(StatusCode::METHOD_NOT_ALLOWED);
                refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
                return Ok(refusal);
            }
            Target::Route(route, variable) => (route, variable),
            Target::Redirect(path) => return redirect(&path, head.uri.query()),
            Target::Malformed => return Err(bad("invalid URL escape in the path")),
            Target::Unknown => return Ok(status::not_found()),
        };
        let params = Params::parse(head.uri.query());
        Ok(match route {
            Route::Echo => status::echo(),
            Route::BuildInfo => status::build_info(),
            Route::Ready => status::ready(&self.readiness.get()),
            Route::Live => status::live(),
            Route::Metrics => status::metrics(),
            Route::Memberlist => status::memberlist(),
            Route::Status => status::all(self),
            Route::StatusPart => status::part(self, &variable, params.get("mode")),
            _ => {
                let tenants = self.tenants(&head.headers)?;
                let form = Form::of(&head.headers);
                let call = Call { tenants, params, form, now_nanos: now_nanos() };
                return self.query_answer(route, &variable, &call).await;
            }
        })
    }

    async fn query_answer(
        &self,
        route: Route,
        variable: &str,
        call: &Call,
    ) -> Result<Response<Bytes>, ApiError> {
        match route {
            Route::TraceV1 => trace::v1(self, call, variable).await,
            Route::TraceV2 => trace::v2(self, call, variable).await,
            Route::Search => search::search(self, call).await,
            Route::Tags => tags::names(self, call).await,
            Route::TagsV2 => tags::names_v2(self, call).await,
            Route::TagValues => tags::values(self, call, variable).await,
            Route::TagValuesV2 => tags::values_v2(self, call, variable).await,
            Route::QueryRange | Route::QueryInstant => Err(bad(NO_METRICS)),
            _ => Ok(status::not_found()),
        }
    }

    /// Whose data a request may see: several tenants are joined by `|`. Of several headers the
    /// first counts.
    fn tenants(&self, headers: &HeaderMap) -> Result<Vec<TenantId>, ApiError> {
        if !self.tenancy.enabled {
            return Ok(vec![TenantId::single()]);
        }
        let bytes = headers.get("x-scope-orgid").map(HeaderValue::as_bytes).unwrap_or_default();
        parse_tenants(&String::from_utf8_lossy(bytes))
    }

    /// The query layer, once it can answer completely.
    fn query(&self) -> Result<&Query, ApiError> {
        if let State::Starting(doing) = self.readiness.get() {
            let doing = if doing.is_empty() { doing } else { format!(": {doing}") };
            return Err(ApiError::Starting(doing));
        }
        self.query.get().ok_or_else(|| ApiError::Starting(String::new()))
    }

    /// Waits for a query no longer than the configured time. Giving up drops it, which stops it.
    async fn timed<T>(
        &self,
        query: impl Future<Output = Result<T, QueryError>>,
    ) -> Result<T, ApiError> {
        match tokio::time::timeout(self.limits.timeout, query).await {
            Ok(result) => result.map_err(ApiError::from),
            Err(_) => Err(ApiError::Timeout),
        }
    }

    /// Runs work over about so many bytes: here if it is little, else on the pool.
    async fn compute<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        if bytes < INLINE_BYTES { work() } else { self.cpu.run(work).await }
    }
}

const NO_METRICS: &str = "TraceQL metrics queries are not supported by this version";

fn parse_tenants(text: &str) -> Result<Vec<TenantId>, ApiError> {
    let mut tenants = Vec::new();
    for name in text.split('|').filter(|name| !name.is_empty()) {
        let tenant = TenantId::parse(name).map_err(|e| match e {
            TenantError::Empty => ApiError::NoTenant,
            other => bad(other.to_string()),
        })?;
        tenants.push(tenant);
    }
    tenants.sort();
    tenants.dedup();
    if tenants.is_empty() { Err(ApiError::NoTenant) } else { Ok(tenants) }
}

fn label(target: &Target) -> &'static str {
    match target {
        Target::Route(route, _) => route.label(),
        Target::Unknown => "notfound",
        Target::Redirect(_) | Target::Malformed => "other",
    }
}

fn redirect(path: &str, query: Option<&str>) -> Result<Response<Bytes>, ApiError> {
    let location = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let location = HeaderValue::try_from(location).map_err(|_| bad("invalid path"))?;
    let mut response = answer::empty(StatusCode::MOVED_PERMANENTLY);
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

/// Only our own faults are worth a line of the operator's log.
fn log(error: &ApiError, path: &str) {
    match error {
        ApiError::Internal(_) => error!(path, err = %error, "a query failed"),
        _ => debug!(path, err = %error, "a query was refused"),
    }
}

#[expect(clippy::disallowed_methods, reason = "an edge reads the clock, and hands it on")]
fn now_nanos() -> u64 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Empty, Full};
    use proptest::prelude::*;

    use super::*;

    /// An edge without a query layer: requests are checked, and then told to come back.
    pub(super) fn api() -> Api {
        Api {
            query: OnceLock::new(),
            readiness: Readiness::default(),
            limits: config::Query::default(),
            tenancy: config::Tenancy::default(),
            cpu: Cpu::new("test", 1),
            config_texts: ConfigTexts {
                effective: "a = 1\n".repeat(300),
                changed: "b = 2\n".to_owned(),
                defaults: "c = 3\n".to_owned(),
            },
        }
    }

    fn multi_tenant() -> Api {
        Api { tenancy: config::Tenancy { enabled: true }, ..api() }
    }

    /// Status, headers and body of the answer to a request line such as `GET /ready`, with such
    /// headers.
    async fn ask(api: &Api, line: &str, headers: &[(&str, &str)]) -> (u16, HeaderMap, String) {
        let (method, path) = line.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = api.handle(request.body(Empty::new()).unwrap()).await;
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status.as_u16(), head.headers, String::from_utf8_lossy(&body).into_owned())
    }

    async fn text(line: &str) -> (u16, String) {
        let (status, headers, body) = ask(&api(), line, &[]).await;
        assert!(!body.is_empty());
        assert_eq!(headers["content-type"], "text/plain; charset=utf-8");
        assert_eq!(headers["vary"], "Accept-Encoding");
        (status, body)
    }

    fn is(status: u16, body: &str) -> (u16, String) {
        (status, body.to_owned())
    }

    #[tokio::test]
    async fn routes_without_a_query() {
        assert_eq!(text("GET /api/echo").await, is(200, "echo\n"));
        assert_eq!(text("PUT /api/echo?x=y").await, is(200, "echo\n"));
        assert_eq!(text("GET /livez").await, is(200, "ok\n"));
        assert_eq!(text("GET /nope").await, is(404, "404 page not found\n"));
        assert_eq!(text("GET /api/search/").await, is(404, "404 page not found\n"));
        assert_eq!(text("GET /status/nope").await, is(404, "404 page not found\n"));
        let config = "GET /status/config\nb = 2\n";
        assert_eq!(text("GET /status/config?mode=diff").await, is(200, config));
        assert_eq!(text("GET /status/config?mode=x").await.0, 500);
        let status = text("GET /status").await.1;
        assert!(status.starts_with("GET /status/version\n"), "{status}");
        assert!(status.contains("GET /status/config\na = 1\n"), "{status}");
        assert_eq!(text("POST /ready").await.0, 503);
    }

    #[tokio::test]
    async fn methods_are_restricted_where_tempo_does() {
        for path in ["/status", "/status/version", "/api/status/buildinfo"] {
            let (status, _, body) = ask(&api(), &format!("POST {path}"), &[]).await;
            assert_eq!((status, body.as_str()), (405, ""), "{path}");
        }
    }

    #[tokio::test]
    async fn doubled_slashes_are_redirected() {
        let (status, headers, body) = ask(&api(), "GET /api//search?q={}", &[]).await;
        assert_eq!((status, body.as_str()), (301, ""));
        assert_eq!(headers["location"], "/api/search?q={}");
    }

    #[tokio::test]
    async fn queries_wait_for_the_start() {
        let starting = is(503, "metronome is starting");
        let paths =
            ["traces/beef", "v2/traces/beef", "search?q={}", "search/tags", "v2/search/tags"];
        let more = ["search/tag/a/values", "v2/search/tag/span.a/values?tag=x"];
        for path in paths.into_iter().chain(more) {
            assert_eq!(text(&format!("GET /api/{path}")).await, starting, "{path}");
            assert_eq!(text(&format!("POST /api/{path}")).await, starting, "{path}");
        }
        let api = api();
        api.readiness.set(State::Starting("replaying".to_owned()));
        let (_, _, body) = ask(&api, "GET /api/search", &[]).await;
        assert_eq!(body, "metronome is starting: replaying");
    }

    #[tokio::test]
    async fn faults_are_plain_text() {
        let bad = |body: &str| is(400, body);
        let nothex =
            "trace IDs can only contain hex characters: invalid character 'z' at position 1";
        assert_eq!(text("GET /api/traces/z").await, bad(nothex));
        assert_eq!(text("GET /api/v2/traces/z").await, bad(nothex));
        let filter = "the span filter q is not supported by this version";
        assert_eq!(text("GET /api/v2/traces/a?q={}").await, bad(filter));
        assert_eq!(text("GET /api/v2/traces/a?q=+").await.0, 503);
        assert_eq!(text("GET /api/traces/a?q={}").await.0, 503);
        assert_eq!(text("GET /api/metrics/query_range?q={}").await, bad(NO_METRICS));
        assert_eq!(text("GET /api/metrics/query").await, bad(NO_METRICS));
        assert_eq!(text("GET /api/search/tags?scope=foo").await, bad("invalid scope: foo"));
        assert_eq!(text("GET /api/search/tag/%zz/values").await.0, 400);
        assert_eq!(text("GET /api/metrics/summary").await.0, 404);
    }

    #[tokio::test]
    async fn tenants_are_required_where_they_are_told_apart() {
        let org = |value| [("X-Scope-OrgID", value)];
        let ask = async |headers: &[(&str, &str)]| {
            let (status, _, body) = ask(&multi_tenant(), "GET /api/search?q={}", headers).await;
            (status, body)
        };
        assert_eq!(ask(&[]).await, is(401, "no org id\n"));
        assert_eq!(ask(&org("")).await, is(401, "no org id\n"));
        let bad = "tenant ID 'a/b' contains unsupported character '/'";
        assert_eq!(ask(&org("x|a/b")).await, is(400, bad));
        assert_eq!(ask(&org("a|b")).await.0, 503);
        assert_eq!(text("GET /api/search?q={}").await.0, 503);
        let names = |text| parse_tenants(text).map(|t| format!("{t:?}"));
        assert_eq!(names("b|a|b|"), Ok("[a, b]".to_owned()));
        assert_eq!(names("|"), Err(ApiError::NoTenant));
    }

    #[tokio::test]
    async fn large_answers_are_compressed_and_head_has_none() {
        let offers = [("Accept-Encoding", "gzip, zstd")];
        let (status, headers, _) = ask(&api(), "GET /status/config", &offers).await;
        assert_eq!(
            (status, &headers["content-encoding"]),
            (200, &HeaderValue::from_static("zstd"))
        );
        let (status, headers, body) = ask(&api(), "HEAD /api/echo", &[]).await;
        assert_eq!((status, body.as_str()), (200, ""));
        assert_eq!(headers["content-length"], "5");
    }

    #[tokio::test]
    async fn the_prefix_moves_the_api() {
        let limits = config::Query { http_api_prefix: "/tempo".to_owned(), ..Default::default() };
        let api = Api { limits, ..api() };
        assert_eq!(ask(&api, "GET /tempo/api/echo", &[]).await.0, 200);
        assert_eq!(ask(&api, "GET /api/echo", &[]).await.0, 404);
        assert_eq!(ask(&api, "GET /livez", &[]).await.0, 200);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_request_panics(
            path in "/(api|v2|search|tag|traces|values|status|[/%.?=&|a-f0-9]){0,12}",
            header in "[ -~]{0,12}",
            body: Vec<u8>,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let names = ["accept", "accept-encoding", "x-scope-orgid", "content-type"];
            for version in [hyper::Version::HTTP_11, hyper::Version::HTTP_2] {
                let mut request = Request::builder().uri(&path).version(version);
                for name in names {
                    request = request.header(name, &header);
                }
                if let Ok(request) = request.body(Full::new(Bytes::from(body.clone()))) {
                    runtime.block_on(multi_tenant().handle(request));
                }
            }
        }
    }
}
