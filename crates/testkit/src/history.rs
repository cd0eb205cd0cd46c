//! Records the clients' operations on a few keys and their answers.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// A client's operation. Every written value is unique in a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Writes a value.
    Put(u64),
    /// A linearizable read.
    Get,
    /// Writes `new` if the key holds `expect` (`None`: doesn't exist), and otherwise reads it.
    Cas {
        /// The expected value.
        expect: Option<u64>,
        /// The new value.
        new: u64,
    },
}

impl Action {
    /// The value that the operation may write.
    #[must_use]
    pub fn written(self) -> Option<u64> {
        match self {
            Self::Put(value) | Self::Cas { new: value, .. } => Some(value),
            Self::Get => None,
        }
    }
}

/// The content of the server's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    /// For a CAS: whether it wrote. `true` for a put, `false` for a get.
    pub wrote: bool,
    /// The value and its mod revision, as read by a get or by a CAS that didn't write.
    pub read: Option<(u64, i64)>,
    /// The header's revision. For a write, the revision of the write.
    pub revision: i64,
}

/// The outcome of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Done(Observed),
    /// It was certainly not done.
    Refused,
    /// It may have happened, may happen later, or never.
    Unknown,
}

/// An operation of a client.
#[derive(Clone, Debug)]
pub struct Record {
    /// The client's number. A client has one operation at a time.
    pub client: u32,
    /// The key.
    pub key: String,
    /// The operation.
    pub action: Action,
    /// When it was called, in nanoseconds since the history began.
    pub called_ns: i64,
    /// When it was answered or given up.
    pub returned_ns: i64,
    /// The outcome.
    pub outcome: Outcome,
}

impl Record {
    /// The answer, if there was one.
    #[must_use]
    pub fn done(&self) -> Option<Observed> {
        match self.outcome {
            Outcome::Done(observed) => Some(observed),
            Outcome::Refused | Outcome::Unknown => None,
        }
    }
}

/// A recorder shared by several clients.
#[derive(Debug)]
pub struct History {
    began: Instant,
    records: Mutex<Vec<Record>>,
}

impl Default for History {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            records: Mutex::default(),
        }
    }
}

impl History {
    /// The current time, for [`Record::called_ns`] and [`Record::returned_ns`].
    #[must_use]
    pub fn now_ns(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_nanos()).unwrap_or(i64::MAX)
    }

    /// Adds a finished operation.
    pub fn add(&self, record: Record) {
        self.records
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(record);
    }

    /// All records, in the order of their answers.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        self.records
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
