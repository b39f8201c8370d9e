//! OTLP/JSON into OTLP protobuf, in one pass and without a tree.
//!
//! Takes what senders write: names in camelCase and snake_case, `null` for absent, 64-bit integers
//! as strings or numbers, enums as numbers or names. Only broken syntax fails a request: a span
//! with an unreadable id or value is refused alone. Lengths of ids, zeros and UTF-8 are left to
//! [`crate::otlp::check()`], which has to be called on the result.
#![deny(clippy::indexing_slicing)]

use std::borrow::Cow;

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

pub use crate::otlp::json_reader::JsonError;
use crate::otlp::{
    check::MAX_DEPTH,
    json_reader::{JsonReader, Kind, Open},
    refusal::{Reason, Refusals, Warning, Warnings, example},
    render::{KINDS, STATUS_CODES},
    repair::{Head, TOO_DEEP},
    wire::{
        Field, Reader, put_bytes_field, put_double_field, put_fixed32_field, put_fixed64_field,
        put_message, put_varint_field,
    },
};

/// Whole numbers that a JavaScript number holds exactly.
const MAX_EXACT_FLOAT: f64 = 9_007_199_254_740_992.0;

/// Base64 with or without padding; the URL alphabet is translated before.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A request in protobuf, not yet checked, and what was already left out of it.
#[derive(Debug)]
pub struct Converted {
    pub request: Vec<u8>,
    pub refused: Refusals,
    pub warnings: Warnings,
}

/// Converts a request.
///
/// # Errors
/// When the body is not JSON, or its lists of resources and scopes are not lists of objects.
pub fn decode(body: &[u8]) -> Result<Converted, JsonError> {
    let mut decoder = Decoder {
        json: JsonReader::new(body),
        refused: Refusals::default(),
        warnings: Warnings::default(),
        fault: None,
    };
    // Names and hex digits make JSON at least as long as protobuf.
    let mut request = Vec::with_capacity(body.len() / 2);
    decoder.request(&mut request)?;
    decoder.json.end()?;
    Ok(Converted { request, refused: decoder.refused, warnings: decoder.warnings })
}

type Done = Result<(), JsonError>;

struct Decoder<'a> {
    json: JsonReader<'a>,
    refused: Refusals,
    warnings: Warnings,
    /// What is wrong in the span, or the attribute of a resource or scope, that is being read.
    fault: Option<(Reason, &'static str)>,
}

impl<'a> Decoder<'a> {
    fn request(&mut self, out: &mut Vec<u8>) -> Done {
        let mut members = self.structure()?;
        while let Some(name) = self.next_member(&mut members)? {
            match &*name {
                b"resourceSpans" | b"resource_spans" => {
                    self.each_of_structure(|decoder| decoder.resource_spans(out))?;
                }
                _ => self.json.skip()?,
            }
        }
        Ok(())
    }

    fn resource_spans(&mut self, out: &mut Vec<u8>) -> Done {
        let mut members = self.structure()?;
        put_message(out, 1, |out| {
            while let Some(name) = self.next_member(&mut members)? {
                match &*name {
                    b"resource" => put_message(out, 1, |out| self.resource(out))?,
                    b"scopeSpans" | b"scope_spans" | b"instrumentationLibrarySpans" => {
                        self.each_of_structure(|decoder| decoder.scope_spans(out))?;
                    }
                    b"schemaUrl" | b"schema_url" => self.text(3, out)?,
                    _ => self.json.skip()?,
                }
                self.forgive();
            }
            Ok(())
        })
    }

    fn resource(&mut self, out: &mut Vec<u8>) -> Done {
        let mut members = self.object()?;
        while let Some(name) = self.next_member(&mut members)? {
            match &*name {
                b"attributes" => self.lenient_attributes(1, out)?,
                b"droppedAttributesCount" | b"dropped_attributes_count" => self.count(2, out)?,
                _ => self.json.skip()?,
            }
        }
        Ok(())
    }

    fn scope_spans(&mut self, out: &mut Vec<u8>) -> Done {
        let mut members = self.structure()?;
        put_message(out, 2, |out| {
            while let Some(name) = self.next_member(&mut members)? {
                match &*name {
                    b"scope" | b"instrumentationLibrary" => {
                        put_message(out, 1, |out| self.scope(out))?;
                    }
                    b"spans" => self.each_of_structure(|decoder| decoder.span(out))?,
                    b"schemaUrl" | b"schema_url" => self.text(3, out)?,
                    _ => self.json.skip()?,
                }
                self.forgive();
            }
            Ok(())
        })
    }

    fn scope(&mut self, out: &mut Vec<u8>) -> Done {
        let mut members = self.object()?;
        while let Some(name) = self.next_member(&mut members)? {
            match &*name {
                b"name" => self.text(1, out)?,
                b"version" => self.text(2, out)?,
                b"attributes" => self.lenient_attributes(3, out)?,
                b"droppedAttributesCount" | b"dropped_attributes_count" => self.count(4, out)?,
                _ => self.json.skip()?,
            }
        }
        Ok(())
    }

    /// A fault in a resource or scope costs what is faulty, and a warning.
    fn forgive(&mut self) {
        if self.fault.take().is_some() {
            self.warnings.add(Warning::AttributeDropped);
        }
    }

    fn span(&mut self, out: &mut Vec<u8>) -> Done {
        let start = out.len();
        self.fault = None;
        put_message(out, 2, |out| self.span_members(out))?;
        let Some((reason, fault)) = self.fault.take() else { return Ok(()) };
        let written = Reader::new(out.get(start..).unwrap_or_default()).next();
        let head = match written {
            Ok(Some((_, Field::Bytes(span)))) => Head::read(span).unwrap_or_default(),
            _ => Head::default(),
        };
        self.refused.add(reason, || example(fault, head.trace_id, head.span_id, head.name));
        out.truncate(start);
        Ok(())
    }

    fn span_members(&mut self, out: &mut Vec<u8>) -> Done {
        let mut members = self.object()?;
        while let Some(name) = self.next_member(&mut members)? {
            match &*name {
                b"traceId" | b"trace_id" => self.span_id(1, Reason::InvalidTraceId, out)?,
                b"spanId" | b"span_id" => self.span_id(2, Reason::InvalidSpanId, out)?,
                b"traceState" | b"trace_state" => self.text(3, out)?,
                b"parentSpanId" | b"parent_span_id" => {
                    self.other_id(4, Warning::ParentDropped, out)?;
                }
                b"name" => self.text(5, out)?,
                b"kind" => self.enumeration(6, KINDS, out)?,
                b"startTimeUnixNano" | b"start_time_unix_nano" => self.nanos(7, out)?,
                b"endTimeUnixNano" | b"end_time_unix_nano" => self.nanos(8, out)?,
                b"attributes" => self.attributes(9, out)?,
                b"droppedAttributesCount" | b"dropped_attributes_count" => self.count(10, out)?,
                b"events" => self.each(|it| put_message(out, 11, |out| it.event(out)))?,
                b"droppedEventsCount" | b"dropped_events_count" => self.count(12, out)?,
                b"links" => self.each(|it| put_message(out, 13, |out| it.link(out)))?,
                b"droppedLinksCount" | b"dropped_links_count" => self.count(14, out)?,
                b"status" => put_message(out, 15, |out| self.status(out))?,
                b"flags" => self.flags(16, out)?,
                _ => self.json.skip()?,
            }
        }
        Ok(())
    }

    fn event(&mut self, out: &mut Vec<u8>) -> Done {
        let mut members = self.object()?;
        while let Some(name) = self.next_member(&mut members)? {
            match &*name {
                b"timeUnixNano" | b"time_unix_nano" => self.nanos(1, out)?,
                b"name" => self.text(2, out)?,
                b"attributes" => self.attributes(3, out)?,
                b"droppedAttributesCount" | b"dropped_attributes_count" => self.count(4, out)?,
                _ => self.json.skip()?,
            }
        }
        Ok(())
    }

    fn link(&mut self, out: &mut Vec<u8>) -> Done {
        let mut members = self.object()?;
        while let Some(name) = self.next_member(&mut members)? {
            match &*name {
                b"traceId" | b"trace_id" => self.other_id(1, Warning::LinkIdDropped, out)?,
                b"spanId" | b"span_id" => self.other_id(2, Warning::LinkIdDropped, out)?,
                b"traceState" | b"trace_state" => self.text(3, out)?,
                b"attributes" => self.attributes(4, out)?,
                b"droppedAttributesCount" | b"dropped_attributes_count" => self.count(5, out)?,
                b"flags" => self.flags(6, out)?,
                _ => self.json.skip()?,
            }
        }
        Ok(())
    }

    fn status(&mut self, out: &mut Vec<u8>) -> Done {
        let mut members = self.object()?;
        while let Some(name) = self.next_member(&mut members)? {
            match &*name {
                b"message" => self.text(2, out)?,
                b"code" => self.enumeration(3, STATUS_CODES, out)?,
                _ => self.json.skip()?,
            }
        }
        Ok(())
    }

    fn attributes(&mut self, field: u32, out: &mut Vec<u8>) -> Done {
        self.each(|decoder| put_message(out, field, |out| decoder.key_value(1, out)))
    }

    /// Attributes of which the unreadable are left out.
    fn lenient_attributes(&mut self, field: u32, out: &mut Vec<u8>) -> Done {
        self.each(|decoder| {
            let start = out.len();
            put_message(out, field, |out| decoder.key_value(1, out))?;
            if decoder.fault.is_some() {
                out.truncate(start);
                decoder.forgive();
            }
            Ok(())
        })
    }

    fn key_value(&mut self, depth: u32, out: &mut Vec<u8>) -> Done {
        let mut members = self.object()?;
        while let Some(name) = self.next_member(&mut members)? {
            match &*name {
                b"key" => self.text(1, out)?,
                b"value" => put_message(out, 2, |out| self.any_value(depth, out))?,
                _ => self.json.skip()?,
            }
        }
        Ok(())
    }

    /// A value; of several members the last one wins.
    fn any_value(&mut self, depth: u32, out: &mut Vec<u8>) -> Done {
        let start = out.len();
        let mut members = self.object()?;
        while let Some(name) = self.next_member(&mut members)? {
            if self.json.peek()? == Kind::Null {
                self.json.null()?;
                continue;
            }
            let before = out.len();
            match &*name {
                b"stringValue" | b"string_value" => self.text(1, out)?,
                b"boolValue" | b"bool_value" => self.boolean(2, out)?,
                b"intValue" | b"int_value" => self.integer(3, out)?,
                b"doubleValue" | b"double_value" => self.double(4, out)?,
                b"arrayValue" | b"array_value" => self.values(5, depth, out)?,
                b"kvlistValue" | b"kvlist_value" => self.values(6, depth, out)?,
                b"bytesValue" | b"bytes_value" => self.base64(7, out)?,
                _ => self.json.skip()?,
            }
            if out.len() > before {
                out.drain(start..before);
            }
        }
        Ok(())
    }

    /// An array (field 5) or list of keys and values (field 6) of a value at `depth`.
    fn values(&mut self, field: u32, depth: u32, out: &mut Vec<u8>) -> Done {
        if depth >= MAX_DEPTH {
            put_bytes_field(out, 1, TOO_DEEP.as_bytes());
            self.warnings.add(Warning::TooDeep);
            return self.json.skip();
        }
        put_message(out, field, |out| {
            let mut members = self.object()?;
            while let Some(name) = self.next_member(&mut members)? {
                match &*name {
                    b"values" => self.each(|decoder| {
                        put_message(out, 1, |out| match field {
                            5 => decoder.any_value(depth + 1, out),
                            _ => decoder.key_value(depth + 1, out),
                        })
                    })?,
                    _ => self.json.skip()?,
                }
            }
            Ok(())
        })
    }

    fn text(&mut self, field: u32, out: &mut Vec<u8>) -> Done {
        match self.json.peek()? {
            Kind::Text => put_bytes_field(out, field, &self.json.text()?),
            Kind::Null => self.json.null()?,
            _ => self.unreadable("a string field holds no string")?,
        }
        Ok(())
    }

    fn boolean(&mut self, field: u32, out: &mut Vec<u8>) -> Done {
        match self.json.peek()? {
            Kind::Bool => put_varint_field(out, field, u64::from(self.json.boolean()?)),
            _ => self.unreadable("boolValue is not true or false")?,
        }
        Ok(())
    }

    fn integer(&mut self, field: u32, out: &mut Vec<u8>) -> Done {
        let Some(digits) = self.digits()? else { return Ok(()) };
        match digits.parse().ok().or_else(|| whole(&digits)) {
            Some(value) => put_varint_field(out, field, i64::cast_unsigned(value)),
            None => self.fault(Reason::InvalidValue, "intValue is no 64-bit integer"),
        }
        Ok(())
    }

    fn nanos(&mut self, field: u32, out: &mut Vec<u8>) -> Done {
        let Some(digits) = self.digits()? else { return Ok(()) };
        let whole = || whole(&digits).and_then(|value| u64::try_from(value).ok());
        match digits.parse().ok().or_else(whole) {
            Some(value) => put_fixed64_field(out, field, value),
            None => self.fault(Reason::InvalidValue, "a time is no number of nanoseconds"),
        }
        Ok(())
    }

    fn count(&mut self, field: u32, out: &mut Vec<u8>) -> Done {
        if let Some(value) = self.unsigned()? {
            put_varint_field(out, field, u64::from(value));
        }
        Ok(())
    }

    fn flags(&mut self, field: u32, out: &mut Vec<u8>) -> Done {
        if let Some(value) = self.unsigned()? {
            put_fixed32_field(out, field, value);
        }
        Ok(())
    }

    fn unsigned(&mut self) -> Result<Option<u32>, JsonError> {
        let Some(digits) = self.digits()? else { return Ok(None) };
        let whole = || whole(&digits).and_then(|value| u32::try_from(value).ok());
        let value = digits.parse().ok().or_else(whole);
        if value.is_none() {
            self.fault(Reason::InvalidValue, "a count or the flags are no 32-bit number");
        }
        Ok(value)
    }

    fn double(&mut self, field: u32, out: &mut Vec<u8>) -> Done {
        let Some(digits) = self.digits()? else { return Ok(()) };
        match digits.parse() {
            Ok(value) => put_double_field(out, field, value),
            Err(_) => self.fault(Reason::InvalidValue, "doubleValue is no number"),
        }
        Ok(())
    }

    fn enumeration(&mut self, field: u32, names: &[&str], out: &mut Vec<u8>) -> Done {
        if self.json.peek()? != Kind::Text {
            let Some(digits) = self.digits()? else { return Ok(()) };
            match digits.parse().ok().or_else(|| whole(&digits)) {
                Some(value) => put_varint_field(out, field, i64::cast_unsigned(value)),
                None => self.fault(Reason::InvalidValue, "an enum is no number and no name"),
            }
            return Ok(());
        }
        let name = self.json.text()?;
        match names.iter().position(|known| known.as_bytes() == &*name) {
            Some(value) => put_varint_field(out, field, value as u64),
            None => self.warnings.add(Warning::UnknownEnum),
        }
        Ok(())
    }

    fn base64(&mut self, field: u32, out: &mut Vec<u8>) -> Done {
        if self.json.peek()? != Kind::Text {
            return self.unreadable("bytesValue is no string");
        }
        let mut text = self.json.text()?.into_owned();
        for byte in &mut text {
            *byte = match *byte {
                b'-' => b'+',
                b'_' => b'/',
                other => other,
            };
        }
        match BASE64.decode(&text) {
            Ok(bytes) => put_bytes_field(out, field, &bytes),
            Err(_) => self.fault(Reason::InvalidValue, "bytesValue is no base64"),
        }
        Ok(())
    }

    /// An id without which a span is refused.
    fn span_id(&mut self, field: u32, reason: Reason, out: &mut Vec<u8>) -> Done {
        match self.json.peek()? {
            Kind::Null => self.json.null()?,
            Kind::Text => match hex(&self.json.text()?) {
                Some(id) => put_bytes_field(out, field, &id),
                None => self.fault(reason, "not hex; OTLP/JSON ids are hex, not base64"),
            },
            _ => {
                self.fault(reason, "no string");
                self.json.skip()?;
            }
        }
        Ok(())
    }

    /// An id that is dropped if it cannot be read.
    fn other_id(&mut self, field: u32, warning: Warning, out: &mut Vec<u8>) -> Done {
        let id = match self.json.peek()? {
            Kind::Null => return self.json.null(),
            Kind::Text => hex(&self.json.text()?),
            _ => {
                self.json.skip()?;
                None
            }
        };
        match id {
            Some(id) if id.is_empty() => {}
            Some(id) => put_bytes_field(out, field, &id),
            None => self.warnings.add(warning),
        }
        Ok(())
    }

    /// A number, or a number in a string; `None` for `null`, and for other things, which are
    /// faults.
    fn digits(&mut self) -> Result<Option<Cow<'a, str>>, JsonError> {
        match self.json.peek()? {
            Kind::Number => Ok(Some(Cow::Borrowed(self.json.number()))),
            Kind::Text => Ok(Some(match self.json.text()? {
                Cow::Borrowed(text) => String::from_utf8_lossy(text),
                Cow::Owned(text) => Cow::Owned(String::from_utf8_lossy(&text).into_owned()),
            })),
            Kind::Null => {
                self.json.null()?;
                Ok(None)
            }
            _ => {
                self.unreadable("a number field holds no number")?;
                Ok(None)
            }
        }
    }

    /// Reads each value of a list; `null` is an empty one.
    fn each(&mut self, mut read: impl FnMut(&mut Self) -> Done) -> Done {
        match self.json.peek()? {
            Kind::List => {
                let mut list = self.json.open();
                while self.json.item(&mut list)? {
                    read(self)?;
                }
                Ok(())
            }
            Kind::Null => self.json.null(),
            _ => self.unreadable("expected a list"),
        }
    }

    /// [`Self::each`] for a list without which nothing behind it can be found.
    fn each_of_structure(&mut self, read: impl FnMut(&mut Self) -> Done) -> Done {
        match self.json.peek()? {
            Kind::List | Kind::Null => self.each(read),
            _ => Err(self.json.error("expected a list")),
        }
    }

    /// Opens an object without which nothing behind it can be found; `null` is an empty one.
    fn structure(&mut self) -> Result<Option<Open>, JsonError> {
        match self.json.peek()? {
            Kind::Object | Kind::Null => self.object(),
            _ => Err(self.json.error("expected an object")),
        }
    }

    /// Opens an object; `null` is an empty one, and so is, with a fault, anything else.
    fn object(&mut self) -> Result<Option<Open>, JsonError> {
        match self.json.peek()? {
            Kind::Object => return Ok(Some(self.json.open())),
            Kind::Null => self.json.null()?,
            _ => self.unreadable("expected an object")?,
        }
        Ok(None)
    }

    fn next_member(
        &mut self,
        members: &mut Option<Open>,
    ) -> Result<Option<Cow<'a, [u8]>>, JsonError> {
        match members {
            Some(open) => self.json.member(open),
            None => Ok(None),
        }
    }

    fn unreadable(&mut self, what: &'static str) -> Done {
        self.fault(Reason::InvalidValue, what);
        self.json.skip()
    }

    fn fault(&mut self, reason: Reason, what: &'static str) {
        self.fault.get_or_insert((reason, what));
    }
}

/// The value of a float that has no fraction, as JavaScript senders may write integers.
fn whole(digits: &str) -> Option<i64> {
    let value: f64 = digits.parse().ok()?;
    let exact = value.fract() == 0.0 && value.abs() <= MAX_EXACT_FLOAT;
    #[expect(clippy::cast_possible_truncation, reason = "no fraction, and within 2^53")]
    exact.then_some(value as i64)
}

/// The bytes of hex digits of any case; `None` if it is not that.
fn hex(digits: &[u8]) -> Option<Vec<u8>> {
    let (pairs, rest) = digits.as_chunks();
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|it| u8::try_from(it).ok());
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|&[high, low]| Some(value(high)? << 4 | value(low)?)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::otlp::{Checked, check, refusal::describe};

    const IDS: &str = r#""traceId":"0102030405060708090A0B0C0D0E0F10","spanId":"0102030405060708""#;

    fn body(span: &str) -> String {
        format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{span}}}]}}]}}]}}"#)
    }

    /// The span's fields behind its ids, as written with `put`, or the text of its refusal.
    fn convert(members: &str) -> Result<Vec<u8>, String> {
        let converted = decode(body(&format!("{IDS},{members}")).as_bytes()).unwrap();
        let refused = converted.refused;
        match check(&converted.request).unwrap() {
            Checked::Clean { spans: 1 } => {}
            other => {
                return Err(format!("{} {other:?}", describe(1, &refused, &converted.warnings)));
            }
        }
        let mut bytes = converted.request;
        for field in [1, 2, 2] {
            bytes = match Reader::new(&bytes).next() {
                Ok(Some((number, Field::Bytes(inner)))) if number == field => inner.to_vec(),
                other => panic!("{other:?}"),
            };
        }
        Ok(bytes.split_off(28))
    }

    fn fields(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    fn value(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        fields(|out| {
            put_message(out, 9, |out| {
                put_bytes_field(out, 1, b"k");
                put_message(out, 2, write);
            });
        })
    }

    #[test]
    fn members_become_fields() {
        let cases: Vec<(&str, Vec<u8>)> = vec![
            (
                r#""name":"a\n\u00e4\ud83d\ude00\ud800x""#,
                fields(|o| put_bytes_field(o, 5, "a\nä😀\u{fffd}x".as_bytes())),
            ),
            (r#""name":null,"events":null,"attributes":null,"parentSpanId":null"#, Vec::new()),
            (r#""parentSpanId":"""#, Vec::new()),
            (
                r#""parent_span_id":"00000000000000ff""#,
                fields(|o| put_bytes_field(o, 4, &[0, 0, 0, 0, 0, 0, 0, 255])),
            ),
            (r#""kind":"SPAN_KIND_SERVER""#, fields(|o| put_varint_field(o, 6, 2))),
            (r#""kind":77"#, fields(|o| put_varint_field(o, 6, 77))),
            (r#""kind":"SPAN_KIND_ODD""#, Vec::new()),
            (
                r#""startTimeUnixNano":"18446744073709551615""#,
                fields(|o| put_fixed64_field(o, 7, u64::MAX)),
            ),
            (
                r#""start_time_unix_nano":1795219380000000000"#,
                fields(|o| put_fixed64_field(o, 7, 1_795_219_380_000_000_000)),
            ),
            (r#""endTimeUnixNano":1.5e3"#, fields(|o| put_fixed64_field(o, 8, 1500))),
            (
                r#""flags":257,"traceState":"a=b""#,
                fields(|o| {
                    put_fixed32_field(o, 16, 257);
                    put_bytes_field(o, 3, b"a=b");
                }),
            ),
            (
                r#""status":{"code":"STATUS_CODE_ERROR","message":"no"}"#,
                fields(|o| {
                    put_message(o, 15, |o| {
                        put_varint_field(o, 3, 2);
                        put_bytes_field(o, 2, b"no");
                    })
                }),
            ),
            (r#""unknown":{"a":[{"b":[[]]},1,true,null,"x"]}"#, Vec::new()),
            (
                r#""events":[{"timeUnixNano":"7","name":"e"}]"#,
                fields(|o| {
                    put_message(o, 11, |o| {
                        put_fixed64_field(o, 1, 7);
                        put_bytes_field(o, 2, b"e");
                    })
                }),
            ),
            (
                r#""links":[{"traceId":"zz","spanId":"0102030405060708"}]"#,
                fields(|o| {
                    put_message(o, 13, |o| put_bytes_field(o, 2, &[1, 2, 3, 4, 5, 6, 7, 8]))
                }),
            ),
        ];
        for (members, expected) in cases {
            assert_eq!(convert(members), Ok(expected), "{members}");
        }
    }

    #[test]
    fn values_become_values() {
        let cases: Vec<(&str, Vec<u8>)> = vec![
            (r#"{"stringValue":""}"#, value(|o| put_bytes_field(o, 1, b""))),
            (r#"{"string_value":"x"}"#, value(|o| put_bytes_field(o, 1, b"x"))),
            (r#"{"boolValue":false}"#, value(|o| put_varint_field(o, 2, 0))),
            (r#"{"intValue":"-9223372036854775808"}"#, value(|o| put_varint_field(o, 3, 1 << 63))),
            (r#"{"intValue":5.0}"#, value(|o| put_varint_field(o, 3, 5))),
            (
                r#"{"doubleValue":"-Infinity"}"#,
                value(|o| put_double_field(o, 4, f64::NEG_INFINITY)),
            ),
            (r#"{"doubleValue":1}"#, value(|o| put_double_field(o, 4, 1.0))),
            (r#"{"bytesValue":"-_8"}"#, value(|o| put_bytes_field(o, 7, &[0xfb, 0xff]))),
            (r#"{"bytesValue":"+/8="}"#, value(|o| put_bytes_field(o, 7, &[0xfb, 0xff]))),
            (
                r#"{"arrayValue":{"values":[{"intValue":1},{}]}}"#,
                value(|o| {
                    put_message(o, 5, |o| {
                        put_message(o, 1, |o| put_varint_field(o, 3, 1));
                        put_bytes_field(o, 1, b"");
                    })
                }),
            ),
            (
                r#"{"kvlistValue":{"values":[{"key":"a"}]}}"#,
                value(|o| {
                    put_message(o, 6, |o| put_message(o, 1, |o| put_bytes_field(o, 1, b"a")))
                }),
            ),
            (
                r#"{"intValue":"1","stringValue":"last","boolValue":null}"#,
                value(|o| put_bytes_field(o, 1, b"last")),
            ),
            ("{}", value(|_| {})),
            ("null", value(|_| {})),
        ];
        for (json, expected) in cases {
            let members = format!(r#""attributes":[{{"key":"k","value":{json}}}]"#);
            assert_eq!(convert(&members), Ok(expected), "{json}");
        }
    }

    #[test]
    fn a_fault_costs_its_span_alone() {
        let cases = [
            (
                r#""traceId":"AQIDBAUGBwgJCgsMDQ4PEA==","spanId":"0102030405060708","name":"x""#,
                "invalid_trace_id (not hex; OTLP/JSON ids are hex, not base64; e.g. span 0102…0708 name \"x\")",
            ),
            (
                r#""traceId":"01020304050607080102030405060708","spanId":7"#,
                "invalid_span_id (no string; e.g. trace 0102…0708 name \"\")",
            ),
            (
                r#""traceId":"01020304050607080102030405060708","spanId":"0102030405060708","startTimeUnixNano":1.5"#,
                "unknown_error (a time is no number of nanoseconds; e.g. trace 0102…0708 name \"\")",
            ),
            (r#""attributes":5"#, "unknown_error (expected a list; e.g. a span with name \"\")"),
            (
                r#""attributes":[{"value":{"intValue":5.5}}]"#,
                "unknown_error (intValue is no 64-bit integer; e.g. a span with name \"\")",
            ),
        ];
        for (span, text) in cases {
            let converted = decode(body(span).as_bytes()).unwrap();
            assert_eq!(check(&converted.request), Ok(Checked::Clean { spans: 0 }));
            let said = describe(1, &converted.refused, &converted.warnings);
            assert_eq!(said, format!("refused 1 of 1 spans: 1 {text}"), "{span}");
        }
        let resource = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"a","value":{"intValue":"x"}},{"key":"b"}]}}]}"#;
        let converted = decode(resource.as_bytes()).unwrap();
        assert_eq!(
            converted.request,
            fields(|o| put_message(o, 1, |o| put_message(o, 1, |o| put_message(o, 1, |o| {
                put_bytes_field(o, 1, b"b")
            }))))
        );
        assert!(!converted.warnings.is_empty());
    }

    #[test]
    fn broken_syntax_is_located() {
        let cases = [
            ("", 1, 1, "the body ends too early"),
            ("[]", 1, 1, "expected an object"),
            ("{\n \"a\" 1}", 2, 6, "expected a colon"),
            ("{\"a\":tru}", 1, 6, "expected true, false or null"),
            ("{} x", 1, 4, "something follows the request's end"),
            ("{\"a\":\"x\ny\"}", 1, 8, "a control character in a string is not escaped"),
            ("{\"a\":[1,2", 1, 10, "the body ends too early"),
            ("{\"resourceSpans\":{}}", 1, 18, "expected a list"),
            ("{\"a\":\"\\x\"}", 1, 8, "an unknown escape in a string"),
        ];
        for (body, line, column, what) in cases {
            assert_eq!(
                decode(body.as_bytes()).unwrap_err(),
                JsonError { line, column, what },
                "{body}"
            );
        }
        for empty in [
            "{}",
            "null",
            " {\n} \n",
            "\u{feff}{}",
            r#"{"resourceSpans":[null]}"#,
            r#"{"resourceSpans":null}"#,
        ] {
            let converted = decode(empty.as_bytes()).unwrap();
            assert_eq!(check(&converted.request), Ok(Checked::Clean { spans: 0 }), "{empty}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let unknown = format!(r#""x":{}{}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(convert(&unknown), Ok(Vec::new()));
        let nested = |levels: usize| {
            let (open, close) =
                (r#"{"arrayValue":{"values":["#.repeat(levels), "]}}".repeat(levels));
            format!(r#""attributes":[{{"key":"k","value":{open}{{"intValue":1}}{close}}}]"#)
        };
        let text =
            |span: Result<Vec<u8>, String>| String::from_utf8_lossy(&span.unwrap()).into_owned();
        assert!(!text(convert(&nested(31))).contains(TOO_DEEP));
        assert!(text(convert(&nested(32))).contains(TOO_DEEP));
        assert!(text(convert(&nested(20_000))).contains(TOO_DEEP));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn any_bytes_are_answered(bytes: Vec<u8>) {
            drop(decode(&bytes));
        }

        #[test]
        fn any_tokens_are_answered(tokens in prop::collection::vec(prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"resourceSpans\"", "\"scopeSpans\"", "\"spans\"", "\"attributes\"", "\"value\"",
            "\"arrayValue\"", "1", "-1e9", "null", "true", "\"\\u12", "\"", "\\", "NaN", " ",
        ]), 0..40)) {
            if let Ok(converted) = decode(tokens.concat().as_bytes()) {
                prop_assert!(check(&converted.request).is_ok());
            }
        }
    }
}
