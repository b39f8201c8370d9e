//! The form of a trace for language models, as Tempo's: one entry per resource, attributes as plain
//! JSON.
#![deny(clippy::indexing_slicing)]

use std::collections::BTreeMap;

use crate::otlp::{
    check::MAX_DEPTH,
    render::{KINDS, STATUS_CODES, double, enumeration, for_each, key, last_field, put, string},
    repair::TOO_DEEP,
    wire::{Field, Reader, WireError},
};

type Done = Result<(), WireError>;

/// Attributes by name: a name given twice keeps its last value, as in Tempo's map.
type Attributes<'a> = BTreeMap<&'a [u8], &'a [u8]>;

/// Appends `{"traceId":…,"services":[…]}` of encoded `TracesData`; `{}` if it is empty.
///
/// # Errors
/// When the bytes are not protobuf.
pub fn llm_trace(trace: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
    out.push(b'{');
    if let Some(id) = first_trace_id(trace)? {
        key(out, "traceId");
        hex(out, id);
    }
    list(out, "services", trace, 1, service)?;
    out.push(b'}');
    Ok(())
}

fn first_trace_id(trace: &[u8]) -> Result<Option<&[u8]>, WireError> {
    let mut id = None;
    for_each(trace, 1, |resource_spans| {
        for_each(resource_spans, 2, |scope_spans| {
            for_each(scope_spans, 2, |span| {
                for_each(span, 1, |bytes| {
                    id.get_or_insert(bytes);
                    Ok(())
                })
            })
        })
    })?;
    Ok(id)
}

fn service(out: &mut Vec<u8>, resource_spans: &[u8]) -> Done {
    let mut resource = Attributes::new();
    for_each(resource_spans, 1, |bytes| collect(bytes, 1, &mut resource))?;
    let name = match resource.remove(b"service.name".as_slice()) {
        Some(value) => last_field(value)?,
        None => None,
    };
    out.push(b'{');
    key(out, "serviceName");
    match name {
        Some((1, Field::Bytes(name))) => string(out, name),
        _ => string(out, b""),
    }
    if !resource.is_empty() {
        key(out, "resource");
        attributes(out, &resource, 1)?;
    }
    list(out, "scopes", resource_spans, 2, scope)?;
    out.push(b'}');
    Ok(())
}

fn scope(out: &mut Vec<u8>, scope_spans: &[u8]) -> Done {
    let (mut name, mut version) = (b"".as_slice(), b"".as_slice());
    for_each(scope_spans, 1, |scope| {
        name = text(scope, 1)?;
        version = text(scope, 2)?;
        Ok(())
    })?;
    out.push(b'{');
    key(out, "name");
    string(out, name);
    optional_text(out, "version", version);
    list(out, "spans", scope_spans, 2, span)?;
    out.push(b'}');
    Ok(())
}

/// The fields of a span or event that stand once.
#[derive(Default)]
struct Fields<'a> {
    id: &'a [u8],
    parent: &'a [u8],
    name: &'a [u8],
    kind: u64,
    start: u64,
    end: u64,
    status: &'a [u8],
    attributes: Attributes<'a>,
}

fn span(out: &mut Vec<u8>, span: &[u8]) -> Done {
    let mut fields = Fields::default();
    let mut reader = Reader::new(span);
    while let Some(field) = reader.next()? {
        match field {
            (2, Field::Bytes(bytes)) => fields.id = bytes,
            (4, Field::Bytes(bytes)) => fields.parent = bytes,
            (5, Field::Bytes(bytes)) => fields.name = bytes,
            (6, Field::Varint(kind)) => fields.kind = kind,
            (7, Field::Fixed64(nanos)) => fields.start = nanos,
            (8, Field::Fixed64(nanos)) => fields.end = nanos,
            (15, Field::Bytes(bytes)) => fields.status = bytes,
            _ => {}
        }
    }
    collect(span, 9, &mut fields.attributes)?;
    out.push(b'{');
    key(out, "spanId");
    hex(out, fields.id);
    key(out, "name");
    string(out, fields.name);
    if !fields.parent.is_empty() {
        key(out, "parentSpanId");
        hex(out, fields.parent);
    }
    key(out, "kind");
    enumeration(out, KINDS, fields.kind);
    key(out, "startTimeUnixNano");
    put(out, format_args!("\"{}\"", fields.start));
    key(out, "endTimeUnixNano");
    put(out, format_args!("\"{}\"", fields.end));
    key(out, "durationMs");
    double(out, millis(fields.end.saturating_sub(fields.start)));
    if !fields.attributes.is_empty() {
        key(out, "attributes");
        attributes(out, &fields.attributes, 1)?;
    }
    list(out, "events", span, 11, event)?;
    list(out, "links", span, 13, link)?;
    key(out, "status");
    status(out, fields.status)?;
    out.push(b'}');
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "shown to a reader, not computed with")]
fn millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

fn event(out: &mut Vec<u8>, event: &[u8]) -> Done {
    let mut fields = Fields::default();
    let mut reader = Reader::new(event);
    while let Some(field) = reader.next()? {
        match field {
            (1, Field::Fixed64(nanos)) => fields.start = nanos,
            (2, Field::Bytes(bytes)) => fields.name = bytes,
            _ => {}
        }
    }
    collect(event, 3, &mut fields.attributes)?;
    out.push(b'{');
    key(out, "name");
    string(out, fields.name);
    key(out, "timeUnixNano");
    put(out, format_args!("\"{}\"", fields.start));
    key(out, "attributes");
    attributes(out, &fields.attributes, 1)?;
    out.push(b'}');
    Ok(())
}

fn link(out: &mut Vec<u8>, link: &[u8]) -> Done {
    let mut found = Attributes::new();
    collect(link, 4, &mut found)?;
    out.push(b'{');
    key(out, "traceId");
    hex(out, text(link, 1)?);
    key(out, "spanId");
    hex(out, text(link, 2)?);
    if !found.is_empty() {
        key(out, "attributes");
        attributes(out, &found, 1)?;
    }
    out.push(b'}');
    Ok(())
}

fn status(out: &mut Vec<u8>, status: &[u8]) -> Done {
    let mut code = 0;
    let mut reader = Reader::new(status);
    while let Some(field) = reader.next()? {
        if let (3, Field::Varint(value)) = field {
            code = value;
        }
    }
    out.push(b'{');
    key(out, "code");
    enumeration(out, STATUS_CODES, code);
    key(out, "message");
    string(out, text(status, 2)?);
    out.push(b'}');
    Ok(())
}

/// Adds the attributes of a message.
fn collect<'a>(message: &'a [u8], number: u32, attributes: &mut Attributes<'a>) -> Done {
    for_each(message, number, |key_value| {
        attributes.insert(text(key_value, 1)?, text(key_value, 2)?);
        Ok(())
    })
}

fn attributes(out: &mut Vec<u8>, attributes: &Attributes<'_>, depth: u32) -> Done {
    out.push(b'{');
    for (name, bytes) in attributes {
        if out.last() != Some(&b'{') {
            out.push(b',');
        }
        string(out, name);
        out.push(b':');
        value(out, bytes, depth)?;
    }
    out.push(b'}');
    Ok(())
}

/// A value as plain JSON; an unset one is `null`.
fn value(out: &mut Vec<u8>, bytes: &[u8], depth: u32) -> Done {
    match last_field(bytes)? {
        Some((1, Field::Bytes(text))) => string(out, text),
        Some((2, Field::Varint(value))) => put(out, format_args!("{}", value != 0)),
        Some((3, Field::Varint(value))) => put(out, format_args!("{}", value.cast_signed())),
        Some((4, Field::Fixed64(bits))) => double(out, f64::from_bits(bits)),
        Some((5 | 6, Field::Bytes(_))) if depth >= MAX_DEPTH => string(out, TOO_DEEP.as_bytes()),
        Some((5, Field::Bytes(array))) => {
            out.push(b'[');
            items(out, array, 1, |out, item| value(out, item, depth + 1))?;
            out.push(b']');
        }
        Some((6, Field::Bytes(kvlist))) => {
            let mut members = Attributes::new();
            collect(kvlist, 1, &mut members)?;
            attributes(out, &members, depth + 1)?;
        }
        Some((7, Field::Bytes(bytes))) => hex(out, bytes),
        _ => out.extend_from_slice(b"null"),
    }
    Ok(())
}

/// A list of messages, left out if there are none.
fn list(
    out: &mut Vec<u8>,
    name: &str,
    message: &[u8],
    number: u32,
    print: impl Fn(&mut Vec<u8>, &[u8]) -> Done,
) -> Done {
    let start = out.len();
    key(out, name);
    out.push(b'[');
    let first = out.len();
    items(out, message, number, print)?;
    if out.len() == first {
        out.truncate(start);
    } else {
        out.push(b']');
    }
    Ok(())
}

fn items(
    out: &mut Vec<u8>,
    message: &[u8],
    number: u32,
    print: impl Fn(&mut Vec<u8>, &[u8]) -> Done,
) -> Done {
    for_each(message, number, |item| {
        if out.last() != Some(&b'[') {
            out.push(b',');
        }
        print(out, item)
    })
}

/// The last bytes of this number; empty if there are none.
fn text(message: &[u8], number: u32) -> Result<&[u8], WireError> {
    let mut last = b"".as_slice();
    for_each(message, number, |bytes| {
        last = bytes;
        Ok(())
    })?;
    Ok(last)
}

fn optional_text(out: &mut Vec<u8>, name: &str, text: &[u8]) {
    if !text.is_empty() {
        key(out, name);
        string(out, text);
    }
}

fn hex(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    for byte in bytes {
        put(out, format_args!("{byte:02x}"));
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::otlp::{json, render::trace_v1};

    fn rendered(request: &str) -> String {
        let request = json::decode(request.as_bytes()).unwrap().request;
        let mut out = Vec::new();
        llm_trace(&request, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn prints_what_tempo_prints() {
        let json = rendered(
            r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"till"}},
            {"key":"cluster","value":{"stringValue":"c1"}}]},"scopeSpans":[{"scope":{"name":"lib","version":"1"},
            "spans":[{"traceId":"0000000000000000000000000000beef","spanId":"0000000000000001","name":"pay","kind":2,
            "parentSpanId":"0000000000000002","startTimeUnixNano":"1000000","endTimeUnixNano":"6500000",
            "attributes":[{"key":"retries","value":{"intValue":2}},{"key":"a","value":{"arrayValue":{"values":[{"boolValue":true},{"bytesValue":"+/8="}]}}},
            {"key":"m","value":{"kvlistValue":{"values":[{"key":"x","value":{"doubleValue":0.5}}]}}}],
            "events":[{"name":"x","timeUnixNano":"7"}],"links":[{"traceId":"0000000000000000000000000000beef","spanId":"0000000000000003"}]}]}]}]}"#,
        );
        assert_eq!(
            json,
            r#"{"traceId":"0000000000000000000000000000beef","services":[{"serviceName":"till","resource":{"cluster":"c1"},"scopes":[{"name":"lib","version":"1","spans":[{"spanId":"0000000000000001","name":"pay","parentSpanId":"0000000000000002","kind":"SPAN_KIND_SERVER","startTimeUnixNano":"1000000","endTimeUnixNano":"6500000","durationMs":5.5,"attributes":{"a":[true,"fbff"],"m":{"x":0.5},"retries":2},"events":[{"name":"x","timeUnixNano":"7","attributes":{}}],"links":[{"traceId":"0000000000000000000000000000beef","spanId":"0000000000000003"}],"status":{"code":"STATUS_CODE_UNSET","message":""}}]}]}]}"#
        );
        assert_eq!(rendered("{}"), "{}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn any_bytes_are_answered(bytes: Vec<u8>) {
            let mut out = Vec::new();
            let printed = llm_trace(&bytes, &mut out);
            prop_assert_eq!(printed.is_ok(), trace_v1(&bytes).is_ok());
        }
    }
}
