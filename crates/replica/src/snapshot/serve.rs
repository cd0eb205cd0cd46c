//! The leader's side: a few open views of the state, and streams of their chunks.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use futures::Stream;
use parking_lot::Mutex;
use synod_consensus_core::InitialMembers;
use synod_proto::replica::v1 as wire;
use synod_replica_core::{Full, Opened, Views};
use synod_runtime::{clock, random, task};
use synod_types::{Index, NodeId};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::config::Snapshots;
use crate::convert::{piece_to_wire, resume_from_wire};
use crate::metrics::Metrics;
use crate::state_machine::{ApplyError, SnapshotSource};

/// Chunks read ahead of a follower.
const MAX_CHUNKS_AHEAD: usize = 2;

type Source = Arc<dyn SnapshotSource>;
type Cursor = synod_replica_core::Cursor<Source>;
type Reply = oneshot::Receiver<Result<Source, ApplyError>>;

/// Callbacks from the server to its group.
pub(crate) struct Hooks {
    /// Requests a view from the apply thread.
    pub(crate) open: Box<dyn Fn() -> Reply + Send + Sync>,
    /// Tells the core that a follower has everything, or gave up.
    pub(crate) sent: Box<dyn Fn(NodeId, bool) + Send + Sync>,
}

/// Serves one group's snapshots.
pub(crate) struct SnapshotServer {
    config: Snapshots,
    hooks: Hooks,
    initial: InitialMembers,
    metrics: Metrics,
    views: Mutex<Views<Source, Instant>>,
}

impl SnapshotServer {
    pub(crate) fn new(
        config: Snapshots,
        hooks: Hooks,
        initial: InitialMembers,
        metrics: Metrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            views: Mutex::new(Views::new(config.max_open)),
            config,
            hooks,
            initial,
            metrics,
        })
    }

    /// The position of the oldest open view. Its reader will need the entries after it.
    pub(crate) fn oldest(&self) -> Option<Index> {
        self.views.lock().oldest()
    }

    /// Closes views that were idle for too long.
    pub(crate) fn expire(&self, now: Instant) {
        let Some(since) = now.checked_sub(self.config.idle_timeout) else {
            return;
        };
        let given_up = self.views.lock().expire(since);
        self.tell_given_up(given_up);
    }

    /// Tells the core about followers whose view was closed, so that it offers them a snapshot
    /// again.
    fn tell_given_up(&self, nodes: BTreeSet<NodeId>) {
        for node in nodes {
            (self.hooks.sent)(node, false);
        }
    }

    /// Starts or continues a transfer.
    pub(crate) async fn serve(
        self: &Arc<Self>,
        request: wire::FetchSnapshotRequest,
    ) -> Result<impl Stream<Item = Result<wire::SnapshotChunk, Status>> + use<>, Status> {
        let to = NodeId::new(request.from);
        let resume = resume_from_wire(&request);
        let continued =
            resume.and_then(|resume| self.views.lock().take_up(resume, to, clock::now()));
        let cursor = match continued {
            Some(cursor) => cursor,
            None => self.open_view(to).await?,
        };
        let (chunks, stream) = mpsc::channel(MAX_CHUNKS_AHEAD);
        let sending = Sending {
            server: Arc::clone(self),
            cursor,
            to,
        };
        // The task ends when the follower disconnects or has everything.
        task::spawn("synod-snapshot-send", sending.run(chunks));
        Ok(ReceiverStream::new(stream))
    }

    async fn open_view(&self, to: NodeId) -> Result<Cursor, Status> {
        let full = |Full| Status::resource_exhausted("too many snapshots are being sent");
        let stopped = |_| Status::unavailable("the replica is stopping");
        let opening = Opening::new(self).map_err(full)?;
        let opened = (self.hooks.open)().await.map_err(stopped)?;
        let source = opened.map_err(|error| Status::internal(error.to_string()))?;
        let meta = self.initial.complete(source.meta().clone());
        let position = meta.last;
        let opened = Opened {
            id: random::u64().max(1),
            source,
            meta,
            to,
        };
        let admitted = self.views.lock().admit(opened, clock::now());
        drop(opening);
        let (cursor, given_up) = admitted.map_err(full)?;
        self.tell_given_up(given_up);
        tracing::info!(peer = %to, %position, "sending a snapshot");
        Ok(cursor)
    }
}

/// A view that is being opened. Dropping it releases the slot, even if the call is cancelled.
struct Opening<'a>(&'a SnapshotServer);

impl<'a> Opening<'a> {
    fn new(server: &'a SnapshotServer) -> Result<Self, Full> {
        server.views.lock().opening()?;
        Ok(Self(server))
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.views.lock().opened();
    }
}

/// A stream of a view. Dropping it removes the stream from the view's readers.
struct Sending {
    server: Arc<SnapshotServer>,
    cursor: Cursor,
    to: NodeId,
}

impl Drop for Sending {
    fn drop(&mut self) {
        let mut views = self.server.views.lock();
        views.ended(self.cursor.position(), clock::now());
    }
}

impl Sending {
    async fn run(mut self, chunks: mpsc::Sender<Result<wire::SnapshotChunk, Status>>) {
        let max_bytes = self.server.config.chunk_bytes;
        let position = self.cursor.position();
        loop {
            let (source, after) = self.cursor.next();
            let (source, after) = (Arc::clone(source), after.clone());
            // Runs off the runtime, since it reads from the disk.
            let read = task::spawn_blocking(move || {
                let chunk = source.read(&after, max_bytes)?;
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
                // The runtime is shutting down.
                Err(_) => return,
            };
            let piece = self.cursor.advance(chunk.data, chunk.resume);
            let chunk = piece_to_wire(piece, crc32c);
            let last = chunk.last;
            if chunks.send(Ok(chunk)).await.is_err() {
                return;
            }
            self.server.views.lock().used(position, clock::now());
            if last {
                self.finished();
                return;
            }
        }
    }

    fn finished(&self) {
        let mut views = self.server.views.lock();
        views.finished(self.cursor.position(), self.to, clock::now());
        drop(views);
        self.server.metrics.snapshot_sent(self.to);
        (self.server.hooks.sent)(self.to, true);
    }
}

#[cfg(test)]
mod tests;
