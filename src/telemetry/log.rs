//! Log lines on standard error: logfmt for people, JSON for machines, one line per event.
//!
//! Fields come as `ts`, `level`, `target` (the layer), `msg`, then the event's own. `tenant`,
//! `traceID`, `block` and `err` are fixed names. Texts are not ours (a span's name may be an
//! attacker's), so control characters are escaped.

use std::collections::HashMap;
use std::error::Error;
use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::telemetry::TELEMETRY_LOG_LINES_TOTAL;

/// A warning about one tenant comes at most this often; the next line says how many were left out.
const REPEAT_AFTER: Duration = Duration::from_secs(1);

/// So many warnings and tenants are told apart; beyond, all are written.
const MAX_REPEATS: usize = 1024;

/// Packages other than ours speak only when something is odd.
const FOREIGN: LevelFilter = LevelFilter::WARN;

/// Starts the log with lines like `ts=… level=info target=wal msg="replay done" spans=12`. The
/// first start counts.
pub fn start_logfmt_log(level: LevelFilter) {
    start(Style::Logfmt, level);
}

/// Starts the log with one JSON object per line. The first start counts.
pub fn start_json_log(level: LevelFilter) {
    start(Style::Json, level);
}

fn start(style: Style, level: LevelFilter) {
    let targets =
        Targets::new().with_default(level.min(FOREIGN)).with_target(env!("CARGO_PKG_NAME"), level);
    let lines = Lines::new(style, |line| {
        // Nobody is left to tell when standard error is gone.
        drop(io::stderr().lock().write_all(line.as_bytes()));
    });
    let subscriber = tracing_subscriber::registry().with(targets).with(lines);
    // A second app in one process, as in tests, goes on with the first one's log.
    drop(tracing::subscriber::set_global_default(subscriber));
}

/// An error with what caused it, joined by `: `.
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(source) = next {
            write!(f, ": {source}")?;
            next = source.source();
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Style {
    Logfmt,
    Json,
}

/// Turns events into lines, and hands each to `write` whole.
struct Lines<W> {
    style: Style,
    write: W,
    repeats: Mutex<Repeats>,
}

impl<W: Fn(&str) + 'static> Lines<W> {
    fn new(style: Style, write: W) -> Lines<W> {
        Lines { style, write, repeats: Mutex::new(Repeats::default()) }
    }
}

impl<S: Subscriber, W: Fn(&str) + 'static> Layer<S> for Lines<W> {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let meta = event.metadata();
        let mut fields = Fields { rest: Line::new(self.style), msg: String::new(), tenant: None };
        event.record(&mut fields);
        if *meta.level() == Level::WARN
            && let Some(tenant) = fields.tenant.take()
        {
            let mut repeats = self.repeats.lock().unwrap_or_else(PoisonError::into_inner);
            match repeats.pass(meta.callsite(), tenant, Instant::now()) {
                Pass::Suppress => return,
                Pass::Write { suppressed: 0 } => {}
                Pass::Write { suppressed } => fields.rest.plain("suppressed", suppressed),
            }
        }
        let level = level_name(meta.level());
        let mut line = Line::new(self.style);
        line.text("ts", &timestamp());
        line.text("level", level);
        line.text("target", layer(meta.target()));
        line.text("msg", &fields.msg);
        (self.write)(&line.finish(&fields.rest));
        metrics::counter!(TELEMETRY_LOG_LINES_TOTAL, "level" => level).increment(1);
    }
}

fn level_name(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// `metronome::wal::replay` is `wal`; a package is itself.
fn layer(target: &str) -> &str {
    let mut parts = target.split("::");
    match (parts.next(), parts.next()) {
        (Some(env!("CARGO_PKG_NAME")), Some(layer)) => layer,
        (Some(package), _) => package,
        (None, _) => target,
    }
}

#[expect(clippy::disallowed_methods, reason = "a log line carries the time of the clock")]
fn timestamp() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    rfc3339(now.as_secs(), now.subsec_millis())
}

/// UTC, by the civil calendar. Years count from March, so that a leap day is a year's last.
fn rfc3339(secs: u64, millis: u32) -> String {
    let (day, time) = (secs / 86_400, secs % 86_400);
    let since_0000_03_01 = day + 719_468;
    let (era, day_of_era) = (since_0000_03_01 / 146_097, since_0000_03_01 % 146_097);
    let leaps = day_of_era / 1_460 + day_of_era / 146_096;
    let year_of_era = (day_of_era + day_of_era / 36_524 - leaps) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (time / 3_600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// When each warning about a tenant was last written.
#[derive(Default)]
struct Repeats(HashMap<(Identifier, String), Repeat>);

struct Repeat {
    written: Instant,
    suppressed: u64,
}

#[derive(Debug, PartialEq)]
enum Pass {
    Write { suppressed: u64 },
    Suppress,
}

impl Repeats {
    fn pass(&mut self, warning: Identifier, tenant: String, now: Instant) -> Pass {
        let old = |repeat: &Repeat| now.duration_since(repeat.written) >= REPEAT_AFTER;
        if self.0.len() >= MAX_REPEATS {
            self.0.retain(|_, repeat| !old(repeat));
        }
        let key = (warning, tenant);
        match self.0.get_mut(&key) {
            Some(repeat) if old(repeat) => {
                let suppressed = std::mem::take(&mut repeat.suppressed);
                repeat.written = now;
                Pass::Write { suppressed }
            }
            Some(repeat) => {
                repeat.suppressed += 1;
                Pass::Suppress
            }
            None => {
                if self.0.len() < MAX_REPEATS {
                    self.0.insert(key, Repeat { written: now, suppressed: 0 });
                }
                Pass::Write { suppressed: 0 }
            }
        }
    }
}

/// What an event has besides level and target.
struct Fields {
    rest: Line,
    msg: String,
    tenant: Option<String>,
}

impl Fields {
    fn text(&mut self, field: &Field, text: &str) {
        match field.name() {
            "message" => text.clone_into(&mut self.msg),
            name => {
                if name == "tenant" {
                    self.tenant = Some(text.to_owned());
                }
                self.rest.text(name, text);
            }
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, &format!("{value:?}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.text(field, &Chain(value).to_string());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.rest.plain(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.rest.plain(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.rest.plain(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.rest.plain(field.name(), value);
        } else {
            self.rest.text(field.name(), &value.to_string());
        }
    }
}

/// Fields of a line, in the order they came.
struct Line {
    style: Style,
    text: String,
}

impl Line {
    fn new(style: Style) -> Line {
        Line { style, text: String::new() }
    }

    /// A number or a boolean.
    fn plain(&mut self, name: &str, value: impl fmt::Display) {
        self.name(name);
        self.text.push_str(&value.to_string());
    }

    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        let bare = |c: char| !c.is_control() && !matches!(c, ' ' | '"' | '=' | '\\');
        match self.style {
            Style::Logfmt if !value.is_empty() && value.chars().all(bare) => {
                self.text.push_str(value);
            }
            _ => quote(&mut self.text, value),
        }
    }

    fn name(&mut self, name: &str) {
        // `r#type = …` names the field `r#type`.
        let name = name.strip_prefix("r#").unwrap_or(name);
        match self.style {
            Style::Logfmt => {
                if !self.text.is_empty() {
                    self.text.push(' ');
                }
                self.text.push_str(name);
                self.text.push('=');
            }
            Style::Json => {
                if !self.text.is_empty() {
                    self.text.push(',');
                }
                quote(&mut self.text, name);
                self.text.push(':');
            }
        }
    }

    /// The whole line: these fields, then the others.
    fn finish(&self, others: &Line) -> String {
        let (open, between, close) = match self.style {
            Style::Logfmt => ("", " ", "\n"),
            Style::Json => ("{", ",", "}\n"),
        };
        let between = if others.text.is_empty() { "" } else { between };
        [open, &self.text, between, &others.text, close].concat()
    }
}

/// A quoted text on one line: JSON's escapes, for all control characters.
fn quote(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                write!(out, "\\u{:04x}", u32::from(c)).expect("a String takes all");
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use expect_test::{Expect, expect};

    use super::*;

    fn check(style: Style, expected: Expect, events: impl FnOnce()) {
        let lines = Arc::new(Mutex::new(String::new()));
        let sink = Arc::clone(&lines);
        let layer = Lines::new(style, move |line| sink.lock().unwrap().push_str(line));
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, events);
        let lines = lines.lock().unwrap();
        let without_time = lines.lines().map(|line| {
            let (start, rest) = line.split_once('Z').unwrap();
            assert_eq!(start.chars().filter(char::is_ascii_digit).count(), 17, "{line}");
            format!("…{}\n", rest)
        });
        expected.assert_eq(&without_time.collect::<String>());
    }

    #[derive(Debug, thiserror::Error)]
    #[error("append")]
    struct Outer(#[source] io::Error);

    fn some_events() {
        let outer = io::Error::other(Outer(io::Error::other("disk on\nfire")));
        tracing::info!(target: "metronome::wal::replay", spans = 12, done = true, share = 0.5, "replayed");
        tracing::error!(target: "metronome", err = &outer as &(dyn Error + 'static), "cannot go on");
        tracing::debug!(target: "hyper::proto", name = "a b=\"c\"\u{1b}[31m\u{9b}\\", empty = "", "");
        tracing::warn!(target: "metronome::live", ratio = f64::NAN, r#type = "ünï", id = ?Some(1), "odd: {}", 7);
    }

    #[test]
    fn logfmt_lines() {
        check(
            Style::Logfmt,
            expect![[r#"
            … level=info target=wal msg=replayed spans=12 done=true share=0.5
            … level=error target=metronome msg="cannot go on" err="append: disk on\nfire"
            … level=debug target=hyper msg="" name="a b=\"c\"\u001b[31m\u009b\\" empty=""
            … level=warn target=live msg="odd: 7" ratio=NaN type=ünï id=Some(1)
        "#]],
            some_events,
        );
    }

    #[test]
    fn json_lines() {
        check(
            Style::Json,
            expect![[r#"
            …","level":"info","target":"wal","msg":"replayed","spans":12,"done":true,"share":0.5}
            …","level":"error","target":"metronome","msg":"cannot go on","err":"append: disk on\nfire"}
            …","level":"debug","target":"hyper","msg":"","name":"a b=\"c\"\u001b[31m\u009b\\","empty":""}
            …","level":"warn","target":"live","msg":"odd: 7","ratio":"NaN","type":"ünï","id":"Some(1)"}
        "#]],
            some_events,
        );
    }

    #[test]
    fn json_lines_are_json() {
        let mut line = Line::new(Style::Json);
        line.text("all", &(0u8..=255).map(char::from).collect::<String>());
        let value: serde_json::Value =
            serde_json::from_str(&line.finish(&Line::new(Style::Json))).unwrap();
        assert_eq!(value["all"].as_str().unwrap().chars().count(), 256);
    }

    #[test]
    fn a_repeated_warning_of_a_tenant_is_written_once_a_second() {
        check(
            Style::Logfmt,
            expect![[r#"
            … level=warn target=ingest msg="rate limited" tenant=a
            … level=warn target=ingest msg="rate limited" tenant=b
            … level=error target=store msg="an error is always written" tenant=a
            … level=error target=store msg="an error is always written" tenant=a
        "#]],
            || {
                for (tenant, times) in [("a", 3), ("b", 2)] {
                    for _ in 0..times {
                        tracing::warn!(target: "metronome::ingest", tenant, "rate limited");
                    }
                }
                for _ in 0..2 {
                    tracing::error!(target: "metronome::store", tenant = "a", "an error is always written");
                }
            },
        );
    }

    #[test]
    fn repeats_are_counted_and_bounded() {
        let mut repeats = Repeats::default();
        let warning = tracing::callsite!(name: "a warning", kind: tracing::metadata::Kind::EVENT, fields: tenant);
        let warning = tracing::Callsite::metadata(warning).callsite();
        let start = Instant::now();
        let mut pass = |tenant: &str, millis: u64| {
            repeats.pass(warning.clone(), tenant.to_owned(), start + Duration::from_millis(millis))
        };
        assert_eq!(pass("a", 0), Pass::Write { suppressed: 0 });
        assert_eq!(pass("a", 999), Pass::Suppress);
        assert_eq!(pass("b", 999), Pass::Write { suppressed: 0 });
        assert_eq!(pass("a", 1000), Pass::Write { suppressed: 1 });
        assert_eq!(pass("a", 1001), Pass::Suppress);
        for tenant in 0..MAX_REPEATS * 2 {
            assert_eq!(pass(&tenant.to_string(), 1500), Pass::Write { suppressed: 0 });
        }
        assert_eq!(pass("again", 1500), Pass::Write { suppressed: 0 });
        assert_eq!(pass("again", 1500), Pass::Write { suppressed: 0 }, "not kept, so not limited");
        assert_eq!(pass("again", 3000), Pass::Write { suppressed: 0 });
        assert_eq!(pass("again", 3001), Pass::Suppress, "old ones made room");
        assert!(repeats.0.len() <= MAX_REPEATS);
    }

    #[test]
    fn the_calendar() {
        let cases = [
            (0, "1970-01-01T00:00:00.007Z"),
            (951_782_399, "2000-02-28T23:59:59.007Z"),
            (951_782_400, "2000-02-29T00:00:00.007Z"),
            (951_868_800, "2000-03-01T00:00:00.007Z"),
            (1_735_689_599, "2024-12-31T23:59:59.007Z"),
            (1_735_689_600, "2025-01-01T00:00:00.007Z"),
            (4_107_542_399, "2100-02-28T23:59:59.007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.007Z"),
        ];
        for (secs, text) in cases {
            assert_eq!(rfc3339(secs, 7), text);
        }
    }
}
