//! What clients did to a few keys and what they were told, recorded for the checks.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// What a client asked for. Every written value is unique in a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write a value.
    Put(u64),
    /// Linearizable read.
    Get,
    /// Write `new` if the key holds `expect` (`None`: doesn't exist), else read it.
    Cas {
        /// The value that must be there.
        expect: Option<u64>,
        /// The value to write.
        new: u64,
    },
}

impl Action {
    /// The value that the action may write.
    #[must_use]
    pub fn written(self) -> Option<u64> {
        match self {
            Self::Put(value) | Self::Cas { new: value, .. } => Some(value),
            Self::Get => None,
        }
    }
}

/// What the server's answer said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    /// For a CAS: whether it wrote. True for a put, false for a get.
    pub wrote: bool,
    /// What a get, or a CAS that didn't write, read: the value and its mod revision.
    pub read: Option<(u64, i64)>,
    /// The header's revision; for a write, the revision of the write.
    pub revision: i64,
}

/// How an action ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered.
    Done(Observed),
    /// Certainly not done.
    Refused,
    /// It may have happened, may still happen, or never.
    Unknown,
}

/// One action of one client.
#[derive(Clone, Debug)]
pub struct Record {
    /// Which client; a client has one action at a time.
    pub client: u32,
    /// The key.
    pub key: String,
    /// What it asked for.
    pub action: Action,
    /// When it asked, in nanoseconds since the history began.
    pub called_ns: i64,
    /// When it was answered or gave up.
    pub returned_ns: i64,
    /// What came of it.
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

/// A recorder that several clients share.
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
    /// The time for [`Record::called_ns`] and [`Record::returned_ns`].
    #[must_use]
    pub fn now_ns(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_nanos()).unwrap_or(i64::MAX)
    }

    /// Adds a finished action.
    pub fn add(&self, record: Record) {
        self.records
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(record);
    }

    /// Everything recorded, in order of the answers.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        self.records
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
