//! The follower's side: pulls a snapshot into a sink beside the live data, then swaps.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use synod_consensus_core::{Install, SnapshotMeta};
use synod_proto::replica::v1 as wire;
use synod_proto::replica::v1::peer_client::PeerClient;
use synod_runtime::{clock, random, task};
use synod_types::{GroupId, LogPosition, NodeId};
use tokio::sync::oneshot;
use tonic::{Status, Streaming};

use crate::apply::{ApplyQueue, Control, InstallOutcome};
use crate::config::Snapshots;
use crate::convert::{WireError, meta_from_wire, position_to_wire};
use crate::inbox::Event;
use crate::metrics::Metrics;
use crate::shared::Shared;
use crate::state_machine::{ApplyError, SnapshotSink, StateMachine};
use crate::transport::Transport;

/// A leader that takes longer for a chunk is asked again.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a transfer broke.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("no address of node {0} is known")]
    NoAddress(NodeId),
    #[error("{0}")]
    Connect(String),
    #[error("{0}")]
    Peer(#[from] Status),
    #[error("no chunk in time")]
    Silent,
    #[error("malformed chunk: {0}")]
    Malformed(#[from] WireError),
    #[error("the snapshot at {found} is older than the one offered at {offered}")]
    Stale { found: String, offered: String },
    #[error("a chunk's checksum is wrong")]
    Checksum,
    #[error("the stream ended before the last chunk")]
    Cut,
    #[error(transparent)]
    Machine(#[from] ApplyError),
    #[error("the replica is stopping")]
    Stopping,
}

/// One pull of a snapshot.
pub(crate) struct Fetch<S: StateMachine> {
    pub(crate) group: GroupId,
    pub(crate) config: Snapshots,
    pub(crate) transport: Arc<Transport>,
    pub(crate) queue: Arc<ApplyQueue<S>>,
    pub(crate) shared: Arc<Shared<S::Output>>,
    pub(crate) metrics: Metrics,
}

/// How far it got; survives a broken stream.
struct Progress<S: StateMachine> {
    meta: SnapshotMeta,
    /// Away while a chunk is being written.
    sink: Option<S::Sink>,
    resume: Bytes,
    done: bool,
}

impl<S: StateMachine> Fetch<S> {
    /// Fetches and installs, and tells the core how it ended.
    pub(crate) async fn run(self, install: Install) {
        let from = install.from;
        let event = match self.fetch_and_install(&install).await {
            Ok(meta) => {
                tracing::info!(peer = %from, position = %meta.last, "installed a snapshot");
                self.metrics.snapshot_received(from);
                Event::Installed(meta)
            }
            Err(error) => {
                tracing::warn!(peer = %from, %error, "could not install a snapshot");
                Event::InstallFailed
            }
        };
        self.shared.inbox.event(event);
    }

    async fn fetch_and_install(&self, install: &Install) -> Result<SnapshotMeta, FetchError> {
        let mut progress = None;
        let mut failures = 0;
        let config = &self.transport.config;
        let mut backoff = config.backoff_min;
        loop {
            let mut moved = false;
            let pulled = self.pull(install, &mut progress, &mut moved).await;
            let Err(error) = pulled else {
                break;
            };
            if moved {
                (failures, backoff) = (0, config.backoff_min);
            }
            failures += 1;
            if failures >= self.config.max_attempts {
                return Err(error);
            }
            tracing::debug!(peer = %install.from, %error, "snapshot transfer broke, going on");
            clock::sleep(random::jitter(backoff)).await;
            backoff = (backoff * 2).min(config.backoff_max);
        }
        let stopping = FetchError::Stopping;
        let Some((meta, sink)) = progress.and_then(|p: Progress<S>| Some((p.meta, p.sink?))) else {
            return Err(stopping);
        };
        let (reply, outcome) = oneshot::channel();
        self.queue
            .push_control(Control::Install(meta.clone(), sink, reply));
        match outcome.await {
            Ok(InstallOutcome::Installed) => Ok(meta),
            Ok(InstallOutcome::Obsolete) => Err(FetchError::Stale {
                found: meta.last.to_string(),
                offered: install.meta.last.to_string(),
            }),
            Err(_) => Err(stopping),
        }
    }

    /// One stream: from where the one before broke off, if the peer still has that snapshot.
    async fn pull(
        &self,
        install: &Install,
        progress: &mut Option<Progress<S>>,
        moved: &mut bool,
    ) -> Result<(), FetchError> {
        if progress.as_ref().is_some_and(|progress| progress.done) {
            return Ok(());
        }
        // A sink that got lost in a failed write can't be continued.
        progress.take_if(|progress| progress.sink.is_none());
        let begun = progress
            .as_ref()
            .map(|progress| (progress.meta.last, progress.resume.clone()));
        let mut chunks = self.open(install, begun).await?;
        loop {
            let next = clock::timeout(CHUNK_TIMEOUT, chunks.message()).await;
            let chunk = next
                .map_err(|_| FetchError::Silent)??
                .ok_or(FetchError::Cut)?;
            if crc32c::crc32c(&chunk.data) != chunk.crc32c {
                return Err(FetchError::Checksum);
            }
            if let Some(meta) = chunk.meta {
                let meta = meta_from_wire(meta)?;
                let same = progress
                    .as_ref()
                    .is_some_and(|progress| progress.meta == meta);
                if !same {
                    // The old sink goes first: both would write into the same place.
                    *progress = None;
                    *progress = Some(self.begin(install, meta).await?);
                }
            }
            let current = progress.as_mut().ok_or(WireError::Missing("meta"))?;
            write(current, chunk.data, chunk.last).await?;
            current.resume = chunk.resume;
            *moved = true;
            if chunk.last {
                current.done = true;
                return Ok(());
            }
        }
    }

    async fn open(
        &self,
        install: &Install,
        begun: Option<(LogPosition, Bytes)>,
    ) -> Result<Streaming<wire::SnapshotChunk>, FetchError> {
        let (position, resume) = begun.map_or((None, Bytes::new()), |(position, resume)| {
            (position_to_wire(position), resume)
        });
        let mut error = FetchError::NoAddress(install.from);
        for url in self.transport.book.urls(install.from) {
            let channel = match self.transport.channel_config().connect(&url).await {
                Ok(channel) => channel,
                Err(failed) => {
                    error = FetchError::Connect(failed.to_string());
                    continue;
                }
            };
            let mut client = PeerClient::new(channel)
                .max_decoding_message_size(self.transport.config.max_receive_bytes);
            let request = wire::FetchSnapshotRequest {
                cluster: self.transport.cluster().get(),
                from: self.transport.identity.node.get(),
                to: install.from.get(),
                group: self.group.get(),
                position,
                resume: resume.clone(),
                algorithm: self.transport.identity.algorithm_to_wire(),
            };
            match client.fetch_snapshot(request).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) => error = status.into(),
            }
        }
        Err(error)
    }

    async fn begin(
        &self,
        install: &Install,
        meta: SnapshotMeta,
    ) -> Result<Progress<S>, FetchError> {
        if meta.last.index < install.meta.last.index {
            return Err(FetchError::Stale {
                found: meta.last.to_string(),
                offered: install.meta.last.to_string(),
            });
        }
        let (reply, sink) = oneshot::channel();
        self.queue
            .push_control(Control::BeginInstall(meta.clone(), reply));
        let sink = sink.await.map_err(|_| FetchError::Stopping)??;
        Ok(Progress {
            meta,
            sink: Some(sink),
            resume: Bytes::new(),
            done: false,
        })
    }
}

/// Off the runtime: it writes to the disk.
async fn write<S: StateMachine>(
    progress: &mut Progress<S>,
    data: Bytes,
    last: bool,
) -> Result<(), FetchError> {
    let mut sink = progress.sink.take().ok_or(FetchError::Stopping)?;
    let written = task::spawn_blocking(move || {
        sink.write(data)?;
        if last {
            sink.finish()?;
        }
        Ok::<_, ApplyError>(sink)
    });
    let sink = written.await.map_err(|_| FetchError::Stopping)??;
    progress.sink = Some(sink);
    Ok(())
}
