//! Single rows: positions, leases, members.

use bytes::{BufMut, Bytes, BytesMut};
use synod_engine::{Snapshot, Space};
use synod_types::{Ballot, Index, LogPosition, NodeId};

use crate::codec::Cursor;
use crate::{LeaseId, MvccError, Revision};

// Keys within `Meta`. The store's own keys start with 0, the user's with 1.
const STATE_KEY: &[u8] = b"\0state";
const MEMBERSHIP_KEY: &[u8] = b"\0membership";
const UNFINISHED_KEY: &[u8] = b"\0unfinished";
const USER_PREFIX: u8 = 1;

const STATE_FORMAT: u8 = 1;
const STATE_BYTES: usize = 1 + 8 * 8;

/// The position up to which the log was applied.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Applied {
    /// Position of the last applied entry.
    pub position: LogPosition,
    /// The replication group's membership as of that entry, in its owner's encoding. `None`:
    /// unchanged.
    pub membership: Option<Bytes>,
}

/// The store's positions. One row, written with every commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct State {
    pub(crate) revision: Revision,
    /// The oldest revision that can be read.
    pub(crate) compacted: Revision,
    /// Rows that compaction made obsolete are removed up to this revision.
    pub(crate) swept: Revision,
    /// The revision of the counts stored in `Counts`.
    pub(crate) counted: Revision,
    pub(crate) applied: LogPosition,
    /// The size of the keys and records in use, in bytes.
    pub(crate) live_bytes: u64,
}

impl State {
    pub(crate) const fn fresh() -> Self {
        Self {
            revision: Revision::FIRST,
            compacted: Revision::ZERO,
            swept: Revision::ZERO,
            counted: Revision::ZERO,
            applied: LogPosition::ZERO,
            live_bytes: 0,
        }
    }

    pub(crate) fn row(&self) -> (Bytes, Bytes) {
        let mut row = BytesMut::with_capacity(STATE_BYTES);
        row.put_u8(STATE_FORMAT);
        for revision in [self.revision, self.compacted, self.swept, self.counted] {
            row.put_i64(revision.get());
        }
        row.put_u64(self.applied.index.get());
        row.put_u64(self.applied.ballot.round);
        row.put_u64(self.applied.ballot.node);
        row.put_u64(self.live_bytes);
        (Bytes::from_static(STATE_KEY), row.freeze())
    }

    /// Loads the state from an engine. An empty engine has a fresh state.
    pub(crate) fn load(snapshot: &dyn Snapshot) -> Result<Self, MvccError> {
        match snapshot.get(Space::Meta, STATE_KEY)? {
            None => Ok(Self::fresh()),
            Some(row) => {
                Self::decode(row).ok_or_else(|| MvccError::corrupt("undecodable state row"))
            }
        }
    }

    fn decode(row: Bytes) -> Option<Self> {
        let mut row = Cursor::new(row);
        if row.u8()? != STATE_FORMAT {
            return None;
        }
        let mut revision = || row.i64().map(Revision::new);
        let (current, compacted, swept, counted) =
            (revision()?, revision()?, revision()?, revision()?);
        let index = Index::new(row.u64()?);
        let ballot = Ballot {
            round: row.u64()?,
            node: row.u64()?,
        };
        let live_bytes = row.u64()?;
        row.is_empty().then_some(Self {
            revision: current,
            compacted,
            swept,
            counted,
            applied: LogPosition { ballot, index },
            live_bytes,
        })
    }
}

pub(crate) fn membership_key() -> Bytes {
    Bytes::from_static(MEMBERSHIP_KEY)
}

/// The row that names the revision of an uncommitted large deletion.
pub(crate) fn unfinished_key() -> Bytes {
    Bytes::from_static(UNFINISHED_KEY)
}

/// The revision of a large deletion that was interrupted.
pub(crate) fn unfinished_revision(snapshot: &dyn Snapshot) -> Result<Option<Revision>, MvccError> {
    let Some(row) = snapshot.get(Space::Meta, UNFINISHED_KEY)? else {
        return Ok(None);
    };
    let revision = <[u8; 8]>::try_from(&row[..])
        .map_err(|_| MvccError::corrupt("undecodable row of an unfinished deletion"))?;
    Ok(Some(Revision::new(i64::from_be_bytes(revision))))
}

/// The key of a user's row in `Meta`.
pub(crate) fn meta_key(key: &[u8]) -> Bytes {
    let mut row = BytesMut::with_capacity(1 + key.len());
    row.put_u8(USER_PREFIX);
    row.put_slice(key);
    row.freeze()
}

/// Whether a row of `Meta` belongs to the user. Such rows are the same on all members.
pub(crate) fn is_user_meta(row_key: &[u8]) -> bool {
    row_key.first() == Some(&USER_PREFIX)
}

/// A stored lease. The leaseholder's clock determines when it expires.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeaseRecord {
    /// Granted time to live, in seconds.
    pub ttl_s: i64,
    /// The remaining time at the last checkpoint, in seconds; zero means the full TTL.
    pub remaining_s: i64,
}

impl LeaseRecord {
    pub(crate) fn encode(self) -> Bytes {
        let mut row = BytesMut::with_capacity(16);
        row.put_i64(self.ttl_s);
        row.put_i64(self.remaining_s);
        row.freeze()
    }

    pub(crate) fn decode(row: Bytes) -> Result<Self, MvccError> {
        let mut cursor = Cursor::new(row);
        let record = || {
            Some(Self {
                ttl_s: cursor.i64()?,
                remaining_s: cursor.i64()?,
            })
        };
        let mut record = record;
        record().ok_or_else(|| MvccError::corrupt("undecodable lease row"))
    }
}

pub(crate) fn lease_row(id: LeaseId) -> Bytes {
    Bytes::copy_from_slice(&id.get().to_be_bytes())
}

pub(crate) fn lease_of_row(row: &[u8]) -> Result<LeaseId, MvccError> {
    <[u8; 8]>::try_from(row)
        .map(|id| LeaseId::new(i64::from_be_bytes(id)))
        .map_err(|_| MvccError::corrupt("lease row with a malformed key"))
}

pub(crate) fn member_row(id: NodeId) -> Bytes {
    Bytes::copy_from_slice(&id.get().to_be_bytes())
}

pub(crate) fn member_of_row(row: &[u8]) -> Result<NodeId, MvccError> {
    <[u8; 8]>::try_from(row)
        .map(|id| NodeId::new(u64::from_be_bytes(id)))
        .map_err(|_| MvccError::corrupt("member row with a malformed key"))
}
