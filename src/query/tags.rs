//! Names and values of attributes, for the drop-downs of query editors.
//!
//! Pure: `exec` asks the sources, here is what it asks for and what it makes of the answers.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::columns::{
    AttrScope, Bitmap, Column, Filter, NONE, Op, Operand, Predicate, ScanRequest, SpanBatch, Values,
};
use crate::model::{TimeRange, Value};
use crate::segment::Owner;
use crate::traceql::{self, Attribute, Intrinsic, Kind, Status};

use super::QueryError;
use super::expr::{Condition, part};
use super::plan::{self, Plan};

/// Bytes of names or values after which no more are collected: Tempo's `max_bytes_per_tag_values_query`.
const MAX_BYTES: usize = 1_000_000;

/// Conditions of a filter, multiplied out: Tempo's `max_condition_groups_per_tag_query`.
const MAX_GROUPS: usize = 100;

/// The intrinsics that editors offer.
const INTRINSICS: [&str; 25] = [
    "duration",
    "event:name",
    "event:timeSinceStart",
    "instrumentation:name",
    "instrumentation:version",
    "kind",
    "link:spanID",
    "link:traceID",
    "name",
    "rootName",
    "rootServiceName",
    "span:duration",
    "span:id",
    "span:kind",
    "span:name",
    "span:parentID",
    "span:status",
    "span:statusMessage",
    "status",
    "statusMessage",
    "trace:duration",
    "trace:id",
    "trace:rootName",
    "trace:rootService",
    "traceDuration",
];

/// Attributes of which something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagScope {
    All,
    Resource,
    Span,
    Event,
    Link,
    Instrumentation,
    Trace,
    Intrinsic,
}

/// What names are asked for.
#[derive(Clone, Debug)]
pub struct TagsRequest {
    pub scope: TagScope,
    pub range: TimeRange,
    /// Names of each scope; 0 for all.
    pub limit: usize,
    /// A query, perhaps unfinished: names of spans that it finds.
    pub filter: Option<String>,
}

/// The names of one scope, sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeTags {
    pub scope: &'static str,
    pub tags: Vec<String>,
}

/// What values are asked for.
#[derive(Clone, Debug)]
pub struct TagValuesRequest {
    /// An identifier of TraceQL.
    pub tag: String,
    pub range: TimeRange,
    /// 0 for all.
    pub limit: usize,
    /// A query, perhaps unfinished: values of spans that it finds.
    pub filter: Option<String>,
}

/// A value as text, with its type: `string`, `int`, `float`, `bool` or `keyword`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagValue {
    pub kind: &'static str,
    pub value: String,
}

/// Names or values, and the bytes read for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagAnswer<T> {
    pub items: Vec<T>,
    pub inspected_bytes: u64,
}

/// Names found so far.
#[derive(Debug, Default)]
pub struct Names {
    scopes: HashMap<&'static str, BTreeSet<String>>,
    bytes: usize,
}

/// How the values of a tag are found.
#[derive(Debug)]
pub enum Lookup {
    /// Without reading.
    Known(Vec<TagValue>),
    Scan(Box<ValueScan>),
}

/// A search for the values of a column.
#[derive(Debug)]
pub struct ValueScan {
    column: Column,
    condition: Option<Condition>,
}

/// Values found so far.
#[derive(Debug, Default)]
pub struct Found {
    values: BTreeSet<TagValue>,
    bytes: usize,
}

/// The filter of a request; nothing if it says nothing about spans.
///
/// # Errors
/// When it has too many alternatives.
pub fn filter(text: Option<&str>) -> Result<Option<Condition>, QueryError> {
    let Some(filter) = text.and_then(traceql::parse_lenient_filter) else { return Ok(None) };
    if plan::condition_groups(&filter.expr) > MAX_GROUPS {
        return Err(QueryError::Bad(format!(
            "maximum condition groups reached (limit: {MAX_GROUPS}). Reduce the number of OR \
             conditions in the query"
        )));
    }
    Ok(Some(Condition::new(&filter.expr)))
}

impl TagScope {
    fn has(self, owner: Owner) -> bool {
        match owner {
            Owner::Span => matches!(self, TagScope::All | TagScope::Span),
            Owner::Event => matches!(self, TagScope::All | TagScope::Event),
            Owner::Link => matches!(self, TagScope::All | TagScope::Link),
            Owner::Resource => matches!(self, TagScope::All | TagScope::Resource),
            Owner::Scope => matches!(self, TagScope::All | TagScope::Instrumentation),
        }
    }

    /// Whether storage knows names of this scope.
    pub fn is_stored(self) -> bool {
        !matches!(self, TagScope::Trace | TagScope::Intrinsic)
    }

    /// The names of a source that the scope has.
    pub fn of_source(self, mut names: Vec<(Owner, String)>) -> Vec<(Owner, String)> {
        names.retain(|(owner, _)| self.has(*owner));
        names
    }
}

fn scope_name(owner: Owner) -> &'static str {
    match owner {
        Owner::Span => "span",
        Owner::Event => "event",
        Owner::Link => "link",
        Owner::Resource => "resource",
        Owner::Scope => "instrumentation",
    }
}

fn name_column(owner: Owner, name: &str) -> Column {
    match owner {
        Owner::Span => Column::Attr(AttrScope::Span, name.into()),
        Owner::Event => Column::EventAttr(name.into()),
        Owner::Link => Column::LinkAttr(name.into()),
        Owner::Resource if name == "service.name" => Column::Service,
        Owner::Resource => Column::Attr(AttrScope::Resource, name.into()),
        Owner::Scope => Column::Attr(AttrScope::Instrumentation, name.into()),
    }
}

impl Names {
    /// Adds a name, unless there are too many already.
    pub fn add(&mut self, owner: Owner, name: String) {
        let scope = self.scopes.entry(scope_name(owner)).or_default();
        if self.bytes < MAX_BYTES && !scope.contains(&name) {
            self.bytes = self.bytes.saturating_add(name.len());
            scope.insert(name);
        }
    }

    /// The scopes that have names, in a fixed order, each with at most so many.
    pub fn finish(mut self, scope: TagScope, limit: usize) -> Vec<ScopeTags> {
        let most = if limit == 0 { usize::MAX } else { limit };
        if matches!(scope, TagScope::All | TagScope::Intrinsic) {
            let intrinsics = INTRINSICS.iter().map(|name| (*name).to_owned()).collect();
            self.scopes.insert("intrinsic", intrinsics);
        }
        let order = ["resource", "span", "event", "link", "instrumentation", "intrinsic"];
        let mut scopes = Vec::new();
        for scope in order {
            let tags = self.scopes.remove(scope).unwrap_or_default();
            if !tags.is_empty() {
                scopes.push(ScopeTags { scope, tags: tags.into_iter().take(most).collect() });
            }
        }
        scopes
    }
}

/// The scan that tells which of some names spans have that satisfy a condition.
pub fn names_request(
    range: TimeRange,
    condition: &Condition,
    names: &[(Owner, String)],
) -> ScanRequest {
    let mut columns = Vec::new();
    for (owner, name) in names {
        plan::add(&mut columns, name_column(*owner, name));
    }
    condition.add_columns(&mut columns);
    ScanRequest { range, filter: condition.plan.filter.clone(), columns, newest: None }
}

/// The names, by their places, that spans of a batch have which satisfy the condition.
pub fn names_in(batch: &SpanBatch, condition: &Condition, names: &[(Owner, String)]) -> Vec<usize> {
    let rows = condition.rows_of(batch.matched.clone(), batch);
    let has = |(owner, name): &(Owner, String)| {
        let values = batch.column(&name_column(*owner, name));
        values.is_some_and(|values| rows.rows().any(|row| has_value(values, row)))
    };
    names.iter().enumerate().filter(|(_, name)| has(name)).map(|(at, _)| at).collect()
}

fn has_value(values: &Values, row: usize) -> bool {
    match values {
        Values::Coded { codes, .. } => codes.get(row).is_some_and(|code| *code != NONE),
        Values::List { ends, items } => part(ends, row).any(|item| has_value(items, item)),
        values => row < values.len(),
    }
}

impl Lookup {
    /// How the values of a tag are found.
    ///
    /// # Errors
    /// When the tag is no identifier, or the filter has too many alternatives.
    pub fn new(request: &TagValuesRequest) -> Result<Lookup, QueryError> {
        let attribute = traceql::parse_attribute(&request.tag)
            .map_err(|error| QueryError::Bad(format!("please provide a valid tagName: {error}")))?;
        let condition = filter(request.filter.as_deref())?;
        if let Some(known) = known_values(&attribute) {
            return Ok(Lookup::Known(known));
        }
        Ok(match plan::column_of(&attribute) {
            Some(column) => Lookup::Scan(Box::new(ValueScan { column, condition })),
            None => Lookup::Known(Vec::new()),
        })
    }
}

/// The values of keywords, and of what has too many values to choose from.
fn known_values(attribute: &Attribute) -> Option<Vec<TagValue>> {
    let Attribute::Intrinsic(intrinsic) = attribute else { return None };
    let words = |words: &[&'static str]| {
        let value = |word: &&str| TagValue { kind: "keyword", value: (*word).to_owned() };
        let mut values: Vec<TagValue> = words.iter().map(value).collect();
        values.sort_unstable();
        Some(values)
    };
    match intrinsic {
        Intrinsic::Status => words(&[Status::Error, Status::Ok, Status::Unset].map(Status::as_str)),
        Intrinsic::Kind => words(
            &[
                Kind::Client,
                Kind::Consumer,
                Kind::Internal,
                Kind::Producer,
                Kind::Server,
                Kind::Unspecified,
            ]
            .map(Kind::as_str),
        ),
        Intrinsic::Duration
        | Intrinsic::TraceDuration
        | Intrinsic::TraceId
        | Intrinsic::SpanId
        | Intrinsic::ParentId
        | Intrinsic::LinkTraceId
        | Intrinsic::LinkSpanId => Some(Vec::new()),
        _ => None,
    }
}

impl ValueScan {
    /// The scan that finds spans with values.
    pub fn request(&self, range: TimeRange) -> ScanRequest {
        let exists = Predicate { op: Op::Exists, operand: Operand::Nothing };
        let exists = match self.column.list() {
            Some(list) => Filter::Item(list, vec![(self.column.clone(), exists)]),
            None => Filter::Column(self.column.clone(), exists),
        };
        let mut columns = vec![self.column.clone()];
        let mut plans = vec![Plan { filter: exists, exact: true }];
        if let Some(condition) = &self.condition {
            plans.push(condition.plan.clone());
            if !condition.plan.exact {
                condition.add_columns(&mut columns);
            }
        }
        ScanRequest { range, filter: plan::all(plans).filter, columns, newest: None }
    }

    /// The values of the spans of a batch that the scan marked and the condition keeps.
    pub fn collect(&self, batch: &SpanBatch) -> Found {
        let mut found = Found::default();
        let Some(values) = batch.column(&self.column) else { return found };
        let kept = match &self.condition {
            Some(condition) => condition.rows_of(batch.matched.clone(), batch),
            None => batch.matched.clone(),
        };
        if self.column.is_trace() {
            let traces = 0..batch.traces();
            let traces = traces.filter(|trace| kept.any_in(batch.rows(*trace)));
            found.add_rows(values, traces);
        } else if let Values::List { ends, items } = values {
            found.add_rows(items, kept.rows().flat_map(|row| part(ends, row)));
        } else {
            found.add_rows(values, kept.rows());
        }
        found
    }
}

impl Found {
    fn add_rows(&mut self, values: &Values, rows: impl Iterator<Item = usize>) {
        match values {
            Values::Coded { codes, dict } => {
                let mut used = Bitmap::none(dict.len());
                for code in rows.filter_map(|row| codes.get(row)).filter(|code| **code != NONE) {
                    used.set(*code as usize);
                }
                used.rows().filter_map(|code| dict.get(code)).for_each(|value| self.add(value));
            }
            Values::I32(numbers) => {
                let used: HashSet<&i32> = rows.filter_map(|row| numbers.get(row)).collect();
                used.into_iter().for_each(|number| self.add(&Value::Int(i64::from(*number))));
            }
            Values::U64(numbers) => {
                let used: HashSet<&u64> = rows.filter_map(|row| numbers.get(row)).collect();
                used.into_iter().for_each(|number| self.add(&Value::Int(*number as i64)));
            }
            Values::SpanIds(_) | Values::TraceIds(_) | Values::List { .. } => {}
        }
    }

    fn add(&mut self, value: &Value) {
        let mut one = |kind, value: String| self.insert(TagValue { kind, value });
        match value {
            Value::Str(text) => one("string", text.to_string()),
            Value::Int(number) => one("int", number.to_string()),
            Value::Float(number) => one("float", number.to_string()),
            Value::Bool(value) => one("bool", value.to_string()),
            Value::StrArray(items) => items.iter().for_each(|item| one("string", item.to_string())),
            Value::IntArray(items) => items.iter().for_each(|item| one("int", item.to_string())),
            Value::FloatArray(items) => {
                items.iter().for_each(|item| one("float", item.to_string()));
            }
            Value::BoolArray(items) => items.iter().for_each(|item| one("bool", item.to_string())),
        }
    }

    fn insert(&mut self, value: TagValue) {
        if self.bytes < MAX_BYTES && !value.value.is_empty() && !self.values.contains(&value) {
            self.bytes = self.bytes.saturating_add(value.value.len());
            self.values.insert(value);
        }
    }

    pub fn merge(&mut self, other: Found) {
        other.values.into_iter().for_each(|value| self.insert(value));
    }

    /// Whether there are as many values as are wanted.
    pub fn is_full(&self, limit: usize) -> bool {
        self.bytes >= MAX_BYTES || (limit > 0 && self.values.len() >= limit)
    }

    /// The values by type, then by text.
    pub fn finish(self, limit: usize) -> Vec<TagValue> {
        let most = if limit == 0 { usize::MAX } else { limit };
        self.values.into_iter().take(most).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns::ScanStats;
    use crate::segment::Segment;
    use crate::segment::sample;

    fn values(segment: &Segment, tag: &str, filter: Option<&str>) -> Vec<TagValue> {
        let request = TagValuesRequest {
            tag: tag.to_owned(),
            range: TimeRange::ALL,
            limit: 0,
            filter: filter.map(str::to_owned),
        };
        match Lookup::new(&request).unwrap() {
            Lookup::Known(values) => values,
            Lookup::Scan(scan) => {
                let batch =
                    segment.scan(&scan.request(TimeRange::ALL), None, &mut ScanStats::default());
                scan.collect(&batch).finish(0)
            }
        }
    }

    fn texts(values: &[TagValue]) -> Vec<String> {
        values.iter().map(|value| format!("{} {}", value.kind, value.value)).collect()
    }

    #[test]
    fn values_have_types_and_keywords_are_fixed() {
        let (segment, _) = sample::segment(1, 20, 10);
        let empty = Segment::default();
        let of = |tag: &str| texts(&values(&segment, tag, None));
        assert_eq!(of("status"), ["keyword error", "keyword ok", "keyword unset"]);
        assert_eq!(texts(&values(&empty, "span:kind", None)).len(), 6);
        for tag in ["duration", "traceDuration", "trace:id", "span:id", "link:spanID"] {
            assert_eq!(of(tag), Vec::<String>::new(), "{tag}");
        }
        assert_eq!(of("name"), ["string GET /", "string query", "string work"]);
        assert_eq!(of("span:statusMessage"), ["string failed"]);
        assert_eq!(of("event:name"), ["string exception", "string retry"]);
        assert_eq!(of("instrumentation:name"), ["string lib"]);
        let all = of("span.a");
        for value in ["string GET", "string ü", "int -1", "float 0.5", "bool true"] {
            assert!(all.iter().any(|one| one == value), "{value} is not in {all:?}");
        }
        assert!(all.is_sorted());
        assert!(of("nestedSetParent").contains(&"int -1".to_owned()));
        assert_eq!(of("span.unknown"), Vec::<String>::new());
        let request = TagValuesRequest {
            tag: "foo".to_owned(),
            range: TimeRange::ALL,
            limit: 0,
            filter: None,
        };
        let error = Lookup::new(&request).unwrap_err().to_string();
        assert!(
            error.starts_with("please provide a valid tagName: failed to parse identifier foo: "),
            "{error}"
        );
    }

    #[test]
    fn a_filter_picks_the_spans_whose_values_are_told() {
        let (segment, _) = sample::segment(1, 20, 10);
        let of = |tag: &str, filter: &str| texts(&values(&segment, tag, Some(filter)));
        assert_eq!(of("name", "{ name = `work` && span."), ["string work"]);
        assert_eq!(of("span:statusMessage", "{ status = ok }"), Vec::<String>::new());
        assert_eq!(of("name", "garbage"), of("name", "{}"));
        assert_eq!(of("rootName", "{ duration > 10s }"), Vec::<String>::new());
        let some = of("event:name", "{ span.a + 1 = 2 }");
        assert!(some.len() <= 2);
        let any: Vec<String> = (0..101).map(|n| format!("span.a = {n}")).collect();
        let text = format!("{{ {} }}", any.join(" || "));
        let error = filter(Some(&text)).unwrap_err().to_string();
        assert!(error.starts_with("maximum condition groups reached (limit: 100)."), "{error}");
    }

    #[test]
    fn names_come_by_scope_in_a_fixed_order() {
        let (segment, _) = sample::segment(1, 20, 10);
        let mut stored = Vec::new();
        for owner in [Owner::Span, Owner::Event, Owner::Link, Owner::Resource, Owner::Scope] {
            segment.tag_names(owner, &mut |name| {
                stored.push((owner, name.to_owned()));
                true
            });
        }
        let finish = |scope: TagScope, limit| {
            let mut names = Names::default();
            let some = scope.of_source(stored.clone());
            some.into_iter().for_each(|(owner, name)| names.add(owner, name));
            names.finish(scope, limit)
        };
        let order: Vec<_> = finish(TagScope::All, 0).iter().map(|scope| scope.scope).collect();
        assert_eq!(order, ["resource", "span", "event", "link", "instrumentation", "intrinsic"]);
        assert!(finish(TagScope::All, 2).iter().all(|scope| scope.tags.len() == 2));
        assert_eq!(finish(TagScope::Trace, 0), []);
        assert_eq!(finish(TagScope::Intrinsic, 0)[0].tags.len(), 25);
        let resource = finish(TagScope::Resource, 0);
        assert_eq!(resource.len(), 1);
        assert!(resource[0].tags.contains(&"service.name".to_owned()));
    }

    #[test]
    fn names_of_some_spans_are_those_that_they_have() {
        let (segment, _) = sample::segment(2, 10, 10);
        let names: Vec<(Owner, String)> = [
            (Owner::Span, "a"),
            (Owner::Event, "a"),
            (Owner::Resource, "service.name"),
            (Owner::Span, "nothing"),
            (Owner::Link, "b"),
        ]
        .map(|(owner, name)| (owner, name.to_owned()))
        .into();
        let found = |text: &str| {
            let condition = filter(Some(text)).unwrap().unwrap();
            let request = names_request(TimeRange::ALL, &condition, &names);
            let batch = segment.scan(&request, None, &mut ScanStats::default());
            names_in(&batch, &condition, &names)
        };
        assert_eq!(found("{ span.a = 1 && event.a = nil }").first(), Some(&0));
        assert_eq!(found("{ status = ok || status = error || status = unset }"), [0, 1, 2, 4]);
        assert_eq!(found("{ duration > 100s }"), Vec::<usize>::new());
        assert!(!found("{ name = `work` }").contains(&3));
    }
}
