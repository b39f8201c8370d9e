//! Random checked requests for tests: every kind of value, in every place, often the same.

use crate::otlp::wire;

use super::attr::{Any, put_key_value, put_scalar};
use super::{Arrival, Segment};

/// A small generator of numbers: the same seed gives the same requests.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, below: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

/// Names in use: dedicated ones of both versions, plain ones, the service.
const KEYS: [&str; 12] = [
    "service.name",
    "http.request.method",
    "http.response.status_code",
    "k8s.pod.name",
    "http.url",
    "http.status_code",
    "a",
    "b",
    "c.d",
    "e",
    "f",
    "",
];

fn attribute(dice: &mut Dice, out: &mut Vec<u8>, field: u32) {
    let key = KEYS[dice.roll(KEYS.len() as u64) as usize];
    put_key_value(out, field, key, |out| value(dice, out));
}

fn value(dice: &mut Dice, out: &mut Vec<u8>) {
    let texts = ["GET", "POST", "x", "", "ü"];
    match dice.roll(12) {
        0..=4 => put_scalar(out, Any::Str(texts[dice.roll(5) as usize])),
        5 | 6 => put_scalar(out, Any::Int(dice.roll(4) as i64 - 1)),
        7 => put_scalar(out, Any::Float(dice.roll(3) as f64 / 2.0)),
        8 => put_scalar(out, Any::Bool(dice.roll(2) == 1)),
        9 => put_scalar(out, Any::Bytes(&[1, 2])),
        10 => {
            let kind = dice.roll(5);
            let count = dice.roll(4);
            wire::put_message(out, 5, |out| {
                for _ in 0..count {
                    wire::put_message(out, 1, |out| match kind {
                        0 => put_scalar(out, Any::Str(texts[dice.roll(5) as usize])),
                        1 => put_scalar(out, Any::Int(dice.roll(9) as i64)),
                        2 => put_scalar(out, Any::Float(0.5)),
                        3 => put_scalar(out, Any::Bool(true)),
                        _ => value(dice, out),
                    });
                }
            });
        }
        _ => {}
    }
}

fn attributes(dice: &mut Dice, out: &mut Vec<u8>, field: u32, most: u64) {
    for _ in 0..dice.roll(most + 1) {
        attribute(dice, out, field);
    }
}

/// A request with spans of traces `1..=traces`.
pub fn request(dice: &mut Dice, traces: u64) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..1 + dice.roll(3) {
        wire::put_message(&mut out, 1, |out| {
            wire::put_message(out, 1, |out| {
                attributes(dice, out, 1, 4);
                if dice.roll(3) == 0 {
                    wire::put_varint_field(out, 2, dice.roll(3) + 1);
                }
            });
            for _ in 0..1 + dice.roll(2) {
                wire::put_message(out, 2, |out| scope_spans(dice, out, traces));
            }
        });
    }
    out
}

fn scope_spans(dice: &mut Dice, out: &mut Vec<u8>, traces: u64) {
    wire::put_message(out, 1, |out| {
        if dice.roll(2) == 0 {
            wire::put_bytes_field(out, 1, b"lib");
            wire::put_bytes_field(out, 2, b"1.2");
        }
        attributes(dice, out, 3, 2);
    });
    for _ in 0..dice.roll(6) {
        wire::put_message(out, 2, |out| span(dice, out, traces));
    }
}

fn span(dice: &mut Dice, out: &mut Vec<u8>, traces: u64) {
    let trace = u128::from(dice.roll(traces) + 1).to_be_bytes();
    let id = dice.roll(40) + 1;
    wire::put_bytes_field(out, 1, &trace);
    wire::put_bytes_field(out, 2, &id.to_be_bytes());
    if dice.roll(5) == 0 {
        wire::put_bytes_field(out, 3, b"a=b");
    }
    let parent = dice.roll(20);
    if parent > 0 && parent != id {
        wire::put_bytes_field(out, 4, &parent.to_be_bytes());
    }
    wire::put_bytes_field(out, 5, [&b"GET /"[..], b"query", b"work"][dice.roll(3) as usize]);
    wire::put_varint_field(out, 6, dice.roll(6));
    let start = 1_700_000_000_000_000_000 + dice.roll(100) * 1_000_000_000;
    wire::put_fixed64_field(out, 7, start);
    wire::put_fixed64_field(out, 8, start + dice.roll(5) * 100_000_000);
    attributes(dice, out, 9, 6);
    if dice.roll(6) == 0 {
        wire::put_varint_field(out, 10, 3);
    }
    for _ in 0..dice.roll(3) {
        wire::put_message(out, 11, |out| {
            wire::put_fixed64_field(out, 1, start + dice.roll(1000));
            wire::put_bytes_field(out, 2, [&b"exception"[..], b"retry"][dice.roll(2) as usize]);
            attributes(dice, out, 3, 3);
            if dice.roll(4) == 0 {
                wire::put_varint_field(out, 4, 2);
            }
        });
    }
    if dice.roll(8) == 0 {
        wire::put_varint_field(out, 12, 1);
    }
    for _ in 0..dice.roll(8) / 6 {
        wire::put_message(out, 13, |out| {
            wire::put_bytes_field(out, 1, &u128::from(dice.roll(traces) + 1).to_be_bytes());
            wire::put_bytes_field(out, 2, &(dice.roll(40) + 1).to_be_bytes());
            attributes(dice, out, 4, 2);
        });
    }
    wire::put_message(out, 15, |out| {
        let code = dice.roll(3);
        if code > 0 {
            wire::put_varint_field(out, 3, code);
        }
        if code == 2 {
            wire::put_bytes_field(out, 2, b"failed");
        }
    });
}

/// A segment filled with random requests, and the slots in the order of their ids.
pub fn segment(seed: u64, requests: u64, traces: u64) -> (Segment, Vec<usize>) {
    let mut dice = Dice(seed);
    let mut segment = Segment::default();
    for seq in 0..requests {
        segment.append(&request(&mut dice, traces), Arrival { seq, nanos: seq }, |_| true);
    }
    let mut slots: Vec<usize> = (0..segment.traces.len()).collect();
    slots.sort_unstable_by_key(|slot| segment.traces[*slot].id);
    (segment, slots)
}
