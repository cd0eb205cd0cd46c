//! Decides when the core compacts entries and when the log releases them, with small limits.

use synod_consensus_core::Input;
use synod_replica_core::Bounds;

use super::turn::Turn;
use crate::env::Env;
use crate::event::Event;
use crate::time::MS;

/// A view that is not read is closed after this time.
const VIEW_IDLE: u64 = 400 * MS;
/// The bounds for an operator's compaction.
const NOTHING: Bounds = Bounds {
    max_entries: 0,
    max_bytes: 0,
    keep_entries: 0,
};

impl Turn<'_> {
    pub(super) fn compact(&mut self, env: &mut Env) {
        let applied = self.process.machine.index();
        let pinned = self.process.views.oldest();
        let bounds = if std::mem::take(&mut self.process.cut_now) {
            NOTHING
        } else {
            Bounds {
                max_entries: env.plan.compact_entries,
                max_bytes: u64::MAX,
                keep_entries: env.plan.keep_entries,
            }
        };
        if let Some(index) = self.process.compactor.due(&bounds, applied, || pinned) {
            // The core only compacts entries that it knows to be applied.
            self.step(env, Input::Applied(applied));
            self.step(env, Input::Compact(index));
            env.counts.compactions += 1;
        }
        if let Some(start) = self.process.compactor.releasable() {
            self.release(env, start);
        }
    }

    pub(super) fn expire_views(&mut self, env: &mut Env) {
        let Some(since) = env.now.checked_sub(VIEW_IDLE) else {
            return;
        };
        for to in self.process.views.expire(since) {
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
