//! Search: from batches to the most recent traces that match.
//!
//! Pure: `exec` scans the sources, on the pool [`Search::collect`] turns each batch into its best traces, and [`Found`]
//! puts those of all batches together.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::columns::{AttrScope, Column, Filter, Op, Operand, Predicate, ScanRequest, SpanBatch};
use crate::model::{SpanId, TimeRange, TraceId, Value};
use crate::traceql::{self, Body, MetricsExpr};

use super::QueryError;
use super::pipeline::{Program, Run, Set};
use super::plan::add;

/// Most traces of one answer: Tempo's `max_result_limit`.
pub const MAX_TRACES: usize = 262_144;

/// The number of an error status.
const ERROR: i32 = 2;

/// What a search asks for.
#[derive(Clone, Debug)]
pub struct SearchRequest {
    pub q: SearchQuery,
    /// Traces that touch this range.
    pub range: TimeRange,
    pub limit: usize,
    /// Spans told of each spanset; 0 for all.
    pub spans_per_spanset: usize,
}

/// How a search says what it wants.
#[derive(Clone, Debug)]
pub enum SearchQuery {
    TraceQl(String),
    /// Words that attributes of a trace contain, and bounds of the trace's duration: search before TraceQL.
    Tags {
        tags: Vec<(String, String)>,
        min_duration_nanos: Option<u64>,
        max_duration_nanos: Option<u64>,
    },
}

/// The answer of a search: the most recent traces, newest first.
#[derive(Clone, Debug, Default)]
pub struct SearchResult {
    pub traces: Vec<TraceHit>,
    pub stats: SearchStats,
}

/// A trace that matches.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceHit {
    pub id: TraceId,
    pub root_service: Option<Arc<str>>,
    pub root_name: Option<Arc<str>>,
    pub start_nanos: u64,
    pub duration_nanos: u64,
    pub spansets: Vec<Spanset>,
    pub services: BTreeMap<Arc<str>, ServiceStats>,
}

/// What a service did in a trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceStats {
    pub spans: u32,
    pub errors: u32,
}

/// Spans that a query found together. `matched` counts those that are not told, too.
#[derive(Clone, Debug, PartialEq)]
pub struct Spanset {
    pub spans: Vec<SpanHit>,
    pub matched: u32,
    pub attributes: Vec<(String, Value)>,
}

/// A span that matches, with the attributes that the query speaks of.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanHit {
    pub id: SpanId,
    /// Told only if the query speaks of names.
    pub name: Option<Arc<str>>,
    pub start_nanos: u64,
    pub duration_nanos: u64,
    pub attributes: Vec<(String, Value)>,
}

/// What a search cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SearchStats {
    pub inspected_traces: u32,
    pub inspected_bytes: u64,
    pub total_blocks: u32,
    pub completed_jobs: u32,
    pub total_jobs: u32,
    pub total_block_bytes: u64,
    pub inspected_spans: u64,
}

/// A search, ready to run on any batch.
#[derive(Debug)]
pub struct Search {
    program: Program,
    range: TimeRange,
    limit: usize,
    spans_per_spanset: usize,
    /// Whether spansets and services are told.
    detail: bool,
}

/// The best traces so far, at most about twice as many as are wanted.
#[derive(Debug)]
pub struct Found {
    limit: usize,
    spans_per_spanset: usize,
    traces: HashMap<TraceId, Candidate>,
}

/// A trace, and which spans its spansets count.
#[derive(Debug)]
pub struct Candidate {
    hit: TraceHit,
    members: Vec<HashSet<Member>>,
}

/// What tells spans of a trace apart: halves of a shared span have one id, but start one after the other.
type Member = (SpanId, u64);

/// What of the traces found so far spares looking at others.
#[derive(Clone, Debug, Default)]
pub struct Bar {
    /// Traces that start earlier are not wanted any more,
    pub start_nanos: u64,
    /// but for further pieces of these.
    pub known: HashSet<TraceId>,
}

impl Search {
    /// Reads a request.
    ///
    /// # Errors
    /// When its query cannot be run; the text is for the user.
    pub fn new(request: &SearchRequest) -> Result<Search, QueryError> {
        let (program, detail) = match &request.q {
            SearchQuery::TraceQl(text) => (program(text)?, true),
            SearchQuery::Tags { tags, min_duration_nanos, max_duration_nanos } => {
                let filters = tags.iter().map(|(tag, word)| tag_filter(tag, word)).collect();
                let lasts =
                    min_duration_nanos.unwrap_or(0)..=max_duration_nanos.unwrap_or(u64::MAX);
                let lasts = (lasts != (0..=u64::MAX)).then_some(lasts);
                (Program::of_filters(filters, lasts), false)
            }
        };
        Ok(Search {
            program,
            range: request.range,
            limit: request.limit.min(MAX_TRACES),
            spans_per_spanset: request.spans_per_spanset,
            detail,
        })
    }

    /// What storage is asked for.
    pub fn scan_request(&self) -> ScanRequest {
        use Column::{RootName, RootService, TraceEnd, TraceId, TraceStart};
        let mut columns = vec![TraceId, TraceStart, TraceEnd, RootService, RootName];
        self.program.columns().into_iter().for_each(|column| add(&mut columns, column));
        if self.detail {
            use Column::{Duration, Service, SpanId, Start, Status};
            for column in [SpanId, Start, Duration, Service, Status] {
                add(&mut columns, column);
            }
        }
        let plan = self.program.plan();
        let newest = plan.exact.then_some(self.limit);
        ScanRequest { range: self.range, filter: plan.filter, columns, newest }
    }

    /// A place for what is found.
    pub fn found(&self) -> Found {
        Found {
            limit: self.limit,
            spans_per_spanset: self.spans_per_spanset,
            traces: HashMap::new(),
        }
    }

    /// The most recent traces of a batch that match and pass the bar.
    ///
    /// # Errors
    /// When the query cannot be run on what it finds.
    pub fn collect(&self, batch: &SpanBatch, bar: &Bar) -> Result<Vec<Candidate>, QueryError> {
        let ids = match batch.column(&Column::TraceId) {
            Some(crate::columns::Values::TraceIds(ids)) => ids.as_slice(),
            _ => &[],
        };
        let number = |column: &Column, trace| batch.column(column).map_or(0, |c| c.u64(trace));
        let mut order: Vec<(Reverse<u64>, TraceId, usize)> = Vec::with_capacity(ids.len());
        for (trace, id) in ids.iter().enumerate() {
            order.push((Reverse(number(&Column::TraceStart, trace)), *id, trace));
        }
        order.sort_unstable();
        let run = self.program.run(batch);
        let mut candidates = Vec::new();
        for (Reverse(start), id, trace) in order {
            let wanted = candidates.len() < self.limit && start >= bar.start_nanos;
            if !wanted && !bar.known.contains(&id) {
                continue;
            }
            let sets = run.trace(trace).map_err(|e| QueryError::Bad(e.0.to_owned()))?;
            if sets.is_empty() {
                continue;
            }
            let end = number(&Column::TraceEnd, trace);
            let root = |column: &Column| {
                let text = batch.column(column)?.str(trace)?;
                (!text.is_empty()).then(|| Arc::clone(text))
            };
            let hit = TraceHit {
                id,
                root_service: root(&Column::RootService),
                root_name: root(&Column::RootName),
                start_nanos: start,
                duration_nanos: end.saturating_sub(start),
                spansets: Vec::new(),
                services: BTreeMap::new(),
            };
            candidates.push(self.candidate(hit, &run, trace, &sets, batch));
        }
        Ok(candidates)
    }

    fn candidate(
        &self,
        mut hit: TraceHit,
        run: &Run<'_>,
        trace: usize,
        sets: &[Set],
        batch: &SpanBatch,
    ) -> Candidate {
        let mut members = Vec::new();
        if self.detail {
            let spans = Spans { batch, names: self.program.names };
            for set in sets {
                let shown = self.shown(set.rows.len());
                let span = |row: &usize| SpanHit {
                    attributes: run.attributes(trace, *row),
                    ..spans.hit(*row)
                };
                hit.spansets.push(Spanset {
                    spans: set.rows.iter().take(shown).map(span).collect(),
                    matched: u32::try_from(set.rows.len()).unwrap_or(u32::MAX),
                    attributes: set.attributes.clone(),
                });
                members.push(set.rows.iter().map(|row| spans.member(*row)).collect());
            }
            hit.services = spans.services(trace);
        }
        Candidate { hit, members }
    }

    fn shown(&self, spans: usize) -> usize {
        if self.spans_per_spanset == 0 { spans } else { self.spans_per_spanset }
    }
}

/// The pipeline of a query. Of a metrics query it is the part that finds the spans.
fn program(text: &str) -> Result<Program, QueryError> {
    let bad =
        |what: &dyn std::fmt::Display| QueryError::Bad(format!("invalid TraceQL query: {what}"));
    match traceql::parse(text).map_err(|e| bad(&e))?.body {
        Body::Spansets(pipeline) => Ok(Program::new(&pipeline)),
        Body::Metrics { expr: MetricsExpr::Query(query), .. } => Ok(Program::new(&query.pipeline)),
        Body::Metrics { .. } => {
            Err(bad(&"math of metrics finds no traces: search for one of them"))
        }
    }
}

/// What a tag asked of Tempo before TraceQL: a part of some text of that name, in any case of letters.
fn tag_filter(tag: &str, word: &str) -> Filter {
    let column = |column, op, operand| Filter::Column(column, Predicate { op, operand });
    let contains = |of| column(of, Op::Matches, Operand::Contains(word.to_lowercase()));
    let status = |number| column(Column::Status, Op::Eq, Operand::Int(number));
    match (tag, word) {
        ("status.code", "unset") => status(0),
        ("status.code", "ok") => status(1),
        ("status.code", "error") | ("error", "true") => status(2),
        ("name", _) => contains(Column::Name),
        ("root.name", _) => contains(Column::RootName),
        ("root.service.name", _) => contains(Column::RootService),
        (tag, _) => {
            let resource = match tag {
                "service.name" => Column::Service,
                tag => Column::Attr(AttrScope::Resource, tag.into()),
            };
            let span = Column::Attr(AttrScope::Span, tag.into());
            Filter::Or(vec![contains(span), contains(resource)])
        }
    }
}

/// The spans of a batch, as they are told.
struct Spans<'a> {
    batch: &'a SpanBatch,
    names: bool,
}

impl Spans<'_> {
    fn hit(&self, row: usize) -> SpanHit {
        let (id, start_nanos) = self.member(row);
        let name = self.batch.column(&Column::Name).filter(|_| self.names);
        SpanHit {
            id,
            name: name.and_then(|names| names.str(row)).map(Arc::clone),
            start_nanos,
            duration_nanos: self.number(&Column::Duration, row),
            attributes: Vec::new(),
        }
    }

    fn member(&self, row: usize) -> Member {
        let id = match self.batch.column(&Column::SpanId) {
            Some(crate::columns::Values::SpanIds(ids)) => ids.get(row).copied().unwrap_or_default(),
            _ => SpanId::default(),
        };
        (id, self.number(&Column::Start, row))
    }

    fn number(&self, column: &Column, row: usize) -> u64 {
        self.batch.column(column).map_or(0, |values| values.u64(row))
    }

    fn services(&self, trace: usize) -> BTreeMap<Arc<str>, ServiceStats> {
        let mut services: BTreeMap<Arc<str>, ServiceStats> = BTreeMap::new();
        let names = self.batch.column(&Column::Service);
        let status = self.batch.column(&Column::Status);
        for row in self.batch.rows(trace) {
            let Some(name) = names.and_then(|names| names.str(row)) else { continue };
            let failed = status.is_some_and(|status| status.i32(row) == ERROR);
            let stats = match services.get_mut(name) {
                Some(stats) => stats,
                None => services.entry(Arc::clone(name)).or_default(),
            };
            stats.spans = stats.spans.saturating_add(1);
            stats.errors = stats.errors.saturating_add(u32::from(failed));
        }
        services
    }
}

impl Found {
    /// Adds a trace, or what another source has of one.
    pub fn add(&mut self, candidate: Candidate) {
        match self.traces.remove(&candidate.hit.id) {
            Some(known) => {
                let merged = known.merged(candidate, self.spans_per_spanset);
                self.traces.insert(merged.hit.id, merged);
            }
            None => drop(self.traces.insert(candidate.hit.id, candidate)),
        }
        if self.traces.len() >= self.limit.saturating_mul(2).saturating_add(64) {
            self.cut();
        }
    }

    /// Leaves the most recent traces, as many as are wanted.
    fn cut(&mut self) {
        let mut order: Vec<_> = self.traces.values().map(Candidate::rank).collect();
        order.sort_unstable();
        for (_, id) in order.drain(..).skip(self.limit) {
            self.traces.remove(&id);
        }
    }

    /// What further traces have to pass.
    pub fn bar(&mut self) -> Bar {
        self.cut();
        let known = self.traces.keys().copied().collect();
        let full = self.traces.len() >= self.limit;
        let oldest = self.traces.values().map(|candidate| candidate.hit.start_nanos).min();
        Bar { start_nanos: oldest.filter(|_| full).unwrap_or(0), known }
    }

    /// The traces, newest first.
    pub fn finish(mut self) -> Vec<TraceHit> {
        self.cut();
        let mut candidates: Vec<Candidate> = self.traces.into_values().collect();
        candidates.sort_unstable_by_key(Candidate::rank);
        candidates.into_iter().map(|candidate| candidate.hit).collect()
    }
}

impl Candidate {
    fn rank(&self) -> (Reverse<u64>, TraceId) {
        (Reverse(self.hit.start_nanos), self.hit.id)
    }

    /// Two pieces of one trace: the earliest start, the longest duration, the first root, the fuller counts.
    fn merged(mut self, other: Candidate, spans_per_spanset: usize) -> Candidate {
        let hit = &mut self.hit;
        hit.start_nanos = hit.start_nanos.min(other.hit.start_nanos);
        hit.duration_nanos = hit.duration_nanos.max(other.hit.duration_nanos);
        hit.root_service = hit.root_service.take().or(other.hit.root_service);
        hit.root_name = hit.root_name.take().or(other.hit.root_name);
        for (service, stats) in other.hit.services {
            let own = hit.services.entry(service).or_default();
            own.spans = own.spans.max(stats.spans);
            own.errors = own.errors.max(stats.errors);
        }
        for (set, members) in other.hit.spansets.into_iter().zip(other.members) {
            let same = |own: &Spanset| groups(own).eq(groups(&set));
            match hit.spansets.iter().position(same) {
                Some(at) => {
                    let own = hit.spansets.get_mut(at).zip(self.members.get_mut(at));
                    if let Some((own, known)) = own {
                        merge_sets(own, known, set, members, spans_per_spanset);
                    }
                }
                None => {
                    hit.spansets.push(set);
                    self.members.push(members);
                }
            }
        }
        self
    }
}

/// What `by` says of a spanset.
fn groups(set: &Spanset) -> impl Iterator<Item = &(String, Value)> {
    set.attributes.iter().filter(|(name, _)| name.starts_with("by("))
}

fn merge_sets(
    own: &mut Spanset,
    known: &mut HashSet<Member>,
    other: Spanset,
    members: HashSet<Member>,
    spans_per_spanset: usize,
) {
    if other.matched > own.matched {
        own.attributes = other.attributes;
    }
    let shown: HashSet<Member> = own.spans.iter().map(|span| (span.id, span.start_nanos)).collect();
    let is_new = |span: &SpanHit| !shown.contains(&(span.id, span.start_nanos));
    own.spans.extend(other.spans.into_iter().filter(is_new));
    own.spans.sort_by_key(|span| (span.start_nanos, span.id));
    if spans_per_spanset > 0 {
        own.spans.truncate(spans_per_spanset);
    }
    known.extend(members);
    own.matched = u32::try_from(known.len()).unwrap_or(u32::MAX);
}
