//! The leader's side: a few open views of the state, and streams of their chunks.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::Stream;
use parking_lot::Mutex;
use synod_consensus_core::{InitialMembers, SnapshotMeta};
use synod_proto::replica::v1 as wire;
use synod_runtime::{clock, task};
use synod_types::{Index, LogPosition, NodeId};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::config::Snapshots;
use crate::convert::{meta_to_wire, position_from_wire};
use crate::metrics::Metrics;
use crate::state_machine::{ApplyError, SnapshotSource};

/// Chunks read ahead of a follower.
const MAX_CHUNKS_AHEAD: usize = 2;

type Opened = oneshot::Receiver<Result<Arc<dyn SnapshotSource>, ApplyError>>;

/// What the server needs of its group.
pub(crate) struct Hooks {
    /// Asks the apply thread for a view.
    pub(crate) open: Box<dyn Fn() -> Opened + Send + Sync>,
    /// Tells the core that a follower has everything (or gave up).
    pub(crate) sent: Box<dyn Fn(NodeId, bool) + Send + Sync>,
}

/// Serves one group's snapshots.
pub(crate) struct SnapshotServer {
    config: Snapshots,
    hooks: Hooks,
    initial: InitialMembers,
    metrics: Metrics,
    /// At most one at a position: that is how a stream finds its own.
    views: Mutex<Vec<View>>,
}

#[derive(Clone)]
struct Source {
    source: Arc<dyn SnapshotSource>,
    meta: SnapshotMeta,
}

/// An open view. It stays open for a while after a transfer, so that a broken one can be continued.
struct View {
    source: Source,
    used_at: Instant,
    streams: usize,
    /// Who began and has not got everything yet.
    unfinished: BTreeSet<NodeId>,
}

impl SnapshotServer {
    pub(crate) fn new(
        config: Snapshots,
        hooks: Hooks,
        initial: InitialMembers,
        metrics: Metrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            config,
            hooks,
            initial,
            metrics,
            views: Mutex::default(),
        })
    }

    /// Where the oldest open view stands: its reader will need the entries after it.
    pub(crate) fn oldest(&self) -> Option<Index> {
        self.views
            .lock()
            .iter()
            .map(|view| view.source.meta.last.index)
            .min()
    }

    /// Closes views that nobody used for long.
    pub(crate) fn expire(&self, now: Instant) {
        let mut closed = Vec::new();
        let mut views = self.views.lock();
        views.retain_mut(|view| {
            let idle = now.saturating_duration_since(view.used_at) >= self.config.idle_timeout;
            let expired = view.streams == 0 && idle;
            if expired {
                closed.push(std::mem::take(&mut view.unfinished));
            }
            !expired
        });
        let given_up = given_up(closed, &views);
        drop(views);
        self.tell_given_up(given_up);
    }

    /// The core offers them a snapshot again.
    fn tell_given_up(&self, nodes: BTreeSet<NodeId>) {
        for node in nodes {
            (self.hooks.sent)(node, false);
        }
    }

    /// Begins or continues a transfer.
    pub(crate) async fn serve(
        self: &Arc<Self>,
        request: wire::FetchSnapshotRequest,
    ) -> Result<impl Stream<Item = Result<wire::SnapshotChunk, Status>> + use<>, Status> {
        let to = NodeId::new(request.from);
        let wanted = request
            .position
            .map(|position| position_from_wire(Some(position)));
        let continued = wanted.and_then(|position| self.take_up(position, to));
        let (source, resume) = match continued {
            Some(source) => (source, request.resume),
            None => (self.open_view(to).await?, Bytes::new()),
        };
        let (chunks, stream) = mpsc::channel(MAX_CHUNKS_AHEAD);
        let sending = Sending {
            server: Arc::clone(self),
            position: source.meta.last,
        };
        let send = send(sending, source, resume, to, chunks);
        // Ends when the follower goes away or has everything.
        task::spawn("synod-snapshot-send", send);
        Ok(ReceiverStream::new(stream))
    }

    /// The view that a transfer was begun with, if it is still open.
    fn take_up(&self, position: LogPosition, to: NodeId) -> Option<Source> {
        join(&mut self.views.lock(), position, to)
    }

    async fn open_view(&self, to: NodeId) -> Result<Source, Status> {
        let stopped = |_| Status::unavailable("the replica is stopping");
        let opened = (self.hooks.open)().await.map_err(stopped)?;
        let source = opened.map_err(|error| Status::internal(error.to_string()))?;
        let meta = self.initial.complete(source.meta().clone());
        let source = Source { source, meta };
        let mut views = self.views.lock();
        // Nothing was applied since another follower, or an earlier attempt of this one, opened the
        // same view.
        if let Some(source) = join(&mut views, source.meta.last, to) {
            return Ok(source);
        }
        let mut evicted = None;
        if views.len() >= self.config.max_open {
            let idle = views
                .iter()
                .enumerate()
                .filter(|(_, view)| view.streams == 0);
            let oldest = idle.min_by_key(|(_, view)| view.used_at).map(|(at, _)| at);
            let full = || Status::resource_exhausted("too many snapshots are being sent");
            evicted = Some(views.swap_remove(oldest.ok_or_else(full)?).unfinished);
        }
        views.push(View {
            source: source.clone(),
            used_at: clock::now(),
            streams: 1,
            unfinished: BTreeSet::from([to]),
        });
        let given_up = given_up(evicted, &views);
        drop(views);
        self.tell_given_up(given_up);
        tracing::info!(peer = %to, position = %source.meta.last, "sending a snapshot");
        Ok(source)
    }

    fn with_view(&self, position: LogPosition, change: impl FnOnce(&mut View)) {
        let mut views = self.views.lock();
        if let Some(view) = views
            .iter_mut()
            .find(|view| view.source.meta.last == position)
        {
            view.used_at = clock::now();
            change(view);
        }
    }

    fn finished(&self, position: LogPosition, to: NodeId) {
        self.with_view(position, |view| {
            view.unfinished.remove(&to);
        });
        self.metrics.snapshot_sent(to);
        (self.hooks.sent)(to, true);
    }
}

/// One more stream of the view at `position`, if it is open.
fn join(views: &mut [View], position: LogPosition, to: NodeId) -> Option<Source> {
    let view = views
        .iter_mut()
        .find(|view| view.source.meta.last == position)?;
    view.streams += 1;
    view.used_at = clock::now();
    view.unfinished.insert(to);
    Some(view.source.clone())
}

/// Those who were left unfinished by the views that were `closed`, and are served by no other.
fn given_up(closed: impl IntoIterator<Item = BTreeSet<NodeId>>, open: &[View]) -> BTreeSet<NodeId> {
    let is_served = |node: &NodeId| open.iter().any(|view| view.unfinished.contains(node));
    let left = closed.into_iter().flatten();
    left.filter(|node| !is_served(node)).collect()
}

/// Counts a stream out, however it ends.
struct Sending {
    server: Arc<SnapshotServer>,
    position: LogPosition,
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.server.with_view(self.position, |view| {
            view.streams = view.streams.saturating_sub(1);
        });
    }
}

async fn send(
    sending: Sending,
    source: Source,
    mut resume: Bytes,
    to: NodeId,
    chunks: mpsc::Sender<Result<wire::SnapshotChunk, Status>>,
) {
    let max_bytes = sending.server.config.chunk_bytes;
    let mut meta = Some(meta_to_wire(&source.meta));
    loop {
        let reader = Arc::clone(&source.source);
        let after = resume.clone();
        // Off the runtime: it reads from the disk.
        let read = task::spawn_blocking(move || {
            let chunk = reader.read(&after, max_bytes)?;
            let crc32c = crc32c::crc32c(&chunk.data);
            Ok::<_, ApplyError>((chunk, crc32c))
        });
        let (chunk, crc32c) = match read.await {
            Ok(Ok(read)) => read,
            Ok(Err(error)) => {
                tracing::error!(%error, "cannot read a snapshot");
                let _gone = chunks.send(Err(Status::internal(error.to_string()))).await;
                return;
            }
            // The runtime is being shut down.
            Err(_) => return,
        };
        let last = chunk.resume.is_none();
        resume = chunk.resume.unwrap_or_default();
        let wire = wire::SnapshotChunk {
            meta: meta.take(),
            data: chunk.data,
            crc32c,
            resume: resume.clone(),
            last,
        };
        if chunks.send(Ok(wire)).await.is_err() {
            return;
        }
        sending.server.with_view(sending.position, |_| {});
        if last {
            sending.server.finished(sending.position, to);
            return;
        }
    }
}

#[cfg(test)]
mod tests;
