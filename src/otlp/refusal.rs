//! What was wrong with a request that was taken all the same: the spans refused, the values
//! changed.
//!
//! Sums up by kind, with one example each, so that the answer to a sender stays short.

use std::fmt::Write as _;

use crate::otlp::wire::{Field, Reader};

/// Bytes that the text of an answer may have: it goes into every log of the sender.
const MAX_TEXT_BYTES: usize = 1024;

/// Characters of a span's name shown in an example.
const MAX_NAME_CHARS: usize = 40;

/// Why a span was refused while it was decoded. The labels are those of Tempo's
/// `tempo_discarded_spans_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    InvalidTraceId,
    InvalidSpanId,
    /// A field holds what it cannot hold, such as a start time that is no number.
    InvalidValue,
}

impl Reason {
    pub const ALL: [Reason; 3] =
        [Reason::InvalidTraceId, Reason::InvalidSpanId, Reason::InvalidValue];

    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Reason::InvalidTraceId => "invalid_trace_id",
            Reason::InvalidSpanId => "invalid_span_id",
            Reason::InvalidValue => "unknown_error",
        }
    }
}

/// The spans of one request that were refused, by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusals {
    clauses: [Clause; Reason::ALL.len()],
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Clause {
    spans: u64,
    /// What was wrong with the first of them, and which span it was.
    example: String,
}

impl Refusals {
    /// Counts one span; `example` is asked for once per reason.
    pub fn add(&mut self, reason: Reason, example: impl FnOnce() -> String) {
        let [trace_id, span_id, value] = &mut self.clauses;
        let clause = match reason {
            Reason::InvalidTraceId => trace_id,
            Reason::InvalidSpanId => span_id,
            Reason::InvalidValue => value,
        };
        if clause.spans == 0 {
            clause.example = example();
        }
        clause.spans += 1;
    }

    /// Joins two lists of one request.
    #[must_use]
    pub fn merge(mut self, other: Refusals) -> Refusals {
        for (mine, theirs) in self.clauses.iter_mut().zip(other.clauses) {
            if mine.spans == 0 {
                mine.example = theirs.example;
            }
            mine.spans += theirs.spans;
        }
        self
    }

    #[must_use]
    pub fn spans(&self) -> u64 {
        self.clauses.iter().map(|clause| clause.spans).sum()
    }

    /// The number of spans for each reason that occurred.
    pub fn counts(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL
            .into_iter()
            .zip(&self.clauses)
            .filter(|(_, clause)| clause.spans > 0)
            .map(|(reason, clause)| (reason, clause.spans))
    }
}

/// What was changed in spans that were accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warning {
    /// A parent id that is not 8 bytes long.
    ParentDropped,
    /// A link's id that is not 16 or 8 bytes long.
    LinkIdDropped,
    /// A value in values in values.
    TooDeep,
    /// A JSON enum name that OTLP does not know.
    UnknownEnum,
    /// An attribute of a resource or scope that could not be read.
    AttributeDropped,
}

impl Warning {
    const ALL: [Warning; 5] = [
        Warning::ParentDropped,
        Warning::LinkIdDropped,
        Warning::TooDeep,
        Warning::UnknownEnum,
        Warning::AttributeDropped,
    ];

    const fn text(self) -> &'static str {
        match self {
            Warning::ParentDropped => "parent ids dropped that are not 8 bytes",
            Warning::LinkIdDropped => "link ids dropped that are not 16 and 8 bytes",
            Warning::TooDeep => "values nested too deep replaced by <too deep>",
            Warning::UnknownEnum => "unknown enum names read as 0",
            Warning::AttributeDropped => "unreadable resource or scope attributes dropped",
        }
    }
}

/// How often each [`Warning`] applied to one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Warnings {
    counts: [u64; Warning::ALL.len()],
}

impl Warnings {
    pub fn add(&mut self, warning: Warning) {
        for (kind, count) in Warning::ALL.into_iter().zip(&mut self.counts) {
            *count += u64::from(kind == warning);
        }
    }

    #[must_use]
    pub fn merge(mut self, other: Warnings) -> Warnings {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine += theirs;
        }
        self
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.iter().all(|&count| count == 0)
    }
}

/// The text for `partial_success`; empty if there is nothing to say. `spans` counts all spans of
/// the request.
#[must_use]
pub fn describe(spans: u64, refused: &Refusals, warnings: &Warnings) -> String {
    let mut text = String::new();
    if refused.spans() > 0 {
        append(&mut text, format_args!("refused {} of {spans} spans: ", refused.spans()));
    }
    let mut separator = "";
    for (reason, clause) in Reason::ALL.into_iter().zip(&refused.clauses) {
        if clause.spans > 0 {
            let (count, label, example) = (clause.spans, reason.label(), &clause.example);
            append(&mut text, format_args!("{separator}{count} {label} ({example})"));
            separator = ", ";
        }
    }
    for (warning, count) in Warning::ALL.into_iter().zip(warnings.counts) {
        if count > 0 {
            let separator = if text.is_empty() { "" } else { "; " };
            append(&mut text, format_args!("{separator}{count} {}", warning.text()));
        }
    }
    cut(&mut text, MAX_TEXT_BYTES);
    text
}

/// What tells one refused span from others: its trace, or itself if it has none, and its name.
#[must_use]
pub fn example(fault: &str, trace_id: &[u8], span_id: &[u8], name: &[u8]) -> String {
    let mut text = String::from(fault);
    if !trace_id.is_empty() {
        append(&mut text, format_args!("; e.g. trace {}", short_hex(trace_id)));
    } else if !span_id.is_empty() {
        append(&mut text, format_args!("; e.g. span {}", short_hex(span_id)));
    } else {
        text.push_str("; e.g. a span with");
    }
    let name: String = String::from_utf8_lossy(name).chars().take(MAX_NAME_CHARS).collect();
    append(&mut text, format_args!(" name {name:?}"));
    text
}

/// What is wrong with an id that is not as long as it has to be, or all zero.
#[must_use]
pub fn id_fault(id: &[u8]) -> String {
    match id.len() {
        0 => "empty".to_owned(),
        _ if id.iter().all(|&byte| byte == 0) => "all zero".to_owned(),
        len => format!("{len} bytes"),
    }
}

/// The number of spans in bytes that may not even be a request, for counting a request refused as a
/// whole.
#[must_use]
pub fn count_spans(request: &[u8]) -> u64 {
    let mut spans = 0;
    for resource_spans in messages(request, 1) {
        for scope_spans in messages(resource_spans, 2) {
            spans += messages(scope_spans, 2).count() as u64;
        }
    }
    spans
}

fn messages(message: &[u8], field: u32) -> impl Iterator<Item = &[u8]> {
    let mut reader = Reader::new(message);
    std::iter::from_fn(move || reader.next().ok().flatten()).filter_map(move |found| match found {
        (number, Field::Bytes(bytes)) if number == field => Some(bytes),
        _ => None,
    })
}

fn short_hex(id: &[u8]) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    match (id.len(), id.first_chunk::<2>(), id.last_chunk::<2>()) {
        (5.., Some(first), Some(last)) => format!("{}…{}", hex(first), hex(last)),
        _ => hex(id),
    }
}

fn append(text: &mut String, words: std::fmt::Arguments<'_>) {
    text.write_fmt(words).expect("writing to a string cannot fail");
}

fn cut(text: &mut String, max_bytes: usize) {
    text.truncate(text.floor_char_boundary(max_bytes));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_was_refused_and_why() {
        let mut refused = Refusals::default();
        refused.add(Reason::InvalidSpanId, || {
            example("empty", &[0x0a, 0xf7, 1, 2, 0x31, 0x9c], &[], b"GET /")
        });
        refused.add(Reason::InvalidSpanId, || unreachable!("asked for once"));
        refused.add(Reason::InvalidTraceId, || example(&id_fault(&[1, 2]), &[1, 2], &[], b"x"));
        let mut warnings = Warnings::default();
        warnings.add(Warning::ParentDropped);
        assert_eq!(
            describe(512, &refused, &warnings),
            "refused 3 of 512 spans: 1 invalid_trace_id (2 bytes; e.g. trace 0102 name \"x\"), \
             2 invalid_span_id (empty; e.g. trace 0af7…319c name \"GET /\"); \
             1 parent ids dropped that are not 8 bytes"
        );
        assert_eq!(describe(9, &Refusals::default(), &Warnings::default()), "");
    }

    #[test]
    fn the_text_is_bounded() {
        let mut refused = Refusals::default();
        for reason in Reason::ALL {
            refused.add(reason, || "ä".repeat(1000));
        }
        assert!(describe(1, &refused, &Warnings::default()).len() <= MAX_TEXT_BYTES);
    }
}
