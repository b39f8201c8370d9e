//! Spans encoded in advance, with gaps for what differs: ids, times and a few attribute values.
//!
//! Writing a span is then a handful of copies, so that a sender takes little of the machine it measures.

use crate::load::random::{Random, mix};
use crate::load::shop::{Attribute, Event, Link, Operation, Scope, Value};
use crate::model::{SpanId, TraceId};
use crate::otlp::wire::{
    BYTES, FIXED64, VARINT, put_bytes_field, put_fixed32_field, put_message, put_tag, put_varint,
    put_varint_field, varint_len,
};

const STATUS_ERROR: u64 = 2;

/// W3C trace flags: sampled, and the parent's whereabouts are known.
const FLAGS: u32 = 0x101;

/// One span as it is about to be written.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    pub trace: TraceId,
    /// What values that hold for the whole trace are drawn from.
    pub trace_key: u64,
    pub id: SpanId,
    /// `None` at the root.
    pub parent: Option<SpanId>,
    pub start_nanos: u64,
    pub end_nanos: u64,
    /// The root span of another trace, for spans that link to one.
    pub earlier: (TraceId, SpanId),
}

/// An encoded span with gaps. Without the parent's id, which stands in front of it.
#[derive(Debug)]
pub struct Template {
    pieces: Vec<Piece>,
}

/// Bytes that never change, and the gap behind them.
#[derive(Debug)]
struct Piece {
    bytes: Vec<u8>,
    gap: Gap,
}

/// What fills a gap.
#[derive(Debug)]
enum Gap {
    Nothing,
    Trace,
    Span,
    Parent,
    Start,
    End,
    /// The time of an event: three quarters through the span.
    Event,
    EarlierTrace,
    EarlierSpan,
    /// One of some encoded attributes, the first ones more often.
    OneOf(Vec<Vec<u8>>),
    /// A varint; all values between the two take equally many bytes.
    Varint(u64, u64),
    Double(f64, f64),
    Name(Name),
}

/// Names and numbers of the shop's things, in text. High cardinality lives here.
#[derive(Debug, Clone, Copy)]
enum Name {
    User,
    Session,
    Order,
    Cart,
    Product,
    Request,
    Host,
}

/// Where the values of a name come from.
enum Cardinality {
    /// One value in the whole trace, which no other has.
    Unique,
    /// One value in the whole trace, out of so many, some more frequent.
    Among(u64),
    /// A value for each span, out of so many, some more frequent.
    EachAmong(u64),
}

impl Template {
    /// The template of an operation that went well.
    #[must_use]
    pub fn ok(operation: &Operation) -> Template {
        let attributes = operation.attributes.iter().copied().flatten();
        Builder::span(operation, attributes, operation.events, None)
    }

    /// The template of an operation that failed; `None` if it cannot.
    #[must_use]
    pub fn failed(operation: &Operation) -> Option<Template> {
        let failure = operation.failure?;
        let changed = |key| failure.attributes.iter().any(|attribute| attribute.0 == key);
        let kept = operation.attributes.iter().copied().flatten().filter(|kept| !changed(kept.0));
        let attributes = kept.chain(failure.attributes);
        Some(Builder::span(operation, attributes, failure.events, Some(failure.message)))
    }

    /// Appends the span as a field of its scope.
    pub fn write(&self, out: &mut Vec<u8>, field: u32, moment: &Moment) {
        let mut random = Random::new(mix(moment.trace_key, u64::from_be_bytes(moment.id.0)));
        put_message(out, field, |out| {
            for piece in &self.pieces {
                out.extend_from_slice(&piece.bytes);
                piece.gap.fill(out, moment, &mut random);
            }
        });
    }
}

impl Gap {
    #[inline]
    fn fill(&self, out: &mut Vec<u8>, moment: &Moment, random: &mut Random) {
        match self {
            Gap::Nothing => {}
            Gap::Trace => out.extend_from_slice(&moment.trace.0),
            Gap::Span => out.extend_from_slice(&moment.id.0),
            Gap::Parent => {
                if let Some(parent) = moment.parent {
                    put_bytes_field(out, 4, &parent.0);
                }
            }
            Gap::Start => out.extend_from_slice(&moment.start_nanos.to_le_bytes()),
            Gap::End => out.extend_from_slice(&moment.end_nanos.to_le_bytes()),
            Gap::Event => {
                let quarter_nanos = moment.end_nanos.saturating_sub(moment.start_nanos) / 4;
                let time_nanos = moment.end_nanos.saturating_sub(quarter_nanos);
                out.extend_from_slice(&time_nanos.to_le_bytes());
            }
            Gap::EarlierTrace => out.extend_from_slice(&moment.earlier.0.0),
            Gap::EarlierSpan => out.extend_from_slice(&moment.earlier.1.0),
            Gap::OneOf(choices) => {
                out.extend_from_slice(random.choose(choices).map_or(&[], Vec::as_slice));
            }
            Gap::Varint(first, last) => put_varint(out, random.within(*first, *last)),
            Gap::Double(first, last) => {
                // In steps of a thousandth, as scores and amounts are.
                let share = f64::from(u16::try_from(random.below(1001)).unwrap_or(0)) / 1000.0;
                out.extend_from_slice(&(first + (last - first) * share).to_le_bytes());
            }
            Gap::Name(name) => name.write(out, moment.trace_key, random),
        }
    }

    /// How many bytes it will take, if that is always the same.
    fn width(&self) -> Option<usize> {
        match self {
            Gap::Nothing => Some(0),
            Gap::Trace | Gap::EarlierTrace => Some(16),
            Gap::Span | Gap::Start | Gap::End | Gap::Event => Some(8),
            Gap::EarlierSpan | Gap::Double(..) => Some(8),
            Gap::Varint(first, last) => {
                (varint_len(*first) == varint_len(*last)).then(|| varint_len(*first))
            }
            Gap::Name(name) => Some(name.width()),
            Gap::Parent | Gap::OneOf(_) => None,
        }
    }
}

impl Name {
    fn parse(text: &str) -> Option<Name> {
        Some(match text {
            "user" => Name::User,
            "session" => Name::Session,
            "order" => Name::Order,
            "cart" => Name::Cart,
            "product" => Name::Product,
            "request" => Name::Request,
            "host" => Name::Host,
            _ => return None,
        })
    }

    /// Length in characters. Names of up to six are decimal, longer ones hex.
    const fn width(self) -> usize {
        match self {
            Name::Host => 3,
            Name::Product => 5,
            Name::User => 6,
            Name::Order => 12,
            Name::Cart | Name::Session => 16,
            Name::Request => 32,
        }
    }

    const fn cardinality(self) -> Cardinality {
        match self {
            Name::Host => Cardinality::Among(150),
            Name::User => Cardinality::Among(50_000),
            Name::Product => Cardinality::EachAmong(2_000),
            Name::Order | Name::Cart | Name::Session | Name::Request => Cardinality::Unique,
        }
    }

    fn write(self, out: &mut Vec<u8>, trace_key: u64, random: &mut Random) {
        let mut of_trace = Random::new(mix(trace_key, self as u64));
        match self.cardinality() {
            Cardinality::Unique => {
                put_hex(out, of_trace.number(), self.width().min(16));
                put_hex(out, of_trace.number(), self.width().saturating_sub(16));
            }
            Cardinality::Among(end) => {
                put_decimal(out, of_trace.popular(end), self.width());
            }
            Cardinality::EachAmong(end) => put_decimal(out, random.popular(end), self.width()),
        }
    }
}

fn put_hex(out: &mut Vec<u8>, number: u64, digits: usize) {
    let mut rest = number;
    out.extend(
        std::iter::repeat_with(|| {
            rest = rest.rotate_left(4);
            b"0123456789abcdef"[usize::from(rest.to_le_bytes()[0] & 15)]
        })
        .take(digits),
    );
}

/// Writes a number with leading zeros. Those of some digits more are cut in front.
fn put_decimal(out: &mut Vec<u8>, number: u64, digits: usize) {
    let mut rest = number;
    let start = out.len();
    out.resize(start + digits, b'0');
    for digit in out.iter_mut().skip(start).rev() {
        *digit += (rest % 10).to_le_bytes()[0];
        rest /= 10;
    }
}

/// A resource, as a field of `ResourceSpans`.
#[must_use]
pub fn encode_resource(field: u32, attributes: &[(&'static str, String)]) -> Vec<u8> {
    let mut out = Vec::new();
    put_message(&mut out, field, |resource| {
        for (key, value) in attributes {
            put_message(resource, 1, |attribute| {
                put_bytes_field(attribute, 1, key.as_bytes());
                put_message(attribute, 2, |any| put_bytes_field(any, 1, value.as_bytes()));
            });
        }
    });
    out
}

/// A scope, as a field of `ScopeSpans`.
#[must_use]
pub fn encode_scope(field: u32, (name, version): Scope) -> Vec<u8> {
    let mut out = Vec::new();
    put_message(&mut out, field, |scope| {
        put_bytes_field(scope, 1, name.as_bytes());
        put_bytes_field(scope, 2, version.as_bytes());
    });
    out
}

/// A message in the making.
#[derive(Default)]
struct Builder {
    pieces: Vec<Piece>,
    bytes: Vec<u8>,
}

impl Builder {
    fn span<'a>(
        operation: &Operation,
        attributes: impl Iterator<Item = &'a Attribute>,
        events: &[Event],
        error: Option<&str>,
    ) -> Template {
        let mut span = Builder::default();
        span.gap_field(1, Gap::Trace);
        span.gap_field(2, Gap::Span);
        span.gap(Gap::Parent);
        put_bytes_field(&mut span.bytes, 5, operation.name.as_bytes());
        put_varint_field(&mut span.bytes, 6, operation.kind as u64);
        span.fixed64_field(7, Gap::Start);
        span.fixed64_field(8, Gap::End);
        attributes.for_each(|attribute| span.attribute(9, attribute));
        events.iter().for_each(|event| span.event(event));
        match operation.link {
            Link::None => {}
            Link::EarlierTrace(attributes) => span.link(attributes),
        }
        put_message(&mut span.bytes, 15, |out| {
            if let Some(message) = error {
                put_bytes_field(out, 2, message.as_bytes());
                put_varint_field(out, 3, STATUS_ERROR);
            }
        });
        put_fixed32_field(&mut span.bytes, 16, FLAGS);
        Template { pieces: span.done() }
    }

    fn event(&mut self, event: &Event) {
        let mut message = Builder::default();
        message.fixed64_field(1, Gap::Event);
        put_bytes_field(&mut message.bytes, 2, event.name.as_bytes());
        event.attributes.iter().for_each(|attribute| message.attribute(3, attribute));
        self.message(11, message);
    }

    fn link(&mut self, attributes: &[Attribute]) {
        let mut message = Builder::default();
        message.gap_field(1, Gap::EarlierTrace);
        message.gap_field(2, Gap::EarlierSpan);
        attributes.iter().for_each(|attribute| message.attribute(4, attribute));
        put_fixed32_field(&mut message.bytes, 6, FLAGS);
        self.message(13, message);
    }

    fn attribute(&mut self, field: u32, &(key, value): &Attribute) {
        let choice = |value| {
            let mut choice = Builder::default();
            choice.attribute(field, &(key, value));
            choice.bytes
        };
        match value {
            Value::OneStr(texts) => {
                let choices = texts.iter().map(|text| choice(Value::Str(text)));
                self.gap(Gap::OneOf(choices.collect()));
            }
            Value::OneInt(numbers) => {
                let choices = numbers.iter().map(|number| choice(Value::Int(*number)));
                self.gap(Gap::OneOf(choices.collect()));
            }
            single => {
                let mut any = Builder::default();
                any.any_value(single);
                let mut attribute = Builder::default();
                put_bytes_field(&mut attribute.bytes, 1, key.as_bytes());
                attribute.message(2, any);
                self.message(field, attribute);
            }
        }
    }

    fn any_value(&mut self, value: Value) {
        match value {
            Value::Str(text) => {
                let mut string = Builder::default();
                string.text(text);
                self.message(1, string);
            }
            Value::Bool(yes) => put_varint_field(&mut self.bytes, 2, u64::from(yes)),
            Value::Int(number) => put_varint_field(&mut self.bytes, 3, number.cast_unsigned()),
            Value::Within(first, last) => {
                put_tag(&mut self.bytes, 3, VARINT);
                self.gap(Gap::Varint(first, last));
            }
            Value::Double(first, last) => self.fixed64_field(4, Gap::Double(first, last)),
            Value::Strs(texts) => put_message(&mut self.bytes, 5, |array| {
                for text in texts {
                    put_message(array, 1, |any| put_bytes_field(any, 1, text.as_bytes()));
                }
            }),
            // Attributes with a choice are chosen whole, and each choice is a single value.
            Value::OneStr(_) | Value::OneInt(_) => {}
        }
    }

    /// A text in which `{user}` and the like stand for a [`Name`].
    fn text(&mut self, text: &str) {
        for part in text.split_inclusive('}') {
            let named = part.strip_suffix('}').and_then(|part| part.split_once('{'));
            match named.and_then(|(before, name)| Some((before, Name::parse(name)?))) {
                Some((before, name)) => {
                    self.bytes.extend_from_slice(before.as_bytes());
                    self.gap(Gap::Name(name));
                }
                None => self.bytes.extend_from_slice(part.as_bytes()),
            }
        }
    }

    /// A bytes field that is one gap.
    fn gap_field(&mut self, field: u32, gap: Gap) {
        put_tag(&mut self.bytes, field, BYTES);
        let width = gap.width().expect("ids have a fixed width");
        put_varint(&mut self.bytes, width as u64);
        self.gap(gap);
    }

    fn fixed64_field(&mut self, field: u32, gap: Gap) {
        put_tag(&mut self.bytes, field, FIXED64);
        self.gap(gap);
    }

    fn gap(&mut self, gap: Gap) {
        self.pieces.push(Piece { bytes: std::mem::take(&mut self.bytes), gap });
    }

    /// A finished message as a field of this one. Its gaps must have a fixed width.
    fn message(&mut self, field: u32, message: Builder) {
        let width = |piece: &Piece| {
            let gap = piece.gap.width().expect("gaps inside a sub-message have a fixed width");
            piece.bytes.len() + gap
        };
        let len = message.pieces.iter().map(width).sum::<usize>() + message.bytes.len();
        put_tag(&mut self.bytes, field, BYTES);
        put_varint(&mut self.bytes, len as u64);
        for piece in message.pieces {
            self.bytes.extend_from_slice(&piece.bytes);
            self.gap(piece.gap);
        }
        self.bytes.extend_from_slice(&message.bytes);
    }

    fn done(mut self) -> Vec<Piece> {
        self.gap(Gap::Nothing);
        self.pieces
    }
}
