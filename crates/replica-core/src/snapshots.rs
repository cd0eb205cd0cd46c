//! Snapshots on their way from a leader that has a view of its state to a follower that needs it:
//! in pieces, over any number of streams, since each may break.

mod transfer;
mod views;

use bytes::Bytes;
use synod_consensus_core::SnapshotMeta;
use synod_types::LogPosition;

pub use transfer::{Attempts, PieceError, Step, Transfer};
pub use views::{Cursor, Full, Opened, Views};

/// Where a follower continues a broken transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The position of the view that the transfer began with.
    pub position: LogPosition,
    /// That view. Zero: any at this position.
    pub view: u64,
    /// The [`Piece::resume`] of the last piece that was written.
    pub after: Bytes,
}

/// The view that a stream's pieces come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// What it holds.
    pub meta: SnapshotMeta,
    /// A random number: two views at one position may differ in their bytes.
    pub view: u64,
}

/// One piece of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Set in the first piece of each stream. If it differs from what was asked for, that view is
    /// closed, and the stream begins another from the start.
    pub begun: Option<Begun>,
    /// In the state machine's own format.
    pub data: Bytes,
    /// Where the next one begins; `None` after the last.
    pub resume: Option<Bytes>,
}
