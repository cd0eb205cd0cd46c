//! The changes of revisions as events, and recent events in memory.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::{KeyRange, LeaseId, Revision, record};

/// The kind of change to a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventKind {
    /// It was created or changed.
    Put,
    /// It was deleted.
    Delete,
}

/// One key's change.
#[derive(Debug)]
pub struct Event {
    /// The kind of change.
    pub kind: EventKind,
    /// The changed key.
    pub key: Bytes,
    /// Wire form of the new `mvccpb.KeyValue`. For a deletion it has only key and revision.
    pub kv: Bytes,
    /// Wire form of the displaced `mvccpb.KeyValue`. `None` for a new key, or if it was compacted.
    pub prev_kv: Option<Bytes>,
    /// The lease that the key is attached to after the event.
    pub lease: LeaseId,
    /// Whether the event created the key.
    pub is_create: bool,
    wire: OnceLock<Bytes>,
    wire_with_prev: OnceLock<Bytes>,
}

impl Event {
    pub(crate) fn new(
        kind: EventKind,
        key: Bytes,
        kv: Bytes,
        prev_kv: Option<Bytes>,
        lease: LeaseId,
        is_create: bool,
    ) -> Self {
        Self {
            kind,
            key,
            kv,
            prev_kv,
            lease,
            is_create,
            wire: OnceLock::new(),
            wire_with_prev: OnceLock::new(),
        }
    }

    /// A deletion event without the displaced record.
    pub(crate) fn deletion(key: &Bytes, revision: Revision) -> Self {
        let kv = record::tombstone(key, revision);
        Self::new(
            EventKind::Delete,
            key.clone(),
            kv,
            None,
            LeaseId::NONE,
            false,
        )
    }

    /// Wire form of the `mvccpb.Event`, encoded once and shared by all watchers.
    #[must_use]
    pub fn wire(&self, with_prev_kv: bool) -> &Bytes {
        let prev_kv = self.prev_kv.as_deref().filter(|_| with_prev_kv);
        let wire = if prev_kv.is_some() {
            &self.wire_with_prev
        } else {
            &self.wire
        };
        wire.get_or_init(|| record::event(self.kind, &self.kv, prev_kv))
    }

    /// The size of the event's records, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.kv.len() + self.prev_kv.as_ref().map_or(0, Bytes::len)
    }
}

/// The changes of one revision, in order.
#[derive(Clone, Debug)]
pub struct EventBatch {
    /// The revision.
    pub revision: Revision,
    /// Its events. An event's index is its sub-revision.
    pub events: Vec<Arc<Event>>,
}

impl EventBatch {
    /// The size of the events' records, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.events.iter().map(|event| event.bytes()).sum()
    }

    /// A copy without displaced records.
    pub(crate) fn without_prev_kvs(&self) -> Self {
        let events = self.events.iter().map(|event| match event.prev_kv {
            Some(_) => Arc::new(Event::new(
                event.kind,
                event.key.clone(),
                event.kv.clone(),
                None,
                event.lease,
                event.is_create,
            )),
            None => Arc::clone(event),
        });
        Self {
            revision: self.revision,
            events: events.collect(),
        }
    }

    /// The part of the batch that is within `range`; `None` if no event is.
    #[must_use]
    pub fn filtered(self: &Arc<Self>, range: Option<&KeyRange>) -> Option<Arc<Self>> {
        let Some(range) = range else {
            return Some(Arc::clone(self));
        };
        let matching = |event: &&Arc<Event>| range.contains(&event.key);
        let count = self.events.iter().filter(matching).count();
        if count == self.events.len() {
            return Some(Arc::clone(self));
        }
        (count > 0).then(|| {
            Arc::new(Self {
                revision: self.revision,
                events: self.events.iter().filter(matching).cloned().collect(),
            })
        })
    }
}

/// A page of the history.
#[derive(Clone, Debug, Default)]
pub struct EventsPage {
    /// Revisions with matching events, in order.
    pub batches: Vec<Arc<EventBatch>>,
    /// The revision to continue from; `None` at the end.
    pub next: Option<Revision>,
    /// Whether `next` is a large revision.
    pub is_next_large: bool,
}

/// A page of a large revision's events; all are deletions.
#[derive(Clone, Debug, Default)]
pub struct LargePage {
    /// The events within the requested range, in order. May be empty before the end.
    pub events: Vec<Arc<Event>>,
    /// The last piece in the page; the next page starts after it. `None` at the end.
    pub next: Option<u32>,
}

/// Estimated memory per event beyond its records.
const EVENT_OVERHEAD: usize = 256;

/// Recent events, bounded by the number of revisions and by bytes. The revisions are contiguous.
pub(crate) struct Ring {
    recent: Mutex<Recent>,
    max_revisions: usize,
    max_bytes: usize,
}

#[derive(Default)]
struct Recent {
    batches: VecDeque<Arc<EventBatch>>,
    bytes: usize,
}

fn price(batch: &EventBatch) -> usize {
    batch.bytes() + (batch.events.len() + 1) * EVENT_OVERHEAD
}

impl Ring {
    pub(crate) fn new(max_revisions: usize, max_bytes: usize) -> Self {
        Self {
            recent: Mutex::default(),
            max_revisions,
            max_bytes,
        }
    }

    pub(crate) fn clear(&self) {
        *self.recent.lock() = Recent::default();
    }

    pub(crate) fn extend(&self, batches: &[Arc<EventBatch>]) {
        let mut recent = self.recent.lock();
        for batch in batches {
            recent.bytes += price(batch);
            recent.batches.push_back(Arc::clone(batch));
        }
        while recent.batches.len() > self.max_revisions || recent.bytes > self.max_bytes {
            let Some(oldest) = recent.batches.pop_front() else {
                return;
            };
            recent.bytes -= price(&oldest);
        }
    }

    /// The batches of `from..=to`, up to `max_bytes` but at least one. `None` if `from` is no
    /// longer in the ring.
    pub(crate) fn read(
        &self,
        from: Revision,
        to: Revision,
        max_bytes: usize,
    ) -> Option<Vec<Arc<EventBatch>>> {
        let recent = self.recent.lock();
        let first = recent.batches.front()?.revision;
        if from < first {
            return None;
        }
        let mut bytes = 0;
        let mut found = Vec::new();
        for batch in recent
            .batches
            .range(from.since(first).min(recent.batches.len())..)
        {
            if batch.revision > to || (bytes >= max_bytes && !found.is_empty()) {
                break;
            }
            bytes += price(batch);
            found.push(Arc::clone(batch));
        }
        Some(found)
    }

    /// The net number of keys added within `range` over `from..=to`. `None` if the ring doesn't
    /// cover it.
    pub(crate) fn growth(&self, range: &KeyRange, from: Revision, to: Revision) -> Option<i64> {
        let batches = self.read(from, to, usize::MAX)?;
        let mut growth = 0;
        for event in batches.iter().flat_map(|batch| &batch.events) {
            if range.contains(&event.key) {
                growth += match event.kind {
                    EventKind::Put => i64::from(event.is_create && event.prev_kv.is_none()),
                    EventKind::Delete => -i64::from(event.prev_kv.is_some()),
                };
            }
        }
        Some(growth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(revision: i64, key: &'static str) -> Arc<EventBatch> {
        let key = Bytes::from_static(key.as_bytes());
        let kv = record::tombstone(&key, Revision::new(revision));
        let event = Event::new(EventKind::Put, key, kv, None, LeaseId::NONE, true);
        Arc::new(EventBatch {
            revision: Revision::new(revision),
            events: vec![Arc::new(event)],
        })
    }

    fn revisions(batches: &[Arc<EventBatch>]) -> Vec<i64> {
        batches.iter().map(|batch| batch.revision.get()).collect()
    }

    #[test]
    fn keeps_the_newest_revisions_within_its_bounds() {
        let ring = Ring::new(3, usize::MAX);
        ring.extend(&[batch(2, "a"), batch(3, "b"), batch(4, "c"), batch(5, "d")]);
        let all = (Revision::ZERO, Revision::new(9));
        assert!(ring.read(Revision::new(2), all.1, usize::MAX).is_none());
        let found = ring
            .read(Revision::new(3), Revision::new(4), usize::MAX)
            .unwrap();
        assert_eq!(revisions(&found), [3, 4]);
        let found = ring.read(Revision::new(4), all.1, 1).unwrap();
        assert_eq!(revisions(&found), [4]);
        let found = ring.read(Revision::new(6), all.1, 1).unwrap();
        assert!(found.is_empty());
        let growth = ring.growth(&KeyRange::prefix("d".into()), Revision::new(4), all.1);
        assert_eq!(growth, Some(1));
    }

    #[test]
    fn wire_form_is_shared() {
        let batch = batch(2, "a");
        let first = batch.events[0].wire(true).clone();
        assert_eq!(first.as_ptr(), batch.events[0].wire(false).as_ptr());
    }
}
