//! A naive keyspace: every version of every key, and every event.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use synod_mvcc::{KeyRange, RangeQuery, SortOrder, SortTarget};

use super::Expected;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) key: Bytes,
    pub(crate) create: i64,
    pub(crate) modified: i64,
    pub(crate) version: i64,
    pub(crate) value: Bytes,
    pub(crate) lease: i64,
}

fn integer(buffer: &mut BytesMut, tag: u8, mut value: u64) {
    if value == 0 {
        return;
    }
    buffer.put_u8(tag);
    while value >= 0x80 {
        buffer.put_u8(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    buffer.put_u8(value.to_le_bytes()[0]);
}

fn field(buffer: &mut BytesMut, tag: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        integer(buffer, tag, bytes.len() as u64);
        buffer.put_slice(bytes);
    }
}

impl Version {
    pub(crate) fn wire(&self) -> Bytes {
        let mut buffer = BytesMut::new();
        field(&mut buffer, 0x0a, &self.key);
        integer(&mut buffer, 0x10, self.create.cast_unsigned());
        integer(&mut buffer, 0x18, self.modified.cast_unsigned());
        integer(&mut buffer, 0x20, self.version.cast_unsigned());
        field(&mut buffer, 0x2a, &self.value);
        integer(&mut buffer, 0x30, self.lease.cast_unsigned());
        buffer.freeze()
    }

    fn keys_only(&self, with_lease: bool) -> Self {
        Self {
            value: Bytes::new(),
            lease: if with_lease { self.lease } else { 0 },
            ..self.clone()
        }
    }
}

#[derive(Clone, Debug)]
struct Event {
    is_delete: bool,
    key: Bytes,
    kv: Bytes,
    prev: Option<Bytes>,
}

type Keys = BTreeMap<Bytes, Version>;

/// State and events of each revision, starting with 1.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    states: Vec<Keys>,
    events: Vec<Vec<Event>>,
    running: Option<(Keys, Vec<Event>)>,
    pub(crate) compacted: i64,
    pub(crate) committed: i64,
}

impl Model {
    pub(crate) fn new() -> Self {
        Self {
            states: vec![Keys::new()],
            events: vec![Vec::new()],
            running: None,
            compacted: 0,
            committed: 1,
        }
    }

    pub(crate) fn revision(&self) -> i64 {
        self.states.len() as i64
    }

    pub(crate) fn at(&self, revision: i64) -> &Keys {
        &self.states[usize::try_from(revision - 1).unwrap()]
    }

    pub(crate) fn begin(&mut self) {
        self.running = Some((self.states.last().unwrap().clone(), Vec::new()));
    }

    pub(crate) fn put(&mut self, key: &Bytes, value: &Bytes, lease: i64) -> Option<Bytes> {
        let main = self.revision() + 1;
        let (keys, events) = self.running.as_mut().unwrap();
        let before = keys.get(key).cloned();
        let version = Version {
            key: key.clone(),
            create: before.as_ref().map_or(main, |v| v.create),
            modified: main,
            version: before.as_ref().map_or(1, |v| v.version + 1),
            value: value.clone(),
            lease,
        };
        let prev = before.map(|before| before.wire());
        events.push(Event {
            is_delete: false,
            key: key.clone(),
            kv: version.wire(),
            prev: prev.clone(),
        });
        keys.insert(key.clone(), version);
        prev
    }

    pub(crate) fn delete(&mut self, range: &KeyRange) -> Vec<Bytes> {
        let main = self.revision() + 1;
        let (keys, events) = self.running.as_mut().unwrap();
        let gone: Vec<Bytes> = keys
            .keys()
            .filter(|key| range.contains(key))
            .cloned()
            .collect();
        let mut deleted = Vec::new();
        for key in gone {
            let before = keys.remove(&key).unwrap();
            deleted.push(before.wire());
            let mut kv = BytesMut::new();
            field(&mut kv, 0x0a, &key);
            integer(&mut kv, 0x18, main.cast_unsigned());
            events.push(Event {
                is_delete: true,
                key,
                kv: kv.freeze(),
                prev: Some(before.wire()),
            });
        }
        deleted
    }

    pub(crate) fn finish(&mut self) {
        let (keys, events) = self.running.take().unwrap();
        if !events.is_empty() {
            self.states.push(keys);
            self.events.push(events);
        }
    }

    /// Wire forms of a revision's events.
    pub(crate) fn events(
        &self,
        revision: i64,
        filter: Option<&KeyRange>,
        with_prev: bool,
    ) -> Vec<Bytes> {
        self.events[usize::try_from(revision - 1).unwrap()]
            .iter()
            .filter(|event| filter.is_none_or(|filter| filter.contains(&event.key)))
            .map(|event| {
                let mut wire = BytesMut::new();
                if event.is_delete {
                    integer(&mut wire, 0x08, 1);
                }
                field(&mut wire, 0x12, &event.kv);
                if with_prev && let Some(prev) = &event.prev {
                    field(&mut wire, 0x1a, prev);
                }
                wire.freeze()
            })
            .collect()
    }

    /// The expected result of a query; inside a transaction, with its changes.
    pub(crate) fn range(&self, query: &RangeQuery, current: i64) -> Expected {
        let revision = query.revision.map_or(0, |revision| revision.get());
        if revision > current {
            return Err("future");
        }
        if revision > 0 && revision < self.compacted {
            return Err("compacted");
        }
        let keys = match &self.running {
            Some((keys, _)) if revision <= 0 || revision == current => keys,
            _ if revision <= 0 => self.at(current),
            _ => self.at(revision),
        };
        let within: Vec<&Version> = keys
            .values()
            .filter(|v| query.range.contains(&v.key))
            .collect();
        let count = within.len() as u64;
        if query.count_only {
            return Ok((Vec::new(), count, false));
        }
        let filtered = query.modified != Default::default() || query.created != Default::default();
        let mut found = within;
        if query.limit > 0 && query.order == SortOrder::None && !filtered {
            found.truncate(query.limit + 1);
        }
        let admits =
            |min: i64, max: i64, at: i64| (min == 0 || at >= min) && (max == 0 || at <= max);
        found.retain(|v| {
            admits(
                query.modified.min.get(),
                query.modified.max.get(),
                v.modified,
            ) && admits(query.created.min.get(), query.created.max.get(), v.create)
        });
        match query.target {
            SortTarget::Key => {}
            SortTarget::Version => found.sort_by_key(|v| v.version),
            SortTarget::Create => found.sort_by_key(|v| v.create),
            SortTarget::Mod => found.sort_by_key(|v| v.modified),
            SortTarget::Value => found.sort_by_key(|v| v.value.clone()),
        }
        if query.order == SortOrder::Descend {
            descend(query.target, &mut found);
        }
        let more = query.limit > 0 && found.len() > query.limit;
        if query.limit > 0 {
            found.truncate(query.limit);
        }
        let with_lease = query.target == SortTarget::Value;
        let wire = |v: &Version| match query.keys_only {
            true => v.keys_only(with_lease).wire(),
            false => v.wire(),
        };
        Ok((found.into_iter().map(wire).collect(), count, more))
    }
}

/// Reverses an ascending order but keeps equal elements in key order.
fn descend(target: SortTarget, found: &mut [&Version]) {
    match target {
        SortTarget::Key => found.reverse(),
        SortTarget::Version => found.sort_by_key(|v| std::cmp::Reverse(v.version)),
        SortTarget::Create => found.sort_by_key(|v| std::cmp::Reverse(v.create)),
        SortTarget::Mod => found.sort_by_key(|v| std::cmp::Reverse(v.modified)),
        SortTarget::Value => found.sort_by_key(|v| std::cmp::Reverse(v.value.clone())),
    }
}
