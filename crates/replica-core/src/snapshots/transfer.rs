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
    /// The stream has said of which view its pieces are.
    announced: bool,
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
            announced: false,
            progress: None,
        }
    }

    /// Whether everything was written.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.progress.as_ref().is_some_and(|progress| progress.done)
    }

    /// Where the next stream goes on; `None`: from the beginning.
    pub fn request(&mut self) -> Option<Resume> {
        self.announced = false;
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
            self.announced = true;
            let begun = self.progress.as_ref().map(|progress| &progress.begun);
            if begun != Some(&found) {
                // The old sink goes first: both would write into the same place.
                self.progress = None;
                return self.not_stale(found).map(Step::Begin);
            }
        }
        // What is resumed may be another view by now, so that the sink would be filled from two.
        match self.announced {
            true => Ok(Step::Write),
            false => Err(PieceError::Unannounced),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(view: u64) -> Begun {
        Begun {
            meta: SnapshotMeta::default(),
            view,
        }
    }

    fn piece(begun: Option<Begun>) -> Piece {
        Piece {
            begun,
            data: Bytes::from_static(b"rows"),
            resume: Some(Bytes::from_static(b"rows")),
        }
    }

    fn transfer() -> Transfer<Vec<u8>> {
        let attempts = Attempts {
            max: 3,
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_secs(1),
        };
        Transfer::new(LogPosition::ZERO, attempts)
    }

    /// One stream's first piece, in full.
    fn take(transfer: &mut Transfer<Vec<u8>>, mut piece: Piece) -> Result<Step, PieceError> {
        let step = transfer.check(&mut piece)?;
        if let Step::Begin(begun) = &step {
            transfer.begun(begun.clone(), Vec::new());
        }
        let mut sink = transfer.take_sink()?;
        sink.extend_from_slice(&piece.data);
        transfer.written(sink, piece.resume);
        Ok(step)
    }

    #[test]
    fn every_stream_says_of_which_view_it_is_before_anything_is_written() {
        let mut transfer = transfer();
        assert_eq!(transfer.request(), None);
        let refused = take(&mut transfer, piece(None)).unwrap_err();
        assert!(matches!(refused, PieceError::Unannounced), "{refused}");
        let begins = take(&mut transfer, piece(Some(begun(7)))).unwrap();
        assert_eq!(begins, Step::Begin(begun(7)));
        assert_eq!(take(&mut transfer, piece(None)).unwrap(), Step::Write);

        // The next stream goes on, and may be of another view.
        let resume = transfer.request().unwrap();
        assert_eq!((resume.view, &*resume.after), (7, &b"rows"[..]));
        let refused = take(&mut transfer, piece(None)).unwrap_err();
        assert!(matches!(refused, PieceError::Unannounced), "{refused}");
        assert_eq!(
            transfer.request().unwrap().view,
            7,
            "what was written is kept"
        );
        let goes_on = take(&mut transfer, piece(Some(begun(7)))).unwrap();
        assert_eq!(goes_on, Step::Write);
        transfer.request();
        let anew = take(&mut transfer, piece(Some(begun(8)))).unwrap();
        assert_eq!(anew, Step::Begin(begun(8)));
        assert_eq!(transfer.take_sink().unwrap(), b"rows");
    }
}
