//! Tracks which views are open, which followers read them, and when to close them. Time is a
//! parameter.

use std::collections::BTreeSet;

use bytes::Bytes;
use synod_consensus_core::SnapshotMeta;
use synod_types::{Index, LogPosition, NodeId};

use super::{Begun, Piece, Resume};

/// No further view can be opened now.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

/// The open views of one group. `V` is the type of a view, `T` the shell's clock.
///
/// At most `max_open` views are kept, and at most as many are being opened.
#[derive(Debug)]
pub struct Views<V, T> {
    max_open: usize,
    opening: usize,
    /// At most one view per position.
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
    /// Followers that started to read the view and don't have all of it yet.
    unfinished: BTreeSet<NodeId>,
}

/// A view that was opened for a follower.
#[derive(Debug)]
pub struct Opened<V> {
    /// As in [`Begun::view`]; never zero.
    pub id: u64,
    /// The view.
    pub source: V,
    /// The view's position and membership.
    pub meta: SnapshotMeta,
    /// The follower that requested it.
    pub to: NodeId,
}

/// A stream's position in its view.
#[derive(Debug)]
pub struct Cursor<V> {
    view: u64,
    source: V,
    meta: SnapshotMeta,
    resume: Bytes,
    begun: bool,
}

impl<V: Clone, T: Copy + Ord> Views<V, T> {
    /// Creates an empty set of views.
    #[must_use]
    pub fn new(max_open: usize) -> Self {
        Self {
            max_open,
            opening: 0,
            open: Vec::new(),
        }
    }

    /// Whether no view is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The position of the oldest open view. Its reader will need the entries after it.
    #[must_use]
    pub fn oldest(&self) -> Option<Index> {
        self.open.iter().map(|view| view.meta.last.index).min()
    }

    /// Continues a transfer to `to`, if the view that it started with is still open.
    pub fn take_up(&mut self, resume: Resume, to: NodeId, now: T) -> Option<Cursor<V>> {
        // A different view at that position may have different bytes.
        let is_it = |view: &View<V, T>| {
            view.meta.last == resume.position && (resume.view == 0 || resume.view == view.id)
        };
        let mut cursor = self.join(is_it, to, now)?;
        cursor.resume = resume.after;
        Some(cursor)
    }

    /// Call this before opening a view. Call [`opened`](Self::opened) afterwards, even if opening
    /// failed.
    ///
    /// # Errors
    /// [`Full`] if too many views are being opened.
    pub fn opening(&mut self) -> Result<(), Full> {
        if self.opening >= self.max_open {
            return Err(Full);
        }
        self.opening += 1;
        Ok(())
    }

    /// A view was opened, or could not be opened.
    pub fn opened(&mut self) {
        self.opening = self.opening.saturating_sub(1);
    }

    /// Starts a transfer from an opened view, or from an open one at the same position. Also
    /// returns the followers whose view was closed to make room, unless another view serves them.
    ///
    /// # Errors
    /// [`Full`] if the maximum number of views is open and all of them are being read.
    pub fn admit(
        &mut self,
        opened: Opened<V>,
        now: T,
    ) -> Result<(Cursor<V>, BTreeSet<NodeId>), Full> {
        let last = opened.meta.last;
        // Another follower, or an earlier attempt of this one, opened the same view, and no entry
        // was applied since.
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

    /// A stream ended, for whatever reason.
    pub fn ended(&mut self, position: LogPosition, now: T) {
        self.with_view(position, now, |view| {
            view.streams = view.streams.saturating_sub(1);
        });
    }

    /// Closes views that were not used after `since`. Returns the followers that did not get
    /// everything, unless another view serves them.
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

    /// The number of streams that read each view.
    #[must_use]
    pub fn streams(&self) -> Vec<usize> {
        self.open.iter().map(|view| view.streams).collect()
    }

    /// Adds a stream to the view for which `is_it` is true, if it is open.
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
    /// Adds a stream that starts at the beginning.
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
    /// The view's position.
    #[must_use]
    pub fn position(&self) -> LogPosition {
        self.meta.last
    }

    /// The view and the position of the next read.
    #[must_use]
    pub fn next(&self) -> (&V, &Bytes) {
        (&self.source, &self.resume)
    }

    /// Advances past `data`, which was read at the current position.
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
