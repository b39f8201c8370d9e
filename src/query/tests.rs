//! Queries as a whole: the conformance table, and storage's decisions against the evaluation of every span.

use std::collections::HashSet;
use std::sync::Arc;

use toml::{Table, Value as Toml};

use crate::columns::{Column, Filter, ScanRequest, ScanStats, SpanBatch, Values};
use crate::model::{TimeRange, TraceId, Value};
use crate::otlp::wire;
use crate::segment::attr::{Any, put_key_value, put_scalar};
use crate::segment::{Arrival, Segment, sample};
use crate::traceql::{self, Body, FieldExpr, SpansetExpr, Stage};

use super::expr::{Condition, Evaluator};
use super::plan;
use super::search::{Bar, Search};
use super::{QueryError, SearchQuery, SearchRequest, Spanset, TraceHit};

/// The conformance table, which lies beside the project in its own tree.
const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/contract/traceql-cases.toml");

/// The search core over any source of batches.
fn search(
    request: &SearchRequest,
    scan: impl Fn(&ScanRequest) -> Vec<SpanBatch>,
) -> Result<Vec<TraceHit>, QueryError> {
    let search = Search::new(request)?;
    let mut found = search.found();
    let mut bar = Bar::default();
    for batch in scan(&search.scan_request()) {
        for candidate in search.collect(&batch, &bar)? {
            found.add(candidate);
        }
        bar = found.bar();
    }
    Ok(found.finish())
}

fn scan_segment(segment: &Segment, request: &ScanRequest) -> SpanBatch {
    segment.scan(request, None, &mut ScanStats::default())
}

fn traceql(q: &str) -> SearchRequest {
    SearchRequest {
        q: SearchQuery::TraceQl(q.to_owned()),
        range: TimeRange::ALL,
        limit: 100,
        spans_per_spanset: 0,
    }
}

fn of<'a>(table: &'a Table, key: &str) -> &'a [Toml] {
    table.get(key).and_then(Toml::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn tables<'a>(table: &'a Table, key: &str) -> Vec<&'a Table> {
    of(table, key).iter().filter_map(Toml::as_table).collect()
}

fn text<'a>(table: &'a Table, key: &str) -> &'a str {
    table.get(key).and_then(Toml::as_str).unwrap_or_default()
}

fn number(table: &Table, key: &str) -> Option<u64> {
    table.get(key).and_then(Toml::as_integer).map(|number| number as u64)
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn id<const N: usize>(hex: &str) -> [u8; N] {
    let value = u128::from_str_radix(hex, 16).unwrap_or_default().to_be_bytes();
    value[16 - N..].try_into().unwrap()
}

fn put_any(out: &mut Vec<u8>, value: &Toml) {
    match value {
        Toml::String(text) => put_scalar(out, Any::Str(text)),
        Toml::Integer(number) => put_scalar(out, Any::Int(*number)),
        Toml::Float(number) => put_scalar(out, Any::Float(*number)),
        Toml::Boolean(value) => put_scalar(out, Any::Bool(*value)),
        Toml::Array(items) => wire::put_message(out, 5, |out| {
            items.iter().for_each(|item| wire::put_message(out, 1, |out| put_any(out, item)));
        }),
        other => panic!("no attribute is {other}"),
    }
}

fn put_attributes(out: &mut Vec<u8>, field: u32, table: &Table) {
    let attributes = table.get("attributes").and_then(Toml::as_table);
    for (key, value) in attributes.into_iter().flatten() {
        put_key_value(out, field, key, |out| put_any(out, value));
    }
}

fn put_span(out: &mut Vec<u8>, trace: &str, span: &Table, base: u64) {
    let start = base + number(span, "start_ns").unwrap();
    wire::put_bytes_field(out, 1, &id::<16>(trace));
    wire::put_bytes_field(out, 2, &id::<8>(text(span, "id")));
    if !text(span, "parent").is_empty() {
        wire::put_bytes_field(out, 4, &id::<8>(text(span, "parent")));
    }
    wire::put_bytes_field(out, 5, text(span, "name").as_bytes());
    let kinds = ["unspecified", "internal", "server", "client", "producer", "consumer"];
    let kind = kinds.iter().position(|kind| *kind == text(span, "kind")).unwrap_or(0);
    wire::put_varint_field(out, 6, kind as u64);
    wire::put_fixed64_field(out, 7, start);
    wire::put_fixed64_field(out, 8, start + number(span, "duration_ns").unwrap());
    put_attributes(out, 9, span);
    for event in tables(span, "event") {
        wire::put_message(out, 11, |out| {
            wire::put_fixed64_field(out, 1, start + number(event, "offset_ns").unwrap());
            wire::put_bytes_field(out, 2, text(event, "name").as_bytes());
            put_attributes(out, 3, event);
        });
    }
    for link in tables(span, "link") {
        wire::put_message(out, 13, |out| {
            wire::put_bytes_field(out, 1, &id::<16>(text(link, "trace_id")));
            wire::put_bytes_field(out, 2, &id::<8>(text(link, "span_id")));
            put_attributes(out, 4, link);
        });
    }
    wire::put_message(out, 15, |out| {
        wire::put_bytes_field(out, 2, text(span, "status_message").as_bytes());
        let code = ["unset", "ok", "error"].iter().position(|code| *code == text(span, "status"));
        wire::put_varint_field(out, 3, code.unwrap_or(0) as u64);
    });
}

/// The spans of the table's data set whose row number passes.
fn dataset(table: &Table, wanted: impl Fn(usize) -> bool) -> Segment {
    let dataset = table["dataset"].as_table().unwrap();
    let base = number(dataset, "base_unix_ns").unwrap();
    let mut segment = Segment::default();
    let mut row = 0;
    for trace in tables(dataset, "trace") {
        let mut request = Vec::new();
        for resource in tables(trace, "resource") {
            wire::put_message(&mut request, 1, |out| {
                wire::put_message(out, 1, |out| put_attributes(out, 1, resource));
                for scope in tables(resource, "scope") {
                    let mut spans = tables(scope, "span");
                    spans.retain(|_| {
                        row += 1;
                        wanted(row)
                    });
                    put_scope(out, text(trace, "id"), scope, &spans, base);
                }
            });
        }
        segment.append(&request, Arrival { seq: 0, nanos: 0 }, |_| true);
    }
    segment
}

fn put_scope(out: &mut Vec<u8>, trace: &str, scope: &Table, spans: &[&Table], base: u64) {
    wire::put_message(out, 2, |out| {
        wire::put_message(out, 1, |out| {
            wire::put_bytes_field(out, 1, text(scope, "name").as_bytes());
            wire::put_bytes_field(out, 2, text(scope, "version").as_bytes());
            put_attributes(out, 3, scope);
        });
        for span in spans {
            wire::put_message(out, 2, |out| put_span(out, trace, span, base));
        }
    });
}

fn conformance() -> Option<Table> {
    let Ok(text) = std::fs::read_to_string(TABLE) else {
        eprintln!("skipped: {TABLE} is not there");
        return None;
    };
    Some(text.parse().unwrap())
}

fn request_of(case: &Table, defaults: &Table) -> SearchRequest {
    let setting = |key| number(case, key).or_else(|| number(defaults, key)).unwrap();
    let seconds = |key| setting(key) * 1_000_000_000;
    SearchRequest {
        range: TimeRange { start_nanos: seconds("start"), end_nanos: seconds("end") },
        limit: size(setting("limit")),
        spans_per_spanset: size(setting("spss")),
        ..traceql(text(case, "query"))
    }
}

fn value_of(value: &Toml) -> Value {
    let all = |items: &[Toml]| -> Vec<Value> { items.iter().map(value_of).collect() };
    match value {
        Toml::String(text) => Value::str(text),
        Toml::Integer(number) => Value::Int(*number),
        Toml::Float(number) => Value::Float(*number),
        Toml::Boolean(value) => Value::Bool(*value),
        Toml::Array(items) => array_of(all(items)),
        other => panic!("no attribute is {other}"),
    }
}

fn array_of(items: Vec<Value>) -> Value {
    let items = items.into_iter();
    match items.as_slice().first() {
        Some(Value::Str(_)) => Value::StrArray(
            items.filter_map(|v| if let Value::Str(v) = v { Some(v) } else { None }).collect(),
        ),
        Some(Value::Int(_)) => Value::IntArray(
            items.filter_map(|v| if let Value::Int(v) = v { Some(v) } else { None }).collect(),
        ),
        Some(Value::Float(_)) => Value::FloatArray(
            items.filter_map(|v| if let Value::Float(v) = v { Some(v) } else { None }).collect(),
        ),
        Some(Value::Bool(_)) => Value::BoolArray(
            items.filter_map(|v| if let Value::Bool(v) = v { Some(v) } else { None }).collect(),
        ),
        _ => panic!("an array of what?"),
    }
}

fn pairs(pairs: &[Toml]) -> Vec<(String, Value)> {
    let pair = |pair: &Toml| {
        let pair = pair.as_array().unwrap();
        (pair[0].as_str().unwrap().to_owned(), value_of(&pair[1]))
    };
    pairs.iter().map(pair).collect()
}

/// A spanset as the table writes it, in a form that can be sorted.
fn set_text(
    trace: &str,
    mut spans: Vec<String>,
    matched: usize,
    attributes: &[(String, Value)],
) -> String {
    spans.sort();
    format!("{trace} {spans:?} {matched} {attributes:?}")
}

fn all_sets(hits: &[TraceHit]) -> Vec<(&TraceHit, &Spanset)> {
    hits.iter().flat_map(|hit| hit.spansets.iter().map(move |set| (hit, set))).collect()
}

/// What a case expects that the answer does not give.
fn fault(case: &Table, hits: &[TraceHit]) -> Option<String> {
    let differs = |mut expected: Vec<String>, mut got: Vec<String>| {
        expected.sort();
        got.sort();
        (expected != got).then(|| format!("expected {expected:#?}, got {got:#?}"))
    };
    if case.contains_key("expect") {
        let expected = tables(case, "expect").into_iter().map(|set| {
            let spans = of(set, "spans").iter().map(|id| id.as_str().unwrap().to_owned());
            let spans: Vec<String> = spans.collect();
            let count = spans.len();
            set_text(text(set, "trace"), spans, count, &pairs(of(set, "attributes")))
        });
        let got = all_sets(hits).into_iter().map(|(hit, set)| {
            let spans = set.spans.iter().map(|span| span.id.to_string()).collect();
            set_text(&hit.id.to_string(), spans, set.matched as usize, &set.attributes)
        });
        return differs(expected.collect(), got.collect());
    }
    if let Some(count) = number(case, "expect_trace_count") {
        return (hits.len() as u64 != count).then(|| format!("got {} traces", hits.len()));
    }
    if case.contains_key("expect_trace_order") {
        let order = of(case, "expect_trace_order").iter().map(|id| id.as_str().unwrap());
        let got: Vec<String> = hits.iter().map(|hit| hit.id.to_string()).collect();
        return (!order.eq(got.iter().map(String::as_str))).then(|| format!("got {got:?}"));
    }
    if case.contains_key("expect_counts") {
        let line = |trace: &str, matched: u64, returned: u64, attributes: &[(String, Value)]| {
            format!("{trace} {matched} {returned} {attributes:?}")
        };
        let expected = tables(case, "expect_counts").into_iter().map(|set| {
            let count = |key| number(set, key).unwrap();
            let attributes = pairs(of(set, "attributes"));
            line(text(set, "trace"), count("matched"), count("returned"), &attributes)
        });
        let got = all_sets(hits).into_iter().map(|(hit, set)| {
            let returned = set.spans.len() as u64;
            line(&hit.id.to_string(), u64::from(set.matched), returned, &set.attributes)
        });
        return differs(expected.collect(), got.collect());
    }
    assert!(case.contains_key("expect_span_attributes"), "a case that expects nothing");
    tables(case, "expect_span_attributes").into_iter().find_map(|span| span_fault(span, hits))
}

fn span_fault(expected: &Table, hits: &[TraceHit]) -> Option<String> {
    let trace = TraceId(id::<16>(text(expected, "trace")));
    let span = all_sets(hits)
        .into_iter()
        .filter(|(hit, _)| hit.id == trace)
        .flat_map(|(_, set)| &set.spans)
        .find(|hit| hit.id.to_string() == text(expected, "span"));
    let Some(span) = span else { return Some(format!("{trace} lacks a span")) };
    for (key, value) in pairs(of(expected, "attributes")) {
        let there = match (key.as_str(), &value) {
            ("name", Value::Str(name)) => span.name.as_ref() == Some(name),
            _ => span.attributes.contains(&(key.clone(), value.clone())),
        };
        if !there {
            return Some(format!("{key} = {value:?} is not told: {span:?}"));
        }
    }
    None
}

fn check_table(scan: impl Fn(&Table, &ScanRequest) -> Vec<SpanBatch>) {
    let Some(table) = conformance() else { return };
    let defaults = table["defaults"].as_table().unwrap();
    let cases = tables(&table, "search");
    assert!(cases.len() > 300, "only {} cases", cases.len());
    let mut faults = Vec::new();
    for case in cases {
        let answer = search(&request_of(case, defaults), |request| scan(&table, request));
        let fault = match answer {
            Ok(hits) => fault(case, &hits),
            Err(error) => Some(error.to_string()),
        };
        if let Some(fault) = fault {
            faults.push(format!("{} {}: {fault}", text(case, "id"), text(case, "query")));
        }
    }
    assert!(faults.is_empty(), "{} cases fail:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn the_conformance_table_holds() {
    let Some(table) = conformance() else { return };
    let segment = dataset(&table, |_| true);
    check_table(|_, request| vec![scan_segment(&segment, request)]);
}

/// The same with a filter that decides nothing: all is left to the evaluation.
#[test]
fn the_conformance_table_holds_without_storages_help() {
    let Some(table) = conformance() else { return };
    let defaults = table["defaults"].as_table().unwrap();
    let segment = dataset(&table, |_| true);
    for case in tables(&table, "search") {
        let request = request_of(case, defaults);
        let SearchQuery::TraceQl(q) = &request.q else { continue };
        let Some(expr) = single_filter(q) else { continue };
        compare_with_rows(&segment, q, &expr);
    }
}

/// The condition of a query that is nothing else.
fn single_filter(q: &str) -> Option<FieldExpr> {
    let Body::Spansets(pipeline) = traceql::parse(q).unwrap().body else { return None };
    match pipeline.stages.as_slice() {
        [Stage::Spanset(SpansetExpr::Filter(filter))] => Some(filter.expr.clone()),
        _ => None,
    }
}

/// Storage's choice of spans has to be that of the evaluation of every span, or more where it says so.
fn compare_with_rows(segment: &Segment, q: &str, expr: &FieldExpr) {
    let condition = Condition::new(expr);
    let mut columns = vec![Column::TraceId];
    condition.add_columns(&mut columns);
    let scan = |filter| {
        let range = TimeRange::ALL;
        let request = ScanRequest { range, filter, columns: columns.clone(), newest: None };
        scan_segment(segment, &request)
    };
    let kept = scan(condition.plan.filter.clone());
    let all = scan(Filter::All);
    let normalised = plan::normalised(expr);
    let evaluator = Evaluator::new(&normalised, &all);
    let mut expected = HashSet::new();
    for trace in 0..all.traces() {
        let first = all.rows(trace).start;
        let holds = all.rows(trace).filter(|row| evaluator.holds(trace, *row));
        expected.extend(holds.map(|row| (trace_id(&all, trace), row - first)));
    }
    let rows = |batch: &SpanBatch, rows: &crate::columns::Bitmap| {
        let mut found = HashSet::new();
        for trace in 0..batch.traces() {
            let first = batch.rows(trace).start;
            let kept = batch.rows(trace).filter(|row| rows.get(*row));
            found.extend(kept.map(|row| (trace_id(batch, trace), row - first)));
        }
        found
    };
    let by_storage = rows(&kept, &kept.matched);
    assert!(by_storage.is_superset(&expected), "{q}: storage leaves out spans");
    if condition.plan.exact {
        assert_eq!(by_storage.len(), expected.len(), "{q}: storage keeps too much");
    }
    let after = rows(&kept, &condition.rows_of(kept.matched.clone(), &kept));
    assert_eq!(after, expected, "{q}: after the scan");
    assert_eq!(rows(&all, &condition.rows(&all)), expected, "{q}: without a scan");
}

fn trace_id(batch: &SpanBatch, trace: usize) -> TraceId {
    match batch.column(&Column::TraceId) {
        Some(Values::TraceIds(ids)) => ids[trace],
        _ => panic!("a batch without ids"),
    }
}

const SCOPES: [&str; 6] = ["span.", "resource.", ".", "event.", "link.", "instrumentation."];

const KEYS: [&str; 7] =
    ["service.name", "http.request.method", "http.status_code", "a", "b", "c.d", "e"];

const LITERALS: [&str; 9] = ["`GET`", "`x`", "``", "0", "1", "-1", "0.5", "2", "500ms"];

const PATTERNS: [&str; 5] = ["`G.*|x`", "`.*`", r"`\d+`", "`[A-Z]+`", "`(?i)get`"];

const OF_SPANS: [&str; 20] = [
    "status = error",
    "status != ok",
    "kind = server",
    "kind != client",
    "name = `work`",
    "name =~ `GET.*`",
    "duration > 200ms",
    "0.3s >= duration",
    "statusMessage = `failed`",
    "span:id = `0000000000000003`",
    "span:parentID = ``",
    "span:parentID != ``",
    "trace:id = `0001`",
    "rootName = `query`",
    "rootServiceName != ``",
    "nestedSetParent < 0",
    "span:childCount >= 1",
    "traceDuration > 20s",
    "instrumentation:name = `lib`",
    "instrumentation:version < `2`",
];

const OF_ITEMS: [&str; 8] = [
    "event:name = `retry`",
    "event:name != `retry`",
    "event:timeSinceStart > 500ns",
    "link:spanID = `0000000000000003`",
    "link:traceID = `02`",
    "event:name =~ `ex.*`",
    "event:name != nil",
    "link:traceID != nil",
];

/// A random condition over what `segment::sample` makes.
fn condition(dice: &mut sample::Dice, depth: u32) -> String {
    if depth > 0 {
        let (left, right) = (condition(dice, depth - 1), condition(dice, depth - 1));
        return match dice.roll(5) {
            0 | 1 => format!("({left}) && ({right})"),
            2 | 3 => format!("({left}) || ({right})"),
            _ => format!("!({left})"),
        };
    }
    let mut pick = |of: &[&'static str]| of[size(dice.roll(of.len() as u64))];
    let attribute = format!("{}{}", pick(&SCOPES), pick(&KEYS));
    let op = pick(&["=", "!=", "<", "<=", ">", ">="]);
    match pick(&["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]) {
        "0" | "1" => format!("{attribute} {op} {}", pick(&LITERALS)),
        "2" => format!("{} {op} {attribute}", pick(&LITERALS)),
        "3" => format!("{attribute} {} {}", pick(&["=~", "!~"]), pick(&PATTERNS)),
        "4" => format!("{attribute} != nil"),
        "5" => pick(&OF_SPANS).to_owned(),
        "6" => pick(&OF_ITEMS).to_owned(),
        "7" => format!("{attribute} = true"),
        "8" => format!("{}{attribute}", pick(&["", "!"])),
        _ => format!("{attribute} {op} {}{} + 1", pick(&SCOPES), pick(&KEYS)),
    }
}

#[test]
fn storage_decides_as_the_evaluation_of_every_span_does() {
    let (segment, _) = sample::segment(11, 30, 12);
    let mut dice = sample::Dice(5);
    let mut exact = 0;
    for round in 0..1500 {
        let q = format!("{{ {} }}", condition(&mut dice, round % 4));
        // Folding may leave `{{ true }}` or the like, and some literals do not fit.
        let Ok(query) = traceql::parse(&q) else { continue };
        assert!(matches!(query.body, Body::Spansets(_)));
        let Some(expr) = single_filter(&q) else { continue };
        compare_with_rows(&segment, &q, &expr);
        exact += usize::from(Condition::new(&expr).plan.exact);
    }
    assert!(exact > 300, "storage decides only {exact} conditions");
}

#[test]
fn pieces_of_a_trace_are_one_trace() {
    let Some(table) = conformance() else { return };
    let (even, odd) = (dataset(&table, |row| row % 2 == 0), dataset(&table, |row| row % 2 == 1));
    let whole = dataset(&table, |_| true);
    for q in ["{}", "{ status = error }", "{} | by(resource.service.name)", "{ } | select(name)"] {
        let request = traceql(q);
        let once = search(&request, |r| vec![scan_segment(&whole, r)]).unwrap();
        let pieces = |r: &ScanRequest| {
            vec![scan_segment(&even, r), scan_segment(&odd, r), scan_segment(&even, r)]
        };
        let merged = search(&request, pieces).unwrap();
        let lines = |hits: &[TraceHit]| {
            let mut lines: Vec<String> = all_sets(hits)
                .into_iter()
                .map(|(hit, set)| {
                    let spans = set.spans.iter().map(|span| span.id.to_string()).collect();
                    let matched = set.matched as usize;
                    set_text(&hit.id.to_string(), spans, matched, &set.attributes)
                })
                .collect();
            lines.sort();
            lines
        };
        assert_eq!(lines(&once), lines(&merged), "{q}");
        let order = |hits: &[TraceHit]| hits.iter().map(|hit| hit.id).collect::<Vec<_>>();
        assert_eq!(order(&once), order(&merged), "{q}");
    }
}

#[test]
fn the_most_recent_traces_come_first_whatever_the_source() {
    let (old, _) = sample::segment(3, 20, 40);
    let (new, _) = sample::segment(4, 20, 40);
    let request = SearchRequest { limit: 1000, ..traceql("{ span.a != nil } | count() > 0") };
    let scan = |r: &ScanRequest| vec![scan_segment(&old, r), scan_segment(&new, r)];
    let all = search(&request, scan).unwrap();
    assert!(all.is_sorted_by_key(|hit| std::cmp::Reverse(hit.start_nanos)));
    let few = search(&SearchRequest { limit: 5, ..request }, scan).unwrap();
    assert_eq!(few.len(), 5);
    assert!(few[4].start_nanos >= all[5].start_nanos);
}

fn by_tags(tags: &[(&str, &str)], min: Option<u64>, max: Option<u64>) -> SearchRequest {
    let tags = tags.iter().map(|(tag, word)| ((*tag).to_owned(), (*word).to_owned())).collect();
    let q = SearchQuery::Tags { tags, min_duration_nanos: min, max_duration_nanos: max };
    SearchRequest { q, ..traceql("{}") }
}

#[test]
fn tags_are_parts_of_texts_anywhere_in_a_trace() {
    let Some(table) = conformance() else { return };
    let segment = dataset(&table, |_| true);
    let ids = |request: &SearchRequest| -> String {
        let hits = search(request, |r| vec![scan_segment(&segment, r)]).unwrap();
        hits.iter().map(|hit| format!("{:x} ", hit.id.0[15])).collect()
    };
    for (tags, expected) in [
        (&[][..], "6 bc 4 3 2 1 "),
        (&[("service.name", "PAY")], "2 1 "),
        (&[("service.name", "pay"), ("vip", "true")], "1 "),
        (&[("http.status_code", "50")], ""),
        (&[("http.status_code", "502")], "1 "),
        (&[("error", "true")], "6 3 1 "),
        (&[("status.code", "ok"), ("name", "stage")], "6 "),
        (&[("root.name", "checkout")], "2 1 "),
        (&[("root.service.name", "w")], "2 1 "),
        (&[("nothing", "")], ""),
    ] {
        assert_eq!(ids(&by_tags(tags, None, None)), expected, "{tags:?}");
    }
    assert_eq!(ids(&by_tags(&[], Some(3_000_000_000), None)), "6 3 ");
    assert_eq!(ids(&by_tags(&[], None, Some(1_500))), "bc ");
    assert_eq!(ids(&by_tags(&[("queue", "rec")], Some(1), Some(5_000_000_000))), "3 ");
}

#[test]
fn queries_at_fault_are_told_why() {
    let segment = Segment::default();
    let run = |q: &str| search(&traceql(q), |r| vec![scan_segment(&segment, r)]);
    assert_eq!(
        run("{ foo = 1 }").unwrap_err().to_string().lines().next(),
        Some("invalid TraceQL query: parse error at line 1, col 3: unknown identifier: foo")
    );
    assert!(run("({} | rate()) + ({} | rate())").is_err());
    assert_eq!(run("{} | rate()").unwrap(), []);
    let Some(table) = conformance() else { return };
    let segment = dataset(&table, |_| true);
    let run = |q: &str| search(&traceql(q), |r| vec![scan_segment(&segment, r)]);
    let error = run("({} | by(name)) > ({})").unwrap_err();
    assert!(matches!(error, QueryError::Bad(_)) && error.to_string().contains("coalesce()"));
}

/// Where Tempo drifts from its own documents, and what we do: the table of deviations.
#[test]
fn deviations_are_ours() {
    let Some(table) = conformance() else { return };
    let segment = dataset(&table, |_| true);
    let matched = |q: &str| -> u32 {
        let hits = search(&traceql(q), |r| vec![scan_segment(&segment, r)]).unwrap();
        all_sets(&hits).iter().map(|(_, set)| set.matched).sum()
    };
    for (q, spans) in [
        ("{ span.i ^ 2 = 100 }", 1),
        ("{ !(span.i = 10) }", 22),
        ("{ !span.vip }", 1),
        ("{ !span.vip || name = `render` }", 4),
        ("{ span.f = 10 || span.i > 9.5 }", 1),
        ("{ .region = nil && resource.service.name = `web` }", 3),
        ("{ 500 < span.http.status_code }", 2),
        ("{ 2s < duration }", 2),
        ("{ span.nope || span.vip }", 1),
        ("{ span.sa != `alpha` }", 1),
        ("{ span.sa !~ `al.*` }", 1),
        ("{ event:name = `retry` && (event.attempt = 2 || event.attempt = 3) }", 1),
        ("{ event:name = `exception` && (event.attempt = 2 || event.attempt = 3) }", 0),
        ("{ event:name = `exception` && (event.attempt = 3 || span.attempts = 3) }", 1),
        ("{ !(event.attempt = 1) && event:name = `retry` }", 0),
        ("{ span.neg != nil } | avg(span.neg) < 0", 1),
        ("{ link:traceID = `0a000000000000000000000000000001` }", 2),
        ("{ span:parentID = `` }", 5),
        ("{ span.i / span.zero = 1 }", 0),
        ("{ name = `stage` } &>> { name = `leaf` }", 2),
        ("{ kind = client } | select(span.x) | { span.http.status_code = 502 }", 1),
        ("{ instrumentation:version > 1.5 }", 0),
        ("{ span:childCount > 1.5 }", 5),
        ("{} !>> {}", 7),
        ("{} | avg(span.i + span.nope) > 0", 0),
        ("({ name = `stage` } | count() > 0) || (count() > 100)", 2),
    ] {
        assert_eq!(matched(q), spans, "{q}");
    }
}

#[test]
fn a_bar_spares_older_traces_but_not_pieces_of_known_ones() {
    let Some(table) = conformance() else { return };
    let segment = dataset(&table, |_| true);
    let search = Search::new(&SearchRequest { limit: 2, ..traceql("{} | count() > 0") }).unwrap();
    let batch = scan_segment(&segment, &search.scan_request());
    let newest = search.collect(&batch, &Bar::default()).unwrap();
    assert_eq!(newest.len(), 2);
    let known = TraceId(id::<16>("0a000000000000000000000000000001"));
    let bar = Bar { start_nanos: u64::MAX, known: HashSet::from([known]) };
    assert_eq!(search.collect(&batch, &bar).unwrap().len(), 1);
    let mut found = search.found();
    newest.into_iter().for_each(|candidate| found.add(candidate));
    assert_eq!(found.bar().start_nanos, 1_748_779_200_000_000_000 + 95_000_000_000);
    let services = found.finish().remove(0).services;
    assert_eq!(services[&Arc::from("batch")], super::ServiceStats { spans: 7, errors: 3 });
}
