//! The keyspace at a past revision: current records that are old enough, merged with displaced
//! ones.

use std::iter::Peekable;

use bytes::Bytes;
use synod_engine::{Direction, EngineError, Row, Rows, Space};

use crate::history::{history_bounds, split_history_key, unescape};
use crate::source::Source;
use crate::{KeyRange, KeyValueView, MvccError, Revision};

/// Iterates over the rows of `Latest` and `History`, one key at a time.
pub(crate) struct Versions<'a> {
    latest: Peekable<Rows<'a>>,
    history: Peekable<Rows<'a>>,
}

/// A key with all its stored versions, newest first.
pub(crate) struct KeyVersions {
    pub(crate) key: Bytes,
    pub(crate) versions: Vec<(Revision, Bytes)>,
}

fn take_error(rows: &mut Peekable<Rows<'_>>) -> Result<(), EngineError> {
    match rows.next_if(Result::is_err) {
        Some(Err(error)) => Err(error),
        Some(Ok(_)) | None => Ok(()),
    }
}

fn malformed() -> MvccError {
    MvccError::corrupt("history row with a malformed key")
}

impl<'a> Versions<'a> {
    pub(crate) fn new(source: Source<'a>, range: &KeyRange) -> Self {
        let scan = |space, bounds| source.scan(space, bounds, Direction::Forward).peekable();
        Self {
            latest: scan(Space::Latest, range.bounds()),
            history: scan(Space::History, history_bounds(range)),
        }
    }

    fn peek_history(&mut self) -> Result<Option<Bytes>, MvccError> {
        take_error(&mut self.history)?;
        match self.history.peek() {
            Some(Ok((row, _))) => {
                let (escaped, _) = split_history_key(row).ok_or_else(malformed)?;
                Ok(Some(escaped))
            }
            Some(Err(_)) | None => Ok(None),
        }
    }

    fn peek_latest(&mut self) -> Result<Option<Bytes>, MvccError> {
        take_error(&mut self.latest)?;
        match self.latest.peek() {
            Some(Ok((key, _))) => Ok(Some(key.clone())),
            Some(Err(_)) | None => Ok(None),
        }
    }

    fn next_row(rows: &mut Peekable<Rows<'a>>) -> Result<Option<Row>, MvccError> {
        Ok(rows.next().transpose()?)
    }

    /// The next key, with the versions that `keep` selects. `keep` is called with each version's
    /// revision and record, newest first, until it needs no more.
    pub(crate) fn next_key(
        &mut self,
        mut keep: impl FnMut(Revision, &Bytes) -> Keep,
    ) -> Result<Option<KeyVersions>, MvccError> {
        let latest = self.peek_latest()?;
        let escaped = self.peek_history()?;
        let old = escaped.as_ref().map(unescape);
        let key = match (&latest, &old) {
            (None, None) => return Ok(None),
            (Some(key), None) | (None, Some(key)) => key.clone(),
            (Some(latest), Some(old)) => latest.min(old).clone(),
        };
        let mut found = KeyVersions {
            key,
            versions: Vec::new(),
        };
        let mut enough = false;
        let mut offer = |revision, record: Bytes, versions: &mut Vec<_>| {
            if enough {
                return;
            }
            match keep(revision, &record) {
                Keep::Skip => {}
                Keep::Take => versions.push((revision, record)),
                Keep::TakeLast => {
                    versions.push((revision, record));
                    enough = true;
                }
                Keep::Stop => enough = true,
            }
        };
        if latest.as_ref() == Some(&found.key)
            && let Some((_, record)) = Self::next_row(&mut self.latest)?
        {
            let revision = KeyValueView::parse(&record)?.modified;
            offer(revision, record, &mut found.versions);
        }
        if old.as_ref() == Some(&found.key)
            && let Some(escaped) = escaped
        {
            while self.peek_history()?.as_ref() == Some(&escaped)
                && let Some((row, record)) = Self::next_row(&mut self.history)?
            {
                let (_, revision) = split_history_key(&row).ok_or_else(malformed)?;
                offer(revision, record, &mut found.versions);
            }
        }
        Ok(Some(found))
    }
}

/// What to do with a version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Keep {
    /// Skip it and look at older ones.
    Skip,
    /// Take it and look at older ones.
    Take,
    /// Take it and stop.
    TakeLast,
    /// Skip it and stop.
    Stop,
}

/// The keys and records at a past revision, in key order.
pub(super) struct PastRows<'a> {
    versions: Versions<'a>,
    revision: Revision,
}

impl<'a> PastRows<'a> {
    pub(super) fn new(source: Source<'a>, range: &KeyRange, revision: Revision) -> Self {
        Self {
            versions: Versions::new(source, range),
            revision,
        }
    }
}

impl Iterator for PastRows<'_> {
    type Item = Result<Row, MvccError>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.revision;
        loop {
            let keep = |revision, record: &Bytes| match (revision <= at, record.is_empty()) {
                (false, _) => Keep::Skip,
                (true, true) => Keep::Stop,
                (true, false) => Keep::TakeLast,
            };
            match self.versions.next_key(keep) {
                Err(error) => return Some(Err(error)),
                Ok(None) => return None,
                Ok(Some(mut found)) => {
                    if let Some((_, record)) = found.versions.pop() {
                        return Some(Ok((found.key, record)));
                    }
                }
            }
        }
    }
}
