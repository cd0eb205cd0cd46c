//! Reads at one revision, current or past.

pub(crate) mod past;

use bytes::Bytes;
use synod_engine::{Direction, Space};

use self::past::PastRows;
use crate::history::versions_up_to;
use crate::revisions::{Change, rows_from};
use crate::source::Source;
use crate::view::ViewInner;
use crate::{
    Compare, EventKind, KeyRange, KeyValueView, MvccError, RangeQuery, RangeResult, Revision,
    SortOrder, SortTarget,
};

/// To count keys at a past revision, at most this many stored revisions are reversed. Beyond that,
/// the keys are counted.
const MAX_COUNTED_BACK: usize = 100_000;

/// The revision that a read sees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Time {
    Current,
    Past(Revision),
}

/// The keyspace as a view or a transaction sees it.
pub(crate) struct Reading<'a> {
    pub(crate) source: Source<'a>,
    /// The committed state when the source's snapshot was taken.
    pub(crate) view: &'a ViewInner,
    /// The newest revision that can be read. For a transaction with changes, its own revision.
    pub(crate) current: Revision,
    pub(crate) compacted: Revision,
}

/// Keys and records.
type Records<'a> = Box<dyn Iterator<Item = Result<(Bytes, Bytes), MvccError>> + 'a>;

/// The result of a scan.
struct Gathered {
    kvs: Vec<Bytes>,
    scanned: u64,
    hit_limit: bool,
}

impl<'a> Reading<'a> {
    /// Checks a query's revision. Zero or less means the current one.
    pub(crate) fn time(&self, revision: Option<Revision>) -> Result<Time, MvccError> {
        match revision {
            Some(revision) if revision > self.current => Err(MvccError::FutureRevision {
                current: self.current,
            }),
            Some(revision) if revision > Revision::ZERO && revision < self.compacted => {
                Err(MvccError::Compacted {
                    compacted: self.compacted,
                })
            }
            Some(revision) if revision > Revision::ZERO && revision < self.current => {
                Ok(Time::Past(revision))
            }
            Some(_) | None => Ok(Time::Current),
        }
    }

    /// A key's record.
    pub(crate) fn get(&self, key: &[u8], time: Time) -> Result<Option<Bytes>, MvccError> {
        let latest = match self.source.get(Space::Latest, key) {
            // No key is empty.
            _ if key.is_empty() => None,
            latest => latest?,
        };
        let Time::Past(revision) = time else {
            return Ok(latest);
        };
        if let Some(latest) = latest
            && KeyValueView::parse(&latest)?.modified <= revision
        {
            return Ok(Some(latest));
        }
        let versions = versions_up_to(key, revision);
        let row = self
            .source
            .scan(Space::History, versions, Direction::Forward)
            .next()
            .transpose()?;
        Ok(row
            .map(|(_, record)| record)
            .filter(|record| !record.is_empty()))
    }

    /// The records within `range` in key order. `Backward` is only supported at the current
    /// revision.
    fn records(&self, range: &KeyRange, time: Time, direction: Direction) -> Records<'a> {
        match time {
            Time::Current => Box::new(
                self.source
                    .scan(Space::Latest, range.bounds(), direction)
                    .map(|row| row.map_err(MvccError::from)),
            ),
            Time::Past(revision) => Box::new(PastRows::new(self.source, range, revision)),
        }
    }

    /// Answers a query.
    pub(crate) fn range(&self, query: &RangeQuery) -> Result<RangeResult, MvccError> {
        let time = self.time(query.revision)?;
        let mut result = RangeResult {
            revision: self.current,
            ..RangeResult::default()
        };
        if query.range.is_empty() {
            return Ok(result);
        }
        if query.count_only {
            result.count = self.count(&query.range, time)?;
            return Ok(result);
        }
        let gathered = match &query.range {
            KeyRange::One(key) => gather_one(query, self.get(key, time)?)?,
            KeyRange::Span { .. } => self.gather(query, time)?,
        };
        result.count = gathered.scanned;
        if gathered.hit_limit {
            result.count = self.count(&query.range, time)?;
        }
        result.kvs = sorted(query, gathered.kvs)?;
        result.more = query.limit > 0
            && if gathered.hit_limit {
                result.count > query.limit as u64
            } else {
                result.kvs.len() > query.limit
            };
        if query.limit > 0 {
            result.kvs.truncate(query.limit);
        }
        if query.keys_only && query.target == SortTarget::Value {
            for record in &mut result.kvs {
                *record = KeyValueView::parse(record)?.without_value(record);
            }
        }
        Ok(result)
    }

    fn gather(&self, query: &RangeQuery, time: Time) -> Result<Gathered, MvccError> {
        let mut kvs = Vec::with_capacity(query.limit.min(1024));
        let mut bytes = 0;
        let (scanned, hit_limit) = self.each_selected(query, time, |record| {
            bytes += record.len();
            if bytes > query.max_bytes {
                return Err(MvccError::ResultTooLarge {
                    max_bytes: query.max_bytes,
                });
            }
            kvs.push(record);
            Ok(())
        })?;
        Ok(Gathered {
            kvs,
            scanned,
            hit_limit,
        })
    }

    /// The size of the records that a query gathers before they are sorted and truncated, in bytes.
    pub(crate) fn bytes(&self, query: &RangeQuery) -> Result<u64, MvccError> {
        let time = self.time(query.revision)?;
        let mut bytes = 0;
        if query.range.is_empty() || query.count_only {
            return Ok(bytes);
        }
        if let KeyRange::One(key) = &query.range {
            let kvs = gather_one(query, self.get(key, time)?)?.kvs;
            return Ok(kvs.iter().map(|record| record.len() as u64).sum());
        }
        self.each_selected(query, time, |record| {
            bytes += record.len() as u64;
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Calls `each` with the records that match a query, up to its limit. Returns the number of
    /// rows read and whether the limit ended the scan.
    fn each_selected(
        &self,
        query: &RangeQuery,
        time: Time,
        mut each: impl FnMut(Bytes) -> Result<(), MvccError>,
    ) -> Result<(u64, bool), MvccError> {
        let direction = scan_direction(query, time);
        let limit = pushed_limit(query, direction);
        let (mut scanned, mut found) = (0, 0);
        for row in self.records(&query.range, time, direction) {
            let (_, record) = row?;
            scanned += 1;
            if let Some(record) = selected(query, record)? {
                each(record)?;
                found += 1;
                if found == limit {
                    return Ok((scanned, true));
                }
            }
        }
        Ok((scanned, false))
    }

    /// The number of keys within `range`.
    pub(crate) fn count(&self, range: &KeyRange, time: Time) -> Result<u64, MvccError> {
        match (range, time) {
            (KeyRange::One(key), _) => Ok(u64::from(self.get(key, time)?.is_some())),
            (_, Time::Current) => {
                let committed = self.view.count(range)?;
                Ok(committed.saturating_add_signed(self.pending_growth(range)))
            }
            (_, Time::Past(revision)) => match self.counted_back(range, revision)? {
                Some(count) => Ok(count),
                None => {
                    let mut count = 0;
                    for row in self.records(range, time, Direction::Forward) {
                        row?;
                        count += 1;
                    }
                    Ok(count)
                }
            },
        }
    }

    /// The number of keys at `revision`, computed by reversing the later changes. `None` if there
    /// are too many.
    fn counted_back(&self, range: &KeyRange, revision: Revision) -> Result<Option<u64>, MvccError> {
        let committed = self.view.revision;
        if revision > committed {
            return Ok(None);
        }
        if revision == committed {
            return self.view.count(range).map(Some);
        }
        let ring = &self.view.caches.ring;
        let growth = match ring.growth(range, revision.next(), committed) {
            Some(growth) => growth,
            None if committed.since(revision) <= MAX_COUNTED_BACK => {
                self.stored_growth(range, revision.next(), committed)?
            }
            None => return Ok(None),
        };
        let count = self.view.count(range)?;
        Ok(Some(count.saturating_add_signed(-growth)))
    }

    /// The net number of keys added within `range` over `from..=to`, according to the stored
    /// revisions.
    fn stored_growth(
        &self,
        range: &KeyRange,
        from: Revision,
        to: Revision,
    ) -> Result<i64, MvccError> {
        let mut growth = 0;
        for row in rows_from(&*self.view.snapshot, from)? {
            let row = row?;
            if row.first > to {
                break;
            }
            for (_, changes) in row.within(from, to) {
                let within = changes.iter().filter(|change| range.contains(&change.key));
                growth += within.map(Change::growth).sum::<i64>();
            }
        }
        Ok(growth)
    }

    /// The net number of keys that pending changes add within `range`.
    fn pending_growth(&self, range: &KeyRange) -> i64 {
        let Some(overlay) = self.source.overlay else {
            return 0;
        };
        let (low, high) = range.bounds();
        overlay
            .space(Space::Latest)
            .range::<Bytes, _>((low.as_ref(), high.as_ref()))
            .map(|(_, pending)| i64::from(pending.value.is_some()) - i64::from(pending.existed))
            .sum()
    }

    /// Evaluates a condition.
    pub(crate) fn compare(&self, compare: &Compare) -> Result<bool, MvccError> {
        if let KeyRange::One(key) = &compare.range {
            return match self.get(key, Time::Current)? {
                Some(record) => Ok(compare.holds_for(&KeyValueView::parse(&record)?, &record)),
                None => Ok(compare.holds_for_nothing()),
            };
        }
        let mut found = false;
        if !compare.range.is_empty() {
            for row in self.records(&compare.range, Time::Current, Direction::Forward) {
                let (_, record) = row?;
                found = true;
                if !compare.holds_for(&KeyValueView::parse(&record)?, &record) {
                    return Ok(false);
                }
            }
        }
        Ok(found || compare.holds_for_nothing())
    }

    /// The current keys and records within `range`, for a deletion. `admit` sees each record; its
    /// first error ends the read.
    pub(crate) fn all(
        &self,
        range: &KeyRange,
        mut admit: impl FnMut(&[u8]) -> Result<(), MvccError>,
    ) -> Result<Vec<(Bytes, Bytes)>, MvccError> {
        let mut rows = Vec::new();
        if let KeyRange::One(key) = range {
            if let Some(record) = self.get(key, Time::Current)? {
                admit(&record)?;
                rows.push((key.clone(), record));
            }
            return Ok(rows);
        }
        if range.is_empty() {
            return Ok(rows);
        }
        for row in self.records(range, Time::Current, Direction::Forward) {
            let row = row?;
            admit(&row.1)?;
            rows.push(row);
        }
        Ok(rows)
    }

    /// Records from the start of `range` in key order, up to `max_bytes` or `limit` (zero: no
    /// limit), for a stream. Also returns whether the end of the range was reached.
    pub(crate) fn chunk(
        &self,
        range: &KeyRange,
        time: Time,
        limit: usize,
        max_bytes: usize,
    ) -> Result<(Vec<(Bytes, Bytes)>, bool), MvccError> {
        let mut rows = Vec::new();
        let mut bytes = 0;
        for row in self.records(range, time, Direction::Forward) {
            let row = row?;
            bytes += row.1.len();
            rows.push(row);
            if bytes >= max_bytes || rows.len() == limit {
                return Ok((rows, false));
            }
        }
        Ok((rows, true))
    }
}

/// The direction of the scan. Backward if the sort order allows it, which saves sorting.
fn scan_direction(query: &RangeQuery, time: Time) -> Direction {
    let by_key = query.target == SortTarget::Key && query.order == SortOrder::Descend;
    if by_key && time == Time::Current {
        Direction::Backward
    } else {
        Direction::Forward
    }
}

/// The number of records after which a scan can stop; zero if it can't. Without an order, the limit
/// applies in key order even if a target is given. As in etcd, one more record is fetched, then all
/// are sorted, then truncated.
fn pushed_limit(query: &RangeQuery, direction: Direction) -> usize {
    if query.limit == 0 || query.has_filters() {
        return 0;
    }
    match (query.target, query.order) {
        (SortTarget::Key, SortOrder::None | SortOrder::Ascend) => query.limit,
        (SortTarget::Key, SortOrder::Descend) if direction == Direction::Backward => query.limit,
        (_, SortOrder::None) => query.limit.saturating_add(1),
        (_, SortOrder::Ascend | SortOrder::Descend) => 0,
    }
}

fn gather_one(query: &RangeQuery, record: Option<Bytes>) -> Result<Gathered, MvccError> {
    let scanned = u64::from(record.is_some());
    let record = record.map(|record| selected(query, record)).transpose()?;
    Ok(Gathered {
        kvs: record.flatten().into_iter().collect(),
        scanned,
        hit_limit: false,
    })
}

/// The record in the form that the query asks for; `None` if a filter excludes it.
fn selected(query: &RangeQuery, record: Bytes) -> Result<Option<Bytes>, MvccError> {
    if !query.has_filters() && !query.keys_only {
        return Ok(Some(record));
    }
    let view = KeyValueView::parse(&record)?;
    if !query.modified.admits(view.modified) || !query.created.admits(view.create) {
        return Ok(None);
    }
    if query.keys_only && query.target != SortTarget::Value {
        return Ok(Some(view.keys_only(&record)));
    }
    Ok(Some(record))
}

/// Sorts records. The input is in ascending key order, or in the scan's order.
fn sorted(query: &RangeQuery, mut kvs: Vec<Bytes>) -> Result<Vec<Bytes>, MvccError> {
    let descend = query.order == SortOrder::Descend;
    if query.target == SortTarget::Key && !descend {
        return Ok(kvs);
    }
    let mut keyed = Vec::with_capacity(kvs.len());
    for record in kvs.drain(..) {
        keyed.push((KeyValueView::parse(&record)?, record));
    }
    keyed.sort_by(|(a, a_record), (b, b_record)| {
        let order = match query.target {
            SortTarget::Key => a.key(a_record).cmp(&b.key(b_record)),
            SortTarget::Version => a.version.cmp(&b.version),
            SortTarget::Create => a.create.cmp(&b.create),
            SortTarget::Mod => a.modified.cmp(&b.modified),
            SortTarget::Value => a.value(a_record).cmp(b.value(b_record)),
        };
        if descend { order.reverse() } else { order }
    });
    kvs.extend(keyed.into_iter().map(|(_, record)| record));
    Ok(kvs)
}

impl Reading<'_> {
    /// The record that an event wrote, if it is still stored.
    pub(crate) fn written(
        &self,
        kind: EventKind,
        key: &[u8],
        revision: Revision,
    ) -> Result<Option<Bytes>, MvccError> {
        match kind {
            EventKind::Delete => Ok(Some(crate::record::tombstone(key, revision))),
            EventKind::Put => {
                if let Some(latest) = self.source.get(Space::Latest, key)?
                    && KeyValueView::parse(&latest)?.modified == revision
                {
                    return Ok(Some(latest));
                }
                self.displaced(key, revision)
            }
        }
    }

    /// The record of `key` that was written at `revision` and later displaced, if it is still
    /// stored.
    pub(crate) fn displaced(
        &self,
        key: &[u8],
        revision: Revision,
    ) -> Result<Option<Bytes>, MvccError> {
        let row = crate::history::history_key(key, revision);
        let record = self.source.get(Space::History, &row)?;
        Ok(record.filter(|record| !record.is_empty()))
    }
}
