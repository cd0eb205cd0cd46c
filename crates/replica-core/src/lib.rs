//! What a replica's driver decides, without I/O.
//!
//! It owns the order in which a driver does what the consensus core says, the rounds of reads,
//! which refusals are transient, how far log and core are compacted, and how snapshots get from
//! member to member. It guarantees nothing alone. `synod-replica` and the simulation share it: a
//! wrong rule of the shell is wrong in both, and a seed can show it. It never sends, writes, waits,
//! or asks for the time.
//!
//! Modules, in reading order: `shell` is the order, `messages` what it needs to know of them;
//! `reads`, `proposals`, `compaction`, `snapshots` and `stall` are decisions that a driver asks
//! for.

mod compaction;
mod messages;
mod proposals;
mod reads;
mod shell;
mod snapshots;
mod stall;

pub use compaction::{Bounds, LogCompactor};
pub use messages::{brings_entries, requests};
pub use proposals::is_transient;
pub use reads::{Moment, ReadRounds, Reader};
pub use shell::{Outbox, Shell, drain, persisted};
pub use snapshots::{
    Attempts, Begun, Cursor, Full, Opened, Piece, PieceError, Resume, Step, Transfer, Views,
};
pub use stall::{Backlog, StallWatch};
