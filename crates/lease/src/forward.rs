//! Forwards lease requests from a follower to the leader. The follower acts as a client of the
//! leader's Lease service. A mark in the metadata prevents that a request is forwarded twice.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use synod_proto::etcd::etcdserverpb as pb;
use synod_proto::etcd::etcdserverpb::lease_client::LeaseClient;
use synod_rpc::ChannelConfig;
use synod_runtime::clock;
use synod_types::NodeId;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::Channel;
use tonic::{Extensions, Request, Status};

/// Metadata key that marks forwarded requests.
const FORWARDED: &str = "synod-forwarded";

/// Whether a member forwarded this request. If so, it is not forwarded again.
#[must_use]
pub fn was_forwarded(metadata: &MetadataMap) -> bool {
    metadata.contains_key(FORWARDED)
}

struct Link {
    leader: NodeId,
    url: String,
    client: LeaseClient<Channel>,
}

/// The connection to the current leader, opened on first use.
pub struct LeaderLink {
    dial: ChannelConfig,
    link: Mutex<Option<Link>>,
    /// The index of the leader's URL to use; it moves to the next one after a failure.
    choice: AtomicUsize,
}

/// A request that is forwarded.
#[derive(Debug)]
pub(crate) struct Forward {
    /// The leader.
    pub(crate) leader: NodeId,
    /// Its URLs.
    pub(crate) urls: Vec<String>,
    /// Metadata that tells who makes the request.
    pub(crate) caller: MetadataMap,
    /// Nobody waits for an answer after this.
    pub(crate) deadline: Instant,
}

/// The reason why the leader gave no answer. These can be retried, unless the host reads a refusal
/// in the status.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ForwardError {
    /// The leader's URLs are not known.
    #[error("the leader's URLs are not known")]
    NoUrl,
    /// The URL is invalid.
    #[error(transparent)]
    Channel(#[from] synod_rpc::ChannelError),
    /// The call failed.
    #[error("the leader did not answer: {0}")]
    Call(#[from] Status),
    /// The leader ended the stream before it had answered all renewals.
    #[error("the leader answered only {answered} of {asked}")]
    Cut {
        /// The number of renewals that were answered.
        answered: usize,
        /// The number of renewals that were requested.
        asked: usize,
    },
}

impl ForwardError {
    /// What the leader answered instead of the result.
    pub(crate) fn status(&self) -> Option<&Status> {
        match self {
            Self::Call(status) => Some(status),
            Self::NoUrl | Self::Channel(_) | Self::Cut { .. } => None,
        }
    }
}

impl LeaderLink {
    /// Creates a link without a connection. `dial` configures connections to members.
    #[must_use]
    pub fn new(dial: ChannelConfig) -> Self {
        Self {
            dial,
            link: Mutex::default(),
            choice: AtomicUsize::default(),
        }
    }

    /// Renews leases at the leader. Returns the TTLs in the order of `ids`, zero for leases that no
    /// longer exist, and why there are no more.
    pub(crate) async fn renew(&self, to: Forward, ids: &[i64]) -> (Vec<i64>, Option<ForwardError>) {
        let mut ttls = Vec::with_capacity(ids.len());
        let failed = self.renew_into(&mut ttls, to, ids).await.err();
        (ttls, failed)
    }

    async fn renew_into(
        &self,
        ttls: &mut Vec<i64>,
        to: Forward,
        ids: &[i64],
    ) -> Result<(), ForwardError> {
        let mut client = self.client(to.leader, &to.urls)?;
        let requests: Vec<_> = ids
            .iter()
            .map(|id| pb::LeaseKeepAliveRequest { id: *id })
            .collect();
        let deadline = to.deadline;
        let request = marked(tokio_stream::iter(requests), to);
        let answered = async {
            let mut answers = client.lease_keep_alive(request).await?.into_inner();
            // The leader answers the requests in order.
            while ttls.len() < ids.len()
                && let Some(answer) = answers.message().await?
            {
                ttls.push(answer.ttl);
            }
            Ok::<_, Status>(())
        };
        within(deadline, answered).await?;
        match ttls.len() {
            answered if answered < ids.len() => Err(ForwardError::Cut {
                answered,
                asked: ids.len(),
            }),
            _ => Ok(()),
        }
    }

    /// Asks the leader for the remaining time of a lease.
    pub(crate) async fn time_to_live(
        &self,
        to: Forward,
        request: pb::LeaseTimeToLiveRequest,
    ) -> Result<pb::LeaseTimeToLiveResponse, ForwardError> {
        let mut client = self.client(to.leader, &to.urls)?;
        let deadline = to.deadline;
        let call = client.lease_time_to_live(marked(request, to));
        let response = within(deadline, call).await?;
        Ok(response.into_inner())
    }

    /// Lets the next attempt use another connection, and the next URL if there are several.
    pub(crate) fn reconnect(&self) {
        self.choice.fetch_add(1, Ordering::Relaxed);
        *self.link.lock() = None;
    }

    fn client(
        &self,
        leader: NodeId,
        urls: &[String],
    ) -> Result<LeaseClient<Channel>, ForwardError> {
        let choice = self.choice.load(Ordering::Relaxed);
        let url = match urls.len() {
            0 => return Err(ForwardError::NoUrl),
            count => &urls[choice % count],
        };
        let mut link = self.link.lock();
        if let Some(link) = &*link
            && link.leader == leader
            && link.url == *url
        {
            return Ok(link.client.clone());
        }
        let client = LeaseClient::new(self.dial.lazy(url)?);
        *link = Some(Link {
            leader,
            url: url.clone(),
            client: client.clone(),
        });
        Ok(client)
    }
}

async fn within<T>(
    deadline: Instant,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let in_time = clock::timeout_at(deadline, call).await;
    in_time.unwrap_or_else(|_| {
        let late = "the leader did not answer before the deadline";
        Err(Status::deadline_exceeded(late))
    })
}

fn marked<T>(message: T, to: Forward) -> Request<T> {
    let mut request = Request::from_parts(to.caller, Extensions::default(), message);
    request
        .metadata_mut()
        .insert(FORWARDED, MetadataValue::from_static("true"));
    let left = to.deadline.saturating_duration_since(clock::now());
    request.set_timeout(left.max(Duration::from_millis(1)));
    request
}
