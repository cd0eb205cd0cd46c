//! Which views are open, who reads them, and when they close. No I/O; time is an argument.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use synod_consensus_core::SnapshotMeta;
use synod_proto::replica::v1 as wire;
use synod_types::{Index, LogPosition, NodeId};

use crate::config::Snapshots;
use crate::convert::{meta_to_wire, position_from_wire};
use crate::state_machine::SnapshotChunk;

/// No view can be opened now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// The open views of one group; `V` is what a view is read through.
///
/// At most [`Snapshots::max_open`] are kept, and at most as many are being opened.
pub(crate) struct Views<V> {
    max_open: usize,
    idle_timeout: Duration,
    opening: usize,
    /// At most one at a position.
    open: Vec<View<V>>,
}

/// An open view. It stays open for a while after a transfer, so that a broken one can be continued.
struct View<V> {
    id: u64,
    source: V,
    meta: SnapshotMeta,
    used_at: Instant,
    streams: usize,
    /// Who began and has not got everything yet.
    unfinished: BTreeSet<NodeId>,
}

/// What was opened, and for whom.
pub(crate) struct Opened<V> {
    /// A random number, never zero: that stands for "none" on the wire.
    pub(crate) id: u64,
    pub(crate) source: V,
    pub(crate) meta: SnapshotMeta,
    pub(crate) to: NodeId,
}

/// A stream's place in its view.
pub(crate) struct Cursor<V> {
    view: u64,
    source: V,
    meta: SnapshotMeta,
    resume: Bytes,
    begun: bool,
}

impl<V: Clone> Views<V> {
    pub(crate) fn new(config: &Snapshots) -> Self {
        Self {
            max_open: config.max_open,
            idle_timeout: config.idle_timeout,
            opening: 0,
            open: Vec::new(),
        }
    }

    /// Where the oldest open view stands: its reader will need the entries after it.
    pub(crate) fn oldest(&self) -> Option<Index> {
        self.open.iter().map(|view| view.meta.last.index).min()
    }

    /// Continues the transfer that `request` names, if the view that it was begun with is still
    /// open.
    pub(crate) fn take_up(
        &mut self,
        request: &wire::FetchSnapshotRequest,
        now: Instant,
    ) -> Option<Cursor<V>> {
        let position = position_from_wire(Some(request.position?));
        // Another view at that position may differ in its bytes.
        let is_it = |view: &View<V>| {
            view.meta.last == position && (request.view == 0 || request.view == view.id)
        };
        let mut cursor = self.join(is_it, NodeId::new(request.from), now)?;
        cursor.resume = request.resume.clone();
        Some(cursor)
    }

    /// Before a view is opened. Count it out with [`opened`](Self::opened), whatever became of it.
    ///
    /// # Errors
    /// [`Full`] where too many are being opened.
    pub(crate) fn opening(&mut self) -> Result<(), Full> {
        if self.opening >= self.max_open {
            return Err(Full);
        }
        self.opening += 1;
        Ok(())
    }

    pub(crate) fn opened(&mut self) {
        self.opening = self.opening.saturating_sub(1);
    }

    /// Takes an opened view in, where it stands at a new position, and begins a transfer. Also
    /// answers who lost a view by it and is served by no other.
    ///
    /// # Errors
    /// [`Full`] where as many as may be open are being read.
    pub(crate) fn admit(
        &mut self,
        opened: Opened<V>,
        now: Instant,
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

    /// A chunk was sent.
    pub(crate) fn used(&mut self, position: LogPosition, now: Instant) {
        self.with_view(position, now, |_| {});
    }

    /// The last chunk was sent to `to`.
    pub(crate) fn finished(&mut self, position: LogPosition, to: NodeId, now: Instant) {
        self.with_view(position, now, |view| {
            view.unfinished.remove(&to);
        });
    }

    /// A stream ended, however.
    pub(crate) fn ended(&mut self, position: LogPosition, now: Instant) {
        self.with_view(position, now, |view| {
            view.streams = view.streams.saturating_sub(1);
        });
    }

    /// Closes views that nobody used for long. Answers who was left unfinished by them and is
    /// served by no other.
    pub(crate) fn expire(&mut self, now: Instant) -> BTreeSet<NodeId> {
        let idle_timeout = self.idle_timeout;
        let mut closed = Vec::new();
        self.open.retain_mut(|view| {
            let idle = now.saturating_duration_since(view.used_at) >= idle_timeout;
            let expired = view.streams == 0 && idle;
            if expired {
                closed.push(std::mem::take(&mut view.unfinished));
            }
            !expired
        });
        self.given_up(closed)
    }

    /// How many streams read each view.
    #[cfg(test)]
    pub(crate) fn streams(&self) -> Vec<usize> {
        self.open.iter().map(|view| view.streams).collect()
    }

    /// One more stream of the view that `is_it`, if it is open.
    fn join(
        &mut self,
        is_it: impl Fn(&View<V>) -> bool,
        to: NodeId,
        now: Instant,
    ) -> Option<Cursor<V>> {
        let view = self.open.iter_mut().find(|view| is_it(view))?;
        Some(view.begin(to, now))
    }

    fn with_view(
        &mut self,
        position: LogPosition,
        now: Instant,
        change: impl FnOnce(&mut View<V>),
    ) {
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

impl<V: Clone> View<V> {
    /// One more stream, from the beginning.
    fn begin(&mut self, to: NodeId, now: Instant) -> Cursor<V> {
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
    pub(crate) fn position(&self) -> LogPosition {
        self.meta.last
    }

    /// What to read next: the view, and where to go on.
    pub(crate) fn next(&self) -> (&V, &Bytes) {
        (&self.source, &self.resume)
    }

    /// Moves on past `chunk`, which was read there.
    pub(crate) fn advance(&mut self, chunk: SnapshotChunk, crc32c: u32) -> wire::SnapshotChunk {
        let begins = !std::mem::replace(&mut self.begun, true);
        let last = chunk.resume.is_none();
        self.resume = chunk.resume.unwrap_or_default();
        wire::SnapshotChunk {
            meta: begins.then(|| meta_to_wire(&self.meta)),
            data: chunk.data,
            crc32c,
            resume: self.resume.clone(),
            last,
            view: if begins { self.view } else { 0 },
        }
    }
}
