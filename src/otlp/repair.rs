//! Writes a request anew that has faults: keeps what can be kept, refuses single spans, says what
//! it changed.
//!
//! The slow path of [`crate::otlp::check`]. Messages without a fault are copied as they are.
#![deny(clippy::indexing_slicing)]

use crate::otlp::{
    check::{self, Checked, DEPRECATED_SCOPE_SPANS, Fault, MAX_DEPTH},
    refusal::{Reason, Refusals, Warning, Warnings, example, id_fault},
    wire::{
        BYTES, FIXED32, FIXED64, Field, Reader, VARINT, WireError, is_group, put_bytes_field,
        put_message,
    },
};

/// What stands in place of a value that is nested too deep.
pub(super) const TOO_DEEP: &str = "<too deep>";

/// The request without its faults.
pub(super) fn repair(request: &[u8]) -> Result<Checked, WireError> {
    let mut repair = Repair::default();
    let mut out = Vec::with_capacity(request.len());
    let mut reader = Reader::new(request);
    while let Some((field, value)) = reader.next()? {
        // Unknown fields of the request itself mean nothing to anyone.
        match (field, value) {
            (1, Field::Bytes(bytes)) => repair.resource_spans(bytes, &mut out)?,
            (1, _) => return Err(WireError::Type),
            _ => {}
        }
    }
    let Repair { spans, refused, warnings } = repair;
    Ok(Checked::Repaired { request: out, spans, refused, warnings })
}

#[derive(Default)]
struct Repair {
    spans: u64,
    refused: Refusals,
    warnings: Warnings,
}

/// Messages below a scope or resource; what is done to each of their fields, [`treatment`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    Resource,
    EntityRef,
    Scope,
    Span,
    Event,
    Link,
    Status,
    KeyValue,
    AnyValue,
    Array,
    KvList,
}

#[derive(Debug, Clone, Copy)]
enum Treatment {
    /// Copied, if of this wire type.
    Copy(u32),
    /// A string, of which invalid UTF-8 is replaced.
    Text,
    Inside(Message),
    /// A list of values, one level deeper.
    Deeper(Message),
    /// An id of so many bytes, dropped if it has not that many.
    LinkId(usize),
    /// Written by the caller.
    Elsewhere,
    Unknown,
}

const fn treatment(message: Message, field: u32) -> Treatment {
    use Treatment::{Copy, Deeper, Elsewhere, Inside, LinkId, Text};
    match (message, field) {
        (Message::Resource, 1) => Inside(Message::KeyValue),
        (Message::Resource, 2) => Copy(VARINT),
        (Message::Resource, 3) => Inside(Message::EntityRef),
        (Message::EntityRef, 1..=4) => Text,
        (Message::Scope, 1 | 2) => Text,
        (Message::Scope, 3) => Inside(Message::KeyValue),
        (Message::Scope, 4) => Copy(VARINT),
        (Message::Span, 1 | 2 | 4 | 15) => Elsewhere,
        (Message::Span, 3 | 5) => Text,
        (Message::Span, 6 | 10 | 12 | 14) => Copy(VARINT),
        (Message::Span, 7 | 8) => Copy(FIXED64),
        (Message::Span, 9) => Inside(Message::KeyValue),
        (Message::Span, 11) => Inside(Message::Event),
        (Message::Span, 13) => Inside(Message::Link),
        (Message::Span, 16) => Copy(FIXED32),
        (Message::Event, 1) => Copy(FIXED64),
        (Message::Event, 2) => Text,
        (Message::Event, 3) => Inside(Message::KeyValue),
        (Message::Event, 4) => Copy(VARINT),
        (Message::Link, 1) => LinkId(16),
        (Message::Link, 2) => LinkId(8),
        (Message::Link, 3) => Text,
        (Message::Link, 4) => Inside(Message::KeyValue),
        (Message::Link, 5) => Copy(VARINT),
        (Message::Link, 6) => Copy(FIXED32),
        (Message::Status, 1 | 3) => Copy(VARINT),
        (Message::Status, 2) => Text,
        (Message::KeyValue, 1) => Text,
        (Message::KeyValue, 2) => Inside(Message::AnyValue),
        (Message::AnyValue, 1) => Text,
        (Message::AnyValue, 2 | 3) => Copy(VARINT),
        (Message::AnyValue, 4) => Copy(FIXED64),
        (Message::AnyValue, 5) => Deeper(Message::Array),
        (Message::AnyValue, 6) => Deeper(Message::KvList),
        (Message::AnyValue, 7) => Copy(BYTES),
        (Message::Array, 1) => Inside(Message::AnyValue),
        (Message::KvList, 1) => Inside(Message::KeyValue),
        _ => Treatment::Unknown,
    }
}

/// The fields of a span that decide whether it is taken.
#[derive(Default)]
pub(super) struct Head<'a> {
    pub(super) trace_id: &'a [u8],
    pub(super) span_id: &'a [u8],
    pub(super) parent: &'a [u8],
    pub(super) name: &'a [u8],
    statuses: Vec<&'a [u8]>,
}

impl Repair {
    fn resource_spans(&mut self, message: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
        let start = out.len();
        let spans = self.spans;
        put_message(out, 1, |out| {
            self.join(Message::Resource, message, out)?;
            let mut reader = Reader::new(message);
            while let Some(field) = reader.next()? {
                match field {
                    (2 | DEPRECATED_SCOPE_SPANS, Field::Bytes(bytes)) => {
                        self.scope_spans(bytes, out)?;
                    }
                    (3, Field::Bytes(bytes)) => put_text(out, 3, bytes),
                    (2 | 3 | DEPRECATED_SCOPE_SPANS, _) => return Err(WireError::Type),
                    _ => {}
                }
            }
            Ok(())
        })?;
        if self.spans == spans {
            out.truncate(start);
        }
        Ok(())
    }

    fn scope_spans(&mut self, message: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
        let start = out.len();
        let spans = self.spans;
        put_message(out, 2, |out| {
            self.join(Message::Scope, message, out)?;
            let mut reader = Reader::new(message);
            while let Some(field) = reader.next()? {
                match field {
                    (2, Field::Bytes(bytes)) => self.span(bytes, out)?,
                    (3, Field::Bytes(bytes)) => put_text(out, 3, bytes),
                    (2 | 3, _) => return Err(WireError::Type),
                    _ => {}
                }
            }
            Ok(())
        })?;
        if self.spans == spans {
            out.truncate(start);
        }
        Ok(())
    }

    /// Writes field 1 of `parent`, a resource or scope, however often it stands there: encoded
    /// messages merge by standing one after the other.
    fn join(
        &mut self,
        message: Message,
        parent: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        let mut joined = None::<Vec<u8>>;
        let mut reader = Reader::new(parent);
        while let Some((field, value)) = reader.next()? {
            match (field, value) {
                (1, Field::Bytes(bytes)) => {
                    self.message(message, bytes, 1, joined.get_or_insert_default())?;
                }
                (1, _) => return Err(WireError::Type),
                _ => {}
            }
        }
        if let Some(bytes) = joined {
            put_bytes_field(out, 1, &bytes);
        }
        Ok(())
    }

    fn span(&mut self, message: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
        match check::span(message) {
            Ok(()) => put_bytes_field(out, 2, message),
            Err(Fault::Wire(error)) => return Err(error),
            Err(Fault::Dirty) => {
                let head = Head::read(message)?;
                if !self.admit(&head) {
                    return Ok(());
                }
                put_message(out, 2, |out| self.span_fields(&head, message, out))?;
            }
        }
        self.spans += 1;
        Ok(())
    }

    /// Whether the span has ids; if not it is refused.
    fn admit(&mut self, head: &Head<'_>) -> bool {
        let some = |id: &[u8]| id.iter().any(|&byte| byte != 0);
        let Head { trace_id, span_id, name, .. } = *head;
        let reason = if !(matches!(trace_id.len(), 8 | 16) && some(trace_id)) {
            Reason::InvalidTraceId
        } else if !(span_id.len() == 8 && some(span_id)) {
            Reason::InvalidSpanId
        } else {
            return true;
        };
        let id = if reason == Reason::InvalidTraceId { trace_id } else { span_id };
        self.refused.add(reason, || example(&id_fault(id), trace_id, span_id, name));
        false
    }

    fn span_fields(
        &mut self,
        head: &Head<'_>,
        message: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        put_bytes_field(out, 1, &trace_id(head.trace_id));
        put_bytes_field(out, 2, head.span_id);
        match head.parent.len() {
            8 if head.parent != head.span_id => put_bytes_field(out, 4, head.parent),
            0 | 8 => {}
            _ => self.warnings.add(Warning::ParentDropped),
        }
        self.message(Message::Span, message, 1, out)?;
        if head.statuses.is_empty() {
            return Ok(());
        }
        put_message(out, 15, |out| {
            head.statuses
                .iter()
                .try_for_each(|status| self.message(Message::Status, status, 1, out))
        })
    }

    /// Writes the fields of a message, each as [`treatment`] says; `depth` is that of the values in
    /// it.
    fn message(
        &mut self,
        message: Message,
        bytes: &[u8],
        depth: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        let mut reader = Reader::new(bytes);
        loop {
            let before = reader.rest();
            let Some(tag) = reader.tag()? else { return Ok(()) };
            let field = tag >> 3;
            match treatment(message, field) {
                _ if is_group(tag) => reader.skip(tag)?,
                Treatment::Unknown => {
                    reader.skip(tag)?;
                    out.extend_from_slice(read_between(before, reader.rest()));
                }
                Treatment::Copy(wire_type) if tag & 7 == wire_type => {
                    reader.skip(tag)?;
                    out.extend_from_slice(read_between(before, reader.rest()));
                }
                Treatment::Copy(_) => return Err(WireError::Type),
                _ if tag & 7 != BYTES => return Err(WireError::Type),
                treatment => self.submessage(treatment, field, reader.bytes()?, depth, out)?,
            }
        }
    }

    fn submessage(
        &mut self,
        treatment: Treatment,
        field: u32,
        bytes: &[u8],
        depth: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        match treatment {
            Treatment::Text => put_text(out, field, bytes),
            Treatment::Inside(message) => {
                put_message(out, field, |out| self.message(message, bytes, depth, out))?;
            }
            Treatment::Deeper(_) if depth >= MAX_DEPTH => {
                put_bytes_field(out, 1, TOO_DEEP.as_bytes());
                self.warnings.add(Warning::TooDeep);
            }
            Treatment::Deeper(message) => {
                put_message(out, field, |out| self.message(message, bytes, depth + 1, out))?;
            }
            Treatment::LinkId(len) if bytes.len() == len || bytes.is_empty() => {
                put_bytes_field(out, field, bytes);
            }
            Treatment::LinkId(16) if bytes.len() == 8 => {
                put_bytes_field(out, field, &trace_id(bytes));
            }
            Treatment::LinkId(_) => self.warnings.add(Warning::LinkIdDropped),
            Treatment::Elsewhere | Treatment::Copy(_) | Treatment::Unknown => {}
        }
        Ok(())
    }
}

impl<'a> Head<'a> {
    pub(super) fn read(span: &'a [u8]) -> Result<Head<'a>, WireError> {
        let mut head = Head::default();
        let mut reader = Reader::new(span);
        while let Some(field) = reader.next()? {
            match field {
                (1, Field::Bytes(bytes)) => head.trace_id = bytes,
                (2, Field::Bytes(bytes)) => head.span_id = bytes,
                (4, Field::Bytes(bytes)) => head.parent = bytes,
                (5, Field::Bytes(bytes)) => head.name = bytes,
                (15, Field::Bytes(bytes)) => head.statuses.push(bytes),
                _ => {}
            }
        }
        Ok(head)
    }
}

/// A trace id of 16 bytes; 64-bit ids, as translating proxies send them, get zeros in front.
fn trace_id(id: &[u8]) -> [u8; 16] {
    let mut padded = [0; 16];
    for (to, from) in padded.iter_mut().rev().zip(id.iter().rev()) {
        *to = *from;
    }
    padded
}

fn put_text(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_bytes_field(out, field, String::from_utf8_lossy(bytes).as_bytes());
}

/// What a reader has read between two looks at the rest.
fn read_between<'a>(before: &'a [u8], after: &[u8]) -> &'a [u8] {
    before.get(..before.len() - after.len()).unwrap_or_default()
}
