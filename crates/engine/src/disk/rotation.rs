//! Rotates full write buffers that fjall has not rotated for a while.
//!
//! Each write to a full buffer sends fjall's worker a request to rotate it, through a queue of
//! 1,000 requests. The worker, the queue's only reader, sends requests to it too. If the worker
//! finds the queue full it waits for itself forever, and all writers soon block as well. To prevent
//! that, the writer rotates the buffer itself after a few requests, so a full buffer adds at most
//! 16 requests. fjall stops writers at 4 unflushed buffers in a space, so the 9 keyspaces can't
//! fill the queue.

use fjall::{AbstractTree, Keyspace};

/// Writes between two checks of the buffers. A check has a cost.
const LOOK_EVERY: u64 = 8;
/// The writer rotates a buffer after this many checks in a row found it full.
const MAX_LOOKS: u32 = 2;

/// Counts for how many checks each keyspace's buffer has been full.
#[derive(Default)]
pub(super) struct Rotation {
    writes: u64,
    looks: Vec<u32>,
}

impl Rotation {
    /// Call this after each write, with the keyspaces and their limits always in the same order.
    pub(super) fn after_write<'a>(
        &mut self,
        keyspaces: impl Iterator<Item = (&'a Keyspace, u64)>,
    ) -> Result<(), fjall::Error> {
        self.writes += 1;
        if !self.writes.is_multiple_of(LOOK_EVERY) {
            return Ok(());
        }
        for (at, (keyspace, limit)) in keyspaces.enumerate() {
            if self.looks.len() <= at {
                self.looks.push(0);
            }
            if keyspace.tree.active_memtable().size() <= limit {
                self.looks[at] = 0;
                continue;
            }
            self.looks[at] += 1;
            if self.looks[at] >= MAX_LOOKS {
                keyspace.rotate_memtable()?;
                self.looks[at] = 0;
            }
        }
        Ok(())
    }
}
