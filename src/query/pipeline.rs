//! Pipelines: from the spans of a trace to its spansets.
//!
//! A program is a pipeline made ready once for all batches. Its conditions are decided for a whole batch at a time, the
//! rest trace by trace.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use crate::columns::{Bitmap, Column, Filter, Predicate, SpanBatch};
use crate::model::Value;
use crate::traceql::{
    Aggregate, Attribute, Comparison, FieldExpr, Intrinsic, Pipeline, Relation, RelationMode,
    SpansetExpr, Stage, Static,
};

use super::aggregate::{aggregate, satisfies, to_value};
use super::expr::{Condition, Evaluator, Operand, item_values, operand};
use super::plan::{self, Plan};
use super::relate::{Tree, united};

/// What a client is told whose relation is over several spansets.
const SEVERAL: &str =
    "a relation between spans needs one spanset on each side: put coalesce() after by()";

/// Intrinsics that an answer tells about elsewhere.
const HIDDEN: [Intrinsic; 7] = [
    Intrinsic::Name,
    Intrinsic::Duration,
    Intrinsic::TraceDuration,
    Intrinsic::RootName,
    Intrinsic::RootServiceName,
    Intrinsic::TraceId,
    Intrinsic::SpanId,
];

/// A pipeline, ready to run on any batch.
#[derive(Debug, Default)]
pub struct Program {
    steps: Vec<Step>,
    conditions: Vec<Condition>,
    /// The expressions of `by` and of aggregates.
    values: Vec<FieldExpr>,
    /// What is told about each span.
    shown: Vec<Shown>,
    /// Whether the query speaks of span names.
    pub names: bool,
    /// Whether it has structural operators.
    related: bool,
}

/// An attribute that the query speaks of.
#[derive(Debug)]
struct Shown {
    key: String,
    expr: FieldExpr,
    /// For one of events or links: the column, and what the query wants of it.
    items: Option<(Column, Vec<Predicate>)>,
}

/// A stage. Conditions and expressions are named by their places in the program.
#[derive(Debug)]
enum Step {
    Spanset(Node),
    Scalar {
        function: Aggregate,
        value: usize,
        comparison: Comparison,
        name: String,
    },
    Group {
        value: usize,
        name: String,
    },
    Coalesce,
    /// Only traces that last so many nanoseconds.
    Lasts(RangeInclusive<u64>),
}

#[derive(Debug)]
enum Node {
    Leaf(usize),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Relation { relation: Relation, mode: RelationMode, left: Box<Node>, right: Box<Node> },
    Steps(Vec<Step>),
}

/// Spans of one trace that belong together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Set {
    /// Rows of the batch, ascending.
    pub rows: Vec<usize>,
    pub attributes: Vec<(String, Value)>,
}

/// Why a pipeline cannot be run: a text for the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure(pub &'static str);

/// A program on a batch.
pub struct Run<'a> {
    program: &'a Program,
    batch: &'a SpanBatch,
    leaves: Vec<Bitmap>,
    values: Vec<Evaluator<'a>>,
    shown: Vec<Evaluator<'a>>,
    tree: Tree<'a>,
}

impl Program {
    pub fn new(pipeline: &Pipeline) -> Program {
        let mut program = Program::default();
        program.steps = program.stages(pipeline);
        program.find_wanted_items();
        program
    }

    /// The traces that have spans for each of some filters and last so long.
    pub fn of_filters(filters: Vec<Filter>, lasts: Option<RangeInclusive<u64>>) -> Program {
        let condition = |filter| Condition::of_plan(Plan { filter, exact: true });
        let conditions: Vec<Condition> = filters.into_iter().map(condition).collect();
        let node = (0..conditions.len())
            .map(Node::Leaf)
            .reduce(|left, right| Node::And(Box::new(left), Box::new(right)));
        let steps = [node.map(Step::Spanset), lasts.map(Step::Lasts)];
        Program { steps: steps.into_iter().flatten().collect(), conditions, ..Program::default() }
    }

    fn stages(&mut self, pipeline: &Pipeline) -> Vec<Step> {
        let mut steps = Vec::new();
        for stage in &pipeline.stages {
            steps.push(match stage {
                Stage::Spanset(expr) => Step::Spanset(self.node(expr)),
                Stage::Scalar(filter) => Step::Scalar {
                    function: filter.aggregate.clone(),
                    value: match &filter.aggregate {
                        Aggregate::Count => 0,
                        Aggregate::Of(_, expr) => self.value(expr),
                    },
                    comparison: filter.comparison.clone(),
                    name: filter.aggregate.to_string(),
                },
                Stage::Group(expr) => {
                    Step::Group { value: self.value(expr), name: format!("by({expr})") }
                }
                Stage::Coalesce => Step::Coalesce,
                Stage::Select(attributes) => {
                    attributes.iter().for_each(|attribute| self.show(attribute));
                    continue;
                }
            });
        }
        steps
    }

    fn node(&mut self, expr: &SpansetExpr) -> Node {
        let mut boxed = |expr: &SpansetExpr| Box::new(self.node(expr));
        match expr {
            SpansetExpr::And(left, right) => Node::And(boxed(left), boxed(right)),
            SpansetExpr::Or(left, right) => Node::Or(boxed(left), boxed(right)),
            SpansetExpr::Relation { relation, mode, left, right } => {
                let (left, right) = (boxed(left), boxed(right));
                self.related = true;
                Node::Relation { relation: *relation, mode: *mode, left, right }
            }
            SpansetExpr::Pipeline(pipeline) => Node::Steps(self.stages(pipeline)),
            SpansetExpr::Filter(filter) => {
                filter.expr.for_each_attribute(&mut |attribute| self.show(attribute));
                let condition = Condition::new(&filter.expr);
                let known = self.conditions.iter().position(|known| known.is_same(&condition));
                Node::Leaf(known.unwrap_or_else(|| {
                    self.conditions.push(condition);
                    self.conditions.len() - 1
                }))
            }
        }
    }

    fn value(&mut self, expr: &FieldExpr) -> usize {
        expr.for_each_attribute(&mut |attribute| self.show(attribute));
        self.values.push(plan::normalised(expr));
        self.values.len() - 1
    }

    fn show(&mut self, attribute: &Attribute) {
        self.names |= *attribute == Attribute::Intrinsic(Intrinsic::Name);
        if matches!(attribute, Attribute::Intrinsic(hidden) if HIDDEN.contains(hidden)) {
            return;
        }
        let expr = FieldExpr::Attribute(attribute.clone());
        if self.shown.iter().all(|shown| shown.expr != expr) {
            let column = plan::column_of(attribute).filter(|column| column.list().is_some());
            let items = column.map(|column| (column, Vec::new()));
            self.shown.push(Shown { key: attribute.bare_name().to_owned(), expr, items });
        }
    }

    fn find_wanted_items(&mut self) {
        for shown in &mut self.shown {
            let Some((column, wanted)) = &mut shown.items else { continue };
            self.conditions.iter().for_each(|condition| condition.predicates(column, wanted));
        }
    }

    /// What storage is asked for: the traces that can have a spanset. Exact if all of them have one.
    pub fn plan(&self) -> Plan {
        let (mut plans, mut single) = (Vec::new(), true);
        let mut exact = true;
        for step in &self.steps {
            match step {
                Step::Spanset(node) if single => {
                    plans.push(self.traces(node));
                    single = matches!(node, Node::Leaf(_));
                }
                Step::Spanset(_) | Step::Scalar { .. } | Step::Lasts(_) => exact = false,
                Step::Group { .. } | Step::Coalesce => {}
            }
        }
        // Only single conditions can be joined: they are about the same span.
        if let ([.., _, _], false) = (plans.as_slice(), single) {
            plans.pop();
            exact = false;
        }
        let plan = plan::all(plans);
        Plan { exact: exact && plan.exact, ..plan }
    }

    /// A filter that some span of every trace passes for which the node gives spans.
    fn traces(&self, node: &Node) -> Plan {
        let everything = || Plan { filter: Filter::All, exact: false };
        match node {
            Node::Leaf(at) => self.conditions.get(*at).map_or_else(everything, |c| c.plan.clone()),
            Node::Or(left, right) => plan::any(vec![self.traces(left), self.traces(right)]),
            Node::And(left, right) => self.narrower(left, right),
            Node::Relation { mode: RelationMode::Unrelated, right, .. } => {
                Plan { exact: false, ..self.traces(right) }
            }
            Node::Relation { left, right, .. } => self.narrower(left, right),
            Node::Steps(steps) => match steps.first() {
                Some(Step::Spanset(node)) => Plan { exact: false, ..self.traces(node) },
                _ => everything(),
            },
        }
    }

    fn narrower(&self, left: &Node, right: &Node) -> Plan {
        let sides = [self.traces(left), self.traces(right)];
        let best = sides.into_iter().min_by_key(|side| plan::breadth(&side.filter));
        Plan { filter: best.map_or(Filter::All, |best| best.filter), exact: false }
    }

    /// The columns that running the program and showing its spans takes.
    pub fn columns(&self) -> Vec<Column> {
        let mut columns = Vec::new();
        for shown in &self.shown {
            shown.expr.for_each_attribute(&mut |a| plan::add_columns(a, &mut columns));
        }
        for expr in &self.values {
            expr.for_each_attribute(&mut |a| plan::add_columns(a, &mut columns));
        }
        if !self.scan_decides() {
            self.conditions.iter().for_each(|condition| condition.add_columns(&mut columns));
        }
        if self.names {
            plan::add(&mut columns, Column::Name);
        }
        if self.related {
            Tree::COLUMNS.into_iter().for_each(|column| plan::add(&mut columns, column));
        }
        columns
    }

    /// Whether the spans that the scan marks are those of the only condition.
    fn scan_decides(&self) -> bool {
        self.is_single() && self.conditions.iter().all(|condition| condition.plan.exact)
    }

    /// Whether the filter of the plan is that of the only condition.
    fn is_single(&self) -> bool {
        self.conditions.len() == 1
            && matches!(self.steps.first(), Some(Step::Spanset(Node::Leaf(_))))
    }

    /// Decides the conditions for a batch that was scanned with the program's plan.
    pub fn run<'a>(&'a self, batch: &'a SpanBatch) -> Run<'a> {
        let leaves = match self.conditions.as_slice() {
            [only] if self.is_single() => vec![only.rows_of(batch.matched.clone(), batch)],
            conditions => conditions.iter().map(|condition| condition.rows(batch)).collect(),
        };
        Run {
            program: self,
            batch,
            leaves,
            values: self.values.iter().map(|expr| Evaluator::new(expr, batch)).collect(),
            shown: self.shown.iter().map(|shown| Evaluator::new(&shown.expr, batch)).collect(),
            tree: Tree::new(batch),
        }
    }
}

impl Run<'_> {
    /// The spansets of a trace.
    ///
    /// # Errors
    /// When a relation has several spansets on a side.
    pub fn trace(&self, trace: usize) -> Result<Vec<Set>, Failure> {
        let all = Set { rows: self.batch.rows(trace).collect(), attributes: Vec::new() };
        self.steps(&self.program.steps, trace, all)
    }

    fn steps(&self, steps: &[Step], trace: usize, all: Set) -> Result<Vec<Set>, Failure> {
        let mut sets = vec![all];
        for step in steps {
            sets = match step {
                Step::Spanset(node) => {
                    let mut kept = Vec::new();
                    for set in sets {
                        let rows = self.node(node, trace, &set.rows)?;
                        kept.push(Set { rows, attributes: set.attributes });
                    }
                    kept
                }
                Step::Scalar { function, value, comparison, name } => {
                    let keep = |set| self.scalar(function, *value, comparison, name, trace, set);
                    sets.into_iter().filter_map(keep).collect()
                }
                Step::Group { value, name } => {
                    sets.into_iter().flat_map(|set| self.group(*value, name, trace, set)).collect()
                }
                Step::Coalesce => vec![joined(&sets)],
                Step::Lasts(range) if range.contains(&self.lasts(trace)) => sets,
                Step::Lasts(_) => Vec::new(),
            };
            sets.retain(|set| !set.rows.is_empty());
            if sets.is_empty() {
                break;
            }
        }
        Ok(sets)
    }

    fn node(&self, node: &Node, trace: usize, rows: &[usize]) -> Result<Vec<usize>, Failure> {
        Ok(match node {
            Node::Leaf(at) => match self.leaves.get(*at) {
                Some(kept) => rows.iter().copied().filter(|row| kept.get(*row)).collect(),
                None => Vec::new(),
            },
            Node::And(left, right) => {
                let left = self.node(left, trace, rows)?;
                let right = self.node(right, trace, rows)?;
                if left.is_empty() || right.is_empty() {
                    return Ok(Vec::new());
                }
                united(&left, &right)
            }
            Node::Or(left, right) => {
                united(&self.node(left, trace, rows)?, &self.node(right, trace, rows)?)
            }
            Node::Relation { relation, mode, left, right } => {
                let left = self.side(left, trace, rows)?;
                let right = self.side(right, trace, rows)?;
                self.tree.apply(*relation, *mode, &left, &right)
            }
            Node::Steps(steps) => joined(&self.steps(steps, trace, of_rows(rows))?).rows,
        })
    }

    /// A side of a relation, which has to be one spanset.
    fn side(&self, node: &Node, trace: usize, rows: &[usize]) -> Result<Vec<usize>, Failure> {
        let Node::Steps(steps) = node else { return self.node(node, trace, rows) };
        let mut sets = self.steps(steps, trace, of_rows(rows))?;
        let set = sets.pop().unwrap_or_default();
        if sets.is_empty() { Ok(set.rows) } else { Err(Failure(SEVERAL)) }
    }

    fn scalar(
        &self,
        function: &Aggregate,
        value: usize,
        comparison: &Comparison,
        name: &str,
        trace: usize,
        mut set: Set,
    ) -> Option<Set> {
        let result = match function {
            Aggregate::Count => Static::Int(i64::try_from(set.rows.len()).unwrap_or(i64::MAX)),
            Aggregate::Of(function, _) => {
                let of = self.values.get(value)?;
                aggregate(*function, set.rows.iter().filter_map(|row| of.value(trace, *row)))?
            }
        };
        if !satisfies(&result, comparison) {
            return None;
        }
        set.attributes.push((name.to_owned(), to_value(&Operand::One(result))));
        Some(set)
    }

    /// Splits a spanset by a value, in the order in which its values come up.
    fn group(&self, value: usize, name: &str, trace: usize, set: Set) -> Vec<Set> {
        let Some(of) = self.values.get(value) else { return Vec::new() };
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut sets: Vec<Set> = Vec::new();
        for row in set.rows {
            let value = of.value(trace, row).or_else(|| self.absent(of.expr()));
            let at = *places.entry(format!("{value:?}")).or_insert_with(|| {
                let shown = value.as_ref().map_or_else(|| Value::str("nil"), to_value);
                let mut attributes = set.attributes.clone();
                attributes.push((name.to_owned(), shown));
                sets.push(Set { rows: Vec::new(), attributes });
                sets.len() - 1
            });
            if let Some(set) = sets.get_mut(at) {
                set.rows.push(row);
            }
        }
        sets
    }

    /// What stands for a missing value in `by`: a span without events has an event name, if an empty one.
    fn absent(&self, expr: &FieldExpr) -> Option<Operand> {
        let name = FieldExpr::Attribute(Attribute::Intrinsic(Intrinsic::EventName));
        (*expr == name).then(|| operand(&Value::str("")))
    }

    fn lasts(&self, trace: usize) -> u64 {
        let at = |column| self.batch.column(&column).map_or(0, |values| values.u64(trace));
        at(Column::TraceEnd).saturating_sub(at(Column::TraceStart))
    }

    /// What is told about a span.
    pub fn attributes(&self, trace: usize, row: usize) -> Vec<(String, Value)> {
        let mut attributes: Vec<(String, Value)> = Vec::new();
        for (shown, of) in self.program.shown.iter().zip(&self.shown) {
            let value = match &shown.items {
                Some((column, wanted)) => self.item(column, wanted, row),
                None => of.value(trace, row),
            };
            if let Some(value) = value {
                let entry = (shown.key.clone(), to_value(&value));
                if !attributes.contains(&entry) {
                    attributes.push(entry);
                }
            }
        }
        attributes
    }

    /// The last event's (or link's) value that the query wants, or simply the last one.
    fn item(&self, column: &Column, wanted: &[Predicate], row: usize) -> Option<Operand> {
        let mut values = item_values(self.batch.column(column)?, row);
        let fits = |value: &Operand| {
            wanted.iter().any(|predicate| match value {
                Operand::One(Static::Duration(nanos)) => predicate.matches_int(*nanos),
                value => predicate.matches(&to_value(value)),
            })
        };
        match values.iter().rposition(fits) {
            Some(at) => Some(values.swap_remove(at)),
            None => values.pop(),
        }
    }
}

fn of_rows(rows: &[usize]) -> Set {
    Set { rows: rows.to_vec(), attributes: Vec::new() }
}

fn joined(sets: &[Set]) -> Set {
    let mut rows: Vec<usize> = sets.iter().flat_map(|set| set.rows.iter().copied()).collect();
    rows.sort_unstable();
    rows.dedup();
    Set { rows, attributes: Vec::new() }
}
