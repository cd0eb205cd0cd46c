//! The decisions of a replica's driver, without I/O.
//!
//! This crate decides in which order a driver carries out the core's requests, how reads are
//! grouped in rounds, which rejections are transient, how far core and log are compacted, and how
//! snapshots move between members. `synod-replica` and the simulation share it, so a wrong rule is
//! wrong in both and a seed can expose it. It never sends, writes, waits or reads a clock, and
//! guarantees nothing by itself.
//!
//! Modules, in reading order: `shell` defines the order and `messages` the properties of messages
//! that it needs; `reads`, `proposals`, `compaction`, `snapshots` and `stall` make the decisions
//! that a driver asks for.

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
