//! How far a transfer got, and what to do with the next chunk or failure. No I/O.

use std::time::Duration;

use bytes::Bytes;
use synod_consensus_core::SnapshotMeta;
use synod_proto::replica::v1 as wire;
use synod_types::LogPosition;

use crate::config::{Snapshots, TransportConfig};
use crate::convert::{WireError, meta_from_wire, position_to_wire};

/// Why a chunk isn't taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChunkError {
    #[error("malformed chunk: {0}")]
    Malformed(#[from] WireError),
    #[error("the snapshot at {found} is older than the one offered at {offered}")]
    Stale {
        found: LogPosition,
        offered: LogPosition,
    },
    #[error("a chunk's checksum is wrong")]
    Checksum,
    #[error("a chunk follows one that was not written")]
    Gap,
}

/// One transfer, over any number of streams. `K` is the sink that it fills.
pub(crate) struct Transfer<K> {
    offered: LogPosition,
    max_attempts: u32,
    backoff_min: Duration,
    backoff_max: Duration,
    failures: u32,
    /// A chunk was written since the last failure.
    moved: bool,
    progress: Option<Progress<K>>,
}

/// Survives a broken stream.
struct Progress<K> {
    begun: Begun,
    /// Away while a chunk is being written.
    sink: Option<K>,
    resume: Bytes,
    done: bool,
}

/// The snapshot that a sink is filled with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Begun {
    pub(crate) meta: SnapshotMeta,
    view: u64,
}

/// What to do with a chunk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Open a sink for it first, and call [`Transfer::begun`]: there is none now.
    Begin(Begun),
    /// Write it into the sink.
    Write,
}

impl<K> Transfer<K> {
    pub(crate) fn new(
        offered: LogPosition,
        config: &Snapshots,
        transport: &TransportConfig,
    ) -> Self {
        Self {
            offered,
            max_attempts: config.max_attempts,
            backoff_min: transport.backoff_min,
            backoff_max: transport.backoff_max,
            failures: 0,
            moved: false,
            progress: None,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.progress.as_ref().is_some_and(|progress| progress.done)
    }

    /// What is asked for next. The caller fills in who asks whom.
    pub(crate) fn request(&mut self) -> wire::FetchSnapshotRequest {
        // A sink that got lost in a failed write can't be continued.
        self.progress.take_if(|progress| progress.sink.is_none());
        let mut request = wire::FetchSnapshotRequest::default();
        if let Some(progress) = &self.progress {
            request.position = position_to_wire(progress.begun.meta.last);
            request.resume = progress.resume.clone();
            request.view = progress.begun.view;
        }
        request
    }

    /// Checks a chunk, before anything of it is used.
    ///
    /// # Errors
    /// The stream is of no use any more.
    pub(crate) fn check(&mut self, chunk: &mut wire::SnapshotChunk) -> Result<Step, ChunkError> {
        if crc32c::crc32c(&chunk.data) != chunk.crc32c {
            return Err(ChunkError::Checksum);
        }
        if let Some(meta) = chunk.meta.take() {
            let meta = meta_from_wire(meta)?;
            let view = chunk.view;
            let found = Begun { meta, view };
            let begun = self.progress.as_ref().map(|progress| &progress.begun);
            if begun != Some(&found) {
                // The old sink goes first: both would write into the same place.
                self.progress = None;
                return self.not_stale(found).map(Step::Begin);
            }
        }
        Ok(Step::Write)
    }

    fn not_stale(&self, found: Begun) -> Result<Begun, ChunkError> {
        let (found_at, offered) = (found.meta.last, self.offered);
        if found_at.index < offered.index {
            return Err(ChunkError::Stale {
                found: found_at,
                offered,
            });
        }
        Ok(found)
    }

    pub(crate) fn begun(&mut self, begun: Begun, sink: K) {
        self.progress = Some(Progress {
            begun,
            sink: Some(sink),
            resume: Bytes::new(),
            done: false,
        });
    }

    /// The sink, to write a chunk. It comes back with [`written`](Self::written), or is lost.
    ///
    /// # Errors
    /// There is none: the stream began without its snapshot's description.
    pub(crate) fn take_sink(&mut self) -> Result<K, ChunkError> {
        let progress = self.progress.as_mut().ok_or(WireError::Missing("meta"))?;
        progress.sink.take().ok_or(ChunkError::Gap)
    }

    /// A chunk was written.
    pub(crate) fn written(&mut self, sink: K, resume: Bytes, last: bool) {
        if let Some(progress) = &mut self.progress {
            progress.sink = Some(sink);
            progress.resume = resume;
            progress.done = last;
            self.moved = true;
        }
    }

    /// The stream broke. How long to wait before the next one, at most; `None`: give up.
    pub(crate) fn broke(&mut self) -> Option<Duration> {
        if std::mem::take(&mut self.moved) {
            self.failures = 0;
        }
        self.failures += 1;
        if self.failures >= self.max_attempts {
            return None;
        }
        let doublings = (self.failures - 1).min(16);
        Some((self.backoff_min * (1 << doublings)).min(self.backoff_max))
    }

    /// What to install, once everything was written.
    pub(crate) fn finish(self) -> Option<(SnapshotMeta, K)> {
        let progress = self.progress.filter(|progress| progress.done)?;
        Some((progress.begun.meta, progress.sink?))
    }
}
