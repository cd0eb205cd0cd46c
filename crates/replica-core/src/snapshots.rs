//! Snapshot transfer from a leader with a view of its state to a follower that needs it. A transfer
//! consists of pieces and may use any number of streams, because a stream may break.

mod transfer;
mod views;

use bytes::Bytes;
use synod_consensus_core::SnapshotMeta;
use synod_types::LogPosition;

pub use transfer::{Attempts, PieceError, Step, Transfer};
pub use views::{Cursor, Full, Opened, Views};

/// The point from which a follower continues a broken transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The position of the view that the transfer started with.
    pub position: LogPosition,
    /// The id of that view; zero for any view at this position.
    pub view: u64,
    /// The [`Piece::resume`] of the last piece that was written.
    pub after: Bytes,
}

/// The view that a stream's pieces come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// The snapshot's position and membership.
    pub meta: SnapshotMeta,
    /// A random id: two views at one position may differ in their bytes.
    pub view: u64,
}

/// One piece of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Set in the first piece of each stream. If it differs from the requested view, that view is
    /// closed and the stream starts another one from the beginning.
    pub begun: Option<Begun>,
    /// Data in the state machine's own format.
    pub data: Bytes,
    /// The start of the next piece; `None` after the last.
    pub resume: Option<Bytes>,
}
