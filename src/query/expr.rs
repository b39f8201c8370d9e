//! The value of an expression for a span of a batch.
//!
//! What a filter can say is decided column by column; the rest row by row. Values and their arithmetic are the language's
//! own constants. A conjunction that speaks of events holds if there is one event for which all of it holds.

use std::convert::Infallible;
use std::sync::Arc;

use crate::columns::{Bitmap, Column, Filter, Leaves, List, Predicate, SpanBatch, Values, select};
use crate::model::Value;
use crate::traceql::{
    Attribute, CompareOp, FieldExpr, Intrinsic, Kind, LogicalOp, Pattern, Static, Status,
    arithmetic, compare,
};

use super::plan::{self, Plan};

/// The value of an expression; missing ones are `None`.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    One(Static),
    /// An array of two elements or more.
    Many(Value),
}

/// A condition on spans, planned once for all batches.
#[derive(Clone, Debug)]
pub struct Condition {
    expr: FieldExpr,
    pub plan: Plan,
}

/// A place in a batch, and the event and link that conditions are about.
#[derive(Clone, Copy, Debug)]
pub struct At {
    trace: usize,
    row: usize,
    event: Item,
    link: Item,
}

/// Which item of a list an attribute means.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Item {
    /// The first that has it.
    First,
    /// This one; a position in the items of the whole column.
    Only(usize),
    /// None: the span has no items.
    Missing,
}

/// An expression with the columns that a batch has for its attributes.
pub struct Evaluator<'a> {
    expr: &'a FieldExpr,
    fields: Vec<(&'a Attribute, Field<'a>)>,
    events: Option<&'a [u32]>,
    links: Option<&'a [u32]>,
}

/// Where an attribute's values are.
#[derive(Clone, Copy)]
struct Field<'a> {
    kind: Kinds,
    values: Option<&'a Values>,
    /// The second column of what is computed from two.
    other: Option<&'a Values>,
}

/// How numbers of a column are to be read.
#[derive(Clone, Copy, PartialEq)]
enum Kinds {
    Plain,
    Trace,
    TraceDuration,
    Duration,
    Status,
    Kind,
    Item(List),
}

impl Condition {
    pub fn new(expr: &FieldExpr) -> Condition {
        let expr = plan::normalised(expr);
        let plan = Plan::new(&expr);
        Condition { expr, plan }
    }

    /// A condition that is all in its filter.
    pub fn of_plan(plan: Plan) -> Condition {
        Condition { expr: FieldExpr::Static(Static::Bool(true)), plan }
    }

    /// The spans of a batch that satisfy the condition.
    pub fn rows(&self, batch: &SpanBatch) -> Bitmap {
        let Ok(rows) = select(&self.plan.filter, &mut BatchLeaves(batch));
        self.rows_of(rows, batch)
    }

    /// The spans that satisfy the condition, of those that its filter kept.
    pub fn rows_of(&self, kept: Bitmap, batch: &SpanBatch) -> Bitmap {
        if self.plan.exact {
            return kept;
        }
        let evaluator = Evaluator::new(&self.expr, batch);
        let mut rows = Bitmap::none(kept.len());
        for trace in 0..batch.traces() {
            for row in batch.rows(trace).filter(|row| kept.get(*row)) {
                if evaluator.holds(trace, row) {
                    rows.set(row);
                }
            }
        }
        rows
    }

    /// The predicates on a column of events or links: they tell which item is worth showing.
    pub fn predicates(&self, column: &Column, found: &mut Vec<Predicate>) {
        predicates(&self.plan.filter, column, found);
    }

    /// Whether two conditions say the same.
    pub fn is_same(&self, other: &Condition) -> bool {
        self.expr == other.expr
    }

    /// The columns that deciding the condition takes.
    pub fn add_columns(&self, columns: &mut Vec<Column>) {
        self.expr.for_each_attribute(&mut |attribute| plan::add_columns(attribute, columns));
        filter_columns(&self.plan.filter, columns);
    }
}

fn filter_columns(filter: &Filter, columns: &mut Vec<Column>) {
    match filter {
        Filter::All => {}
        Filter::Column(column, _) => plan::add(columns, column.clone()),
        Filter::Item(_, all) => {
            all.iter().for_each(|(column, _)| plan::add(columns, column.clone()));
        }
        Filter::And(parts) | Filter::Or(parts) => {
            parts.iter().for_each(|part| filter_columns(part, columns));
        }
        Filter::Not(part) => filter_columns(part, columns),
    }
}

fn predicates(filter: &Filter, column: &Column, found: &mut Vec<Predicate>) {
    match filter {
        Filter::Item(_, all) => {
            let of = all.iter().filter(|(of, _)| of == column);
            found.extend(of.map(|(_, predicate)| predicate.clone()));
        }
        Filter::And(parts) | Filter::Or(parts) => {
            parts.iter().for_each(|part| predicates(part, column, found));
        }
        Filter::All | Filter::Column(..) | Filter::Not(_) => {}
    }
}

/// A batch decides filters as storage does.
struct BatchLeaves<'a>(&'a SpanBatch);

impl Leaves<Infallible> for BatchLeaves<'_> {
    fn rows(&self) -> usize {
        self.0.spans()
    }

    fn column(&mut self, column: &Column, predicate: &Predicate) -> Result<Bitmap, Infallible> {
        let Some(values) = self.0.column(column) else { return Ok(Bitmap::none(self.0.spans())) };
        let passed = predicate.select(values);
        if !column.is_trace() {
            return Ok(passed);
        }
        let mut rows = Bitmap::none(self.0.spans());
        passed.rows().for_each(|trace| self.0.rows(trace).for_each(|row| rows.set(row)));
        Ok(rows)
    }

    fn item(&mut self, _: List, all: &[(Column, Predicate)]) -> Result<Bitmap, Infallible> {
        let none = || Ok(Bitmap::none(self.0.spans()));
        let (mut ends_of_all, mut passed): (Option<&[u32]>, Option<Bitmap>) = (None, None);
        for (column, predicate) in all {
            let Some(Values::List { ends, items }) = self.0.column(column) else { return none() };
            let own = items_that_pass(column, predicate, items);
            match &mut passed {
                Some(passed) => passed.and(&own),
                None => passed = Some(own),
            }
            ends_of_all = Some(ends);
        }
        let (Some(ends), Some(passed)) = (ends_of_all, passed) else { return none() };
        Ok(Bitmap::from_fn(ends.len(), |row| passed.any_in(part(ends, row))))
    }
}

fn items_that_pass(column: &Column, predicate: &Predicate, items: &Values) -> Bitmap {
    match items {
        // Events may come before their span starts.
        Values::U64(since) if *column == Column::EventTimeSinceStart => {
            Bitmap::from_fn(since.len(), |at| {
                since.get(at).is_some_and(|since| predicate.matches_int(*since as i64))
            })
        }
        items => predicate.select(items),
    }
}

/// The items of a row.
pub fn part(ends: &[u32], row: usize) -> std::ops::Range<usize> {
    let start = row.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or(0);
    start as usize..ends.get(row).copied().unwrap_or(start) as usize
}

impl<'a> Evaluator<'a> {
    /// The expression over a batch. An attribute whose column the batch lacks is missing everywhere.
    pub fn new(expr: &'a FieldExpr, batch: &'a SpanBatch) -> Evaluator<'a> {
        let mut fields = Vec::new();
        expr.for_each_attribute(&mut |attribute| {
            fields.push((attribute, Field::new(attribute, batch)));
        });
        let ends = |list| {
            fields.iter().find_map(|(_, field)| match (field.kind, field.values) {
                (Kinds::Item(of), Some(Values::List { ends, .. })) if of == list => {
                    Some(ends.as_slice())
                }
                _ => None,
            })
        };
        let (events, links) = (ends(List::Event), ends(List::Link));
        Evaluator { expr, events, links, fields }
    }

    pub fn expr(&self) -> &FieldExpr {
        self.expr
    }

    /// Whether the expression is true for a span.
    pub fn holds(&self, trace: usize, row: usize) -> bool {
        let at = At { trace, row, event: Item::First, link: Item::First };
        self.some_item(self.expr, at) == Some(true)
    }

    /// The value of the expression for a span, of the first event or link that has one.
    pub fn value(&self, trace: usize, row: usize) -> Option<Operand> {
        let at = At { trace, row, event: Item::First, link: Item::First };
        if plan::is_test(self.expr) {
            return Some(Operand::One(Static::Bool(self.some_item(self.expr, at) == Some(true))));
        }
        self.eval(self.expr, at)
    }

    /// The truth of an expression for some event and link of the span.
    fn some_item(&self, expr: &FieldExpr, at: At) -> Option<bool> {
        if !plan::is_open(expr) {
            return truth(self.eval(expr, at));
        }
        let mut last = None;
        for event in choices(self.events, at.row) {
            for link in choices(self.links, at.row) {
                match truth(self.eval(expr, At { event, link, ..at })) {
                    Some(true) => return Some(true),
                    other => last = last.or(other),
                }
            }
        }
        last
    }

    fn eval(&self, expr: &FieldExpr, at: At) -> Option<Operand> {
        match expr {
            FieldExpr::Static(value) => Some(Operand::One(value.clone())),
            FieldExpr::Attribute(attribute) => self.field(attribute)?.value(at),
            FieldExpr::Not(operand) if plan::is_test(operand) => {
                bool_value(self.some_item(operand, at) != Some(true))
            }
            FieldExpr::Not(operand) => bool_value(!truth(self.eval(operand, at))?),
            FieldExpr::Negate(operand) => match self.eval(operand, at)? {
                Operand::One(value) => negated(&value).map(Operand::One),
                Operand::Many(_) => None,
            },
            FieldExpr::Logical { op, operands } => {
                let mut truths = operands.iter().map(|o| truth(self.eval(o, at)) == Some(true));
                bool_value(match op {
                    LogicalOp::And => truths.all(|truth| truth),
                    LogicalOp::Or => truths.any(|truth| truth),
                })
            }
            FieldExpr::Compare { op, left, right } => bool_value(compared(
                *op,
                self.eval(left, at).as_ref(),
                self.eval(right, at).as_ref(),
            )),
            FieldExpr::Match { negated, value, pattern } => {
                bool_value(matched(*negated, self.eval(value, at).as_ref(), pattern))
            }
            FieldExpr::Nil { negated, operand } => {
                let no_item = self.lacks_item(operand, at);
                bool_value(!no_item && self.eval(operand, at).is_some() == *negated)
            }
            FieldExpr::Arithmetic { op, left, right } => {
                match (self.eval(left, at)?, self.eval(right, at)?) {
                    (Operand::One(left), Operand::One(right)) => {
                        arithmetic(*op, &left, &right).map(Operand::One)
                    }
                    _ => None,
                }
            }
        }
    }

    /// Attributes are found by their place in the expression.
    fn field(&self, attribute: &Attribute) -> Option<&Field<'a>> {
        let found = self.fields.iter().find(|(known, _)| std::ptr::eq(*known, attribute));
        found.map(|(_, field)| field)
    }

    /// Whether an expression speaks of items where the span has none.
    fn lacks_item(&self, expr: &FieldExpr, at: At) -> bool {
        let mut lacks = false;
        expr.for_each_attribute(&mut |attribute| {
            lacks |= match self.field(attribute).map(|field| field.kind) {
                Some(Kinds::Item(List::Event)) => at.event == Item::Missing,
                Some(Kinds::Item(List::Link)) => at.link == Item::Missing,
                _ => false,
            };
        });
        lacks
    }
}

/// The items that a condition may be about.
fn choices(ends: Option<&[u32]>, row: usize) -> impl Iterator<Item = Item> {
    let items = ends.map(|ends| part(ends, row)).unwrap_or_default();
    let none = items.is_empty().then_some(Item::Missing);
    items.map(Item::Only).chain(none)
}

impl<'a> Field<'a> {
    fn new(attribute: &Attribute, batch: &'a SpanBatch) -> Field<'a> {
        let of = |intrinsic| *attribute == Attribute::Intrinsic(intrinsic);
        let Some(column) = plan::column_of(attribute) else {
            return Field {
                kind: Kinds::TraceDuration,
                values: batch.column(&Column::TraceStart),
                other: batch.column(&Column::TraceEnd),
            };
        };
        let kind = match column.list() {
            Some(list) => Kinds::Item(list),
            None if column.is_trace() => Kinds::Trace,
            None if of(Intrinsic::Duration) => Kinds::Duration,
            None if of(Intrinsic::Status) => Kinds::Status,
            None if of(Intrinsic::Kind) => Kinds::Kind,
            None => Kinds::Plain,
        };
        Field { kind, values: batch.column(&column), other: None }
    }

    fn value(&self, at: At) -> Option<Operand> {
        let values = self.values?;
        match self.kind {
            Kinds::Plain => plain(values, at.row),
            Kinds::Trace => plain(values, at.trace),
            Kinds::Duration => Some(duration(values.u64(at.row))),
            Kinds::TraceDuration => {
                let (start, end) = (values.u64(at.trace), self.other?.u64(at.trace));
                Some(duration(end.saturating_sub(start)))
            }
            Kinds::Status => status(values.i32(at.row)).map(Static::Status).map(Operand::One),
            Kinds::Kind => kind(values.i32(at.row)).map(Static::Kind).map(Operand::One),
            Kinds::Item(list) => {
                let Values::List { ends, items } = values else { return None };
                let item = if list == List::Event { at.event } else { at.link };
                match item {
                    Item::Only(item) => item_value(items, item),
                    Item::First => part(ends, at.row).find_map(|item| item_value(items, item)),
                    Item::Missing => None,
                }
            }
        }
    }
}

/// The value at a row of a column that needs no explanation.
fn plain(values: &Values, row: usize) -> Option<Operand> {
    let text = |text: String| Operand::One(Static::Str(text.into()));
    match values {
        Values::Coded { .. } => values.value(row).map(operand),
        Values::I32(numbers) => {
            numbers.get(row).map(|number| Operand::One(Static::Int(i64::from(*number))))
        }
        Values::U64(numbers) => numbers.get(row).map(|number| duration(*number)),
        Values::SpanIds(ids) => ids.get(row).map(|id| text(id.to_string())),
        Values::TraceIds(ids) => ids.get(row).map(|id| text(id.trimmed())),
        Values::List { .. } => None,
    }
}

/// The value of an event or link. Their only numbers are times since the start, which may be negative.
fn item_value(items: &Values, item: usize) -> Option<Operand> {
    match items {
        Values::U64(since) => {
            since.get(item).map(|since| Operand::One(Static::Duration(*since as i64)))
        }
        items => plain(items, item),
    }
}

/// All values of an attribute of events or links for a row, as they are stored.
pub fn item_values(values: &Values, row: usize) -> Vec<Operand> {
    let Values::List { ends, items } = values else { return Vec::new() };
    part(ends, row).filter_map(|item| item_value(items, item)).collect()
}

fn duration(nanos: u64) -> Operand {
    Operand::One(Static::Duration(i64::try_from(nanos).unwrap_or(i64::MAX)))
}

/// The language's form of an attribute's value.
pub fn operand(value: &Value) -> Operand {
    Operand::One(match value {
        Value::Str(text) => Static::Str(Arc::clone(text)),
        Value::Int(number) => Static::Int(*number),
        Value::Float(number) => Static::Float(*number),
        Value::Bool(value) => Static::Bool(*value),
        array => return Operand::Many(array.clone()),
    })
}

fn status(number: i32) -> Option<Status> {
    [Status::Unset, Status::Ok, Status::Error].into_iter().find(|status| *status as i32 == number)
}

fn kind(number: i32) -> Option<Kind> {
    use Kind::{Client, Consumer, Internal, Producer, Server, Unspecified};
    let all = [Unspecified, Internal, Server, Client, Producer, Consumer];
    all.into_iter().find(|kind| *kind as i32 == number)
}

fn truth(value: Option<Operand>) -> Option<bool> {
    match value? {
        Operand::One(Static::Bool(value)) => Some(value),
        _ => None,
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the value of an expression may be missing")]
fn bool_value(value: bool) -> Option<Operand> {
    Some(Operand::One(Static::Bool(value)))
}

fn negated(value: &Static) -> Option<Static> {
    match value {
        Static::Int(number) => Some(Static::Int(number.wrapping_neg())),
        Static::Float(number) => Some(Static::Float(-number)),
        Static::Duration(nanos) => Some(Static::Duration(nanos.wrapping_neg())),
        Static::Str(_) | Static::Bool(_) | Static::Status(_) | Static::Kind(_) => None,
    }
}

/// Comparison. With an array: some element satisfies it; for `!=` none is equal.
fn compared(op: CompareOp, left: Option<&Operand>, right: Option<&Operand>) -> bool {
    match (left, right) {
        (Some(Operand::One(left)), Some(Operand::One(right))) => {
            compare(op, left, right) == Some(true)
        }
        (Some(Operand::Many(items)), Some(Operand::One(value))) => some_element(op, items, value),
        (Some(Operand::One(value)), Some(Operand::Many(items))) => {
            some_element(op.flipped(), items, value)
        }
        _ => false,
    }
}

fn some_element(op: CompareOp, items: &Value, value: &Static) -> bool {
    let mut items = elements(items).into_iter();
    if op == CompareOp::NotEqual {
        return items.all(|item| compare(op, &item, value) == Some(true));
    }
    items.any(|item| compare(op, &item, value) == Some(true))
}

fn matched(negated: bool, value: Option<&Operand>, pattern: &Pattern) -> bool {
    let test = |item: &Static| match item {
        Static::Str(text) => pattern.is_match(text) != negated,
        _ => false,
    };
    match value {
        Some(Operand::One(value)) => test(value),
        Some(Operand::Many(items)) if negated => elements(items).iter().all(test),
        Some(Operand::Many(items)) => elements(items).iter().any(test),
        None => false,
    }
}

/// The elements of an array; at least one.
pub fn elements(array: &Value) -> Vec<Static> {
    match array {
        Value::StrArray(items) => items.iter().map(|item| Static::Str(Arc::clone(item))).collect(),
        Value::IntArray(items) => items.iter().map(|item| Static::Int(*item)).collect(),
        Value::FloatArray(items) => items.iter().map(|item| Static::Float(*item)).collect(),
        Value::BoolArray(items) => items.iter().map(|item| Static::Bool(*item)).collect(),
        scalar => match operand(scalar) {
            Operand::One(value) => vec![value],
            Operand::Many(_) => Vec::new(),
        },
    }
}
