//! Checksums that members compare. They cover what can be read, independent of how it is stored.

use std::ops::Bound;

use bytes::Bytes;
use synod_engine::{Direction, Space};

use crate::range::past::{Keep, Versions};
use crate::state::is_user_meta;
use crate::{KeyRange, MvccError, Revision, View};

/// Checksum of the keyspace at a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvHash {
    /// The checksum.
    pub hash: u32,
    /// The compacted revision. It has no effect on the checksum.
    pub compact_revision: Revision,
    /// The revision at which the keyspace was read.
    pub hash_revision: Revision,
}

/// A checksum of all replicated data.
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
    /// The checksum of keys and records at `revision`; `None` or zero means the current one. Reads
    /// the whole keyspace.
    ///
    /// It covers only what every member that has this revision can read, so members agree
    /// regardless of how far each has compacted. [`View::hash`] covers older versions too.
    ///
    /// # Errors
    /// [`MvccError::Compacted`], [`MvccError::FutureRevision`], [`MvccError::Engine`].
    pub fn hash_kv(&self, revision: Option<Revision>) -> Result<KvHash, MvccError> {
        self.reading().time(revision)?;
        let revision = revision
            .filter(|revision| *revision > Revision::ZERO)
            .unwrap_or(self.revision());
        let hash = self.hash_versions(|at, record| match (at > revision, record.is_empty()) {
            (true, _) => Keep::Skip,
            // A deletion: the key doesn't exist at this revision.
            (false, true) => Keep::Stop,
            (false, false) => Keep::TakeLast,
        })?;
        Ok(KvHash {
            hash,
            compact_revision: self.compacted(),
            hash_revision: revision,
        })
    }

    /// The checksum of all versions that can be read.
    fn hash_history(&self) -> Result<u32, MvccError> {
        let compacted = self.compacted();
        // Of the versions up to the compacted revision only the newest can still be read, unless it
        // is a deletion.
        self.hash_versions(|at, record| match (at > compacted, record.is_empty()) {
            (true, _) => Keep::Take,
            (false, true) => Keep::Stop,
            (false, false) => Keep::TakeLast,
        })
    }

    fn hash_versions(&self, keep: impl Fn(Revision, &Bytes) -> Keep) -> Result<u32, MvccError> {
        let mut hasher = Hasher(0);
        let mut versions = Versions::new(self.source(), &KeyRange::all());
        while let Some(found) = versions.next_key(&keep)? {
            for (at, record) in found.versions {
                hasher.add(&found.key);
                hasher.add(&at.to_be_bytes());
                hasher.add(&record);
            }
        }
        Ok(hasher.0)
    }

    /// The checksum of everything that members have in common: keyspace, history, leases, members,
    /// and the service's own rows.
    ///
    /// # Errors
    /// [`MvccError::Engine`].
    pub fn hash(&self) -> Result<StoreHash, MvccError> {
        let mut hasher = Hasher(self.hash_history()?);
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
