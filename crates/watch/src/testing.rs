//! Helpers for the tests of several modules.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use synod_engine::MemoryEngine;
use synod_mvcc::{Applied, KeyRange, MvccConfig, MvccStore, Put, Revision};
use synod_types::SplitMix64;

use super::history::StoreHistory;
use super::interest::Interest;
use super::limits::WatchLimits;
use super::source::{
    self, DeletedKeys, EventBatch, EventKind, Fill, History, HistoryError, LargeRevision, Piece,
    Revisions, admits,
};

/// Random choices, reproducible from a seed.
pub(crate) struct Random(SplitMix64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(SplitMix64::new(seed))
    }

    /// A nearly uniform number in `0..bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound)
    }

    /// A random index into something of this length.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap()
    }

    /// A random signed number in `0..bound`.
    pub(crate) fn signed(&mut self, bound: i64) -> i64 {
        i64::try_from(self.below(u64::try_from(bound).unwrap())).unwrap()
    }
}

/// A real store on a memory engine, and the model: every event that ever happened.
pub(crate) struct Store {
    store: Mutex<MvccStore>,
    history: StoreHistory,
    all: Mutex<Vec<Arc<EventBatch>>>,
}

impl Store {
    /// An empty store whose history is read in pieces of `piece_bytes`.
    pub(crate) fn new(piece_bytes: usize) -> Arc<Self> {
        // Almost nothing is kept in memory, so that history is read from its rows.
        let config = MvccConfig {
            recent_revisions: 2,
            piece_changes: 1,
            ..MvccConfig::default()
        };
        let store = MvccStore::open(Arc::new(MemoryEngine::new()), config).unwrap();
        let limits = WatchLimits {
            piece_bytes,
            ..WatchLimits::default()
        };
        let history = StoreHistory::new(store.reader(), &limits);
        Arc::new(Self {
            store: Mutex::new(store),
            history,
            all: Mutex::default(),
        })
    }

    /// Changes keys in one revision. Does nothing if it would only delete missing keys.
    pub(crate) fn write(&self, events: &[(&str, EventKind)]) -> Option<Arc<EventBatch>> {
        let mut store = self.store.lock();
        let mut txn = store.begin();
        for (key, kind) in events {
            let key = Bytes::copy_from_slice(key.as_bytes());
            match kind {
                EventKind::Put => {
                    let put = Put {
                        key,
                        value: Bytes::from_static(b"value"),
                        ..Put::default()
                    };
                    txn.put(&put).unwrap();
                }
                EventKind::Delete => {
                    txn.delete_range(&KeyRange::One(key), None).unwrap();
                }
            }
        }
        txn.finish();
        let batches = store.commit(Applied::default()).unwrap();
        self.all.lock().extend(batches.iter().cloned());
        batches.into_iter().next()
    }

    /// Deletes all keys from `start` on in a large revision. Does nothing if there are none.
    pub(crate) fn delete_large(&self, start: &str) -> Option<i64> {
        let mut store = self.store.lock();
        let mut large = store.begin_large().unwrap();
        let start = Bytes::copy_from_slice(start.as_bytes());
        large
            .delete_range(&KeyRange::Span { start, end: None })
            .unwrap();
        if large.finish().unwrap() == 0 {
            return None;
        }
        let batches = store.commit(Applied::default()).unwrap();
        assert!(batches.is_empty());
        let view = store.view();
        let revision = view.revision();
        let (mut events, mut after) = (Vec::new(), Some(0));
        while let Some(piece) = after {
            let page = view.large_events(revision, piece, None, true, 1).unwrap();
            events.extend(page.events);
            after = page.next;
        }
        let batch = EventBatch { revision, events };
        self.all.lock().push(Arc::new(batch));
        Some(revision.get())
    }

    /// Compacts and sweeps, so that a read of compacted rows fails.
    pub(crate) fn compact(&self, revision: i64) {
        let mut store = self.store.lock();
        let mut txn = store.begin();
        txn.compact(Revision::new(revision)).unwrap();
        txn.finish();
        store.commit(Applied::default()).unwrap();
        while !store.reader().compactor().step(100).unwrap().is_done {}
    }

    /// All batches from revision `first` on, compacted or not.
    pub(crate) fn all_from(&self, first: i64) -> Vec<Arc<EventBatch>> {
        let all = self.all.lock();
        let from = all.partition_point(|batch| source::revision(batch) < first);
        all[from..].to_vec()
    }
}

impl History for Store {
    fn revisions(&self) -> Revisions {
        self.history.revisions()
    }

    fn read(&self, interest: &Interest, from: i64) -> Result<Piece, HistoryError> {
        self.history.read(interest, from)
    }

    fn batches(&self, from: i64) -> Result<Fill, HistoryError> {
        self.history.batches(from)
    }

    fn deleted_keys(&self, large: &LargeRevision, after: u32) -> Result<DeletedKeys, HistoryError> {
        self.history.deleted_keys(large, after)
    }
}

/// The events of a batch that an interest sees.
pub(crate) fn visible(batch: &EventBatch, interest: &Interest) -> Vec<Bytes> {
    let mut events = Vec::new();
    source::for_each_event(batch, |at, key, kind| {
        if admits(interest.flags, kind) && interest.range.contains(key) {
            events.push(source::encoded(batch, at, interest.flags));
        }
    });
    events
}
