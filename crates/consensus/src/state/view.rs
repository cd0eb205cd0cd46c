//! The published state, which any thread reads without a lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use synod_mvcc::{LeaseId, MvccError, MvccReader, Revision};
use synod_proto::etcd::etcdserverpb::AlarmType;
use synod_types::NodeId;
use tokio::sync::watch;

use super::roster::Roster;
use super::txn::MAX_REPLY_BYTES;
use crate::error::Error;

/// The state as of the last applied batch. Whoever reads the roster and then the keys sees keys of
/// the same batch or a later one.
#[derive(Debug)]
pub(crate) struct View {
    reader: MvccReader,
    member: NodeId,
    roster: ArcSwap<Roster>,
    // Copied from the roster, for requests that need nothing else of it.
    learner: AtomicBool,
    alarms: AtomicBool,
    feature_level: watch::Sender<u32>,
}

/// The size of the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// Bytes of keys, values and history, as the quota counts them.
    pub(crate) live: u64,
    /// How many keys.
    pub(crate) keys: u64,
}

/// The reported size of an empty store. Not zero, since etcdctl divides by it.
const EMPTY_BYTES: u64 = 4096;

impl Sizes {
    /// The reported size; never zero.
    pub(crate) fn total(self) -> u64 {
        self.live.max(EMPTY_BYTES)
    }
}

/// A checksum and what it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hashed {
    pub(crate) hash: u32,
    /// -1 before the first compaction, as in etcd.
    pub(crate) compacted: i64,
    pub(crate) revision: i64,
    /// The store's revision.
    pub(crate) current: i64,
}

impl View {
    pub(super) fn new(reader: MvccReader, member: NodeId, roster: Roster) -> Self {
        let view = Self {
            reader,
            member,
            roster: ArcSwap::from_pointee(Roster::default()),
            learner: AtomicBool::new(false),
            alarms: AtomicBool::new(false),
            feature_level: watch::Sender::new(0),
        };
        view.publish(roster);
        view
    }

    pub(super) fn publish(&self, roster: Roster) {
        let learner = roster
            .member(self.member)
            .is_some_and(|member| member.is_learner);
        self.learner.store(learner, Ordering::Relaxed);
        self.alarms
            .store(roster.alarmed(AlarmType::None), Ordering::Relaxed);
        let level = roster.feature_level();
        self.roster.store(Arc::new(roster));
        // After the roster, so that whoever is woken finds the level there.
        self.feature_level
            .send_if_modified(|published| std::mem::replace(published, level) != level);
    }

    /// A reader of the keys.
    pub(crate) fn reader(&self) -> &MvccReader {
        &self.reader
    }

    /// The members, alarms and version.
    pub(crate) fn roster(&self) -> Arc<Roster> {
        self.roster.load_full()
    }

    /// Waits until the roster has this feature level or a higher one.
    pub(crate) async fn await_feature_level(&self, wanted: u32) {
        let mut level = self.feature_level.subscribe();
        // The sender lives as long as this view.
        let _level = level.wait_for(|level| *level >= wanted).await;
    }

    /// Whether this member is a learner.
    pub(crate) fn is_learner(&self) -> bool {
        self.learner.load(Ordering::Relaxed)
    }

    /// Whether any alarm is raised.
    pub(crate) fn alarms_raised(&self) -> bool {
        self.alarms.load(Ordering::Relaxed)
    }

    /// The current revision.
    pub(crate) fn revision(&self) -> i64 {
        self.reader.revision().get()
    }

    /// The compacted revision.
    pub(crate) fn compacted(&self) -> i64 {
        self.reader.view().compacted().get()
    }

    /// The size of the data.
    pub(crate) fn sizes(&self) -> Sizes {
        Sizes {
            live: self.reader.live_bytes(),
            keys: self.reader.view().key_count(),
        }
    }

    /// The bytes that the quota counts.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.reader.live_bytes()
    }

    /// The bytes that the engine takes on disk. Asks the file system.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.reader.disk_bytes()
    }

    /// The checksum at a revision; zero means the current one. Reads all keys.
    ///
    /// # Errors
    /// The revision is not available, or the engine fails.
    pub(crate) fn hash_kv(view: &synod_mvcc::View, revision: i64) -> Result<Hashed, Error> {
        let revision = (revision > 0).then(|| Revision::new(revision));
        let hash = view.hash_kv(revision)?;
        Ok(Hashed {
            hash: hash.hash,
            compacted: match hash.compact_revision {
                Revision::ZERO => -1,
                compacted => compacted.get(),
            },
            revision: hash.hash_revision.get(),
            current: view.revision().get(),
        })
    }

    /// The checksum of all data that members have in common, and the revision.
    ///
    /// # Errors
    /// The engine fails.
    pub(crate) fn hash_store(view: &synod_mvcc::View) -> Result<(u32, i64), Error> {
        let hash = view.hash()?;
        Ok((hash.hash, hash.revision.get()))
    }

    /// The first key attached to a lease that is not before `start`.
    ///
    /// # Errors
    /// The engine fails.
    pub(crate) fn lease_key_from(&self, id: i64, start: &[u8]) -> Result<Option<Bytes>, Error> {
        let view = self.reader.view();
        Ok(view.lease_key_from(LeaseId::new(id), start)?)
    }

    /// Checks that the store can be read.
    ///
    /// # Errors
    /// The engine fails.
    pub(crate) fn probe(&self) -> Result<(), Error> {
        self.reader.view().get(b"\0")?;
        Ok(())
    }
}

impl From<MvccError> for Error {
    fn from(error: MvccError) -> Self {
        match error {
            MvccError::Compacted { .. } => Self::Compacted,
            MvccError::FutureRevision { .. } => Self::FutureRevision,
            MvccError::KeyNotFound => Self::KeyNotFound,
            MvccError::KeyLength { .. } => Self::RequestTooLarge,
            // Only of writes: a read within the budget handles this error itself.
            MvccError::ResultTooLarge { .. } => Self::ReplyTooLarge {
                largest: MAX_REPLY_BYTES,
            },
            MvccError::DeleteTooLarge { max_bytes } => Self::DeleteTooLarge { largest: max_bytes },
            MvccError::LeaseNotFound { .. } => Self::LeaseNotFound,
            MvccError::LeaseExists { .. } => Self::LeaseExists,
            MvccError::Corrupt { .. } => Self::Corrupt,
            MvccError::MalformedImport { .. } | MvccError::Failed | MvccError::Engine(_) => {
                Self::Internal(error.to_string())
            }
        }
    }
}
