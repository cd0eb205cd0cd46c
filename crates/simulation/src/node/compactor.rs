//! When the core forgets entries, and when the log may: as `synod_replica::driver::compaction`, with small numbers.

use std::collections::VecDeque;

use synod_consensus_core::{Input, SnapshotMeta};
use synod_types::Index;

use super::turn::Turn;
use crate::env::Env;
use crate::event::Event;
use crate::time::MS;

/// A view that nobody reads from is closed after this.
const VIEW_IDLE: u64 = 400 * MS;

pub(crate) struct Compactor {
    /// The core has forgotten the entries up to here.
    compacted: Index,
    /// Flushed positions that the log was not cut at yet, ascending.
    flushed: VecDeque<SnapshotMeta>,
    released: Index,
    forced: bool,
}

impl Compactor {
    pub(super) fn new(start: Index) -> Self {
        Self {
            compacted: start,
            flushed: VecDeque::new(),
            released: start,
            forced: false,
        }
    }

    /// Cuts at the next turn.
    pub(super) fn force(&mut self) {
        self.forced = true;
    }

    pub(super) fn installed(&mut self, index: Index) {
        self.compacted = self.compacted.max(index);
        self.released = self.released.max(index);
        self.flushed.retain(|meta| meta.last.index >= index);
    }

    pub(super) fn flushed(&mut self, meta: SnapshotMeta) {
        let newer = |last: &SnapshotMeta| last.last.index < meta.last.index;
        if self.flushed.back().is_none_or(newer) {
            self.flushed.push_back(meta);
        }
    }

    fn due(&mut self, applied: Index, max: u64, keep: u64, pinned: Option<Index>) -> Option<Index> {
        let forced = std::mem::take(&mut self.forced);
        let entries = applied.since(self.compacted);
        if entries <= max && !forced {
            return None;
        }
        let mut target = applied.minus(if forced { 0 } else { keep });
        if let Some(oldest) = pinned
            && entries <= max * 4
        {
            target = target.min(oldest);
        }
        if target <= self.compacted {
            return None;
        }
        self.compacted = target;
        Some(target)
    }

    fn releasable(&mut self) -> Option<SnapshotMeta> {
        let mut release = None;
        while self
            .flushed
            .front()
            .is_some_and(|meta| meta.last.index <= self.compacted)
        {
            release = self.flushed.pop_front();
        }
        let release = release.filter(|meta| meta.last.index > self.released)?;
        self.released = release.last.index;
        Some(release)
    }
}

impl Turn<'_> {
    pub(super) fn compact(&mut self, env: &mut Env) {
        let applied = self.process.machine.index();
        let pinned = self
            .process
            .views
            .iter()
            .map(|view| view.meta.last.index)
            .min();
        let (max, keep) = (env.plan.compact_entries, env.plan.keep_entries);
        if let Some(index) = self.process.compactor.due(applied, max, keep, pinned) {
            // The core only forgets what it knows to be applied.
            self.step(env, Input::Applied(applied));
            self.step(env, Input::Compact(index));
            env.counts.compactions += 1;
        }
        if let Some(start) = self.process.compactor.releasable() {
            self.release(env, start);
        }
    }

    pub(super) fn expire_views(&mut self, env: &mut Env) {
        let now = env.now;
        let idle = self
            .process
            .views
            .extract_if(.., |view| now >= view.used_at + VIEW_IDLE);
        let idle: Vec<_> = idle.map(|view| view.to).collect();
        for to in idle {
            let (slot, epoch) = (self.slot, self.epoch);
            env.after(
                1,
                Event::SnapshotSent {
                    slot,
                    epoch,
                    to,
                    ok: false,
                },
            );
        }
    }
}
