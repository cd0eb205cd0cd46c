//! A reader's rows: a snapshot, and inside a transaction the pending changes on top of it.

use std::collections::btree_map;
use std::iter::Peekable;
use std::ops::Bound;

use bytes::Bytes;
use synod_engine::{Direction, EngineError, KeyBounds, Row, Rows, Snapshot, Space};

use crate::overlay::{Overlay, Pending};
use crate::recent::RecentRecords;

/// The source of rows.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) snapshot: &'a dyn Snapshot,
    pub(crate) overlay: Option<&'a Overlay>,
    /// Records of `Latest`, as they are in the snapshot.
    pub(crate) recent: Option<&'a RecentRecords>,
}

impl<'a> Source<'a> {
    pub(crate) fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        match self.overlay.and_then(|overlay| overlay.get(space, key)) {
            Some(pending) => Ok(pending.value.clone()),
            None => match self.recent.and_then(|recent| recent.get(key)) {
                Some(record) if space == Space::Latest => Ok(Some(record.clone())),
                Some(_) | None => self.snapshot.get(space, key),
            },
        }
    }

    pub(crate) fn scan(&self, space: Space, bounds: KeyBounds, direction: Direction) -> Rows<'a> {
        let overlay = self.overlay.map(|overlay| overlay.space(space));
        let Some(overlay) = overlay.filter(|overlay| !overlay.is_empty() && !inverted(&bounds))
        else {
            return self.snapshot.scan(space, bounds, direction);
        };
        let pending = overlay.range::<Bytes, _>((bounds.0.as_ref(), bounds.1.as_ref()));
        Box::new(Merged {
            rows: self.snapshot.scan(space, bounds, direction).peekable(),
            pending: match direction {
                Direction::Forward => PendingRows::Forward(pending.peekable()),
                Direction::Backward => PendingRows::Backward(pending.rev().peekable()),
            },
            direction,
        })
    }
}

fn inverted((low, high): &KeyBounds) -> bool {
    match (low, high) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(low), Bound::Included(high)) => low > high,
        (
            Bound::Included(low) | Bound::Excluded(low),
            Bound::Included(high) | Bound::Excluded(high),
        ) => low >= high,
    }
}

enum PendingRows<'a> {
    Forward(Peekable<btree_map::Range<'a, Bytes, Pending>>),
    Backward(Peekable<std::iter::Rev<btree_map::Range<'a, Bytes, Pending>>>),
}

impl<'a> PendingRows<'a> {
    fn peek(&mut self) -> Option<(&'a Bytes, &'a Pending)> {
        match self {
            Self::Forward(rows) => rows.peek().copied(),
            Self::Backward(rows) => rows.peek().copied(),
        }
    }

    fn advance(&mut self) {
        match self {
            Self::Forward(rows) => rows.next(),
            Self::Backward(rows) => rows.next(),
        };
    }
}

/// Merges two ordered streams. A pending row hides the stored one.
struct Merged<'a> {
    rows: Peekable<Rows<'a>>,
    pending: PendingRows<'a>,
    direction: Direction,
}

impl Iterator for Merged<'_> {
    type Item = Result<Row, EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some((key, pending)) = self.pending.peek() else {
                return self.rows.next();
            };
            match self.rows.peek() {
                Some(Err(_)) => return self.rows.next(),
                Some(Ok((stored, _))) => {
                    let order = match self.direction {
                        Direction::Forward => stored.cmp(key),
                        Direction::Backward => key.cmp(stored),
                    };
                    if order.is_lt() {
                        return self.rows.next();
                    }
                    if order.is_eq() {
                        self.rows.next();
                    }
                }
                None => {}
            }
            self.pending.advance();
            if let Some(value) = &pending.value {
                return Some(Ok((key.clone(), value.clone())));
            }
        }
    }
}
