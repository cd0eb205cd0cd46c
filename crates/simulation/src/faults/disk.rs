//! Disk faults: slowness, failed syncs, bit rot, misdirected writes.
//!
//! Logs are damaged only on a minority of the voters, only once the log has recorded that
//! everything is durable, and never in the mark that records it. No log can distinguish damage to
//! the very last write from an interrupted write.

use std::ops::Range;

use crate::choices::Stream;
use crate::event::Event;
use crate::invariants::Check;
use crate::node::End;
use crate::time::MS;
use crate::words;
use crate::world::World;

/// The size of a segment file's header.
const HEADER_BYTES: usize = 4096;

impl World {
    pub(super) fn change_disk_speed(&mut self) {
        let slot = self.any_slot();
        let factor = self.env.choices.one_of(Stream::Fault, [1, 1, 10, 60]);
        let sync_us = self.env.plan.sync_us;
        // At most about half a second per sync.
        let factor = factor.min(500 * MS / (3 * sync_us)).max(1);
        if let Some(current) = self.env.disk_factors.get_mut(slot) {
            *current = factor;
        }
        let id = self.nodes.get(slot).map(|node| node.id);
        words::fault(&mut self.env, id, &format!("disk {factor} times as slow"));
    }

    pub(super) fn fail_sync(&mut self) {
        let slot = self.any_slot();
        let syncs = self.env.choices.below(Stream::Fault, 4);
        let World { env, nodes, .. } = self;
        if let Some(node) = nodes.get_mut(slot)
            && node.process().is_some()
        {
            env.counts.sync_failures += 1;
            node.disk.fail_sync_after(syncs);
            words::fault(env, Some(node.id), "a sync will fail");
        }
    }

    /// Flips one bit in a log whose node is down.
    pub(super) fn bit_rot(&mut self) -> Check {
        self.damage("bit rot", |world, contents, used| {
            // Only the used part of the header.
            let place = world
                .env
                .choices
                .index(Stream::Fault, used - HEADER_BYTES + 64);
            let at = if place < 64 {
                place
            } else {
                place - 64 + HEADER_BYTES
            };
            let bit = world.env.choices.below(Stream::Fault, 8);
            if let Some(byte) = contents.get_mut(at) {
                *byte ^= 1 << bit;
            }
        })
    }

    /// Overwrites a piece of the log with another piece.
    pub(super) fn misdirected_write(&mut self) -> Check {
        self.damage("misdirected write", |world, contents, used| {
            let room = (used - HEADER_BYTES) / 3;
            let length = room.min(200);
            let to = HEADER_BYTES + world.env.choices.index(Stream::Fault, room.max(1));
            let from = to + 1 + world.env.choices.index(Stream::Fault, room.max(1));
            if length > 0 && from + length <= contents.len() {
                contents.copy_within(from..from + length, to);
            }
        })
    }

    /// Stops a node whose log is idle, changes a segment, and lets the node restart.
    fn damage(&mut self, what: &str, change: impl FnOnce(&mut Self, &mut Vec<u8>, usize)) -> Check {
        let slot = self.any_slot();
        let Some(node) = self.nodes.get_mut(slot) else {
            return Ok(());
        };
        let id = node.id;
        let at_rest = node.is_running()
            && node.process().is_some_and(|process| {
                process.log.is_idle() && process.log.commits > 8 && !process.inbox.failed
            });
        if !at_rest || !self.may_lose(id) {
            return Ok(());
        }
        let World { env, nodes, .. } = self;
        let Some(node) = nodes.get_mut(slot) else {
            return Ok(());
        };
        let mark = node.process_mut().and_then(|process| {
            process.log.core.mark().ok()?;
            process.log.core.mark_place()
        });
        let Some((marked, mark)) = mark else {
            return Ok(());
        };
        node.end(env, End::Kill)?;
        let disk = node.disk.clone();
        let segments = synod_log::Disk::list(&disk).unwrap_or_default();
        let segments: Vec<String> = segments
            .into_iter()
            .filter(|name| name.ends_with(".seg"))
            .collect();
        let at = env.choices.index(Stream::Fault, segments.len());
        let before = segments
            .get(at)
            .map(|name| (name.clone(), disk.contents(name)));
        if let Some((name, mut contents)) = before {
            let used = contents
                .iter()
                .rposition(|byte| *byte != 0)
                .map_or(0, |last| last + 1);
            if used > HEADER_BYTES + 64 {
                let untouched = contents.clone();
                change(self, &mut contents, used);
                if name == marked {
                    spare(&mut contents, &untouched, &mark);
                }
                if contents != untouched {
                    disk.put_contents(&name, contents);
                    self.env.counts.damages += 1;
                    if let Some(node) = self.nodes.get_mut(slot) {
                        node.damaged = true;
                    }
                    words::fault(&mut self.env, Some(id), what);
                }
            }
        }
        self.env.after(50 * MS, Event::Start { slot });
        Ok(())
    }
}

/// Restores the original bytes at this place.
fn spare(contents: &mut [u8], untouched: &[u8], place: &Range<u64>) {
    let index = |offset| usize::try_from(offset).unwrap_or(usize::MAX);
    let place = index(place.start)..index(place.end);
    if let (Some(spared), Some(bytes)) = (contents.get_mut(place.clone()), untouched.get(place)) {
        spared.copy_from_slice(bytes);
    }
}
