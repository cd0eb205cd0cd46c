//! A map of key intervals that finds all intervals containing a key. It is a treap ordered by
//! (start, end); each subtree knows its furthest end. Add and remove take O(log n). A stab takes
//! O(log n + hits) as long as intervals are nested or disjoint, which holds for prefixes.

use std::cmp::Ordering;

use bytes::Bytes;
use synod_types::SplitMix64;

use super::interest::Upper;

const NIL: u32 = u32::MAX;

#[derive(Debug)]
struct Node<T> {
    start: Bytes,
    end: Upper,
    priority: u64,
    left: u32,
    right: u32,
    /// The node in this subtree whose end is furthest. An index, so that no key is copied.
    furthest: u32,
    value: T,
}

/// A map from intervals `[start, end)` to values.
#[derive(Debug)]
pub(crate) struct IntervalMap<T> {
    nodes: Vec<Option<Node<T>>>,
    free: Vec<u32>,
    root: u32,
    /// Priorities only need to be independent of the keys. With a fixed seed, runs are
    /// reproducible.
    priorities: SplitMix64,
}

impl<T> IntervalMap<T> {
    /// An empty map.
    pub(crate) fn new() -> Self {
        Self {
            nodes: Vec::new(),
            free: Vec::new(),
            root: NIL,
            priorities: SplitMix64::new(0),
        }
    }

    /// The value of exactly this interval.
    pub(crate) fn get_mut(&mut self, start: &[u8], end: &Upper) -> Option<&mut T> {
        let mut at = self.root;
        loop {
            let node = self.node(at)?;
            at = match compare(start, end, node) {
                Ordering::Less => node.left,
                Ordering::Greater => node.right,
                Ordering::Equal => break,
            };
        }
        self.node_mut(at).map(|node| &mut node.value)
    }

    /// Adds an interval, which must not exist yet.
    pub(crate) fn insert(&mut self, start: Bytes, end: Upper, value: T) {
        let priority = self.priorities.next_u64();
        let at = self.allocate(Node {
            start: start.clone(),
            end: end.clone(),
            priority,
            left: NIL,
            right: NIL,
            furthest: NIL,
            value,
        });
        self.refresh(at);
        let (below, above) = self.split(self.root, &start, &end);
        let below = self.merge(below, at);
        self.root = self.merge(below, above);
    }

    /// Removes the interval; `None` if it doesn't exist.
    pub(crate) fn remove(&mut self, start: &[u8], end: &Upper) -> Option<T> {
        let (root, removed) = self.detach(self.root, start, end);
        self.root = root;
        let node = self.nodes.get_mut(index(removed))?.take()?;
        self.free.push(removed);
        Some(node.value)
    }

    /// Calls `visit` with the value of each interval that contains `key`, ordered by (start, end).
    pub(crate) fn stab<'a>(&'a self, key: &[u8], visit: &mut impl FnMut(&'a T)) {
        self.stab_from(self.root, key, visit);
    }

    fn stab_from<'a>(&'a self, at: u32, key: &[u8], visit: &mut impl FnMut(&'a T)) {
        let Some(node) = self.node(at) else { return };
        let reaches = self
            .node(node.furthest)
            .is_some_and(|furthest| furthest.end.is_above(key));
        if !reaches {
            return;
        }
        self.stab_from(node.left, key, visit);
        // All intervals to the right start at or after this one.
        if node.start[..] <= *key {
            if node.end.is_above(key) {
                visit(&node.value);
            }
            self.stab_from(node.right, key, visit);
        }
    }

    fn split(&mut self, at: u32, start: &[u8], end: &Upper) -> (u32, u32) {
        let Some(node) = self.node(at) else {
            return (NIL, NIL);
        };
        let (left, right) = (node.left, node.right);
        if compare(start, end, node) == Ordering::Greater {
            let (below, above) = self.split(right, start, end);
            self.link(at, left, below);
            (at, above)
        } else {
            let (below, above) = self.split(left, start, end);
            self.link(at, above, right);
            (below, at)
        }
    }

    fn merge(&mut self, below: u32, above: u32) -> u32 {
        let (Some(low), Some(high)) = (self.node(below), self.node(above)) else {
            return if below == NIL { above } else { below };
        };
        if low.priority > high.priority {
            let (left, right) = (low.left, low.right);
            let right = self.merge(right, above);
            self.link(below, left, right);
            below
        } else {
            let (left, right) = (high.left, high.right);
            let left = self.merge(below, left);
            self.link(above, left, right);
            above
        }
    }

    fn detach(&mut self, at: u32, start: &[u8], end: &Upper) -> (u32, u32) {
        let Some(node) = self.node(at) else {
            return (NIL, NIL);
        };
        let (left, right) = (node.left, node.right);
        match compare(start, end, node) {
            Ordering::Less => {
                let (left, removed) = self.detach(left, start, end);
                self.link(at, left, right);
                (at, removed)
            }
            Ordering::Greater => {
                let (right, removed) = self.detach(right, start, end);
                self.link(at, left, right);
                (at, removed)
            }
            Ordering::Equal => (self.merge(left, right), at),
        }
    }

    fn link(&mut self, at: u32, left: u32, right: u32) {
        if let Some(node) = self.node_mut(at) {
            node.left = left;
            node.right = right;
        }
        self.refresh(at);
    }

    fn refresh(&mut self, at: u32) {
        let Some(node) = self.node(at) else { return };
        let mut furthest = (at, &node.end);
        for child in [node.left, node.right] {
            let Some(candidate) = self.node(child).map(|child| child.furthest) else {
                continue;
            };
            if let Some(candidate_node) = self.node(candidate)
                && candidate_node.end > *furthest.1
            {
                furthest = (candidate, &candidate_node.end);
            }
        }
        let furthest = furthest.0;
        if let Some(node) = self.node_mut(at) {
            node.furthest = furthest;
        }
    }

    fn allocate(&mut self, node: Node<T>) -> u32 {
        if let Some(at) = self.free.pop() {
            self.nodes[index(at)] = Some(node);
            return at;
        }
        // Memory runs out long before u32::MAX intervals.
        let at = u32::try_from(self.nodes.len()).unwrap_or(NIL);
        assert!(at != NIL, "more intervals than indexes");
        self.nodes.push(Some(node));
        at
    }

    fn node(&self, at: u32) -> Option<&Node<T>> {
        self.nodes.get(index(at)).and_then(Option::as_ref)
    }

    fn node_mut(&mut self, at: u32) -> Option<&mut Node<T>> {
        self.nodes.get_mut(index(at)).and_then(Option::as_mut)
    }
}

fn compare<T>(start: &[u8], end: &Upper, node: &Node<T>) -> Ordering {
    start.cmp(&node.start[..]).then_with(|| end.cmp(&node.end))
}

const fn index(at: u32) -> usize {
    at as usize
}
