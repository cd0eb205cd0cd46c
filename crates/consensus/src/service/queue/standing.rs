//! Where a place stands in its queue, as of the keyspace that this member has applied.
//!
//! The transaction that took the place was applied here first, so the answer is never older than
//! the call.

use bytes::Bytes;
use synod_mvcc::{
    KeyRange, KeyValueView, RangeQuery, Revision, RevisionBounds, SortOrder, SortTarget, View,
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
    let Some(own) = view.get(&place.key)? else {
        return Ok(Standing::Lost);
    };
    let created = KeyValueView::parse(&own)?.create;
    if created > Revision::new(place.header.revision) {
        return Ok(Standing::Lost);
    }
    let range = KeyRange::from_wire(prefix_of(name), prefix_end(name));
    let before = match short(&view, range.clone(), created)? {
        Some(before) => before,
        None => {
            let query = long(range, created);
            let read = view.clone();
            let result = shared
                .reads
                .scans
                .run(move || Ok::<_, Error>(read.range(&query)?));
            key_of(result.await?.kvs.first())?
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

/// The youngest key that is older than `created`, if any. `None` if there are too many keys.
fn short(view: &View, range: KeyRange, created: Revision) -> Result<Option<Option<Bytes>>, Error> {
    let result = view.range(&RangeQuery {
        limit: INLINE_KEYS,
        keys_only: true,
        ..RangeQuery::new(range)
    })?;
    if result.more {
        return Ok(None);
    }
    let mut before: Option<(Revision, &Bytes)> = None;
    for kv in &result.kvs {
        let at = KeyValueView::parse(kv)?.create;
        if at < created && before.is_none_or(|(youngest, _)| at > youngest) {
            before = Some((at, kv));
        }
    }
    Ok(Some(key_of(before.map(|(_, kv)| kv))?))
}

/// The query for the youngest key that is older than `created`.
fn long(range: KeyRange, created: Revision) -> RangeQuery {
    RangeQuery {
        limit: 1,
        keys_only: true,
        target: SortTarget::Create,
        order: SortOrder::Descend,
        created: RevisionBounds {
            min: Revision::ZERO,
            max: Revision::new(created.get() - 1),
        },
        ..RangeQuery::new(range)
    }
}

fn key_of(kv: Option<&Bytes>) -> Result<Option<Bytes>, Error> {
    let Some(kv) = kv else { return Ok(None) };
    // Copied: a slice would keep the record's block in memory during the wait.
    let key = KeyValueView::parse(kv)?.key(kv);
    Ok(Some(Bytes::copy_from_slice(&key)))
}
