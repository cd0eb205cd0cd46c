//! Checksums by which members compare themselves. They cover what can be read, not how it is
//! stored.

use std::ops::Bound;

use bytes::Bytes;
use synod_engine::{Direction, Space};

use crate::range::past::{Keep, Versions};
use crate::state::is_user_meta;
use crate::{KeyRange, MvccError, Revision, View};

/// Checksum of the keyspace up to a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvHash {
    /// The checksum.
    pub hash: u32,
    /// The compacted revision: checksums with different ones can't be compared.
    pub compact_revision: Revision,
    /// The revision up to which the keyspace is covered.
    pub hash_revision: Revision,
}

/// Checksum of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreHash {
    /// The checksum.
    pub hash: u32,
    /// The current revision.
    pub revision: Revision,
}

struct Hasher(u32);

impl Hasher {
    fn add(&mut self, bytes: &[u8]) {
        let length = (bytes.len() as u64).to_be_bytes();
        self.0 = crc32c::crc32c_append(self.0, &length);
        self.0 = crc32c::crc32c_append(self.0, bytes);
    }
}

impl View {
    /// Checksum of all versions that can be read at `revision` or before; nothing or zero is the
    /// current one. Reads the whole keyspace.
    ///
    /// # Errors
    /// [`MvccError::Compacted`], [`MvccError::FutureRevision`], or of the engine.
    pub fn hash_kv(&self, revision: Option<Revision>) -> Result<KvHash, MvccError> {
        self.reading().time(revision)?;
        let revision = revision
            .filter(|revision| *revision > Revision::ZERO)
            .unwrap_or(self.revision());
        let compacted = self.compacted();
        let mut hasher = Hasher(0);
        let mut versions = Versions::new(self.source(), &KeyRange::all());
        // Of the versions before the compacted revision the newest can still be read, unless it is
        // a deletion.
        let keep = |at: Revision, record: &Bytes| match (at > revision, at > compacted) {
            (true, _) => Keep::Skip,
            (false, true) => Keep::Take,
            (false, false) if record.is_empty() => Keep::Stop,
            (false, false) => Keep::TakeLast,
        };
        while let Some(found) = versions.next_key(keep)? {
            for (at, record) in found.versions {
                hasher.add(&found.key);
                hasher.add(&at.to_be_bytes());
                hasher.add(&record);
            }
        }
        Ok(KvHash {
            hash: hasher.0,
            compact_revision: compacted,
            hash_revision: revision,
        })
    }

    /// Checksum of everything that members have in common: keyspace, leases, members, and the
    /// service's own rows.
    ///
    /// # Errors
    /// Of the engine.
    pub fn hash(&self) -> Result<StoreHash, MvccError> {
        let mut hasher = Hasher(self.hash_kv(None)?.hash);
        for space in [Space::Leases, Space::LeaseKeys, Space::Members, Space::Meta] {
            let all = (Bound::Unbounded, Bound::Unbounded);
            for row in self.source().scan(space, all, Direction::Forward) {
                let (key, value) = row?;
                if space != Space::Meta || is_user_meta(&key) {
                    hasher.add(&[space.number()]);
                    hasher.add(&key);
                    hasher.add(&value);
                }
            }
        }
        Ok(StoreHash {
            hash: hasher.0,
            revision: self.revision(),
        })
    }
}
