//! Snapshots on their way from a leader that has a view of its state to a follower that needs it:
//! in pieces, over any number of streams, since each may break.

mod transfer;
mod views;

use bytes::Bytes;
use synod_consensus_core::SnapshotMeta;
use synod_types::LogPosition;

pub use transfer::{Attempts, PieceError, Step, Transfer};
pub use views::{Cursor, Full, Opened, Views};

/// Where a follower goes on with a transfer that broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// Where the view stands that it was begun with.
    pub position: LogPosition,
    /// That view. Zero: any at this position.
    pub view: u64,
    /// After which piece.
    pub after: Bytes,
}

/// Of which view a stream's pieces are.
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
    /// With the first of each stream. Where it isn't what was asked for, that view is closed and
    /// this is the beginning of another.
    pub begun: Option<Begun>,
    /// In the state machine's own format.
    pub data: Bytes,
    /// Where the next one begins; `None` after the last.
    pub resume: Option<Bytes>,
}
