//! Log entries, and the configuration command that some of them hold.

use std::{fmt, ops::Deref, sync::Arc};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use synod_types::{Ballot, Index, LogPosition, NodeId, RequestId};

use crate::{Membership, MembershipError};

/// An entry of the replicated log. It is shared by log, disk, network and state machine: a clone
/// only increments a reference count.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Entry(Arc<EntryFields>);

/// The fields of an [`Entry`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EntryFields {
    /// The entry's index.
    pub index: Index,
    /// The ballot under which it was proposed.
    pub ballot: Ballot,
    /// The id of its proposal; [`RequestId::NONE`] for the core's own entries.
    pub id: RequestId,
    /// The kind of `data`.
    pub kind: EntryKind,
    /// The command.
    pub data: Bytes,
}

impl Entry {
    /// What limits in bytes count for an entry besides its data: about what it takes in memory.
    pub const OVERHEAD_BYTES: u64 = 96;

    /// The entry's position.
    #[must_use]
    pub fn position(&self) -> LogPosition {
        LogPosition {
            ballot: self.ballot,
            index: self.index,
        }
    }

    /// The same value, proposed or accepted in `ballot`.
    #[must_use]
    pub fn with_ballot(&self, ballot: Ballot) -> Self {
        if self.ballot == ballot {
            return self.clone();
        }
        let fields = EntryFields {
            ballot,
            ..EntryFields::clone(self)
        };
        fields.into()
    }

    /// The entry's size for limits in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.data.len() as u64 + Self::OVERHEAD_BYTES
    }
}

impl From<EntryFields> for Entry {
    fn from(fields: EntryFields) -> Self {
        Self(Arc::new(fields))
    }
}

impl Deref for Entry {
    type Target = EntryFields;

    fn deref(&self) -> &EntryFields {
        &self.0
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The kind of an entry's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// Empty: a new leader's first entry.
    Noop,
    /// A proposal.
    Normal,
    /// An encoded [`ConfigCommand`].
    Config,
}

/// A snapshot's metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SnapshotMeta {
    /// The last entry that it covers.
    pub last: LogPosition,
    /// The membership at that entry.
    pub membership: Membership,
}

/// The members before the first `Config` entry. No state machine can learn them from its entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialMembers(Membership);

impl InitialMembers {
    /// The given members.
    #[must_use]
    pub fn of(members: Membership) -> Self {
        Self(members)
    }

    /// Fills in the membership if the state machine has none yet.
    #[must_use]
    pub fn complete(&self, mut meta: SnapshotMeta) -> SnapshotMeta {
        if meta.membership.members().is_empty() {
            meta.membership = self.0.clone();
        }
        meta
    }
}

/// The data of an [`EntryKind::Config`] entry. It holds the whole membership after the entry, so
/// that it need not be computed from a history that may be compacted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ConfigCommand {
    /// The membership from this entry on.
    pub membership: Membership,
    /// The context given with the change; empty for the end of a joint configuration.
    pub context: Bytes,
}

/// The data of a configuration entry, or an encoded membership, is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum DecodeError {
    /// Bytes are missing.
    #[error("truncated configuration")]
    Truncated,
    /// There are trailing bytes.
    #[error("{0} trailing bytes after a configuration")]
    Trailing(usize),
    /// The format of a later version.
    #[error("unknown configuration format {0}")]
    Version(u8),
    /// A set is not in ascending order.
    #[error("configuration members out of order")]
    Order,
    /// The sets contradict each other.
    #[error("impossible membership: {0}")]
    Membership(#[from] MembershipError),
}

impl ConfigCommand {
    /// The encoded form: the [`Membership`], then the context's length (u32, little-endian) and
    /// bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.membership.encode(&mut out);
        put_count(&mut out, self.context.len());
        out.put_slice(&self.context);
        out.freeze()
    }

    /// Decodes the command. The context shares the memory of `data`.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if `data` is not the output of [`ConfigCommand::encode`].
    pub fn decode(mut data: Bytes) -> Result<Self, DecodeError> {
        let membership = Membership::decode(&mut data)?;
        let length = take_count(&mut data)?;
        if data.len() < length {
            return Err(DecodeError::Truncated);
        }
        let context = data.split_to(length);
        if data.is_empty() {
            Ok(Self {
                membership,
                context,
            })
        } else {
            Err(DecodeError::Trailing(data.len()))
        }
    }
}

impl Membership {
    /// The version of the encoded form, its first byte.
    const VERSION: u8 = 1;

    /// Appends the encoded form: a version byte, then voters, outgoing, learners and learners_next,
    /// each as a count (u32, little-endian) and as many node ids (u64, little-endian) in ascending
    /// order.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_u8(Self::VERSION);
        for set in [
            &self.voters,
            &self.outgoing,
            &self.learners,
            &self.learners_next,
        ] {
            put_count(out, set.len());
            for node in set {
                out.put_u64_le(node.get());
            }
        }
    }

    /// Decodes a membership from the front of `data`.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if there is none, or one that no change could have made.
    pub fn decode(data: &mut Bytes) -> Result<Self, DecodeError> {
        if data.is_empty() {
            return Err(DecodeError::Truncated);
        }
        let version = data.get_u8();
        if version != Self::VERSION {
            return Err(DecodeError::Version(version));
        }
        let mut membership = Self::default();
        for set in [
            &mut membership.voters,
            &mut membership.outgoing,
            &mut membership.learners,
            &mut membership.learners_next,
        ] {
            let count = take_count(data)?;
            // Checked before the loop, so that a damaged count causes no work.
            if data.len() / 8 < count {
                return Err(DecodeError::Truncated);
            }
            for _ in 0..count {
                let node = NodeId::new(data.get_u64_le());
                if set.last().is_some_and(|last| *last >= node) {
                    return Err(DecodeError::Order);
                }
                set.insert(node);
            }
        }
        membership.validate()?;
        Ok(membership)
    }
}

fn put_count(out: &mut BytesMut, count: usize) {
    // A count above u32 would mean a membership or context of gigabytes, which is rejected long
    // before.
    out.put_u32_le(u32::try_from(count).unwrap_or(u32::MAX));
}

fn take_count(data: &mut Bytes) -> Result<usize, DecodeError> {
    if data.len() < 4 {
        return Err(DecodeError::Truncated);
    }
    usize::try_from(data.get_u32_le()).map_err(|_| DecodeError::Truncated)
}
