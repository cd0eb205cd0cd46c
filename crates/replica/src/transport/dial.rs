//! The dialling side.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use synod_proto::replica::v1::peer_client::PeerClient;
use synod_rpc::ChannelConfig;
use synod_runtime::task::{self, JoinHandle};
use synod_runtime::{clock, random};
use synod_types::NodeId;
use tokio::sync::watch;
use tonic::Code;

use super::Transport;
use super::book::Book;
use super::handshake::{Introduced, Refused};
use super::peer::{Link, Peer};

/// The result of an attempt to connect.
enum Attempt {
    /// The stream worked for a while.
    Lived,
    /// The peer could not be reached, or the stream ended before it began.
    Failed(String),
    /// One of the two sides refuses the other: only an operator can change that.
    Refused(String),
}

/// Keeps a stream to every node of the book with a higher id, until the transport is stopped.
pub(crate) async fn run(transport: Arc<Transport>) {
    let mut book = transport.book.watch();
    let mut dialling: BTreeMap<NodeId, JoinHandle<()>> = BTreeMap::new();
    loop {
        let now = book.borrow_and_update().clone();
        for node in &now.removed {
            transport.close_peer(*node);
        }
        dialling.retain(|node, dial| {
            let listed = now.urls.contains_key(node);
            if !listed {
                dial.abort();
                transport.close_peer(*node);
            }
            listed
        });
        for node in now
            .urls
            .keys()
            .filter(|node| **node > transport.identity.node)
        {
            dialling.entry(*node).or_insert_with(|| {
                task::spawn("synod-peer-dial", dial(Arc::clone(&transport), *node))
            });
        }
        tokio::select! {
            biased;
            () = transport.stop.triggered() => break,
            changed = book.changed() => if changed.is_err() {
                break;
            },
        }
    }
    for dial in dialling.values() {
        dial.abort();
    }
    transport.close_all();
}

async fn dial(transport: Arc<Transport>, node: NodeId) {
    let mut book = transport.book.watch();
    let config = &transport.config;
    let mut backoff = config.backoff_min;
    let mut last_error = String::new();
    loop {
        let urls = urls_of(&book.borrow_and_update(), node);
        for url in urls {
            let attempt = tokio::select! {
                biased;
                () = delisted(book.clone(), node, &url) => Attempt::Lived,
                attempt = transport.attempt(node, &url) => attempt,
            };
            let (error, refused) = match attempt {
                Attempt::Lived => {
                    backoff = config.backoff_min;
                    last_error.clear();
                    continue;
                }
                Attempt::Failed(error) => (error, false),
                Attempt::Refused(error) => {
                    transport.metrics.peer_refused();
                    backoff = config.backoff_max;
                    (error, true)
                }
            };
            // Logged once: the same failure occurs in every attempt.
            if error == last_error {
                tracing::debug!(peer = %node, url, error, "peer still not connected");
            } else if refused {
                tracing::error!(peer = %node, url, error, "a peer is refused");
            } else {
                tracing::warn!(peer = %node, url, error, "cannot connect to a peer");
            }
            last_error = error;
        }
        wait(random::jitter(backoff), &mut book).await;
        backoff = (backoff * 2).min(config.backoff_max);
    }
}

/// Waits for the back-off, or for a change of the book.
async fn wait(backoff: Duration, book: &mut watch::Receiver<Book>) {
    tokio::select! {
        biased;
        _ = book.changed() => {}
        () = clock::sleep(backoff) => {}
    }
}

fn urls_of(book: &Book, node: NodeId) -> Vec<String> {
    book.urls.get(&node).cloned().unwrap_or_default()
}

/// Resolves when the node is no longer at this address.
async fn delisted(mut book: watch::Receiver<Book>, node: NodeId, url: &str) {
    let is_gone = |book: &Book| !urls_of(book, node).iter().any(|listed| listed == url);
    if book.wait_for(is_gone).await.is_err() {
        // The book itself is gone: the transport is being stopped.
        std::future::pending::<()>().await;
    }
}

impl Transport {
    /// The configuration of a channel to a peer; also used for snapshots.
    pub(crate) fn channel_config(&self) -> ChannelConfig {
        ChannelConfig {
            tls: self.config.tls.clone(),
            connect_timeout: self.config.connect_timeout,
            stream_window_bytes: 4 << 20,
            connection_window_bytes: 16 << 20,
            ..ChannelConfig::default()
        }
    }

    /// Connects, shakes hands, and exchanges messages until the stream breaks.
    async fn attempt(self: &Arc<Self>, node: NodeId, url: &str) -> Attempt {
        let channel = match self.channel_config().connect(url).await {
            Ok(channel) => channel,
            Err(error) => return Attempt::Failed(error.to_string()),
        };
        let Some(peer) = self.peer(node) else {
            return Attempt::Failed(Refused::TooMany.to_string());
        };
        let link = peer.link();
        let _guard = CloseOnDrop {
            peer: &peer,
            link: &link,
        };
        let mut client = PeerClient::new(channel)
            .max_decoding_message_size(self.config.max_receive_bytes)
            .max_encoding_message_size(self.config.max_receive_bytes);
        let handshake = async {
            let response = client.exchange(self.outbound(&peer, &link)).await?;
            let mut inbound = response.into_inner();
            let first = inbound.message().await?;
            Ok::<_, tonic::Status>((first.and_then(|envelope| envelope.hello), inbound))
        };
        let (hello, inbound) = match clock::timeout(self.config.connect_timeout, handshake).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(status)) if status.code() == Code::FailedPrecondition => {
                return Attempt::Refused(format!("refused by the peer: {}", status.message()));
            }
            Ok(Err(status)) => return Attempt::Failed(status.to_string()),
            Err(_) => {
                return Attempt::Failed(
                    "the peer did not answer the introduction before the timeout: check that this is the peer \
                     address of a member, and that the member is not stopped"
                        .to_owned(),
                );
            }
        };
        let required = self.book.required_feature_level();
        let introduced = match self.identity.check(hello.as_ref(), required) {
            Ok(introduced) if introduced.node == node => introduced,
            Ok(Introduced { node: found, .. }) => {
                let refused = Refused::Unexpected {
                    node: found,
                    expected: node,
                };
                return Attempt::Refused(refused.to_string());
            }
            Err(refused) => return Attempt::Refused(refused.to_string()),
        };
        if !peer.open(&link) {
            return Attempt::Failed(
                "a newer stream to the same node exists and is used instead".to_owned(),
            );
        }
        tracing::info!(peer = %node, url, "peer connected");
        let level = introduced.feature_level;
        self.receive(&peer, &link, level, inbound).await;
        Attempt::Lived
    }
}

/// Closes a link when the future that uses it ends, for whatever reason.
struct CloseOnDrop<'a> {
    peer: &'a Peer,
    link: &'a Link,
}

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.peer.close_link(self.link);
    }
}
