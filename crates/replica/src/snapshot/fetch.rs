//! The follower's side: pulls a snapshot into a sink next to the live data, then swaps them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use synod_consensus_core::{Install, SnapshotMeta};
use synod_proto::replica::v1 as wire;
use synod_proto::replica::v1::peer_client::PeerClient;
use synod_replica_core::{Attempts, Piece, PieceError, Step};
use synod_runtime::{clock, random, task};
use synod_types::{GroupId, LogPosition, NodeId};
use tokio::sync::oneshot;
use tonic::{Status, Streaming};

use crate::apply::{ApplyQueue, Control, InstallOutcome};
use crate::config::{Snapshots, TransportConfig};
use crate::convert::{WireError, piece_from_wire, resume_to_wire};
use crate::inbox::Event;
use crate::metrics::Metrics;
use crate::shared::GroupRequests;
use crate::state_machine::{ApplyError, SnapshotSink, StateMachine};
use crate::transport::Transport;

/// A leader that takes longer to open a view or to send a chunk is asked again.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(30);

/// The reason why a transfer broke.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("no address of node {0} is known")]
    NoAddress(NodeId),
    #[error("{0}")]
    Connect(String),
    #[error("{0}")]
    Peer(#[from] Status),
    #[error("the peer sent no chunk before the timeout")]
    Silent,
    #[error("malformed chunk: {0}")]
    Malformed(#[from] WireError),
    #[error(transparent)]
    Piece(#[from] PieceError),
    #[error("the state machine has already reached {0}")]
    Obsolete(LogPosition),
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
    pub(crate) shared: Arc<GroupRequests<S::Output>>,
    pub(crate) metrics: Metrics,
}

type Transfer<S> = synod_replica_core::Transfer<<S as StateMachine>::Sink>;

/// How long to continue a transfer that makes no progress.
pub(super) fn attempts(config: &Snapshots, transport: &TransportConfig) -> Attempts {
    Attempts {
        max: config.max_attempts,
        backoff_min: transport.backoff_min,
        backoff_max: transport.backoff_max,
    }
}

impl<S: StateMachine> Fetch<S> {
    /// Fetches and installs the snapshot, and reports the result to the core.
    pub(crate) async fn run(self, install: Install) {
        let from = install.from;
        let event = match self.fetch_and_install(&install).await {
            Ok(meta) => {
                tracing::info!(peer = %from, position = %meta.last, "installed a snapshot");
                self.metrics.snapshot_received(from);
                Event::Installed(meta)
            }
            Err(error) => {
                tracing::warn!(peer = %from, %error, "could not install a snapshot; the leader offers one again");
                Event::InstallFailed
            }
        };
        self.shared.inbox.event(event);
    }

    async fn fetch_and_install(&self, install: &Install) -> Result<SnapshotMeta, FetchError> {
        let offered = install.meta.last;
        let mut transfer =
            Transfer::<S>::new(offered, attempts(&self.config, &self.transport.config));
        while let Err(error) = self.pull(install, &mut transfer).await {
            let Some(pause) = transfer.broke() else {
                return Err(error);
            };
            tracing::debug!(peer = %install.from, %error, "snapshot transfer broke; resuming it");
            clock::sleep(random::jitter(pause)).await;
        }
        let stopping = FetchError::Stopping;
        let Some((meta, sink)) = transfer.finish() else {
            return Err(stopping);
        };
        let (reply, outcome) = oneshot::channel();
        self.queue
            .push_control(Control::Install(meta.clone(), sink, reply));
        match outcome.await {
            Ok(InstallOutcome::Installed) => Ok(meta),
            Ok(InstallOutcome::Obsolete) => Err(FetchError::Obsolete(meta.last)),
            Err(_) => Err(stopping),
        }
    }

    /// Runs one stream. It continues where the previous one broke, if the peer still has that view.
    async fn pull(&self, install: &Install, transfer: &mut Transfer<S>) -> Result<(), FetchError> {
        let request = wire::FetchSnapshotRequest {
            cluster: self.transport.cluster().get(),
            from: self.transport.identity.node.get(),
            to: install.from.get(),
            group: self.group.get(),
            algorithm: self.transport.identity.algorithm_to_wire(),
            ..resume_to_wire(transfer.request())
        };
        let mut chunks = self.open(install, request).await?;
        while !transfer.is_done() {
            let next = in_time(chunks.message()).await?;
            let mut piece = piece_from_wire(next?.ok_or(FetchError::Cut)?)?;
            if let Step::Begin(begun) = transfer.check(&mut piece)? {
                let sink = self.begin(begun.meta.clone()).await?;
                transfer.begun(begun, sink);
            }
            let Piece { data, resume, .. } = piece;
            let sink = write::<S>(transfer.take_sink()?, data, resume.is_none()).await?;
            transfer.written(sink, resume);
        }
        Ok(())
    }

    async fn open(
        &self,
        install: &Install,
        request: wire::FetchSnapshotRequest,
    ) -> Result<Streaming<wire::SnapshotChunk>, FetchError> {
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
            match in_time(client.fetch_snapshot(request.clone())).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => error = status.into(),
                Err(silent) => error = silent,
            }
        }
        Err(error)
    }

    async fn begin(&self, meta: SnapshotMeta) -> Result<S::Sink, FetchError> {
        let (reply, sink) = oneshot::channel();
        self.queue.push_control(Control::BeginInstall(meta, reply));
        Ok(sink.await.map_err(|_| FetchError::Stopping)??)
    }
}

async fn in_time<F: Future>(answer: F) -> Result<F::Output, FetchError> {
    let answered = clock::timeout(CHUNK_TIMEOUT, answer).await;
    answered.map_err(|_| FetchError::Silent)
}

/// Runs off the runtime, since it writes to the disk.
async fn write<S: StateMachine>(
    mut sink: S::Sink,
    data: Bytes,
    last: bool,
) -> Result<S::Sink, FetchError> {
    let written = task::spawn_blocking(move || {
        sink.write(data)?;
        if last {
            sink.finish()?;
        }
        Ok::<_, ApplyError>(sink)
    });
    Ok(written.await.map_err(|_| FetchError::Stopping)??)
}
