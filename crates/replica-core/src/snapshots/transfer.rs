//! How far a transfer got, and what to do with the next piece or failure.

use std::time::Duration;

use bytes::Bytes;
use synod_consensus_core::SnapshotMeta;
use synod_types::LogPosition;

use super::{Begun, Piece, Resume};

/// Why a piece isn't taken.
#[derive(Debug, thiserror::Error)]
pub enum PieceError {
    /// It would set the follower back.
    #[error("the snapshot at {found} is older than the one offered at {offered}")]
    Stale {
        /// What the leader sends.
        found: LogPosition,
        /// What it had offered.
        offered: LogPosition,
    },
    /// The stream began without saying of which view it is.
    #[error("a piece came before its snapshot was named")]
    Unannounced,
    /// The sink is gone.
    #[error("a piece came although the one before was not written")]
    Gap,
}

/// How long a transfer without progress is continued.
#[derive(Clone, Copy, Debug)]
pub struct Attempts {
    /// Give up when so many streams in a row broke without a piece.
    pub max: u32,
    /// The pause after the first of them; it doubles with each.
    pub backoff_min: Duration,
    /// The longest pause.
    pub backoff_max: Duration,
}

/// One transfer, over any number of streams. `K` is the sink that it fills.
#[derive(Debug)]
pub struct Transfer<K> {
    offered: LogPosition,
    attempts: Attempts,
    failures: u32,
    /// A piece was written since the last failure.
    moved: bool,
    progress: Option<Progress<K>>,
}

/// Survives a broken stream.
#[derive(Debug)]
struct Progress<K> {
    begun: Begun,
    /// `None` while a piece is being written.
    sink: Option<K>,
    resume: Bytes,
    done: bool,
}

/// What to do with a piece.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Open a sink for it first, and call [`Transfer::begun`]: there is none now.
    Begin(Begun),
    /// Write it into the sink.
    Write,
}

impl<K> Transfer<K> {
    /// A transfer of a snapshot that is not older than `offered`.
    #[must_use]
    pub fn new(offered: LogPosition, attempts: Attempts) -> Self {
        Self {
            offered,
            attempts,
            failures: 0,
            moved: false,
            progress: None,
        }
    }

    /// Whether everything was written.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.progress.as_ref().is_some_and(|progress| progress.done)
    }

    /// Where to go on; `None`: from the beginning.
    pub fn request(&mut self) -> Option<Resume> {
        // A sink that got lost in a failed write can't be continued.
        self.progress.take_if(|progress| progress.sink.is_none());
        let progress = self.progress.as_ref()?;
        Some(Resume {
            position: progress.begun.meta.last,
            view: progress.begun.view,
            after: progress.resume.clone(),
        })
    }

    /// Checks a piece, before anything of it is used.
    ///
    /// # Errors
    /// The stream is of no use any more.
    pub fn check(&mut self, piece: &mut Piece) -> Result<Step, PieceError> {
        if let Some(found) = piece.begun.take() {
            let begun = self.progress.as_ref().map(|progress| &progress.begun);
            if begun != Some(&found) {
                // The old sink goes first: both would write into the same place.
                self.progress = None;
                return self.not_stale(found).map(Step::Begin);
            }
        }
        Ok(Step::Write)
    }

    fn not_stale(&self, found: Begun) -> Result<Begun, PieceError> {
        let (found_at, offered) = (found.meta.last, self.offered);
        if found_at.index < offered.index {
            return Err(PieceError::Stale {
                found: found_at,
                offered,
            });
        }
        Ok(found)
    }

    /// A sink was opened.
    pub fn begun(&mut self, begun: Begun, sink: K) {
        self.progress = Some(Progress {
            begun,
            sink: Some(sink),
            resume: Bytes::new(),
            done: false,
        });
    }

    /// The sink, to write a piece. It comes back with [`written`](Self::written), or is lost.
    ///
    /// # Errors
    /// There is none.
    pub fn take_sink(&mut self) -> Result<K, PieceError> {
        let progress = self.progress.as_mut().ok_or(PieceError::Unannounced)?;
        progress.sink.take().ok_or(PieceError::Gap)
    }

    /// A piece was written, and this is its [`Piece::resume`].
    pub fn written(&mut self, sink: K, resume: Option<Bytes>) {
        if let Some(progress) = &mut self.progress {
            progress.sink = Some(sink);
            progress.done = resume.is_none();
            progress.resume = resume.unwrap_or_default();
            self.moved = true;
        }
    }

    /// The stream broke. How long to wait before the next one, at most; `None`: give up.
    pub fn broke(&mut self) -> Option<Duration> {
        if std::mem::take(&mut self.moved) {
            self.failures = 0;
        }
        self.failures += 1;
        if self.failures >= self.attempts.max {
            return None;
        }
        let doublings = (self.failures - 1).min(16);
        Some((self.attempts.backoff_min * (1 << doublings)).min(self.attempts.backoff_max))
    }

    /// What to install, once everything was written.
    #[must_use]
    pub fn finish(self) -> Option<(SnapshotMeta, K)> {
        let progress = self.progress.filter(|progress| progress.done)?;
        Some((progress.begun.meta, progress.sink?))
    }
}
