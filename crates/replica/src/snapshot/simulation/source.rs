//! A node that serves: real views and cursors, and the model's record of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use synod_proto::replica::v1 as wire;
use synod_replica_core::{Cursor, Full, Opened, Views};
use synod_types::NodeId;

use super::model::{Dice, ModelView};
use crate::config::Snapshots;
use crate::convert::{piece_to_wire, resume_from_wire};
use crate::state_machine::SnapshotSource as _;

/// How often the driver closes idle views.
pub(super) const EXPIRE_MS: u64 = 1_000;

pub(super) struct Source {
    pub(super) config: Snapshots,
    pub(super) up: bool,
    /// Counts restarts. Work of an earlier life is lost.
    pub(super) life: u64,
    pub(super) applied: u64,
    views: Views<Arc<ModelView>, Instant>,
    streams: BTreeMap<u64, Stream>,
    /// Every view of this life, with its last use.
    opened: Vec<(Weak<ModelView>, Instant)>,
    /// Calls that wait for the apply thread. Each may have a view that is not admitted yet.
    waiting: usize,
    /// Every view of all lives: index and bytes.
    pub(super) had: Vec<(u64, bytes::Bytes)>,
    /// Followers that started a transfer and were not reported to the core yet.
    pub(super) untold: BTreeSet<NodeId>,
}

struct Stream {
    cursor: Cursor<Arc<ModelView>>,
    to: NodeId,
}

impl Source {
    pub(super) fn new(applied: u64, config: Snapshots) -> Self {
        Self {
            views: Views::new(config.max_open),
            config,
            up: true,
            life: 0,
            applied,
            streams: BTreeMap::new(),
            opened: Vec::new(),
            waiting: 0,
            had: Vec::new(),
            untold: BTreeSet::new(),
        }
    }

    /// Restarts the node. Non-durable state is lost, so a position may occur again.
    pub(super) fn restart(&mut self, applied: u64) {
        self.life += 1;
        self.applied = applied;
        self.views = Views::new(self.config.max_open);
        self.streams.clear();
        self.untold.clear();
        self.waiting = 0;
        let left = self.opened.drain(..);
        let left = left.filter(|(view, _)| view.strong_count() > 0).count();
        assert_eq!(left, 0, "views outlive their process");
    }

    /// Continues a transfer at once, or requests a view from the apply thread and returns `false`.
    pub(super) fn asked(
        &mut self,
        request: &wire::FetchSnapshotRequest,
        stream: u64,
        now: Instant,
    ) -> Result<bool, Full> {
        let (resume, to) = (resume_from_wire(request), NodeId::new(request.from));
        let cursor = resume.and_then(|resume| self.views.take_up(resume, to, now));
        let Some(cursor) = cursor else {
            self.views.opening()?;
            self.waiting += 1;
            let bound = self.config.max_open;
            assert!(self.waiting <= bound, "{} are being opened", self.waiting);
            return Ok(false);
        };
        self.begin(cursor, to, stream, now);
        Ok(true)
    }

    /// The apply thread has opened a view. `None`: the call was cancelled.
    pub(super) fn view_opened(
        &mut self,
        stream: Option<u64>,
        to: NodeId,
        dice: &mut Dice,
        now: Instant,
    ) -> Result<(), Full> {
        self.waiting -= 1;
        let source = ModelView::new(self.applied, dice);
        self.opened.push((Arc::downgrade(&source), now));
        self.check_bound();
        self.had.push((source.index(), source.bytes.clone()));
        let Some(stream) = stream else {
            self.views.opened();
            return Ok(());
        };
        let meta = source.meta().clone();
        let id = dice.next();
        let opened = Opened {
            id,
            source,
            meta,
            to,
        };
        let admitted = self.views.admit(opened, now);
        self.views.opened();
        let (cursor, given_up) = admitted?;
        self.tell(given_up);
        self.begin(cursor, to, stream, now);
        Ok(())
    }

    fn begin(&mut self, cursor: Cursor<Arc<ModelView>>, to: NodeId, stream: u64, now: Instant) {
        self.touch(&cursor, now);
        self.untold.insert(to);
        self.streams.insert(stream, Stream { cursor, to });
        self.check();
    }

    /// The next chunk of a stream that is still open.
    pub(super) fn chunk(&mut self, stream: u64, now: Instant) -> Option<wire::SnapshotChunk> {
        let open = self.streams.get_mut(&stream)?;
        let (view, after) = open.cursor.next();
        let chunk = view.read(after, self.config.chunk_bytes).unwrap();
        let crc32c = crc32c::crc32c(&chunk.data);
        let chunk = piece_to_wire(open.cursor.advance(chunk.data, chunk.resume), crc32c);
        let (position, to) = (open.cursor.position(), open.to);
        self.views.used(position, now);
        let open = self.streams.get(&stream)?;
        touch(&mut self.opened, &open.cursor, now);
        if chunk.last {
            self.views.finished(position, to, now);
            self.untold.remove(&to);
            self.close(stream, now);
        }
        self.check();
        Some(chunk)
    }

    /// The receiver disconnected or has everything.
    pub(super) fn close(&mut self, stream: u64, now: Instant) {
        if let Some(open) = self.streams.remove(&stream) {
            self.touch(&open.cursor, now);
            self.views.ended(open.cursor.position(), now);
        }
        self.check();
    }

    pub(super) fn expire(&mut self, now: Instant) {
        if let Some(since) = now.checked_sub(self.config.idle_timeout) {
            let given_up = self.views.expire(since);
            self.tell(given_up);
        }
        self.opened.retain(|(view, _)| view.strong_count() > 0);
        let kept = self.config.idle_timeout + Duration::from_millis(EXPIRE_MS);
        for (view, used_at) in &self.opened {
            let read = self.is_read(view);
            let idle = now.saturating_duration_since(*used_at);
            assert!(read || idle <= kept, "a view is open after {idle:?} idle");
        }
        self.check();
    }

    /// The number of views in memory.
    pub(super) fn alive(&self) -> usize {
        let views = self.opened.iter();
        views.filter(|(view, _)| view.strong_count() > 0).count()
    }

    pub(super) fn oldest(&self) -> Option<u64> {
        self.views.oldest().map(|index| index.get())
    }

    fn tell(&mut self, given_up: BTreeSet<NodeId>) {
        for node in given_up {
            self.untold.remove(&node);
        }
    }

    fn touch(&mut self, cursor: &Cursor<Arc<ModelView>>, now: Instant) {
        touch(&mut self.opened, cursor, now);
    }

    fn is_read(&self, view: &Weak<ModelView>) -> bool {
        let mut streams = self.streams.values();
        streams.any(|stream| Arc::as_ptr(stream.cursor.next().0) == view.as_ptr())
    }

    /// `max_open` views are kept, and one more exists until it is admitted or refused.
    fn check_bound(&self) {
        let (alive, bound) = (self.alive(), self.config.max_open + 1);
        assert!(alive <= bound, "{alive} views are open");
    }

    /// Checks the invariants that hold after every event.
    fn check(&self) {
        self.check_bound();
        let counted = self.views.streams();
        assert!(counted.len() <= self.config.max_open, "{counted:?}");
        let streams: usize = counted.iter().sum();
        assert_eq!(streams, self.streams.len(), "streams are miscounted");
        // A view that is being read is kept; otherwise the log after it could be compacted.
        for stream in self.streams.values() {
            let index = stream.cursor.position().index.get();
            let oldest = self.oldest();
            assert!(oldest.is_some_and(|oldest| oldest <= index), "{oldest:?}");
        }
    }
}

fn touch(opened: &mut [(Weak<ModelView>, Instant)], cursor: &Cursor<Arc<ModelView>>, now: Instant) {
    let read = Arc::as_ptr(cursor.next().0);
    let mut views = opened.iter_mut();
    if let Some((_, used_at)) = views.find(|(view, _)| view.as_ptr() == read) {
        *used_at = now;
    }
}
