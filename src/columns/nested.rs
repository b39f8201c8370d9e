//! The tree of a trace as nested sets, by Tempo's rules.
#![expect(clippy::cast_possible_truncation, reason = "a trace has fewer spans than 2^31")]

use std::collections::HashMap;

use crate::model::SpanId;

/// OTLP's kind numbers of the two halves of a shared span.
const SERVER: u8 = 2;
const CLIENT: u8 = 3;

/// What the tree needs of one span.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    pub id: SpanId,
    /// Zero for a root.
    pub parent: SpanId,
    pub kind: u8,
}

/// A span's place in the tree. All zero: not connected to a root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub left: i32,
    pub right: i32,
    /// The parent's `left`, -1 for a root.
    pub parent: i32,
    /// Direct children, connected or not.
    pub children: i32,
}

/// Who has a span id: one span, or the two halves that Zipkin clients make.
#[derive(Clone, Copy)]
struct Owners {
    first: u32,
    second: Option<u32>,
}

/// Numbers the spans of one trace, in storage order. Buffers are kept between traces.
#[derive(Default)]
pub struct Numbering {
    owners: HashMap<SpanId, Owners>,
    parents: Vec<Option<u32>>,
    first_child: Vec<Option<u32>>,
    last_child: Vec<Option<u32>>,
    next_sibling: Vec<Option<u32>>,
    stack: Vec<u32>,
}

impl Numbering {
    /// Writes the place of each node of a trace into `places`, which is cleared first.
    pub fn number(&mut self, nodes: &[Node], places: &mut Vec<Place>) {
        places.clear();
        places.resize(nodes.len(), Place::default());
        let unique = self.find_owners(nodes);
        self.link(nodes, places);
        if !unique {
            return;
        }
        let mut counter = 1;
        for (at, node) in nodes.iter().enumerate() {
            if node.parent.is_zero() {
                self.walk(at as u32, places, &mut counter);
            }
        }
    }

    /// Returns false if three or more spans share an id: then the trace has no tree.
    fn find_owners(&mut self, nodes: &[Node]) -> bool {
        self.owners.clear();
        let mut unique = true;
        for (at, node) in (0u32..).zip(nodes) {
            let owners =
                self.owners.entry(node.id).or_insert(Owners { first: at, second: Some(at) });
            match owners.second {
                Some(second) if second == at => owners.second = None,
                Some(_) => unique = false,
                None => owners.second = Some(at),
            }
        }
        unique
    }

    fn link(&mut self, nodes: &[Node], places: &mut [Place]) {
        let clear = |list: &mut Vec<Option<u32>>| {
            list.clear();
            list.resize(nodes.len(), None);
        };
        clear(&mut self.parents);
        clear(&mut self.first_child);
        clear(&mut self.last_child);
        clear(&mut self.next_sibling);
        for (at, node) in nodes.iter().enumerate() {
            let Some(parent) = self.parent(nodes, node).map(|p| p as usize) else { continue };
            self.parents[at] = Some(parent as u32);
            places[parent].children += 1;
            match self.last_child[parent] {
                Some(last) => self.next_sibling[last as usize] = Some(at as u32),
                None => self.first_child[parent] = Some(at as u32),
            }
            self.last_child[parent] = Some(at as u32);
        }
    }

    fn parent(&self, nodes: &[Node], node: &Node) -> Option<u32> {
        if node.parent.is_zero() {
            return None;
        }
        let owners = self.owners.get(&node.parent)?;
        let Some(second) = owners.second else { return Some(owners.first) };
        let wanted = if node.kind == SERVER { CLIENT } else { SERVER };
        [owners.first, second].into_iter().find(|at| nodes[*at as usize].kind == wanted)
    }

    fn walk(&mut self, root: u32, places: &mut [Place], counter: &mut i32) {
        let mut take = || {
            *counter += 1;
            *counter - 1
        };
        places[root as usize].left = take();
        places[root as usize].parent = -1;
        self.stack.clear();
        self.stack.push(root);
        while let Some(&at) = self.stack.last() {
            match self.first_child[at as usize].take() {
                Some(child) => {
                    self.first_child[at as usize] = self.next_sibling[child as usize];
                    let parent = places[at as usize].left;
                    let place = &mut places[child as usize];
                    place.left = take();
                    place.parent = parent;
                    self.stack.push(child);
                }
                None => {
                    places[at as usize].right = take();
                    self.stack.pop();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u8, parent: u8, kind: u8) -> Node {
        let span_id = |n: u8| SpanId([0, 0, 0, 0, 0, 0, 0, n]);
        Node { id: span_id(id), parent: span_id(parent), kind }
    }

    fn check(nodes: &[Node], expected: &[(i32, i32, i32, i32)]) {
        let mut places = Vec::new();
        Numbering::default().number(nodes, &mut places);
        let got: Vec<_> = places.iter().map(|p| (p.left, p.right, p.parent, p.children)).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn roots_share_one_counter_and_children_keep_storage_order() {
        check(
            &[node(1, 0, 1), node(2, 1, 1), node(3, 0, 1), node(4, 3, 1)],
            &[(1, 4, -1, 1), (2, 3, 1, 0), (5, 8, -1, 1), (6, 7, 5, 0)],
        );
        check(
            &[node(2, 1, 1), node(3, 1, 1), node(1, 0, 1)],
            &[(2, 3, 1, 0), (4, 5, 1, 0), (1, 6, -1, 2)],
        );
    }

    #[test]
    fn orphans_have_no_place_but_their_children_count() {
        check(
            &[node(1, 0, 1), node(5, 9, 1), node(6, 5, 1)],
            &[(1, 2, -1, 0), (0, 0, 0, 1), (0, 0, 0, 0)],
        );
        check(&[node(5, 9, 1), node(6, 5, 1)], &[(0, 0, 0, 1), (0, 0, 0, 0)]);
    }

    #[test]
    fn shared_ids_resolve_by_kind_and_three_leave_no_tree() {
        // Client 1 and server 1 share an id: the server's parent is the client, others hang on the server.
        check(
            &[node(1, 0, 3), node(1, 1, 2), node(2, 1, 1)],
            &[(1, 6, -1, 1), (2, 5, 1, 1), (3, 4, 2, 0)],
        );
        check(&[node(1, 0, 1), node(1, 0, 1), node(1, 0, 1)], &[(0, 0, 0, 0); 3]);
    }

    #[test]
    fn cycles_end() {
        check(
            &[node(1, 2, 1), node(2, 1, 1), node(3, 3, 1)],
            &[(0, 0, 0, 1), (0, 0, 0, 1), (0, 0, 0, 1)],
        );
    }
}
