//! Where a place stands in its queue, as of the keyspace that this member has applied.
//!
//! The transaction that took the place was applied here before, so the answer is never older than
//! that.

use bytes::Bytes;
use synod_mvcc::{
    KeyRange, KeyValueView, MvccError, RangeQuery, Revision, RevisionBounds, SortOrder, SortTarget,
    View,
};

use super::place::{Place, prefix_end, prefix_of};
use crate::error::Error;
use crate::shared::ServiceContext;

/// Queues of up to this many keys are read on the serving thread, which takes some tens of
/// microseconds.
const INLINE_KEYS: usize = 128;

/// A place's standing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The key is gone, or was created again after the call.
    Lost,
    /// It is the first, at this revision of the store.
    First {
        /// The key's create revision.
        created: i64,
        /// The store's revision.
        revision: i64,
    },
    /// It comes after this key.
    After(Before),
}

/// The next older key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Before {
    pub(super) key: Bytes,
    /// Its create revision.
    pub(super) created: Revision,
}

/// Determines where the place stands. If the key that was `known` as the next older one still
/// exists, it still is the next older one, and the queue is not read. So when all waiters are woken
/// at once, they do not all read a long queue.
pub(super) async fn look(
    shared: &ServiceContext,
    name: &[u8],
    place: &Place,
    known: Option<&Before>,
) -> Result<Standing, Error> {
    let view = shared.view.reader().view();
    let entered = Revision::new(place.header.revision);
    let Some(created) = created(&view, &place.key, entered)? else {
        return Ok(Standing::Lost);
    };
    if let Some(known) = known
        && exists(&view, known)?
    {
        return Ok(Standing::After(known.clone()));
    }
    let range = KeyRange::from_wire(prefix_of(name), prefix_end(name));
    let before = match before_in_short(&view, range.clone(), created, INLINE_KEYS)? {
        Short::Read(before) => before,
        Short::TooLong => {
            let read = view.clone();
            let scans = &shared.reads.scans;
            scans
                .run(move || Ok::<_, Error>(before_in_long(&read, range, created)?))
                .await?
        }
    };
    Ok(match before {
        Some(before) => Standing::After(before),
        None => Standing::First {
            created: created.get(),
            revision: view.revision().get(),
        },
    })
}

/// The create revision of the place's key; `None` if the key that existed at `entered` is gone.
fn created(view: &View, key: &[u8], entered: Revision) -> Result<Option<Revision>, MvccError> {
    let Some(own) = view.get(key)? else {
        return Ok(None);
    };
    let created = KeyValueView::parse(&own)?.create;
    Ok(Some(created).filter(|created| *created <= entered))
}

/// Whether the key still exists, and was not created again.
fn exists(view: &View, before: &Before) -> Result<bool, MvccError> {
    match view.get(&before.key)? {
        None => Ok(false),
        Some(kv) => Ok(KeyValueView::parse(&kv)?.create == before.created),
    }
}

/// The mod revision of a key; zero if there is none.
pub(super) fn modified(shared: &ServiceContext, key: &[u8]) -> Result<i64, Error> {
    match shared.view.reader().view().get(key)? {
        None => Ok(0),
        Some(kv) => Ok(KeyValueView::parse(&kv)
            .map_err(Error::from)?
            .modified
            .get()),
    }
}

/// What a short read found.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Short {
    /// The youngest key that is older than the place's, if there is one.
    Read(Option<Before>),
    /// The queue is too long for a short read.
    TooLong,
}

/// Looks for the youngest key that was created before `created`, in a queue of up to `most` keys.
fn before_in_short(
    view: &View,
    range: KeyRange,
    created: Revision,
    most: usize,
) -> Result<Short, MvccError> {
    let result = view.range(&RangeQuery {
        limit: most,
        keys_only: true,
        ..RangeQuery::new(range)
    })?;
    if result.more {
        return Ok(Short::TooLong);
    }
    let mut before: Option<(Revision, &Bytes)> = None;
    for kv in &result.kvs {
        let at = KeyValueView::parse(kv)?.create;
        if at < created && before.is_none_or(|(youngest, _)| at > youngest) {
            before = Some((at, kv));
        }
    }
    Ok(Short::Read(record(before.map(|(_, kv)| kv))?))
}

/// As [`before_in_short`], in a queue of any length.
fn before_in_long(
    view: &View,
    range: KeyRange,
    created: Revision,
) -> Result<Option<Before>, MvccError> {
    let result = view.range(&RangeQuery {
        limit: 1,
        keys_only: true,
        target: SortTarget::Create,
        order: SortOrder::Descend,
        created: RevisionBounds {
            min: Revision::ZERO,
            // Never zero, which would mean no bound: the first key is created at revision 2.
            max: Revision::new(created.get() - 1),
        },
        ..RangeQuery::new(range)
    })?;
    record(result.kvs.first())
}

fn record(kv: Option<&Bytes>) -> Result<Option<Before>, MvccError> {
    let Some(kv) = kv else { return Ok(None) };
    let parsed = KeyValueView::parse(kv)?;
    Ok(Some(Before {
        // Copied: a slice would keep the record's block in memory during the wait.
        key: Bytes::copy_from_slice(&parsed.key(kv)),
        created: parsed.create,
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use synod_engine::MemoryEngine;
    use synod_mvcc::{Applied, MvccConfig, MvccStore, Put};

    use super::*;

    struct Keys(MvccStore);

    impl Keys {
        fn new() -> Self {
            let engine = Arc::new(MemoryEngine::new());
            Self(MvccStore::open(engine, MvccConfig::default()).unwrap())
        }

        fn put(&mut self, key: &'static str) -> Revision {
            let mut txn = self.0.begin();
            let key = Bytes::from_static(key.as_bytes());
            txn.put(&Put {
                key,
                ..Put::default()
            })
            .unwrap();
            txn.finish();
            self.0.commit(Applied::default()).unwrap();
            self.0.revision()
        }

        fn delete(&mut self, key: &'static str) {
            let mut txn = self.0.begin();
            let key = Bytes::from_static(key.as_bytes());
            txn.delete_range(&KeyRange::One(key), None).unwrap();
            txn.finish();
            self.0.commit(Applied::default()).unwrap();
        }

        /// The key before the one that was created at `created`, as both kinds of read find it.
        fn before(&self, created: Revision) -> Option<Bytes> {
            let view = self.0.view();
            let range = KeyRange::from_wire(prefix_of(b"n"), prefix_end(b"n"));
            let long = before_in_long(&view, range.clone(), created).unwrap();
            let short = before_in_short(&view, range.clone(), created, 3).unwrap();
            assert_eq!(short, Short::Read(long.clone()));
            long.map(|before| before.key)
        }
    }

    #[test]
    fn keys_are_ordered_by_creation_and_not_by_name_or_last_write() {
        let mut keys = Keys::new();
        keys.put("n");
        keys.put("n0");
        let first = keys.put("n/9");
        let second = keys.put("n/1");
        let third = keys.put("n/5");
        keys.put("n/9");
        let range = KeyRange::from_wire(prefix_of(b"n"), prefix_end(b"n"));
        let short = before_in_short(&keys.0.view(), range, third, 2).unwrap();
        assert_eq!(short, Short::TooLong, "the third key was not read");
        assert_eq!(keys.before(first), None);
        assert_eq!(keys.before(second), Some("n/9".into()));
        assert_eq!(keys.before(third), Some("n/1".into()));
        keys.delete("n/1");
        assert_eq!(keys.before(third), Some("n/9".into()));
        keys.delete("n/9");
        assert_eq!(keys.before(third), None);
    }

    #[test]
    fn the_key_before_is_known_until_it_is_deleted() {
        let mut keys = Keys::new();
        let before = Before {
            created: keys.put("n/1"),
            key: "n/1".into(),
        };
        let known = |keys: &Keys| exists(&keys.0.view(), &before).unwrap();
        keys.put("n/1");
        assert!(known(&keys), "a new value is the same place");
        keys.delete("n/1");
        assert!(!known(&keys));
        keys.put("n/1");
        assert!(!known(&keys), "a key that was created again is younger");
    }

    #[test]
    fn a_key_that_was_created_again_is_another_place() {
        let mut keys = Keys::new();
        let entered = keys.put("n/1");
        keys.put("n/1");
        let found = |keys: &Keys| created(&keys.0.view(), b"n/1", entered).unwrap();
        assert_eq!(found(&keys), Some(entered), "a new value is the same place");
        keys.delete("n/1");
        assert_eq!(found(&keys), None);
        keys.put("n/1");
        assert_eq!(found(&keys), None);
    }
}
