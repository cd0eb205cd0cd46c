//! The accepting side, and what both sides do with what arrives.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use synod_proto::replica::v1 as wire;
use synod_proto::replica::v1::peer_server::Peer as PeerApi;
use synod_runtime::{clock, task};
use synod_types::{ClusterId, GroupId, NodeId};
use tokio::time::{Instant, MissedTickBehavior};
use tonic::{Request, Response, Status, Streaming};

use super::Transport;
use super::handshake::{Introduced, Refused};
use super::peer::{Link, Outbound, Peer};
use crate::convert::{message_bytes, message_from_wire};

type Boxed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The gRPC service that peers call.
#[derive(Clone)]
pub(crate) struct PeerService {
    transport: Arc<Transport>,
}

impl PeerService {
    pub(crate) fn new(transport: Arc<Transport>) -> Self {
        Self { transport }
    }

    fn accept(&self, hello: Option<&wire::Hello>) -> Result<(Arc<Peer>, Introduced), Refused> {
        let transport = &self.transport;
        let required = transport.book.required_feature_level();
        let introduced = transport.identity.check(hello, required)?;
        let from = introduced.node;
        if from > transport.identity.node {
            return Err(Refused::Direction { from });
        }
        if transport.book.is_removed(from) {
            return Err(Refused::Removed { from });
        }
        let peer = transport.peer(from).ok_or(Refused::TooMany)?;
        Ok((peer, introduced))
    }

    fn refuse(&self, refused: &Refused) -> Status {
        self.transport.metrics.peer_refused();
        tracing::warn!(reason = %refused, "refused a peer");
        Status::failed_precondition(refused.to_string())
    }

    /// The request carries no feature level, and needs none. A member requests a snapshot that it
    /// was offered over an exchange. [`Self::accept`] has refused exchanges with members whose
    /// level is too low, and [`Transport::receive`] ends an exchange when the cluster's level rises
    /// above the member's. If the level rises during a transfer, the member itself refuses to
    /// install what it received.
    fn check_fetch(&self, request: &wire::FetchSnapshotRequest) -> Result<(), Refused> {
        let ours = self.transport.identity;
        let from = NodeId::new(request.from);
        let theirs = ClusterId::new(request.cluster);
        if theirs != ours.cluster {
            let ours = ours.cluster;
            return Err(Refused::Cluster { from, theirs, ours });
        }
        let wanted = NodeId::new(request.to);
        if wanted != ours.node {
            let ours = ours.node;
            return Err(Refused::WrongNode { from, wanted, ours });
        }
        if self.transport.book.is_removed(from) {
            return Err(Refused::Removed { from });
        }
        ours.check_algorithm(from, request.algorithm)
    }
}

#[tonic::async_trait]
impl PeerApi for PeerService {
    type ExchangeStream = Boxed<wire::Envelope>;
    type FetchSnapshotStream = Boxed<wire::SnapshotChunk>;

    async fn exchange(
        &self,
        request: Request<Streaming<wire::Envelope>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        let transport = &self.transport;
        let mut inbound = request.into_inner();
        let first = clock::timeout(transport.config.connect_timeout, inbound.message()).await;
        let first = first
            .map_err(|_| Status::deadline_exceeded("no introduction before the timeout"))??;
        let hello = first.and_then(|envelope| envelope.hello);
        let (peer, introduced) = self
            .accept(hello.as_ref())
            .map_err(|refused| self.refuse(&refused))?;
        let link = peer.link();
        let outbound = transport.outbound(&peer, &link);
        if !peer.open(&link) {
            return Err(Status::aborted("another stream of the same node was newer"));
        }
        tracing::info!(peer = %peer.node, "peer connected");
        let transport = Arc::clone(transport);
        // Ends with its stream, or when the link is closed; nothing waits for it.
        task::spawn("synod-peer-in", async move {
            let level = introduced.feature_level;
            transport.receive(&peer, &link, level, inbound).await;
        });
        Ok(Response::new(Box::pin(outbound.map(Ok))))
    }

    async fn fetch_snapshot(
        &self,
        request: Request<wire::FetchSnapshotRequest>,
    ) -> Result<Response<Self::FetchSnapshotStream>, Status> {
        let request = request.into_inner();
        self.check_fetch(&request)
            .map_err(|refused| self.refuse(&refused))?;
        let group = GroupId::new(request.group);
        let port = self.transport.group(group);
        let port = port.ok_or_else(|| Status::not_found(format!("no group {group} here")))?;
        let chunks = port.snapshots().serve(request).await?;
        Ok(Response::new(Box::pin(chunks)))
    }
}

impl Transport {
    pub(super) fn outbound(&self, peer: &Arc<Peer>, link: &Link) -> Outbound {
        Outbound::new(
            Arc::clone(peer),
            link.clone(),
            self.identity.hello(
                peer.node,
                self.group_ids(),
                self.book.required_feature_level(),
            ),
            self.config.max_envelope_bytes,
            self.metrics.sent_bytes(peer.node),
        )
    }

    /// Delivers received messages until the link is over, for whatever reason, and tells the
    /// groups. Then starts a task that checks whether the peer's process still runs.
    pub(super) async fn receive(
        self: &Arc<Self>,
        peer: &Arc<Peer>,
        link: &Link,
        feature_level: u32,
        mut inbound: Streaming<wire::Envelope>,
    ) {
        let mut ending = Ending::new(self, peer, link, feature_level);
        let received_bytes = self.metrics.received_bytes(peer.node);
        let ping_interval = self.config.ping_interval;
        let mut pings = tokio::time::interval_at(Instant::now() + ping_interval, ping_interval);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard_at = clock::now();
        let mut heard = false;
        ending.reason = loop {
            // Biased: a closed link must not deliver any more. A busy stream is alive, so its pings
            // may wait.
            tokio::select! {
                biased;
                () = link.closed.triggered() => break "the stream was closed here".to_owned(),
                received = inbound.message() => match received {
                    // The required level may have been raised since the stream was opened.
                    Ok(Some(_)) if self.book.required_feature_level() > feature_level => {
                        break self.outgrown(peer.node, feature_level);
                    }
                    Ok(Some(envelope)) => {
                        heard = true;
                        received_bytes.inc_by(self.deliver(peer, envelope));
                    }
                    Ok(None) => break "the peer closed the stream".to_owned(),
                    Err(status) => break status.to_string(),
                },
                _ = pings.tick() => {
                    if self.book.required_feature_level() > feature_level {
                        break self.outgrown(peer.node, feature_level);
                    }
                    let now = clock::now();
                    if std::mem::take(&mut heard) {
                        heard_at = now;
                    } else if now.saturating_duration_since(heard_at) >= self.config.silence_timeout {
                        break "the peer is silent".to_owned();
                    }
                    peer.ping(self.clock.nanos_at(now).max(1));
                }
            }
        };
        drop(ending);
        let (transport, peer) = (Arc::clone(self), Arc::clone(peer));
        // Ends soon by itself. It runs beside the next attempt to dial, which it must not delay.
        task::spawn("synod-peer-look", async move {
            transport.look_after(&peer).await;
        });
    }

    /// Counts a peer that is refused although its stream was accepted once. Returns the reason.
    fn outgrown(&self, from: NodeId, theirs: u32) -> String {
        let required = self.book.required_feature_level();
        let refused = Refused::TooOld {
            from,
            theirs,
            required,
        };
        self.metrics.peer_refused();
        refused.to_string()
    }

    /// Returns the approximate size of the messages, in bytes.
    fn deliver(&self, peer: &Peer, envelope: wire::Envelope) -> u64 {
        if envelope.ping != 0 {
            peer.pong(envelope.ping);
        }
        if envelope.pong != 0 {
            let nanos = self
                .clock
                .nanos_at(clock::now())
                .saturating_sub(envelope.pong);
            self.metrics
                .round_trip(peer.node, Duration::from_nanos(nanos));
        }
        let mut total = 0;
        let mut run = Vec::with_capacity(envelope.messages.len());
        let mut run_group = None;
        let mut run_bytes = 0;
        for message in envelope.messages {
            let (group, message) = match message_from_wire(peer.node, self.identity.node, message) {
                Ok(converted) => converted,
                Err(error) => {
                    tracing::warn!(peer = %peer.node, %error, "dropped a malformed message");
                    continue;
                }
            };
            if run_group != Some(group) {
                self.hand_over(run_group, std::mem::take(&mut run), run_bytes);
                (run_group, run_bytes) = (Some(group), 0);
            }
            let bytes = message_bytes(&message);
            total += bytes;
            run_bytes += bytes;
            run.push(message);
        }
        self.hand_over(run_group, run, run_bytes);
        u64::try_from(total).unwrap_or(u64::MAX)
    }

    fn hand_over(
        &self,
        group: Option<GroupId>,
        messages: Vec<synod_consensus_core::Message>,
        bytes: usize,
    ) {
        // Messages for a group that is not here are dropped: it may have been moved away.
        if let Some(port) = group.and_then(|group| self.group(group)) {
            port.deliver(messages, bytes);
        }
    }
}

/// Handles the end of a link, even if the task that reads from it is dropped.
struct Ending<'a> {
    transport: &'a Transport,
    peer: &'a Peer,
    link: &'a Link,
    reason: String,
}

impl<'a> Ending<'a> {
    fn new(transport: &'a Transport, peer: &'a Peer, link: &'a Link, feature_level: u32) -> Self {
        transport.metrics.peer_connected(peer.node);
        transport.book.connected(peer.node, feature_level);
        Self {
            transport,
            peer,
            link,
            reason: "the stream was given up".to_owned(),
        }
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.transport.metrics.peer_disconnected(self.peer.node);
        let was_open = self.peer.close_link(self.link);
        // Another link may have replaced it already.
        if !self.peer.has_link() {
            self.transport.book.disconnected(self.peer.node);
        }
        if was_open {
            tracing::warn!(peer = %self.peer.node, reason = self.reason, "lost a peer");
            self.transport.lost(self.peer.node);
        }
    }
}
