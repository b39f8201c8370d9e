//! From a condition on spans to what storage can decide of it.
//!
//! The filter of a plan never leaves out a span that the condition keeps. Where it is not exact, `expr` looks again at the
//! spans that storage kept.

use std::fmt;
use std::sync::Arc;

use crate::columns::{AttrScope, Column, Filter, List, Op, Operand, Predicate};
use crate::traceql::{
    Attribute, CompareOp, FieldExpr, Intrinsic, LogicalOp, Pattern, Scope, Static,
};

/// Most conjunctions that one is multiplied out to so that its conditions on events hold on the same event.
const MAX_DISJUNCTS: usize = 64;

/// The id that stands for no parent.
const NO_SPAN: &str = "0000000000000000";

/// What storage decides of a condition.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Keeps every span that the condition keeps.
    pub filter: Filter,
    /// Whether it keeps no other spans.
    pub exact: bool,
}

/// A condition on one item of a list.
struct ItemCondition {
    list: List,
    column: Column,
    predicate: Predicate,
    exact: bool,
}

impl Plan {
    /// Plans a condition whose constants are in their places: see [`normalised`].
    pub fn new(expr: &FieldExpr) -> Plan {
        match expr {
            FieldExpr::Logical { op: LogicalOp::And, operands } => conjunction(operands),
            FieldExpr::Logical { op: LogicalOp::Or, operands } => {
                any(operands.iter().map(Plan::new).collect())
            }
            FieldExpr::Not(operand) if is_test(operand) => Plan::new(operand).inverted(),
            FieldExpr::Static(value) if *value == Static::Bool(true) => Plan::all(true),
            FieldExpr::Static(_) => Plan::nothing(),
            expr => leaf(expr),
        }
    }

    fn all(exact: bool) -> Plan {
        Plan { filter: Filter::All, exact }
    }

    fn nothing() -> Plan {
        Plan { filter: Filter::Or(Vec::new()), exact: true }
    }

    fn inverted(self) -> Plan {
        match self.filter {
            // The complement of too many spans is too few.
            _ if !self.exact => Plan::all(false),
            Filter::All => Plan::nothing(),
            Filter::Or(parts) if parts.is_empty() => Plan::all(true),
            filter => Plan { filter: Filter::Not(Box::new(filter)), exact: true },
        }
    }

    fn is_nothing(&self) -> bool {
        matches!(&self.filter, Filter::Or(parts) if parts.is_empty())
    }
}

/// The spans that every plan keeps.
pub fn all(plans: Vec<Plan>) -> Plan {
    if plans.iter().any(|plan| plan.exact && plan.is_nothing()) {
        return Plan::nothing();
    }
    let exact = plans.iter().all(|plan| plan.exact);
    let mut filters: Vec<Filter> = plans.into_iter().map(|plan| plan.filter).collect();
    filters.retain(|filter| !matches!(filter, Filter::All));
    let filter = match filters.pop() {
        None => Filter::All,
        Some(only) if filters.is_empty() => only,
        Some(last) => {
            filters.push(last);
            Filter::And(filters)
        }
    };
    Plan { filter, exact }
}

/// The spans that some plan keeps.
pub fn any(mut plans: Vec<Plan>) -> Plan {
    plans.retain(|plan| !(plan.exact && plan.is_nothing()));
    if plans.iter().any(|plan| plan.exact && matches!(plan.filter, Filter::All)) {
        return Plan::all(true);
    }
    let exact = plans.iter().all(|plan| plan.exact);
    let filter = match plans.pop() {
        Some(only) if plans.is_empty() => only.filter,
        last => Filter::Or(plans.into_iter().chain(last).map(|plan| plan.filter).collect()),
    };
    match filter {
        Filter::Or(parts) if parts.iter().any(|part| matches!(part, Filter::All)) => {
            Plan::all(exact)
        }
        filter => Plan { filter, exact },
    }
}

/// Conditions on events that stand in one conjunction hold on the same event, those on links on the same link. With an
/// `||` among them the conjunction is multiplied out, so that every way to satisfy it names its items' conditions at once.
fn conjunction(operands: &[FieldExpr]) -> Plan {
    let (open, closed): (Vec<_>, Vec<_>) = operands.iter().partition(|operand| is_open(operand));
    let mut plans: Vec<Plan> = closed.into_iter().map(Plan::new).collect();
    if open.len() < 2 {
        plans.extend(open.into_iter().map(Plan::new));
        return all(plans);
    }
    match disjuncts(&open) {
        Some(ways) => plans.push(any(ways.iter().map(|way| one_way(way)).collect())),
        None => plans.extend(open.into_iter().map(|expr| Plan { exact: false, ..Plan::new(expr) })),
    }
    all(plans)
}

/// The conjunctions of which one has to hold so that all of `exprs` do; nothing if they are too many.
fn disjuncts<'a>(exprs: &[&'a FieldExpr]) -> Option<Vec<Vec<&'a FieldExpr>>> {
    let mut ways: Vec<Vec<&FieldExpr>> = vec![Vec::new()];
    for expr in exprs {
        let more: Vec<Vec<&FieldExpr>> = match expr {
            FieldExpr::Logical { op, operands } => {
                let parts: Vec<&FieldExpr> = operands.iter().collect();
                match op {
                    LogicalOp::And => disjuncts(&parts)?,
                    LogicalOp::Or => {
                        let each = parts.iter().map(|part| disjuncts(&[*part]));
                        each.collect::<Option<Vec<_>>>()?.concat()
                    }
                }
            }
            expr => vec![vec![*expr]],
        };
        if ways.len().saturating_mul(more.len()) > MAX_DISJUNCTS {
            return None;
        }
        let product = |way: &Vec<&'a FieldExpr>| {
            let way = way.clone();
            more.iter().map(move |other| [way.as_slice(), other].concat()).collect::<Vec<_>>()
        };
        ways = ways.iter().flat_map(product).collect();
    }
    Some(ways)
}

/// A conjunction without any `&&` and `||` in it.
fn one_way(exprs: &[&FieldExpr]) -> Plan {
    let mut plans = Vec::new();
    let mut items: Vec<ItemCondition> = Vec::new();
    for expr in exprs {
        let Some(condition) = item_condition(expr) else {
            let open = is_open(expr);
            let plan = Plan::new(expr);
            plans.push(Plan { exact: plan.exact && !open, ..plan });
            continue;
        };
        items.push(condition);
    }
    for list in [List::Event, List::Link] {
        let (of, rest): (Vec<_>, Vec<_>) = items.into_iter().partition(|item| item.list == list);
        items = rest;
        if !of.is_empty() {
            let exact = of.iter().all(|item| item.exact);
            let all = of.into_iter().map(|item| (item.column, item.predicate)).collect();
            plans.push(Plan { filter: Filter::Item(list, all), exact });
        }
    }
    all(plans)
}

/// A condition that is neither `&&` nor `||`.
fn leaf(expr: &FieldExpr) -> Plan {
    if let Some(item) = item_condition(expr) {
        let filter = Filter::Item(item.list, vec![(item.column, item.predicate)]);
        return Plan { filter, exact: item.exact };
    }
    match expr {
        FieldExpr::Attribute(attribute) => truth(attribute, true),
        FieldExpr::Not(operand) => match &**operand {
            FieldExpr::Attribute(attribute) => truth(attribute, false),
            _ => Plan::all(false),
        },
        FieldExpr::Nil { negated, operand } => nil(operand, *negated),
        FieldExpr::Compare { op, left, right } => match (&**left, &**right) {
            (FieldExpr::Attribute(attribute), FieldExpr::Static(value)) => {
                comparison(attribute, *op, value)
            }
            _ => present([&**left, &**right]),
        },
        FieldExpr::Match { negated, value, pattern } => match &**value {
            FieldExpr::Attribute(attribute) => regex(attribute, *negated, pattern),
            value => present([value]),
        },
        _ => Plan::all(false),
    }
}

fn comparison(attribute: &Attribute, op: CompareOp, value: &Static) -> Plan {
    let Some(column) = column_of(attribute) else { return Plan::all(false) };
    match operand(attribute, value) {
        Some(operand) => {
            let predicate = Predicate { op: column_op(op), operand };
            Plan { filter: Filter::Column(column, predicate), exact: true }
        }
        // Types that never compare.
        None => Plan::nothing(),
    }
}

fn regex(attribute: &Attribute, negated: bool, pattern: &Pattern) -> Plan {
    let Some(column) = column_of(attribute) else { return Plan::all(false) };
    Plan { filter: Filter::Column(column, regex_predicate(negated, pattern)), exact: true }
}

fn nil(operand: &FieldExpr, negated: bool) -> Plan {
    let FieldExpr::Attribute(attribute) = operand else { return Plan::all(false) };
    let column = match attribute {
        Attribute::Intrinsic(_) => None,
        attribute => column_of(attribute),
    };
    match (column, negated) {
        (Some(Column::Service) | None, true) => Plan::all(true),
        (Some(Column::Service) | None, false) => Plan::nothing(),
        (Some(column), _) => {
            Plan { filter: Filter::Column(column, existence(negated)), exact: true }
        }
    }
}

fn existence(present: bool) -> Predicate {
    let op = if present { Op::Exists } else { Op::Missing };
    Predicate { op, operand: Operand::Nothing }
}

/// An attribute that is true (or false) itself. Arrays never are, but some element of theirs may be.
fn truth(attribute: &Attribute, value: bool) -> Plan {
    let Some(column) = column_of(attribute) else { return Plan::all(false) };
    Plan { filter: Filter::Column(column, bool_predicate(value)), exact: false }
}

fn bool_predicate(value: bool) -> Predicate {
    Predicate { op: Op::Eq, operand: Operand::Bool(value) }
}

/// The spans that have everything which expressions of numbers and attributes compute with.
fn present<'a>(exprs: impl IntoIterator<Item = &'a FieldExpr>) -> Plan {
    let mut filters = Vec::new();
    exprs.into_iter().for_each(|expr| needed(expr, &mut filters));
    let plans = filters.into_iter().map(|filter| Plan { filter, exact: true }).collect();
    Plan { exact: false, ..all(plans) }
}

fn needed(expr: &FieldExpr, filters: &mut Vec<Filter>) {
    match expr {
        FieldExpr::Attribute(attribute @ Attribute::Named { .. }) => {
            let Some(column) = column_of(attribute).filter(|column| *column != Column::Service)
            else {
                return;
            };
            filters.push(match column.list() {
                Some(list) => Filter::Item(list, vec![(column, existence(true))]),
                None => Filter::Column(column, existence(true)),
            });
        }
        FieldExpr::Negate(operand) => needed(operand, filters),
        FieldExpr::Arithmetic { left, right, .. } => {
            needed(left, filters);
            needed(right, filters);
        }
        _ => {}
    }
}

/// The condition on one item, if `expr` is one.
fn item_condition(expr: &FieldExpr) -> Option<ItemCondition> {
    let of = |operand: &FieldExpr, predicate: Predicate, exact: bool| {
        let FieldExpr::Attribute(attribute) = operand else { return None };
        let column = column_of(attribute)?;
        Some(ItemCondition { list: column.list()?, column, predicate, exact })
    };
    match expr {
        FieldExpr::Attribute(_) => of(expr, bool_predicate(true), false),
        FieldExpr::Not(operand) => of(operand, bool_predicate(false), false),
        FieldExpr::Nil { negated, operand } => of(operand, existence(*negated), true),
        FieldExpr::Match { negated, value, pattern } => {
            of(value, regex_predicate(*negated, pattern), true)
        }
        FieldExpr::Compare { op, left, right } => {
            let (FieldExpr::Attribute(attribute), FieldExpr::Static(value)) = (&**left, &**right)
            else {
                return None;
            };
            // Types that never compare become a comparison that never holds.
            let operand = operand(attribute, value).unwrap_or(Operand::Nothing);
            of(left, Predicate { op: column_op(*op), operand }, true)
        }
        _ => None,
    }
}

/// Whether an expression speaks of events or links that the conjunction around it may share.
pub fn is_open(expr: &FieldExpr) -> bool {
    match expr {
        FieldExpr::Attribute(attribute) => list_of(attribute).is_some(),
        FieldExpr::Not(operand) if is_test(operand) => false,
        FieldExpr::Static(_) => false,
        FieldExpr::Not(operand)
        | FieldExpr::Negate(operand)
        | FieldExpr::Nil { operand, .. }
        | FieldExpr::Match { value: operand, .. } => is_open(operand),
        FieldExpr::Logical { operands, .. } => operands.iter().any(is_open),
        FieldExpr::Compare { left, right, .. } | FieldExpr::Arithmetic { left, right, .. } => {
            is_open(left) || is_open(right)
        }
    }
}

/// Whether an expression is true or false for every span: it has a complement.
pub fn is_test(expr: &FieldExpr) -> bool {
    match expr {
        FieldExpr::Compare { .. }
        | FieldExpr::Match { .. }
        | FieldExpr::Nil { .. }
        | FieldExpr::Logical { .. } => true,
        FieldExpr::Not(operand) => is_test(operand),
        FieldExpr::Static(value) => matches!(value, Static::Bool(_)),
        FieldExpr::Attribute(_) | FieldExpr::Negate(_) | FieldExpr::Arithmetic { .. } => false,
    }
}

/// What an attribute may have several of.
pub fn list_of(attribute: &Attribute) -> Option<List> {
    column_of(attribute).and_then(|column| column.list())
}

/// The column of an attribute. A trace's duration has none of its own.
pub fn column_of(attribute: &Attribute) -> Option<Column> {
    Some(match attribute {
        Attribute::Named { scope: Some(Scope::Resource), name } if &**name == "service.name" => {
            Column::Service
        }
        Attribute::Named { scope, name } => {
            let name = Arc::clone(name);
            match scope {
                None => Column::Attr(AttrScope::Any, name),
                Some(Scope::Span) => Column::Attr(AttrScope::Span, name),
                Some(Scope::Resource) => Column::Attr(AttrScope::Resource, name),
                Some(Scope::Instrumentation) => Column::Attr(AttrScope::Instrumentation, name),
                Some(Scope::Event) => Column::EventAttr(name),
                Some(Scope::Link) => Column::LinkAttr(name),
            }
        }
        Attribute::Intrinsic(intrinsic) => match intrinsic {
            Intrinsic::Name => Column::Name,
            Intrinsic::Duration => Column::Duration,
            Intrinsic::Status => Column::Status,
            Intrinsic::StatusMessage => Column::StatusMessage,
            Intrinsic::Kind => Column::Kind,
            Intrinsic::SpanId => Column::SpanId,
            Intrinsic::ParentId => Column::ParentId,
            Intrinsic::ChildCount => Column::ChildCount,
            Intrinsic::NestedSetLeft => Column::NestedLeft,
            Intrinsic::NestedSetRight => Column::NestedRight,
            Intrinsic::NestedSetParent => Column::NestedParent,
            Intrinsic::TraceId => Column::TraceId,
            Intrinsic::TraceDuration => return None,
            Intrinsic::RootName => Column::RootName,
            Intrinsic::RootServiceName => Column::RootService,
            Intrinsic::EventName => Column::EventName,
            Intrinsic::EventTimeSinceStart => Column::EventTimeSinceStart,
            Intrinsic::LinkTraceId => Column::LinkTraceId,
            Intrinsic::LinkSpanId => Column::LinkSpanId,
            Intrinsic::InstrumentationName => Column::ScopeName,
            Intrinsic::InstrumentationVersion => Column::ScopeVersion,
        },
    })
}

/// The columns that an attribute is computed from.
pub fn add_columns(attribute: &Attribute, columns: &mut Vec<Column>) {
    match column_of(attribute) {
        Some(column) => add(columns, column),
        None => {
            add(columns, Column::TraceStart);
            add(columns, Column::TraceEnd);
        }
    }
}

/// Adds a column that is not there yet.
pub fn add(columns: &mut Vec<Column>, column: Column) {
    if !columns.contains(&column) {
        columns.push(column);
    }
}

/// The constant as the attribute's column holds it; nothing if the two never compare.
fn operand(attribute: &Attribute, value: &Static) -> Option<Operand> {
    let of = |intrinsic| *attribute == Attribute::Intrinsic(intrinsic);
    let coded = of(Intrinsic::Status) || of(Intrinsic::Kind);
    Some(match value {
        Static::Status(status) if of(Intrinsic::Status) => Operand::Int(*status as i64),
        Static::Kind(kind) if of(Intrinsic::Kind) => Operand::Int(*kind as i64),
        Static::Status(_) | Static::Kind(_) => return None,
        _ if coded => return None,
        Static::Int(number) | Static::Duration(number) => Operand::Int(*number),
        Static::Float(number) => Operand::Float(*number),
        Static::Str(text) => Operand::Str(text.to_string()),
        Static::Bool(value) => Operand::Bool(*value),
    })
}

fn column_op(op: CompareOp) -> Op {
    match op {
        CompareOp::Equal => Op::Eq,
        CompareOp::NotEqual => Op::NotEq,
        CompareOp::Less => Op::Less,
        CompareOp::LessEqual => Op::LessEq,
        CompareOp::Greater => Op::Greater,
        CompareOp::GreaterEqual => Op::GreaterEq,
    }
}

fn regex_predicate(negated: bool, pattern: &Pattern) -> Predicate {
    let op = if negated { Op::NotMatches } else { Op::Matches };
    Predicate { op, operand: Operand::Regex(pattern.regex().clone()) }
}

/// Puts constants where conditions are planned: on the right of a comparison, and ids in the form of their column.
pub fn normalised(expr: &FieldExpr) -> FieldExpr {
    let boxed = |expr: &FieldExpr| Box::new(normalised(expr));
    match expr {
        FieldExpr::Static(_) | FieldExpr::Attribute(_) => expr.clone(),
        FieldExpr::Not(operand) => FieldExpr::Not(boxed(operand)),
        FieldExpr::Negate(operand) => FieldExpr::Negate(boxed(operand)),
        FieldExpr::Logical { op, operands } => {
            FieldExpr::Logical { op: *op, operands: operands.iter().map(normalised).collect() }
        }
        FieldExpr::Compare { op, left, right } => match (&**left, &**right) {
            (FieldExpr::Static(value), FieldExpr::Attribute(attribute)) => FieldExpr::Compare {
                op: op.flipped(),
                left: right.clone(),
                right: Box::new(FieldExpr::Static(id_literal(attribute, value))),
            },
            (FieldExpr::Attribute(attribute), FieldExpr::Static(value)) => FieldExpr::Compare {
                op: *op,
                left: left.clone(),
                right: Box::new(FieldExpr::Static(id_literal(attribute, value))),
            },
            (left, right) => FieldExpr::Compare { op: *op, left: boxed(left), right: boxed(right) },
        },
        FieldExpr::Match { negated, value, pattern } => {
            FieldExpr::Match { negated: *negated, value: boxed(value), pattern: pattern.clone() }
        }
        FieldExpr::Nil { negated, operand } => {
            FieldExpr::Nil { negated: *negated, operand: boxed(operand) }
        }
        FieldExpr::Arithmetic { op, left, right } => {
            FieldExpr::Arithmetic { op: *op, left: boxed(left), right: boxed(right) }
        }
    }
}

/// Trace ids are compared without leading zeros, and an empty parent id is that of a root.
fn id_literal(attribute: &Attribute, value: &Static) -> Static {
    match (attribute, value) {
        (Attribute::Intrinsic(Intrinsic::TraceId | Intrinsic::LinkTraceId), Static::Str(text)) => {
            Static::Str(text.trim_start_matches('0').into())
        }
        (Attribute::Intrinsic(Intrinsic::ParentId), Static::Str(text)) if text.is_empty() => {
            Static::Str(NO_SPAN.into())
        }
        (_, value) => value.clone(),
    }
}

/// Conjunctions that a condition becomes when it is multiplied out.
pub fn condition_groups(expr: &FieldExpr) -> usize {
    match expr {
        FieldExpr::Logical { op: LogicalOp::Or, operands } => {
            operands.iter().map(condition_groups).fold(0, usize::saturating_add)
        }
        FieldExpr::Logical { op: LogicalOp::And, operands } => {
            operands.iter().map(condition_groups).fold(1, usize::saturating_mul)
        }
        _ => 1,
    }
}

/// About how little a filter keeps: of two that would do, the smaller one is the better.
pub fn breadth(filter: &Filter) -> u32 {
    let of = |predicate: &Predicate| match predicate.op {
        Op::Eq => 1,
        Op::Matches => 2,
        Op::Less | Op::LessEq | Op::Greater | Op::GreaterEq => 3,
        Op::Exists => 4,
        Op::NotEq | Op::NotMatches => 5,
        Op::Missing => 6,
    };
    match filter {
        Filter::All => 9,
        Filter::Column(_, predicate) => of(predicate),
        Filter::Item(_, all) => all.iter().map(|(_, predicate)| of(predicate)).min().unwrap_or(4),
        Filter::And(parts) => parts.iter().map(breadth).min().unwrap_or(9),
        Filter::Or(parts) => parts.iter().map(breadth).max().unwrap_or(0),
        Filter::Not(_) => 7,
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let then = if self.exact { "(nothing: the scan decides)" } else { "evaluate" };
        write!(f, "scan  {}\nthen  {then}\n", text(&self.filter))
    }
}

fn text(filter: &Filter) -> String {
    let join = |parts: &[Filter], word: &str, none: &str| match parts {
        [] => none.to_owned(),
        parts => {
            let parts: Vec<String> = parts.iter().map(text).collect();
            format!("({})", parts.join(word))
        }
    };
    match filter {
        Filter::All => "all".to_owned(),
        Filter::Column(column, predicate) => condition_text(column, predicate),
        Filter::Item(list, all) => {
            let all: Vec<String> = all.iter().map(|(c, p)| condition_text(c, p)).collect();
            format!("some {list:?} [{}]", all.join(" AND "))
        }
        Filter::And(parts) => join(parts, " AND ", "all"),
        Filter::Or(parts) => join(parts, " OR ", "none"),
        Filter::Not(part) => format!("NOT {}", text(part)),
    }
}

fn condition_text(column: &Column, predicate: &Predicate) -> String {
    let column = match column {
        Column::Attr(scope, name) => format!("{scope:?}[{name}]"),
        Column::EventAttr(name) | Column::LinkAttr(name) => format!("[{name}]"),
        column => format!("{column:?}"),
    };
    let op = match predicate.op {
        Op::Eq => "=",
        Op::NotEq => "!=",
        Op::Less => "<",
        Op::LessEq => "<=",
        Op::Greater => ">",
        Op::GreaterEq => ">=",
        Op::Matches => "=~",
        Op::NotMatches => "!~",
        Op::Exists => return format!("{column} exists"),
        Op::Missing => return format!("{column} is missing"),
    };
    match &predicate.operand {
        Operand::Nothing => format!("{column} {op} nothing"),
        Operand::Str(text) => format!("{column} {op} {text:?}"),
        Operand::Int(number) => format!("{column} {op} {number}"),
        Operand::Float(number) => format!("{column} {op} {number:?}"),
        Operand::Bool(value) => format!("{column} {op} {value}"),
        Operand::Regex(regex) => format!("{column} {op} {regex}"),
        Operand::Contains(word) => format!("{column} contains {word:?}"),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::traceql::{self, Body, SpansetExpr, Stage};

    fn check_plan(query: &str, expected: Expect) {
        let Body::Spansets(pipeline) = traceql::parse(query).unwrap().body else { panic!() };
        let [Stage::Spanset(SpansetExpr::Filter(filter))] = pipeline.stages.as_slice() else {
            panic!("{query} is not one condition");
        };
        expected.assert_eq(&Plan::new(&normalised(&filter.expr)).to_string());
    }

    #[test]
    fn equality_is_pushed_down() {
        check_plan(
            r#"{ resource.service.name = "cart" && 1s < duration && status = error }"#,
            expect![[r#"
                scan  (Service = "cart" AND Duration > 1000000000 AND Status = 2)
                then  (nothing: the scan decides)
            "#]],
        );
        check_plan(
            "{}",
            expect![[r#"
            scan  all
            then  (nothing: the scan decides)
        "#]],
        );
        check_plan(
            "{ trace:id = `00ab` || span:parentID = `` }",
            expect![[r#"
            scan  (TraceId = "ab" OR ParentId = "0000000000000000")
            then  (nothing: the scan decides)
        "#]],
        );
        check_plan(
            "{ .a != nil && span.b = nil && name != nil }",
            expect![[r#"
            scan  (Any[a] exists AND Span[b] is missing)
            then  (nothing: the scan decides)
        "#]],
        );
    }

    #[test]
    fn complements_are_pushed_down_if_they_are_exact() {
        check_plan(
            "{ !(span.a = 1) && !(span.b > 2 || name = `x`) }",
            expect![[r#"
            scan  (NOT Span[a] = 1 AND NOT (Span[b] > 2 OR Name = "x"))
            then  (nothing: the scan decides)
        "#]],
        );
        check_plan(
            "{ !(span.a = span.b) && kind = server }",
            expect![[r#"
            scan  Kind = 2
            then  evaluate
        "#]],
        );
        check_plan(
            "{ span.vip || !span.vip }",
            expect![[r#"
            scan  (Span[vip] = true OR Span[vip] = false)
            then  evaluate
        "#]],
        );
    }

    #[test]
    fn computed_values_have_to_be_there() {
        check_plan(
            "{ span.a + 1 > span.b && traceDuration > 1s }",
            expect![[r#"
            scan  (Span[a] exists AND Span[b] exists)
            then  evaluate
        "#]],
        );
        check_plan(
            "{ span.a = error || span.x = 1 }",
            expect![[r#"
            scan  Span[x] = 1
            then  (nothing: the scan decides)
        "#]],
        );
    }

    #[test]
    fn conditions_on_events_are_about_one_event() {
        check_plan(
            "{ event:name = `retry` && name = `x` && event.n = 2 }",
            expect![[r#"
            scan  (Name = "x" AND some Event [EventName = "retry" AND [n] = 2])
            then  (nothing: the scan decides)
        "#]],
        );
        check_plan(
            "{ event:name = `a` && (event.n = 1 || span.x = 2) && link.y != nil }",
            expect![[r#"
                scan  ((some Event [EventName = "a" AND [n] = 1] AND some Link [[y] exists]) OR (Span[x] = 2 AND some Event [EventName = "a"] AND some Link [[y] exists]))
                then  (nothing: the scan decides)
            "#]],
        );
        check_plan(
            "{ event.a = 1 || event.b = 2 }",
            expect![[r#"
            scan  (some Event [[a] = 1] OR some Event [[b] = 2])
            then  (nothing: the scan decides)
        "#]],
        );
        check_plan(
            "{ event.a = event.b && event.c = 3 }",
            expect![[r#"
            scan  ((some Event [[a] exists] AND some Event [[b] exists]) AND some Event [[c] = 3])
            then  evaluate
        "#]],
        );
        let many: Vec<String> =
            (0..9).map(|n| format!("(event.a = {n} || event.b = {n})")).collect();
        let query = format!("{{ {} }}", many.join(" && "));
        let Body::Spansets(pipeline) = traceql::parse(&query).unwrap().body else { panic!() };
        let [Stage::Spanset(SpansetExpr::Filter(filter))] = pipeline.stages.as_slice() else {
            panic!()
        };
        assert!(!Plan::new(&filter.expr).exact);
    }

    #[test]
    fn patterns_are_left_to_storage() {
        check_plan(
            r"{ name =~ `GET /x+` && span.x !~ `a|b` }",
            expect![[r#"
                scan  (Name =~ \A(?s:GET /x+)\z AND Span[x] !~ \A(?s:a|b)\z)
                then  (nothing: the scan decides)
            "#]],
        );
    }
}
