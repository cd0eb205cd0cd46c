//! Where a place stands in its queue, as of the keyspace that this member has applied.
//!
//! The transaction that took the place was applied here first, so the answer is never older than
//! the call.

use bytes::Bytes;
use synod_mvcc::{
    KeyRange, KeyValueView, MvccError, RangeQuery, Revision, RevisionBounds, SortOrder, SortTarget,
    View,
};

use super::place::{Place, prefix_end, prefix_of};
use crate::error::Error;
use crate::shared::ServiceContext;

/// A queue of up to so many keys is read on the serving thread, in some tens of microseconds.
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
    After(Bytes),
}

/// Looks where the place stands.
pub(super) async fn look(
    shared: &ServiceContext,
    name: &[u8],
    place: &Place,
) -> Result<Standing, Error> {
    let view = shared.view.reader().view();
    let entered = Revision::new(place.header.revision);
    let Some(created) = created(&view, &place.key, entered)? else {
        return Ok(Standing::Lost);
    };
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

/// What a short read found.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Short {
    /// The youngest key that is older than the place's, if there is one.
    Read(Option<Bytes>),
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
    Ok(Short::Read(key_of(before.map(|(_, kv)| kv))?))
}

/// As [`before_in_short`], in a queue of any length.
fn before_in_long(
    view: &View,
    range: KeyRange,
    created: Revision,
) -> Result<Option<Bytes>, MvccError> {
    let result = view.range(&RangeQuery {
        limit: 1,
        keys_only: true,
        target: SortTarget::Create,
        order: SortOrder::Descend,
        created: RevisionBounds {
            min: Revision::ZERO,
            // Never zero, which would be no bound: the first key is created at revision 2.
            max: Revision::new(created.get() - 1),
        },
        ..RangeQuery::new(range)
    })?;
    key_of(result.kvs.first())
}

fn key_of(kv: Option<&Bytes>) -> Result<Option<Bytes>, MvccError> {
    let Some(kv) = kv else { return Ok(None) };
    // Copied: a slice would keep the record's block in memory during the wait.
    let key = KeyValueView::parse(kv)?.key(kv);
    Ok(Some(Bytes::copy_from_slice(&key)))
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
            long
        }
    }

    #[test]
    fn the_order_is_that_of_creation_and_not_of_keys_or_writes() {
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
