//! Which views are open, who reads them, and when they close. Time is an argument.

use std::collections::BTreeSet;

use bytes::Bytes;
use synod_consensus_core::SnapshotMeta;
use synod_types::{Index, LogPosition, NodeId};

use super::{Begun, Piece, Resume};

/// No view can be opened now.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

/// The open views of one group; `V` is what a view is read through, `T` the shell's clock.
///
/// At most `max_open` are kept, and at most as many are being opened.
#[derive(Debug)]
pub struct Views<V, T> {
    max_open: usize,
    opening: usize,
    /// At most one at a position.
    open: Vec<View<V, T>>,
}

/// An open view. It stays open for a while after a transfer, so that a broken one can be continued.
#[derive(Debug)]
struct View<V, T> {
    id: u64,
    source: V,
    meta: SnapshotMeta,
    used_at: T,
    streams: usize,
    /// Who began and has not got everything yet.
    unfinished: BTreeSet<NodeId>,
}

/// What was opened, and for whom.
#[derive(Debug)]
pub struct Opened<V> {
    /// As [`Begun::view`], never zero.
    pub id: u64,
    /// The view.
    pub source: V,
    /// What it holds.
    pub meta: SnapshotMeta,
    /// Who asked for it.
    pub to: NodeId,
}

/// A stream's place in its view.
#[derive(Debug)]
pub struct Cursor<V> {
    view: u64,
    source: V,
    meta: SnapshotMeta,
    resume: Bytes,
    begun: bool,
}

impl<V: Clone, T: Copy + Ord> Views<V, T> {
    /// None are open.
    #[must_use]
    pub fn new(max_open: usize) -> Self {
        Self {
            max_open,
            opening: 0,
            open: Vec::new(),
        }
    }

    /// Whether none is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Where the oldest open view stands: its reader will need the entries after it.
    #[must_use]
    pub fn oldest(&self) -> Option<Index> {
        self.open.iter().map(|view| view.meta.last.index).min()
    }

    /// Continues a transfer to `to`, if the view that it was begun with is still open.
    pub fn take_up(&mut self, resume: Resume, to: NodeId, now: T) -> Option<Cursor<V>> {
        // Another view at that position may differ in its bytes.
        let is_it = |view: &View<V, T>| {
            view.meta.last == resume.position && (resume.view == 0 || resume.view == view.id)
        };
        let mut cursor = self.join(is_it, to, now)?;
        cursor.resume = resume.after;
        Some(cursor)
    }

    /// Call it before a view is opened, and [`opened`](Self::opened) afterwards, also if that
    /// failed.
    ///
    /// # Errors
    /// [`Full`] where too many are being opened.
    pub fn opening(&mut self) -> Result<(), Full> {
        if self.opening >= self.max_open {
            return Err(Full);
        }
        self.opening += 1;
        Ok(())
    }

    /// A view was opened, or could not be.
    pub fn opened(&mut self) {
        self.opening = self.opening.saturating_sub(1);
    }

    /// Begins a transfer from an opened view, or from an open one at the same position. Also
    /// returns the nodes whose view was closed to make room, and that no other view serves.
    ///
    /// # Errors
    /// [`Full`] if the most views are open and all of them are being read.
    pub fn admit(
        &mut self,
        opened: Opened<V>,
        now: T,
    ) -> Result<(Cursor<V>, BTreeSet<NodeId>), Full> {
        let last = opened.meta.last;
        // Nothing was applied since another follower, or an earlier attempt of this one, opened the
        // same view.
        if let Some(cursor) = self.join(|view| view.meta.last == last, opened.to, now) {
            return Ok((cursor, BTreeSet::new()));
        }
        let mut evicted = None;
        if self.open.len() >= self.max_open {
            let views = self.open.iter().enumerate();
            let idle = views.filter(|(_, view)| view.streams == 0);
            let oldest = idle.min_by_key(|(_, view)| view.used_at).map(|(at, _)| at);
            evicted = Some(self.open.swap_remove(oldest.ok_or(Full)?).unfinished);
        }
        let mut view = View {
            id: opened.id,
            source: opened.source,
            meta: opened.meta,
            used_at: now,
            streams: 0,
            unfinished: BTreeSet::new(),
        };
        let cursor = view.begin(opened.to, now);
        self.open.push(view);
        Ok((cursor, self.given_up(evicted)))
    }

    /// A piece was sent.
    pub fn used(&mut self, position: LogPosition, now: T) {
        self.with_view(position, now, |_| {});
    }

    /// The last piece was sent to `to`.
    pub fn finished(&mut self, position: LogPosition, to: NodeId, now: T) {
        self.with_view(position, now, |view| {
            view.unfinished.remove(&to);
        });
    }

    /// A stream ended, however.
    pub fn ended(&mut self, position: LogPosition, now: T) {
        self.with_view(position, now, |view| {
            view.streams = view.streams.saturating_sub(1);
        });
    }

    /// Closes views that nobody has used after `since`. Returns the nodes that had not got
    /// everything from them, and that no other view serves.
    pub fn expire(&mut self, since: T) -> BTreeSet<NodeId> {
        let mut closed = Vec::new();
        self.open.retain_mut(|view| {
            let expired = view.streams == 0 && view.used_at <= since;
            if expired {
                closed.push(std::mem::take(&mut view.unfinished));
            }
            !expired
        });
        self.given_up(closed)
    }

    /// How many streams read each view.
    #[must_use]
    pub fn streams(&self) -> Vec<usize> {
        self.open.iter().map(|view| view.streams).collect()
    }

    /// One more stream of the view that `is_it`, if it is open.
    fn join(
        &mut self,
        is_it: impl Fn(&View<V, T>) -> bool,
        to: NodeId,
        now: T,
    ) -> Option<Cursor<V>> {
        let view = self.open.iter_mut().find(|view| is_it(view))?;
        Some(view.begin(to, now))
    }

    fn with_view(&mut self, position: LogPosition, now: T, change: impl FnOnce(&mut View<V, T>)) {
        let mut views = self.open.iter_mut();
        if let Some(view) = views.find(|view| view.meta.last == position) {
            view.used_at = now;
            change(view);
        }
    }

    fn given_up(&self, closed: impl IntoIterator<Item = BTreeSet<NodeId>>) -> BTreeSet<NodeId> {
        let is_served = |node: &NodeId| self.open.iter().any(|view| view.unfinished.contains(node));
        let left = closed.into_iter().flatten();
        left.filter(|node| !is_served(node)).collect()
    }
}

impl<V: Clone, T> View<V, T> {
    /// One more stream, from the beginning.
    fn begin(&mut self, to: NodeId, now: T) -> Cursor<V> {
        self.streams += 1;
        self.used_at = now;
        self.unfinished.insert(to);
        Cursor {
            view: self.id,
            source: self.source.clone(),
            meta: self.meta.clone(),
            resume: Bytes::new(),
            begun: false,
        }
    }
}

impl<V> Cursor<V> {
    /// Where the view stands.
    #[must_use]
    pub fn position(&self) -> LogPosition {
        self.meta.last
    }

    /// What to read next: the view, and where to go on.
    #[must_use]
    pub fn next(&self) -> (&V, &Bytes) {
        (&self.source, &self.resume)
    }

    /// Moves on past `data`, which was read there.
    pub fn advance(&mut self, data: Bytes, resume: Option<Bytes>) -> Piece {
        let begins = !std::mem::replace(&mut self.begun, true);
        self.resume = resume.clone().unwrap_or_default();
        Piece {
            begun: begins.then(|| Begun {
                meta: self.meta.clone(),
                view: self.view,
            }),
            data,
            resume,
        }
    }
}
