//! Structural operators on the rows of one trace, by their nested-set numbers.

use std::collections::{HashMap, HashSet};

use crate::columns::{Column, SpanBatch, Values};
use crate::traceql::{Relation, RelationMode};

/// The tree of every trace in a batch, as nested sets. A span that no root leads to has only zeros.
pub struct Tree<'a> {
    left: Option<&'a Values>,
    right: Option<&'a Values>,
    parent: Option<&'a Values>,
}

impl<'a> Tree<'a> {
    /// The columns that it is made of.
    pub const COLUMNS: [Column; 3] =
        [Column::NestedLeft, Column::NestedRight, Column::NestedParent];

    pub fn new(batch: &'a SpanBatch) -> Tree<'a> {
        let [left, right, parent] = Tree::COLUMNS.map(|column| batch.column(&column));
        Tree { left, right, parent }
    }

    /// What an operator makes of its two sides; rows are ascending, before and after.
    pub fn apply(
        &self,
        relation: Relation,
        mode: RelationMode,
        left: &[usize],
        right: &[usize],
    ) -> Vec<usize> {
        let related = self.related(relation, left, right);
        match mode {
            RelationMode::Related => related,
            RelationMode::Unrelated => {
                let known: HashSet<usize> = related.into_iter().collect();
                right.iter().copied().filter(|row| !known.contains(row)).collect()
            }
            RelationMode::Union => united(&related, &self.related(inverse(relation), right, left)),
        }
    }

    /// The right-hand rows that stand in the relation to some left-hand row.
    fn related(&self, relation: Relation, left: &[usize], right: &[usize]) -> Vec<usize> {
        let keep = |test: &dyn Fn(usize) -> bool| {
            right.iter().copied().filter(|row| test(*row)).collect::<Vec<_>>()
        };
        match relation {
            Relation::Child => {
                let parents: HashSet<i32> = self.numbers(self.left, left).collect();
                keep(&|row| parents.contains(&self.parent(row)))
            }
            Relation::Parent => {
                let parents: HashSet<i32> = self.numbers(self.parent, left).collect();
                keep(&|row| parents.contains(&self.left(row)))
            }
            Relation::Descendant => {
                let reach = self.reach(left);
                keep(&|row| {
                    let before = reach.partition_point(|(start, _)| *start < self.left(row));
                    let farthest = before.checked_sub(1).and_then(|last| reach.get(last));
                    farthest.is_some_and(|(_, end)| *end > self.right(row))
                })
            }
            Relation::Ancestor => {
                let mut starts: Vec<i32> = self.numbers(self.left, left).collect();
                starts.sort_unstable();
                keep(&|row| {
                    let after = starts.partition_point(|start| *start <= self.left(row));
                    starts.get(after).is_some_and(|start| *start < self.right(row))
                })
            }
            Relation::Sibling => {
                let mut families: HashMap<i32, (usize, usize)> = HashMap::new();
                for row in left.iter().filter(|row| self.parent(**row) != 0) {
                    families.entry(self.parent(*row)).or_insert((*row, 0)).1 += 1;
                }
                keep(&|row| {
                    let family = families.get(&self.parent(row));
                    family.is_some_and(|(first, members)| *members > 1 || *first != row)
                })
            }
        }
    }

    /// Where connected rows start, ascending, each with the farthest end of it and those before.
    fn reach(&self, rows: &[usize]) -> Vec<(i32, i32)> {
        let connected = rows.iter().filter(|row| self.left(**row) != 0);
        let mut reach: Vec<(i32, i32)> =
            connected.map(|row| (self.left(*row), self.right(*row))).collect();
        reach.sort_unstable();
        let mut farthest = i32::MIN;
        for (_, end) in &mut reach {
            farthest = farthest.max(*end);
            *end = farthest;
        }
        reach
    }

    /// The numbers of rows that have any.
    fn numbers(&self, column: Option<&'a Values>, rows: &[usize]) -> impl Iterator<Item = i32> {
        rows.iter().map(move |row| number(column, *row)).filter(|number| *number != 0)
    }

    fn left(&self, row: usize) -> i32 {
        number(self.left, row)
    }

    fn right(&self, row: usize) -> i32 {
        number(self.right, row)
    }

    fn parent(&self, row: usize) -> i32 {
        number(self.parent, row)
    }
}

fn number(column: Option<&Values>, row: usize) -> i32 {
    column.map(|values| values.i32(row)).unwrap_or_default()
}

fn inverse(relation: Relation) -> Relation {
    match relation {
        Relation::Child => Relation::Parent,
        Relation::Parent => Relation::Child,
        Relation::Descendant => Relation::Ancestor,
        Relation::Ancestor => Relation::Descendant,
        Relation::Sibling => Relation::Sibling,
    }
}

/// The rows of both, ascending, each once.
pub fn united(left: &[usize], right: &[usize]) -> Vec<usize> {
    let mut rows = [left, right].concat();
    rows.sort_unstable();
    rows.dedup();
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns::Bitmap;
    use crate::columns::nested::{Node, Numbering, Place};
    use crate::model::SpanId;
    use crate::segment::sample::Dice;

    const RELATIONS: [Relation; 5] = [
        Relation::Child,
        Relation::Descendant,
        Relation::Parent,
        Relation::Ancestor,
        Relation::Sibling,
    ];

    /// Whether `b` stands in a relation to `a`, by its definition.
    fn holds(tree: &Tree<'_>, relation: Relation, a: usize, b: usize) -> bool {
        let within = |a, b| {
            tree.left(a) != 0 && tree.left(a) < tree.left(b) && tree.right(b) < tree.right(a)
        };
        match relation {
            Relation::Child => tree.left(a) != 0 && tree.parent(b) == tree.left(a),
            Relation::Parent => holds(tree, Relation::Child, b, a),
            Relation::Descendant => within(a, b),
            Relation::Ancestor => within(b, a),
            Relation::Sibling => a != b && tree.parent(a) != 0 && tree.parent(a) == tree.parent(b),
        }
    }

    /// A trace of 12 spans with random parents, some of which are not there.
    fn forest(dice: &mut Dice) -> SpanBatch {
        let id = |number: u64| SpanId(number.to_be_bytes());
        let nodes: Vec<Node> = (1..13)
            .map(|at| Node {
                id: id(at),
                parent: id(dice.roll(at) * (dice.roll(8) + 6) / 6),
                kind: 1,
            })
            .filter(|node| node.id != node.parent)
            .collect();
        let mut places = Vec::new();
        Numbering::default().number(&nodes, &mut places);
        let column = |of: fn(&Place) -> i32| Values::I32(places.iter().map(of).collect());
        let values = [column(|p| p.left), column(|p| p.right), column(|p| p.parent)];
        SpanBatch {
            trace_ends: vec![u32::try_from(places.len()).unwrap()],
            matched: Bitmap::none(places.len()),
            columns: Tree::COLUMNS.into_iter().zip(values).collect(),
        }
    }

    #[test]
    fn operators_do_what_a_look_at_every_pair_does() {
        let mut dice = Dice(1);
        let mut pairs = 0;
        for _ in 0..600 {
            let batch = forest(&mut dice);
            let tree = Tree::new(&batch);
            let left: Vec<usize> = batch.rows(0).filter(|_| dice.roll(3) == 0).collect();
            let right: Vec<usize> = batch.rows(0).filter(|_| dice.roll(2) == 0).collect();
            for relation in RELATIONS {
                let of = |b: &usize| left.iter().any(|a| holds(&tree, relation, *a, *b));
                let (related, unrelated): (Vec<_>, Vec<_>) =
                    right.iter().copied().partition(|b| of(b));
                let has = |a: &&usize| right.iter().any(|b| holds(&tree, relation, **a, *b));
                let partners: Vec<usize> = left.iter().filter(has).copied().collect();
                let apply = |mode| tree.apply(relation, mode, &left, &right);
                pairs += related.len();
                assert_eq!(apply(RelationMode::Union), united(&related, &partners), "{relation:?}");
                assert_eq!(apply(RelationMode::Related), related, "{relation:?}");
                assert_eq!(apply(RelationMode::Unrelated), unrelated, "{relation:?}");
            }
        }
        assert!(pairs > 100, "only {pairs} pairs");
    }
}
