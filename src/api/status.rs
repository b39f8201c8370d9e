//! What the process tells about itself: readiness, liveness, build, configuration, metrics.

use bytes::Bytes;
use hyper::{Response, StatusCode};
use tokio::sync::watch;

use crate::api::route::Route;
use crate::api::{Api, answer};

/// The level of Tempo's API that is served. Grafana turns features on by comparing it.
const TEMPO_API: &str = "3.0.3";

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How far the process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Queries would miss data. The text says for people what is being done.
    Starting(String),
    Ready,
    /// Queries are still answered, but nobody should send new work here.
    Stopping,
}

/// The state as `app` sets it and everybody sees it.
#[derive(Debug)]
pub struct Readiness(watch::Sender<State>);

impl Default for Readiness {
    fn default() -> Readiness {
        Readiness(watch::Sender::new(State::Starting(String::new())))
    }
}

impl Readiness {
    pub fn set(&self, state: State) {
        self.0.send_replace(state);
    }

    pub fn get(&self) -> State {
        self.0.borrow().clone()
    }
}

/// The configuration as text, secrets masked.
#[derive(Clone, Debug, Default)]
pub struct ConfigTexts {
    /// What is in force.
    pub effective: String,
    /// Only what differs from the defaults.
    pub changed: String,
    pub defaults: String,
}

pub fn echo() -> Response<Bytes> {
    answer::text(StatusCode::OK, "echo\n")
}

pub fn build_info() -> Response<Bytes> {
    answer::typed(
        answer::JSON,
        format!(
            r#"{{"version":"{TEMPO_API}","revision":"{VERSION}","branch":"","buildUser":"","buildDate":"","goVersion":""}}"#
        ),
    )
}

pub fn ready(state: &State) -> Response<Bytes> {
    match state {
        State::Ready => answer::text(StatusCode::OK, "ready\n"),
        State::Stopping => {
            answer::text(StatusCode::SERVICE_UNAVAILABLE, "Application is stopping\n")
        }
        State::Starting(doing) => {
            let mut body = "Some services are not Running:\nStarting: 1\n".to_owned();
            if !doing.is_empty() {
                body.push_str(doing);
                body.push('\n');
            }
            answer::text(StatusCode::SERVICE_UNAVAILABLE, body)
        }
    }
}

/// That this runs shows that the runtime does.
pub fn live() -> Response<Bytes> {
    answer::text(StatusCode::OK, "ok\n")
}

pub fn metrics() -> Response<Bytes> {
    answer::typed("text/plain; version=0.0.4; charset=utf-8", crate::telemetry::render())
}

pub fn memberlist() -> Response<Bytes> {
    answer::text(StatusCode::OK, "This instance doesn't use memberlist.\n")
}

/// All parts, one after the other.
pub fn all(api: &Api) -> Response<Bytes> {
    let parts = ["version", "services", "endpoints", "runtime_config", "config"];
    let texts = parts.iter().filter_map(|part| text(api, part, None)?.ok());
    answer::text(StatusCode::OK, texts.collect::<Vec<_>>().join("\n"))
}

/// One part, `/status/<part>`.
pub fn part(api: &Api, part: &str, mode: Option<&str>) -> Response<Bytes> {
    match text(api, part, mode) {
        Some(Ok(text)) => answer::text(StatusCode::OK, text),
        Some(Err(fault)) => answer::text(StatusCode::INTERNAL_SERVER_ERROR, fault),
        None => not_found(),
    }
}

pub fn not_found() -> Response<Bytes> {
    answer::text(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// A part's text under its title line. `None` if there is no such part.
fn text(api: &Api, part: &str, mode: Option<&str>) -> Option<Result<String, String>> {
    let body = match part {
        "version" => format!("metronome, version {VERSION} (Tempo API {TEMPO_API})\n"),
        "services" => services(&api.readiness.get()),
        "endpoints" => endpoints(&api.limits.http_api_prefix),
        "runtime_config" => "overrides: {}\n".to_owned(),
        "config" => match mode {
            None => api.config_texts.effective.clone(),
            Some("diff") => api.config_texts.changed.clone(),
            Some("defaults") => api.config_texts.defaults.clone(),
            Some(other) => {
                return Some(Err(format!("unknown value for mode query parameter: {other}\n")));
            }
        },
        _ => return None,
    };
    Some(Ok(format!("GET /status/{part}\n{body}")))
}

fn services(state: &State) -> String {
    let (status, doing) = match state {
        State::Starting(doing) => ("Starting", doing.as_str()),
        State::Ready => ("Running", ""),
        State::Stopping => ("Stopping", ""),
    };
    table(&["service name", "status", "doing"], &[["metronome", status, doing]])
}

fn endpoints(prefix: &str) -> String {
    let prefix = match prefix.trim_matches('/') {
        "" => String::new(),
        prefix => format!("/{prefix}"),
    };
    let path = |route: &Route| match route.template() {
        api if api.starts_with("/api/") => format!("{prefix}{api}"),
        other => other.to_owned(),
    };
    let method = |route: &Route| if route.only_get() { "GET" } else { "any" };
    let paths: Vec<String> = Route::ALL.iter().map(path).collect();
    let rows: Vec<[&str; 2]> = paths
        .iter()
        .zip(Route::ALL.iter())
        .map(|(path, route)| [path.as_str(), method(route)])
        .collect();
    table(&["path", "methods"], &rows)
}

/// Columns as wide as their widest cell.
fn table<const N: usize>(titles: &[&str; N], rows: &[[&str; N]]) -> String {
    let all = || std::iter::once(titles).chain(rows);
    let widths: [usize; N] = std::array::from_fn(|at| {
        all().filter_map(|row| row.get(at)).map(|c| c.len()).max().unwrap_or(0)
    });
    let mut out = String::new();
    for row in all() {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn shown(response: &Response<Bytes>) -> (u16, String) {
        (response.status().as_u16(), String::from_utf8(response.body().to_vec()).unwrap())
    }

    #[test]
    fn ready_says_why_not() {
        let of = |state| shown(&ready(&state));
        assert_eq!(of(State::Ready), (200, "ready\n".to_owned()));
        assert_eq!(of(State::Stopping), (503, "Application is stopping\n".to_owned()));
        let starting = "Some services are not Running:\nStarting: 1\n";
        assert_eq!(of(State::Starting(String::new())), (503, starting.to_owned()));
        let replaying = of(State::Starting("replaying the WAL".to_owned()));
        assert_eq!(replaying, (503, format!("{starting}replaying the WAL\n")));
    }

    #[test]
    fn readiness_starts_with_starting() {
        let readiness = Readiness::default();
        assert_eq!(readiness.get(), State::Starting(String::new()));
        readiness.set(State::Ready);
        assert_eq!(readiness.get(), State::Ready);
    }

    #[test]
    fn build_info_names_tempos_level() {
        let info: serde_json::Value = serde_json::from_slice(build_info().body()).unwrap();
        assert_eq!(info["version"], "3.0.3");
        assert_eq!(info["revision"], VERSION);
        assert_eq!(info.as_object().unwrap().len(), 6);
    }

    #[test]
    fn tables_line_up() {
        expect![[r"
            service name  status    doing
            metronome     Starting  replaying
        "]]
        .assert_eq(&services(&State::Starting("replaying".to_owned())));
        let endpoints = endpoints("/tempo/");
        assert!(endpoints.contains("/tempo/api/traces/{traceID}"), "{endpoints}");
        assert!(endpoints.contains("\n/ready "), "{endpoints}");
    }
}
