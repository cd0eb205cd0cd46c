//! Rotates write buffers that are full and that fjall hasn't rotated for a while.
//!
//! Each write to a full buffer asks fjall's worker to rotate it, through a queue of 1,000 requests.
//! The worker puts requests there too, and nobody else takes them out: if it finds the queue full
//! it waits for itself, for ever, and so do all writers soon after. So a writer that has asked a
//! few times rotates the buffer itself: up to 16 requests come from a full buffer then. fjall stops
//! writers at 4 unflushed buffers of a space, so that the 9 keyspaces leave the queue some room.

use fjall::{AbstractTree, Keyspace};

/// Writes between two looks at the buffers: a look has a cost.
const LOOK_EVERY: u64 = 8;
/// After so many looks in a row that find a buffer full, the writer rotates it.
const MAX_LOOKS: u32 = 2;

/// How long each keyspace's buffer has been full.
#[derive(Default)]
pub(super) struct Rotation {
    writes: u64,
    looks: Vec<u32>,
}

impl Rotation {
    /// To be called after each write, with the keyspaces and their limits in the same order always.
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
