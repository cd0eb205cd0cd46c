//! Readers that wait until an index is applied.

use std::collections::BTreeMap;
use std::time::Instant;

use parking_lot::Mutex;
use synod_types::Index;

use crate::error::ReadError;
use crate::inbox::ReadReply;

/// A confirmed read that only waits for the apply thread.
pub(crate) struct Reader {
    pub(crate) reply: ReadReply,
    pub(crate) deadline: Instant,
}

#[derive(Default)]
struct State {
    applied: Index,
    waiting: BTreeMap<Index, Vec<Reader>>,
    earliest: Option<Instant>,
    closed: bool,
}

/// Readers by index. The apply thread answers them directly, without going through the driver.
#[derive(Default)]
pub(crate) struct Readers {
    state: Mutex<State>,
}

impl Readers {
    /// `applied` is the state machine's initial position.
    pub(crate) fn new(applied: Index) -> Self {
        let readers = Self::default();
        readers.state.lock().applied = applied;
        readers
    }

    /// Answers `reply` once `index` is applied.
    pub(crate) fn wait(&self, index: Index, deadline: Instant, reply: ReadReply) {
        self.wait_all(index, [Reader { reply, deadline }]);
    }

    /// Like [`wait`](Self::wait) for many readers, under one lock.
    pub(crate) fn wait_all(&self, index: Index, readers: impl IntoIterator<Item = Reader>) {
        let mut state = self.state.lock();
        if state.closed {
            drop(state);
            answer(readers, &Err(ReadError::Stopped));
        } else if state.applied >= index {
            drop(state);
            answer(readers, &Ok(index));
        } else {
            let mut earliest = state.earliest;
            let list = state.waiting.entry(index).or_default();
            for reader in readers {
                earliest = Some(earliest.map_or(reader.deadline, |at| at.min(reader.deadline)));
                list.push(reader);
            }
            state.earliest = earliest;
        }
    }

    /// `index` was applied: answers all readers up to it.
    pub(crate) fn advance(&self, index: Index) {
        let mut state = self.state.lock();
        state.applied = state.applied.max(index);
        if state
            .waiting
            .first_key_value()
            .is_none_or(|(first, _)| *first > index)
        {
            return;
        }
        let later = state.waiting.split_off(&index.next());
        let ready = std::mem::replace(&mut state.waiting, later);
        if state.waiting.is_empty() {
            state.earliest = None;
        }
        drop(state);
        for (index, readers) in ready {
            answer(readers, &Ok(index));
        }
    }

    /// Answers readers past their deadline and removes abandoned ones. Returns when to call this
    /// again.
    pub(crate) fn expire(&self, now: Instant) -> Option<Instant> {
        let mut state = self.state.lock();
        let mut late = Vec::new();
        let mut earliest: Option<Instant> = None;
        state.waiting.retain(|_, readers| {
            readers.retain(|reader| !reader.reply.is_abandoned());
            late.extend(readers.extract_if(.., |reader| reader.deadline <= now));
            for reader in readers.iter() {
                earliest = Some(earliest.map_or(reader.deadline, |at| at.min(reader.deadline)));
            }
            !readers.is_empty()
        });
        state.earliest = earliest;
        drop(state);
        answer(late, &Err(ReadError::Timeout));
        earliest
    }

    /// A lower bound for the earliest deadline.
    pub(crate) fn earliest(&self) -> Option<Instant> {
        self.state.lock().earliest
    }

    /// Answers all current and future readers: the replica has stopped.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        for readers in waiting.into_values() {
            answer(readers, &Err(ReadError::Stopped));
        }
    }
}

fn answer(readers: impl IntoIterator<Item = Reader>, result: &Result<Index, ReadError>) {
    for reader in readers {
        reader.reply.send(result.clone());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use synod_runtime::clock;
    use tokio::sync::oneshot;
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;
    use crate::config::Limits;
    use crate::shared::Load;

    type Answer = oneshot::Receiver<Result<Index, ReadError>>;

    fn wait(readers: &Readers, index: u64, deadline: Instant) -> Answer {
        let permit = Load::default().admit_read(&Limits::default()).unwrap();
        let (reply, answer) = ReadReply::new(permit);
        readers.wait(Index::new(index), deadline, reply);
        answer
    }

    #[test]
    fn readers_are_answered_in_bulk_by_index() {
        let readers = Readers::new(Index::new(5));
        let late = clock::now() + Duration::from_secs(60);
        assert_eq!(
            wait(&readers, 5, late).try_recv().unwrap(),
            Ok(Index::new(5))
        );
        let mut sixth = wait(&readers, 6, late);
        let mut seventh = wait(&readers, 7, late);
        let mut ninth = wait(&readers, 9, late);
        readers.advance(Index::new(7));
        assert_eq!(sixth.try_recv().unwrap(), Ok(Index::new(6)));
        assert_eq!(seventh.try_recv().unwrap(), Ok(Index::new(7)));
        assert_eq!(ninth.try_recv(), Err(TryRecvError::Empty));
        readers.close();
        assert_eq!(ninth.try_recv().unwrap(), Err(ReadError::Stopped));
        assert_eq!(
            wait(&readers, 1, late).try_recv().unwrap(),
            Err(ReadError::Stopped)
        );
    }

    #[test]
    fn abandoned_readers_are_removed_and_free_their_places() {
        let readers = Readers::new(Index::ZERO);
        let load = Load::default();
        let limits = Limits {
            max_pending_reads: 2,
            ..Limits::default()
        };
        let now = clock::now();
        let later = now + Duration::from_secs(60);
        let wait = || {
            let (reply, answer) = ReadReply::new(load.admit_read(&limits)?);
            readers.wait(Index::new(3), later, reply);
            Ok::<_, ReadError>(answer)
        };
        let first = wait().unwrap();
        let _second = wait().unwrap();
        assert_eq!(wait().unwrap_err(), ReadError::TooBusy);
        drop(first);
        assert_eq!(
            wait().unwrap_err(),
            ReadError::TooBusy,
            "it is still queued"
        );
        readers.expire(now);
        wait().unwrap();
    }

    #[test]
    fn only_readers_past_their_deadline_are_answered() {
        let readers = Readers::new(Index::ZERO);
        let now = clock::now();
        let later = now + Duration::from_secs(60);
        let mut patient = wait(&readers, 3, later);
        assert_eq!(readers.expire(now), Some(later));
        let mut hasty = wait(&readers, 3, now);
        assert_eq!(readers.earliest(), Some(now));
        assert_eq!(readers.expire(now), Some(later));
        assert_eq!(hasty.try_recv().unwrap(), Err(ReadError::Timeout));
        assert_eq!(patient.try_recv(), Err(TryRecvError::Empty));
        readers.advance(Index::new(3));
        assert_eq!(patient.try_recv().unwrap(), Ok(Index::new(3)));
        assert_eq!(readers.earliest(), None);
    }
}
