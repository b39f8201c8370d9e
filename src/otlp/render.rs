//! Trace JSON as Tempo prints it, straight from the encoded bytes: protobuf's JSON form with its
//! own rules for what is left out, and ids in base64.
//!
//! Works from tables of members, one per message. `resource`, `scope` and `status` are printed even
//! if they are not there, since Grafana reads them without a look. The form for language models is
//! in [`crate::otlp::llm`].
#![deny(clippy::indexing_slicing)]

use std::{fmt::Arguments, io::Write as _};

use base64::{display::Base64Display, engine::general_purpose::STANDARD};

use crate::otlp::{
    check::MAX_DEPTH,
    repair::TOO_DEEP,
    wire::{Field, Reader, WireError},
};

/// JSON bytes per byte of protobuf, about: names, quotes, times as text.
const EXPANSION: usize = 3;

/// How one member of a message is printed.
enum Print {
    /// A string.
    Text,
    /// Strings.
    Texts,
    /// Bytes, in base64.
    Base64,
    /// A number of up to 32 bits.
    Number,
    /// A 64-bit number, as a string.
    Long,
    /// A number by its name, unknown ones as they are.
    Enum(&'static [&'static str]),
    /// A message, printed as `{}` if it is not there.
    Always(&'static [Member]),
    /// Messages.
    Messages(&'static [Member]),
    /// An attribute's value.
    Value,
    /// Values in a value.
    Values,
}

/// Field number, name, and how it is printed; in the order in which they are printed.
type Member = (u32, &'static str, Print);

/// One more than the highest field number in the tables.
const FIELDS: usize = 17;

const TRACE: &[Member] = &[(1, "resourceSpans", Print::Messages(RESOURCE_SPANS))];
const TRACE_V1: &[Member] = &[(1, "batches", Print::Messages(RESOURCE_SPANS))];
const RESOURCE_SPANS: &[Member] = &[
    (1, "resource", Print::Always(RESOURCE)),
    (2, "scopeSpans", Print::Messages(SCOPE_SPANS)),
    (3, "schemaUrl", Print::Text),
];
const RESOURCE: &[Member] = &[
    (1, "attributes", Print::Messages(KEY_VALUE)),
    (2, "droppedAttributesCount", Print::Number),
    (3, "entityRefs", Print::Messages(ENTITY_REF)),
];
const ENTITY_REF: &[Member] = &[
    (1, "schemaUrl", Print::Text),
    (2, "type", Print::Text),
    (3, "idKeys", Print::Texts),
    (4, "descriptionKeys", Print::Texts),
];
const SCOPE_SPANS: &[Member] = &[
    (1, "scope", Print::Always(SCOPE)),
    (2, "spans", Print::Messages(SPAN)),
    (3, "schemaUrl", Print::Text),
];
const SCOPE: &[Member] = &[
    (1, "name", Print::Text),
    (2, "version", Print::Text),
    (3, "attributes", Print::Messages(KEY_VALUE)),
    (4, "droppedAttributesCount", Print::Number),
];
const SPAN: &[Member] = &[
    (1, "traceId", Print::Base64),
    (2, "spanId", Print::Base64),
    (3, "traceState", Print::Text),
    (4, "parentSpanId", Print::Base64),
    (16, "flags", Print::Number),
    (5, "name", Print::Text),
    (6, "kind", Print::Enum(KINDS)),
    (7, "startTimeUnixNano", Print::Long),
    (8, "endTimeUnixNano", Print::Long),
    (9, "attributes", Print::Messages(KEY_VALUE)),
    (10, "droppedAttributesCount", Print::Number),
    (11, "events", Print::Messages(EVENT)),
    (12, "droppedEventsCount", Print::Number),
    (13, "links", Print::Messages(LINK)),
    (14, "droppedLinksCount", Print::Number),
    (15, "status", Print::Always(STATUS)),
];
const EVENT: &[Member] = &[
    (1, "timeUnixNano", Print::Long),
    (2, "name", Print::Text),
    (3, "attributes", Print::Messages(KEY_VALUE)),
    (4, "droppedAttributesCount", Print::Number),
];
const LINK: &[Member] = &[
    (1, "traceId", Print::Base64),
    (2, "spanId", Print::Base64),
    (3, "traceState", Print::Text),
    (4, "attributes", Print::Messages(KEY_VALUE)),
    (5, "droppedAttributesCount", Print::Number),
    (6, "flags", Print::Number),
];
const STATUS: &[Member] = &[(2, "message", Print::Text), (3, "code", Print::Enum(STATUS_CODES))];
const KEY_VALUE: &[Member] = &[(1, "key", Print::Text), (2, "value", Print::Value)];
const ARRAY: &[Member] = &[(1, "values", Print::Values)];
const KVLIST: &[Member] = &[(1, "values", Print::Messages(KEY_VALUE))];

pub(super) const KINDS: &[&str] = &[
    "SPAN_KIND_UNSPECIFIED",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_CONSUMER",
];
pub(super) const STATUS_CODES: &[&str] =
    &["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"];

/// `{"batches":[…]}`, the answer to a trace by id (v1), of encoded `TracesData`.
///
/// # Errors
/// When the bytes are not protobuf.
pub fn trace_v1(trace: &[u8]) -> Result<Vec<u8>, WireError> {
    let mut out = Vec::with_capacity(trace.len() * EXPANSION);
    message(&mut out, TRACE_V1, trace, 1)?;
    Ok(out)
}

/// Appends `{"resourceSpans":[…]}`, the trace in the answer to a trace by id (v2); `{}` if it is
/// empty.
///
/// # Errors
/// When the bytes are not protobuf.
pub fn trace_v2(trace: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
    out.reserve(trace.len() * EXPANSION);
    message(out, TRACE, trace, 1)
}

/// Prints a message; `depth` is that of the values in it.
fn message(
    out: &mut Vec<u8>,
    members: &[Member],
    message: &[u8],
    depth: u32,
) -> Result<(), WireError> {
    let mut last = [None; FIELDS];
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        if let Some(slot) = last.get_mut(number as usize) {
            *slot = Some(field);
        }
    }
    out.push(b'{');
    for (number, name, print) in members {
        match (last.get(*number as usize).copied().flatten(), print) {
            (Some(field), print) => member(out, (*number, name, print), field, message, depth)?,
            (None, Print::Always(_)) => {
                key(out, name);
                out.extend_from_slice(b"{}");
            }
            (None, _) => {}
        }
    }
    out.push(b'}');
    Ok(())
}

/// Prints a member whose last value is `last`; lists are read from the message once more.
fn member(
    out: &mut Vec<u8>,
    (number, name, print): (u32, &str, &Print),
    last: Field<'_>,
    bytes: &[u8],
    depth: u32,
) -> Result<(), WireError> {
    match (print, last) {
        (Print::Text, Field::Bytes(text)) if !text.is_empty() => {
            key(out, name);
            string(out, text);
        }
        (Print::Base64, Field::Bytes(bytes)) if !bytes.is_empty() => {
            key(out, name);
            base64(out, bytes);
        }
        (Print::Number, Field::Varint(value)) if value != 0 => {
            key(out, name);
            put(out, format_args!("{value}"));
        }
        (Print::Number, Field::Fixed32(value)) if value != 0 => {
            key(out, name);
            put(out, format_args!("{value}"));
        }
        (Print::Long, Field::Fixed64(value)) if value != 0 => {
            key(out, name);
            put(out, format_args!("\"{value}\""));
        }
        (Print::Enum(names), Field::Varint(value)) if value != 0 => {
            key(out, name);
            enumeration(out, names, value);
        }
        (Print::Always(members), Field::Bytes(bytes)) => {
            key(out, name);
            message(out, members, bytes, depth)?;
        }
        (Print::Value, Field::Bytes(bytes)) => {
            key(out, name);
            value(out, bytes, depth)?;
        }
        (Print::Texts, Field::Bytes(_)) => list(out, name, number, bytes, |out, item| {
            string(out, item);
            Ok(())
        })?,
        (Print::Messages(members), Field::Bytes(_)) => {
            list(out, name, number, bytes, |out, item| message(out, members, item, depth))?;
        }
        (Print::Values, Field::Bytes(_)) => {
            list(out, name, number, bytes, |out, item| value(out, item, depth))?;
        }
        _ => {}
    }
    Ok(())
}

fn list(
    out: &mut Vec<u8>,
    name: &str,
    number: u32,
    message: &[u8],
    print: impl Fn(&mut Vec<u8>, &[u8]) -> Result<(), WireError>,
) -> Result<(), WireError> {
    key(out, name);
    out.push(b'[');
    for_each(message, number, |item| {
        if out.last() != Some(&b'[') {
            out.push(b',');
        }
        print(out, item)
    })?;
    out.push(b']');
    Ok(())
}

/// Prints an `AnyValue` of this depth: the one member that is set, also if it is zero.
fn value(out: &mut Vec<u8>, bytes: &[u8], depth: u32) -> Result<(), WireError> {
    out.push(b'{');
    match last_field(bytes)? {
        Some((1, Field::Bytes(text))) => {
            key(out, "stringValue");
            string(out, text);
        }
        Some((2, Field::Varint(value))) => {
            key(out, "boolValue");
            put(out, format_args!("{}", value != 0));
        }
        Some((3, Field::Varint(value))) => {
            key(out, "intValue");
            put(out, format_args!("\"{}\"", value.cast_signed()));
        }
        Some((4, Field::Fixed64(bits))) => {
            key(out, "doubleValue");
            double(out, f64::from_bits(bits));
        }
        // Values that were not checked, in blocks of others, may be deeper than ours.
        Some((5 | 6, Field::Bytes(_))) if depth >= MAX_DEPTH => {
            key(out, "stringValue");
            string(out, TOO_DEEP.as_bytes());
        }
        Some((5, Field::Bytes(array))) => {
            key(out, "arrayValue");
            message(out, ARRAY, array, depth + 1)?;
        }
        Some((6, Field::Bytes(kvlist))) => {
            key(out, "kvlistValue");
            message(out, KVLIST, kvlist, depth + 1)?;
        }
        Some((7, Field::Bytes(bytes))) => {
            key(out, "bytesValue");
            base64(out, bytes);
        }
        _ => {}
    }
    out.push(b'}');
    Ok(())
}

/// The member of a value that wins: the last one that is known.
pub(super) fn last_field(value: &[u8]) -> Result<Option<(u32, Field<'_>)>, WireError> {
    let mut last = None;
    let mut reader = Reader::new(value);
    while let Some(field) = reader.next()? {
        if matches!(field.0, 1..=7) {
            last = Some(field);
        }
    }
    Ok(last)
}

/// Calls for each sub-message of this number.
pub(super) fn for_each<'a>(
    message: &'a [u8],
    number: u32,
    mut call: impl FnMut(&'a [u8]) -> Result<(), WireError>,
) -> Result<(), WireError> {
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next()? {
        match field {
            (found, Field::Bytes(bytes)) if found == number => call(bytes)?,
            _ => {}
        }
    }
    Ok(())
}

/// A member's name and colon, and a comma unless it is the first.
pub(super) fn key(out: &mut Vec<u8>, name: &str) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// A string; `<`, `>` and `&` are escaped as Go does, so that JSON may stand in HTML.
pub(super) fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    let special = |byte: &u8| matches!(byte, 0..=0x1f | b'"' | b'\\' | b'<' | b'>' | b'&');
    out.push(b'"');
    let text = String::from_utf8_lossy(bytes);
    for piece in text.as_bytes().split_inclusive(special) {
        match piece.split_last() {
            Some((last, plain)) if special(last) => {
                out.extend_from_slice(plain);
                escape(out, *last);
            }
            _ => out.extend_from_slice(piece),
        }
    }
    out.push(b'"');
}

fn escape(out: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        _ => put(out, format_args!("\\u{byte:04x}")),
    }
}

/// A float as Go prints it; what JSON has no number for, as a string.
pub(super) fn double(out: &mut Vec<u8>, value: f64) {
    let size = value.abs();
    if value.is_nan() {
        out.extend_from_slice(b"\"NaN\"");
    } else if value.is_infinite() {
        let sign = if value < 0.0 { "-" } else { "" };
        put(out, format_args!("\"{sign}Infinity\""));
    } else if size != 0.0 && !(1e-6..1e21).contains(&size) {
        put(out, format_args!("{value:e}"));
    } else {
        put(out, format_args!("{value}"));
    }
}

pub(super) fn enumeration(out: &mut Vec<u8>, names: &[&str], value: u64) {
    match usize::try_from(value).ok().and_then(|value| names.get(value)) {
        Some(name) => put(out, format_args!("\"{name}\"")),
        // Enums are 32 bits with a sign, in however many bits they came.
        None => put(out, format_args!("{}", enum_number(value))),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "protobuf defines enums to be cut to 32 bits")]
const fn enum_number(value: u64) -> i32 {
    value as i32
}

fn base64(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, format_args!("\"{}\"", Base64Display::new(bytes, &STANDARD)));
}

pub(super) fn put(out: &mut Vec<u8>, words: Arguments<'_>) {
    out.write_fmt(words).expect("writing to memory cannot fail");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::otlp::{
        json,
        wire::{put_bytes_field, put_message},
    };

    /// OTLP/JSON in, trace JSON out.
    fn rendered(request: &str) -> String {
        let request = json::decode(request.as_bytes()).unwrap().request;
        String::from_utf8(trace_v1(&request).unwrap()).unwrap()
    }

    fn rendered_value(value: &str) -> String {
        let request = format!(
            r#"{{"resourceSpans":[{{"resource":{{"attributes":[{{"key":"k","value":{value}}}]}}}}]}}"#
        );
        let json = rendered(&request);
        let head = r#"{"batches":[{"resource":{"attributes":[{"key":"k","value":"#;
        json.strip_prefix(head).unwrap().strip_suffix("}]}}]}").unwrap().to_owned()
    }

    #[test]
    fn prints_what_tempo_prints() {
        let json = rendered(
            r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"till"}}]},
            "scopeSpans":[{"scope":{"name":"lib"},"spans":[{"kind":1,"name":"pay","traceId":"0000000000000000000000000000beef",
            "spanId":"0000000000000001","startTimeUnixNano":1700000000000000000,"endTimeUnixNano":"1700000000005000000",
            "attributes":[{"key":"retries","value":{"intValue":2}}],"status":{"code":1}}]}]}]}"#,
        );
        assert_eq!(
            json,
            r#"{"batches":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"till"}}]},"scopeSpans":[{"scope":{"name":"lib"},"spans":[{"traceId":"AAAAAAAAAAAAAAAAAAC+7w==","spanId":"AAAAAAAAAAE=","name":"pay","kind":"SPAN_KIND_INTERNAL","startTimeUnixNano":"1700000000000000000","endTimeUnixNano":"1700000000005000000","attributes":[{"key":"retries","value":{"intValue":"2"}}],"status":{"code":"STATUS_CODE_OK"}}]}]}]}"#
        );
    }

    #[test]
    fn what_grafana_reads_unasked_is_always_there() {
        let json = rendered(
            r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"kind":77,"flags":257,"links":[{}],"events":[{"name":"<a&b>\n\u0001"}]}]}]}]}"#,
        );
        assert_eq!(
            json,
            r#"{"batches":[{"resource":{},"scopeSpans":[{"scope":{},"spans":[{"flags":257,"kind":77,"events":[{"name":"\u003ca\u0026b\u003e\n\u0001"}],"links":[{}],"status":{}}]}]}]}"#
        );
        let mut empty = b"{\"trace\":".to_vec();
        trace_v2(b"", &mut empty).unwrap();
        assert_eq!(empty, b"{\"trace\":{}");
    }

    #[test]
    fn values_are_printed_also_if_zero() {
        let same = [
            r#"{"stringValue":""}"#,
            r#"{"boolValue":false}"#,
            r#"{"intValue":"0"}"#,
            r#"{"intValue":"-9223372036854775808"}"#,
            r#"{"doubleValue":0}"#,
            r#"{"doubleValue":1.5}"#,
            r#"{"doubleValue":1e300}"#,
            r#"{"doubleValue":"NaN"}"#,
            r#"{"doubleValue":"-Infinity"}"#,
            r#"{"bytesValue":"+/8="}"#,
            r#"{"bytesValue":""}"#,
            r#"{"arrayValue":{}}"#,
            r#"{"arrayValue":{"values":[{"intValue":"1"},{},{"boolValue":true}]}}"#,
            r#"{"kvlistValue":{"values":[{"key":"a","value":{"stringValue":"b"}},{"key":"c"}]}}"#,
            "{}",
        ];
        for value in same {
            assert_eq!(rendered_value(value), value);
        }
    }

    #[test]
    fn foreign_depth_is_bounded() {
        let mut value = Vec::new();
        for _ in 0..2_000 {
            let inner = std::mem::take(&mut value);
            put_message(&mut value, 5, |out| put_bytes_field(out, 1, &inner));
        }
        let mut trace = Vec::new();
        put_message(&mut trace, 1, |out| {
            put_message(out, 1, |out| put_message(out, 1, |out| put_bytes_field(out, 2, &value)));
        });
        assert!(String::from_utf8(trace_v1(&trace).unwrap()).unwrap().contains("too deep"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn any_bytes_are_answered(bytes: Vec<u8>) {
            drop(trace_v1(&bytes));
        }

        #[test]
        fn any_string_stays_itself(text: String) {
            let mut out = Vec::new();
            string(&mut out, text.as_bytes());
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }
}
