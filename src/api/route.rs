//! Which route a path means: a match on decoded path segments. Pure; no path makes it panic.
#![deny(clippy::indexing_slicing)]

use crate::api::params::decode_path;

/// Every route of the HTTP edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    Echo,
    BuildInfo,
    TraceV1,
    TraceV2,
    Search,
    Tags,
    TagsV2,
    TagValues,
    TagValuesV2,
    QueryRange,
    QueryInstant,
    Ready,
    Live,
    Metrics,
    Memberlist,
    Status,
    StatusPart,
}

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A route, and the variable part of its path, decoded; empty if it has none.
    Route(Route, String),
    /// The path has doubled slashes or dots: the client is sent to this one.
    Redirect(String),
    /// A broken percent escape.
    Malformed,
    Unknown,
}

impl Route {
    pub const ALL: [Route; 17] = [
        Route::Echo,
        Route::BuildInfo,
        Route::TraceV1,
        Route::TraceV2,
        Route::Search,
        Route::Tags,
        Route::TagsV2,
        Route::TagValues,
        Route::TagValuesV2,
        Route::QueryRange,
        Route::QueryInstant,
        Route::Ready,
        Route::Live,
        Route::Metrics,
        Route::Memberlist,
        Route::Status,
        Route::StatusPart,
    ];

    /// The path, without the configured prefix, and with its variable part in braces.
    pub fn template(self) -> &'static str {
        self.names().0
    }

    /// The `route` label of metrics.
    pub fn label(self) -> &'static str {
        self.names().1
    }

    /// Whether methods other than GET are refused.
    pub fn only_get(self) -> bool {
        matches!(self, Route::BuildInfo | Route::Status | Route::StatusPart)
    }

    /// The template, and the label that Tempo's metrics make of it: lower case, all other
    /// characters as one `_`.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Route::Echo => ("/api/echo", "api_echo"),
            Route::BuildInfo => ("/api/status/buildinfo", "api_status_buildinfo"),
            Route::TraceV1 => ("/api/traces/{traceID}", "api_traces_traceid"),
            Route::TraceV2 => ("/api/v2/traces/{traceID}", "api_v2_traces_traceid"),
            Route::Search => ("/api/search", "api_search"),
            Route::Tags => ("/api/search/tags", "api_search_tags"),
            Route::TagsV2 => ("/api/v2/search/tags", "api_v2_search_tags"),
            Route::TagValues => {
                ("/api/search/tag/{tagName}/values", "api_search_tag_tagname_values")
            }
            Route::TagValuesV2 => {
                ("/api/v2/search/tag/{tagName}/values", "api_v2_search_tag_tagname_values")
            }
            Route::QueryRange => ("/api/metrics/query_range", "api_metrics_query_range"),
            Route::QueryInstant => ("/api/metrics/query", "api_metrics_query"),
            Route::Ready => ("/ready", "ready"),
            Route::Live => ("/livez", "livez"),
            Route::Metrics => ("/metrics", "metrics"),
            Route::Memberlist => ("/memberlist", "memberlist"),
            Route::Status => ("/status", "status"),
            Route::StatusPart => ("/status/{endpoint}", "status_endpoint"),
        }
    }
}

/// Finds the target of a path as it stands in the URL. `prefix` stands before `/api` paths and no
/// others.
pub fn find(path: &str, prefix: &str) -> Target {
    let clean = clean(path);
    if clean != path {
        return Target::Redirect(clean);
    }
    let prefix = prefix.trim_matches('/');
    let under_prefix = match prefix {
        "" => Some(path),
        _ => path
            .strip_prefix('/')
            .and_then(|path| path.strip_prefix(prefix))
            .filter(|rest| rest.starts_with("/api/")),
    };
    let is_api = path.starts_with("/api/");
    let Some(path) = under_prefix.or((!is_api).then_some(path)) else { return Target::Unknown };
    let decoded: Option<Vec<String>> = path.split('/').skip(1).map(decode_path).collect();
    let Some(decoded) = decoded else { return Target::Malformed };
    let segments: Vec<&str> = decoded.iter().map(String::as_str).collect();
    match matched(&segments) {
        Some((route, variable)) => Target::Route(route, variable),
        None => Target::Unknown,
    }
}

/// A tag may hold slashes, as escapes or as they are: clients send both.
fn matched(segments: &[&str]) -> Option<(Route, String)> {
    let fixed = |route| Some((route, String::new()));
    let variable = |route, text: String| (!text.is_empty()).then_some((route, text));
    match segments {
        ["api", "echo"] => fixed(Route::Echo),
        ["api", "status", "buildinfo"] => fixed(Route::BuildInfo),
        ["api", "v2", "traces", "diff"] => None,
        ["api", "traces", id] => variable(Route::TraceV1, (*id).to_owned()),
        ["api", "v2", "traces", id] => variable(Route::TraceV2, (*id).to_owned()),
        ["api", "search"] => fixed(Route::Search),
        ["api", "search", "tags"] => fixed(Route::Tags),
        ["api", "v2", "search", "tags"] => fixed(Route::TagsV2),
        ["api", "search", "tag", tag @ .., "values"] => variable(Route::TagValues, tag.join("/")),
        ["api", "v2", "search", "tag", tag @ .., "values"] => {
            variable(Route::TagValuesV2, tag.join("/"))
        }
        ["api", "metrics", "query_range"] => fixed(Route::QueryRange),
        ["api", "metrics", "query"] => fixed(Route::QueryInstant),
        ["ready"] => fixed(Route::Ready),
        ["livez"] => fixed(Route::Live),
        ["metrics"] => fixed(Route::Metrics),
        ["memberlist"] => fixed(Route::Memberlist),
        ["status"] => fixed(Route::Status),
        ["status", part] => variable(Route::StatusPart, (*part).to_owned()),
        _ => None,
    }
}

/// The path without empty segments, `.` and `..`; a slash at the end stays.
fn clean(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            _ => kept.push(segment),
        }
    }
    let end = if path.ends_with('/') && !kept.is_empty() { "/" } else { "" };
    format!("/{}{end}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(path: &str, route: Route, variable: &str) {
        assert_eq!(find(path, ""), Target::Route(route, variable.to_owned()), "{path}");
    }

    #[test]
    fn every_template_leads_to_its_route() {
        for route in Route::ALL {
            let path = route.template();
            let variable = path.split(['{', '}']).nth(1);
            let expected = variable.map_or(String::new(), |name| format!("{{{name}}}"));
            check(path, route, &expected);
            let mut label = String::new();
            for part in path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|p| !p.is_empty()) {
                let between = if label.is_empty() { "" } else { "_" };
                label.push_str(&format!("{between}{}", part.to_lowercase()));
            }
            // A `_` that stands in the path stays as it is.
            assert_eq!(route.label(), label, "{path}");
        }
    }

    #[test]
    fn variables_are_decoded() {
        check("/api/v2/search/tag/span.a%2Fb/values", Route::TagValuesV2, "span.a/b");
        check("/api/v2/search/tag/span.a/b/values", Route::TagValuesV2, "span.a/b");
        check("/api/search/tag/a+%C3%A9/values", Route::TagValues, "a+é");
        check("/api/search/tag/values/values", Route::TagValues, "values");
        assert_eq!(find("/api/search/tag/%zz/values", ""), Target::Malformed);
    }

    #[test]
    fn other_paths_are_unknown() {
        let unknown =
            ["/", "/api", "/api/search/", "/api/traces", "/api/traces/", "/api/nope", "*"];
        let more = ["/api/search/tag/values", "/api/v2/traces/diff", "/status/a/b", "/flush"];
        for path in unknown.into_iter().chain(more) {
            let found = find(path, "");
            assert!(matches!(found, Target::Unknown | Target::Redirect(_)), "{path}: {found:?}");
        }
    }

    #[test]
    fn crooked_paths_are_redirected() {
        let to = |path: &str| Target::Redirect(path.to_owned());
        assert_eq!(find("//api//search", ""), to("/api/search"));
        assert_eq!(find("/api/./x/../search/", ""), to("/api/search/"));
        assert_eq!(find("//evil.example/..//..", ""), to("/"));
        assert_eq!(find("/api%2F%2Fsearch", ""), Target::Unknown);
    }

    #[test]
    fn the_prefix_stands_before_api_alone() {
        for prefix in ["/tempo", "tempo/"] {
            let found = find("/tempo/api/echo", prefix);
            assert_eq!(found, Target::Route(Route::Echo, String::new()));
            assert_eq!(find("/api/echo", prefix), Target::Unknown);
            assert_eq!(find("/tempo/ready", prefix), Target::Unknown);
            assert_eq!(find("/ready", prefix), Target::Route(Route::Ready, String::new()));
        }
    }

    proptest! {
        #[test]
        fn no_path_panics(path in "(/|%2F|%|api|v2|search|tag|values|\\.|\\PC){0,12}", prefix in "/?[a-z]{0,3}") {
            if let Target::Redirect(clean) = find(&path, &prefix) {
                prop_assert!(!clean.contains("//"));
                prop_assert!(!matches!(find(&clean, &prefix), Target::Redirect(_)), "{}", clean);
            }
        }
    }
}
