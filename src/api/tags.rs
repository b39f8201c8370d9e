//! Names and values of tags, in both versions, over HTTP or gRPC.

use bytes::Bytes;
use hyper::Response;

use crate::api::answer::{self, Form};
use crate::api::params::bad;
use crate::api::time::{tags_range, tags_range_of_seconds};
use crate::api::wire::{
    MetadataMetrics, SearchTagValuesRequest, SearchTagValuesResponse, SearchTagValuesV2Response,
    SearchTagsRequest, SearchTagsResponse, SearchTagsV2Response, SearchTagsV2Scope, TagValue,
};
use crate::api::{Api, ApiError, Call, json};
use crate::model::TenantId;
use crate::query::{self, ScopeTags, TagAnswer, TagScope, TagValuesRequest, TagsRequest};

const INTRINSIC: &str = "intrinsic";

/// Intrinsics that a version 1 tag means by their name alone; all other tags are attributes.
const INTRINSICS: [&str; 8] = [
    "duration",
    "kind",
    "name",
    "rootName",
    "rootServiceName",
    "status",
    "statusMessage",
    "traceDuration",
];

pub async fn names(api: &Api, call: &Call) -> Result<Response<Bytes>, ApiError> {
    let request = TagsRequest { filter: None, ..names_request(call)? };
    let scope = request.scope;
    let answer = ask_names(api, &call.tenants, request).await?;
    Ok(answer::message(call.form, &names_message(answer, scope), json::tags))
}

pub async fn names_v2(api: &Api, call: &Call) -> Result<Response<Bytes>, ApiError> {
    let answer = ask_names(api, &call.tenants, names_request(call)?).await?;
    Ok(answer::message(call.form, &names_v2_message(answer), json::tags_v2))
}

pub async fn values(api: &Api, call: &Call, tag: &str) -> Result<Response<Bytes>, ApiError> {
    let request = TagValuesRequest { filter: None, ..values_request(call, identifier(tag))? };
    let answer = ask_values(api, &call.tenants, request).await?;
    Ok(answer::message(call.form, &values_message(answer, tag), json::tag_values))
}

pub async fn values_v2(api: &Api, call: &Call, tag: &str) -> Result<Response<Bytes>, ApiError> {
    let request = values_request(call, tag.to_owned())?;
    let message = values_v2_message(ask_values(api, &call.tenants, request).await?);
    if call.form == Form::Llm {
        return Ok(answer::typed(answer::LLM, json::llm_tag_values(&message)));
    }
    Ok(answer::message(call.form, &message, json::tag_values_v2))
}

/// Names over gRPC.
pub async fn grpc_names(
    api: &Api,
    tenants: &[TenantId],
    message: SearchTagsRequest,
    now_nanos: u64,
) -> Result<SearchTagsResponse, ApiError> {
    let request = TagsRequest { filter: None, ..names_request_of(message, now_nanos)? };
    let scope = request.scope;
    Ok(names_message(ask_names(api, tenants, request).await?, scope))
}

/// Names by scope over gRPC.
pub async fn grpc_names_v2(
    api: &Api,
    tenants: &[TenantId],
    message: SearchTagsRequest,
    now_nanos: u64,
) -> Result<SearchTagsV2Response, ApiError> {
    let request = names_request_of(message, now_nanos)?;
    Ok(names_v2_message(ask_names(api, tenants, request).await?))
}

/// Values as text over gRPC.
pub async fn grpc_values(
    api: &Api,
    tenants: &[TenantId],
    message: SearchTagValuesRequest,
    now_nanos: u64,
) -> Result<SearchTagValuesResponse, ApiError> {
    let tag = message.tag_name.clone();
    let request = values_request_of(message, now_nanos)?;
    let request = TagValuesRequest { tag: identifier(&tag), filter: None, ..request };
    Ok(values_message(ask_values(api, tenants, request).await?, &tag))
}

/// Typed values over gRPC.
pub async fn grpc_values_v2(
    api: &Api,
    tenants: &[TenantId],
    message: SearchTagValuesRequest,
    now_nanos: u64,
) -> Result<SearchTagValuesV2Response, ApiError> {
    let request = values_request_of(message, now_nanos)?;
    Ok(values_v2_message(ask_values(api, tenants, request).await?))
}

async fn ask_names(
    api: &Api,
    tenants: &[TenantId],
    request: TagsRequest,
) -> Result<TagAnswer<ScopeTags>, ApiError> {
    api.timed(api.query()?.tag_names(tenants, request)).await
}

async fn ask_values(
    api: &Api,
    tenants: &[TenantId],
    request: TagValuesRequest,
) -> Result<TagAnswer<query::TagValue>, ApiError> {
    api.timed(api.query()?.tag_values(tenants, request)).await
}

fn names_request(call: &Call) -> Result<TagsRequest, ApiError> {
    Ok(TagsRequest {
        scope: scope(call.params.get("scope").unwrap_or_default())?,
        range: tags_range(&call.params, call.now_nanos)?,
        limit: to_usize(call.params.lenient_limit("limit")),
        filter: call.params.get("q").map(str::to_owned),
    })
}

fn names_request_of(message: SearchTagsRequest, now_nanos: u64) -> Result<TagsRequest, ApiError> {
    Ok(TagsRequest {
        scope: scope(&message.scope)?,
        range: tags_range_of_seconds(message.start, message.end, now_nanos)?,
        limit: to_usize(message.max_tags_per_scope),
        filter: Some(message.query).filter(|query| !query.is_empty()),
    })
}

fn values_request(call: &Call, tag: String) -> Result<TagValuesRequest, ApiError> {
    Ok(TagValuesRequest {
        tag,
        range: tags_range(&call.params, call.now_nanos)?,
        limit: to_usize(call.params.lenient_limit("limit")),
        filter: call.params.get("q").map(str::to_owned),
    })
}

fn values_request_of(
    message: SearchTagValuesRequest,
    now_nanos: u64,
) -> Result<TagValuesRequest, ApiError> {
    if message.tag_name.is_empty() {
        return Err(bad("please provide a tagName"));
    }
    Ok(TagValuesRequest {
        tag: message.tag_name,
        range: tags_range_of_seconds(message.start, message.end, now_nanos)?,
        limit: to_usize(message.max_tag_values),
        filter: Some(message.query).filter(|query| !query.is_empty()),
    })
}

fn to_usize(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn scope(text: &str) -> Result<TagScope, ApiError> {
    Ok(match text {
        "" | "none" => TagScope::All,
        "resource" => TagScope::Resource,
        "span" => TagScope::Span,
        "event" => TagScope::Event,
        "link" => TagScope::Link,
        "instrumentation" => TagScope::Instrumentation,
        "trace" => TagScope::Trace,
        INTRINSIC => TagScope::Intrinsic,
        other => return Err(bad(format!("invalid scope: {other}"))),
    })
}

/// The TraceQL identifier that a tag of version 1 means: an intrinsic, or an attribute of any
/// scope.
fn identifier(tag: &str) -> String {
    if INTRINSICS.contains(&tag) {
        return tag.to_owned();
    }
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    if !tag.is_empty() && tag.chars().all(plain) {
        return format!(".{tag}");
    }
    format!(".\"{}\"", tag.replace('\\', "\\\\").replace('"', "\\\""))
}

/// All scopes as one list. Intrinsics are in it only if they were asked for.
fn names_message(answer: TagAnswer<ScopeTags>, scope: TagScope) -> SearchTagsResponse {
    let all = matches!(scope, TagScope::All);
    let scopes = answer.items.into_iter().filter(|tags| !(all && tags.scope == INTRINSIC));
    let mut tag_names: Vec<String> = scopes.flat_map(|scope| scope.tags).collect();
    tag_names.sort_unstable();
    tag_names.dedup();
    SearchTagsResponse { tag_names, metrics: metrics(answer.inspected_bytes) }
}

fn names_v2_message(answer: TagAnswer<ScopeTags>) -> SearchTagsV2Response {
    let scopes = answer.items.into_iter().filter(|scope| !scope.tags.is_empty());
    SearchTagsV2Response {
        scopes: scopes
            .map(|scope| SearchTagsV2Scope { name: scope.scope.to_owned(), tags: scope.tags })
            .collect(),
        metrics: metrics(answer.inspected_bytes),
    }
}

/// Values as text. `status.code` and `error` are no attributes, but Tempo's first clients offer
/// them as tags.
fn values_message(answer: TagAnswer<query::TagValue>, tag: &str) -> SearchTagValuesResponse {
    let virtual_values: &[&str] = match tag {
        "status.code" => &["error", "ok", "unset"],
        "error" => &["true"],
        _ => &[],
    };
    let found = answer.items.into_iter().map(|value| value.value);
    let mut tag_values: Vec<String> = found.filter(|value| !value.is_empty()).collect();
    tag_values.extend(virtual_values.iter().map(|value| (*value).to_owned()));
    tag_values.sort_unstable();
    tag_values.dedup();
    SearchTagValuesResponse { tag_values, metrics: metrics(answer.inspected_bytes) }
}

/// Typed values, by type and then by value. Empty ones are of no use to anybody.
fn values_v2_message(answer: TagAnswer<query::TagValue>) -> SearchTagValuesV2Response {
    let found = answer.items.into_iter().filter(|value| !value.value.is_empty());
    let mut tag_values: Vec<TagValue> =
        found.map(|v| TagValue { kind: v.kind.to_owned(), value: v.value }).collect();
    tag_values.sort_unstable_by(|a, b| (&a.kind, &a.value).cmp(&(&b.kind, &b.value)));
    SearchTagValuesV2Response { tag_values, metrics: metrics(answer.inspected_bytes) }
}

fn metrics(inspected_bytes: u64) -> Option<MetadataMetrics> {
    Some(MetadataMetrics { inspected_bytes, ..MetadataMetrics::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::params::Params;

    fn call(query: &str) -> Call {
        Call {
            tenants: vec![TenantId::single()],
            params: Params::parse(Some(query)),
            form: Form::Json,
            now_nanos: 1_700_000_000_000_000_000,
        }
    }

    fn scopes() -> TagAnswer<ScopeTags> {
        let tags = |scope, tags: &[&str]| ScopeTags {
            scope,
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        };
        let items = vec![
            tags("resource", &["service.name", "x"]),
            tags("span", &["http.method", "x"]),
            tags("link", &[]),
            tags("intrinsic", &["duration", "name"]),
        ];
        TagAnswer { items, inspected_bytes: 14_847 }
    }

    fn found(values: &[(&'static str, &str)]) -> TagAnswer<query::TagValue> {
        let value = |(kind, value): &(&'static str, &str)| query::TagValue {
            kind,
            value: (*value).to_owned(),
        };
        TagAnswer { items: values.iter().map(value).collect(), inspected_bytes: 86 }
    }

    fn text(json: &[u8]) -> &str {
        str::from_utf8(json).unwrap()
    }

    #[test]
    fn names_by_version() {
        assert_eq!(
            text(&json::tags(&names_message(scopes(), TagScope::All))),
            r#"{"tagNames":["http.method","service.name","x"],"metrics":{"inspectedBytes":"14847"}}"#
        );
        let intrinsic = names_message(scopes(), TagScope::Intrinsic).tag_names;
        assert!(intrinsic.contains(&"duration".to_owned()));
        assert_eq!(
            text(&json::tags_v2(&names_v2_message(scopes()))),
            r#"{"scopes":[{"name":"resource","tags":["service.name","x"]},{"name":"span","tags":["http.method","x"]},{"name":"intrinsic","tags":["duration","name"]}],"metrics":{"inspectedBytes":"14847"}}"#
        );
    }

    #[test]
    fn values_by_version() {
        let values = || {
            found(&[
                ("string", "web"),
                ("int", "200"),
                ("string", ""),
                ("int", "7"),
                ("string", "cart"),
            ])
        };
        assert_eq!(
            text(&json::tag_values(&values_message(values(), "x"))),
            r#"{"tagValues":["200","7","cart","web"],"metrics":{"inspectedBytes":"86"}}"#
        );
        let typed = values_v2_message(values());
        assert_eq!(
            text(&json::tag_values_v2(&typed)),
            r#"{"tagValues":[{"type":"int","value":"200"},{"type":"int","value":"7"},{"type":"string","value":"cart"},{"type":"string","value":"web"}],"metrics":{"inspectedBytes":"86"}}"#
        );
        assert_eq!(
            text(&json::llm_tag_values(&typed)),
            r#"{"tagValues":{"int":["200","7"],"string":["cart","web"]},"metrics":{"inspectedBytes":86}}"#
        );
        let none = values_v2_message(found(&[]));
        assert_eq!(
            text(&json::llm_tag_values(&none)),
            r#"{"tagValues":{},"metrics":{"inspectedBytes":86}}"#
        );
    }

    #[test]
    fn virtual_values_join_the_found_ones() {
        let of = |tag| values_message(found(&[("string", "ok"), ("int", "5")]), tag).tag_values;
        assert_eq!(of("status.code"), ["5", "error", "ok", "unset"]);
        assert_eq!(of("error"), ["5", "ok", "true"]);
    }

    #[test]
    fn tags_of_version_1_become_identifiers() {
        assert_eq!(identifier("service.name"), ".service.name");
        assert_eq!(identifier("name"), "name");
        assert_eq!(identifier("resource.a"), ".resource.a");
        assert_eq!(identifier("a b\"\\"), r#"."a b\"\\""#);
        assert_eq!(identifier(""), r#"."""#);
    }

    #[test]
    fn parameters_of_names() {
        let request = names_request(&call("scope=none&limit=x&q={a}&maxStaleValues=1")).unwrap();
        assert!(matches!(request.scope, TagScope::All));
        assert_eq!((request.limit, request.filter.as_deref()), (0, Some("{a}")));
        let error = names_request(&call("scope=foo")).err().unwrap();
        assert_eq!(error.to_string(), "invalid scope: foo");
        let request = values_request(&call("limit=5000&tag=&q="), "span.a".to_owned()).unwrap();
        assert_eq!((request.limit, request.filter), (5000, None));
        assert!(values_request_of(SearchTagValuesRequest::default(), 1).is_err());
    }
}
