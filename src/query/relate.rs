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
