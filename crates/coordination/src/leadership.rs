//! The leadership key: which pod orders commands.
//!
//! The key is bound to a lease that its holder keeps alive. Its create revision, the epoch, fences
//! every write of the leading pod, so the lease is about progress alone: a pod that believes for
//! too long that it leads can't write.

use std::time::{Duration, Instant};

use etcd_client::{
    Compare, CompareOp, Error, EventType, PutOptions, Txn, TxnOp, WatchFilterType, WatchOptions,
};
use synod_runtime::{clock, random};
use tokio::sync::watch;

use crate::endpoint::{Endpoint, EndpointError, Epoch, call, revision};

/// The lease's time to live. Stock etcd grants no shorter one with its default timeouts.
const LEADERSHIP_TTL_S: i64 = 2;

/// How many times the lease is renewed within its time to live.
const RENEWALS_PER_TTL: u32 = 4;

/// The pause after a failed call, at most; half of it at least.
const RETRY_AFTER: Duration = Duration::from_millis(400);

/// What other pods show to the leading one. Only who may read the leadership key knows it.
pub(crate) type Secret = [u8; 16];

/// The pod that holds the leadership key.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Leader {
    /// Its secret, which no two pods share.
    pub(crate) secret: Secret,
    /// Where other pods reach it.
    pub(crate) address: String,
}

/// A pod that wants to lead.
pub(crate) struct Candidate {
    endpoint: Endpoint,
    own: Leader,
    /// The time to live of its leases.
    pub(crate) ttl_s: i64,
    seen: watch::Sender<Option<Leader>>,
}

/// The leadership. Give it back with [`resign`](Self::resign).
pub(crate) struct Leadership {
    endpoint: Endpoint,
    lease: i64,
    ttl: Duration,
    epoch: Epoch,
    /// The lease is not older than this.
    began: Instant,
}

/// What came of an attempt.
enum Attempt {
    Won(Leadership),
    /// Somebody holds the key. Seen at this revision.
    Held(i64),
    /// Another pod was faster.
    Lost,
}

impl Candidate {
    pub(crate) fn new(endpoint: Endpoint, own: Leader) -> Self {
        Self {
            endpoint,
            own,
            ttl_s: LEADERSHIP_TTL_S,
            seen: watch::Sender::new(None),
        }
    }

    /// The leading pod, as far as this pod knows.
    pub(crate) fn leader(&self) -> watch::Receiver<Option<Leader>> {
        self.seen.subscribe()
    }

    /// Waits until this pod leads. It goes on trying while the endpoint can't be reached.
    ///
    /// # Cancel safety
    /// If the future is dropped in the middle of an attempt, nobody may lead until the lease ends.
    pub(crate) async fn win(&self) -> Leadership {
        loop {
            let result = match self.attempt().await {
                Ok(Attempt::Won(leadership)) => {
                    self.seen.send_replace(Some(self.own.clone()));
                    return leadership;
                }
                Ok(Attempt::Held(revision)) => self.vacated(revision).await,
                Ok(Attempt::Lost) => Ok(()),
                Err(error) => Err(error),
            };
            self.seen.send_replace(None);
            if let Err(error) = result {
                tracing::warn!(%error, "will try again to become the leading pod");
                clock::sleep(random::jitter(RETRY_AFTER)).await;
            }
        }
    }

    async fn attempt(&self) -> Result<Attempt, EndpointError> {
        if let Some(revision) = self.held().await? {
            return Ok(Attempt::Held(revision));
        }
        let mut leases = self.endpoint.client().lease_client();
        let began = clock::now();
        let granted = call("grant a lease", leases.grant(self.ttl_s, None)).await?;
        let mut leadership = Leadership {
            endpoint: self.endpoint.clone(),
            lease: granted.id(),
            ttl: Duration::from_secs(granted.ttl().unsigned_abs()),
            epoch: Epoch(0),
            began,
        };
        match self.take_key(leadership.lease).await {
            Ok(Some(epoch)) => {
                leadership.epoch = epoch;
                Ok(Attempt::Won(leadership))
            }
            Ok(None) => {
                leadership.resign().await;
                Ok(Attempt::Lost)
            }
            // The transaction may still arrive. Without its lease it does nothing.
            Err(error) => {
                leadership.resign().await;
                Err(error)
            }
        }
    }

    /// Whether somebody holds the key, and the revision at which it was read.
    async fn held(&self) -> Result<Option<i64>, EndpointError> {
        let what = "read who leads";
        let key = self.endpoint.keys().leader();
        let mut kv = self.endpoint.client().kv_client();
        let response = call(what, kv.get(key, None)).await?;
        let Some(kv) = response.kvs().first() else {
            return Ok(None);
        };
        let leader = Leader::decode(kv.value());
        let leader = leader.ok_or_else(|| {
            let reason = format!("the leadership key holds {:?}", kv.value());
            EndpointError::corrupt(what, reason)
        })?;
        self.seen.send_replace(Some(leader));
        Ok(Some(revision(response.header())))
    }

    /// Takes the key if nobody holds it.
    async fn take_key(&self, lease: i64) -> Result<Option<Epoch>, EndpointError> {
        let key = self.endpoint.keys().leader();
        let options = PutOptions::new().with_lease(lease);
        let txn = Txn::new()
            .when([Compare::create_revision(key.clone(), CompareOp::Equal, 0)])
            .and_then([TxnOp::put(key, self.own.encode(), Some(options))]);
        let response = self.endpoint.txn("become the leading pod", txn).await?;
        let epoch = Epoch(revision(response.header()));
        Ok(response.succeeded().then_some(epoch))
    }

    /// Waits until the key is deleted, after this revision.
    async fn vacated(&self, revision: i64) -> Result<(), EndpointError> {
        let what = "wait for the leading pod";
        let options = WatchOptions::new()
            .with_start_revision(revision + 1)
            .with_filters([WatchFilterType::NoPut]);
        let mut watch = self.endpoint.client().watch_client();
        let key = self.endpoint.keys().leader();
        let mut stream = call(what, watch.watch(key, Some(options))).await?;
        loop {
            let message = stream.message().await;
            let response = message
                .map_err(|error| EndpointError::of(what, &error))?
                .ok_or_else(|| EndpointError::unknown(what, "the watch has ended"))?;
            if response.canceled() {
                return Err(EndpointError::unknown(what, response.cancel_reason()));
            }
            let mut events = response.events().iter();
            if events.any(|event| event.event_type() == EventType::Delete) {
                return Ok(());
            }
        }
    }
}

/// Ends the leadership of a pod whose process is gone. Returns false if another pod leads already,
/// or none.
pub(crate) async fn depose(endpoint: &Endpoint, leader: &Leader) -> Result<bool, EndpointError> {
    let key = endpoint.keys().leader();
    let held = endpoint.get("read who leads", key).await?;
    let held = held.filter(|kv| Leader::decode(kv.value()).as_ref() == Some(leader));
    let Some(held) = held else {
        return Ok(false);
    };
    let mut leases = endpoint.client().lease_client();
    let revoked = call("end a lease", leases.revoke(held.lease())).await;
    revoked.map(|_| true)
}

impl Leadership {
    /// What fences the writes of this leadership.
    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The lease was granted after this time.
    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    /// Keeps the lease alive. Returns when it is lost, or was not renewed for its whole time to
    /// live.
    ///
    /// Calls `note` with times at which it was valid.
    pub(crate) async fn keep(&self, note: impl Fn(Instant)) {
        let every = self.ttl / RENEWALS_PER_TTL;
        let mut renewed = self.began;
        loop {
            clock::sleep(every).await;
            let asked = clock::now();
            match clock::timeout_at(renewed + self.ttl, self.renew()).await {
                Ok(Ok(())) => {
                    renewed = asked;
                    note(asked);
                }
                Ok(Err(Error::LeaseKeepAliveError(reason))) => {
                    tracing::warn!(reason, "lost the leadership's lease");
                    return;
                }
                Ok(Err(error)) => tracing::warn!(%error, "could not renew the leadership's lease"),
                Err(_) => {
                    tracing::warn!(
                        ttl_ms = millis(self.ttl),
                        "the lease was not renewed in time"
                    );
                    return;
                }
            }
        }
    }

    async fn renew(&self) -> Result<(), Error> {
        let mut leases = self.endpoint.client().lease_client();
        // Returns after the first answer, which says whether the lease exists.
        leases.keep_alive(self.lease).await.map(drop)
    }

    /// Ends the lease, and with it the key, so that another pod can lead at once. A transaction of
    /// this leadership that still arrives does nothing.
    pub(crate) async fn resign(self) {
        let mut leases = self.endpoint.client().lease_client();
        let revoked = call("end a lease", leases.revoke(self.lease)).await;
        if let Err(error) = revoked {
            let ttl_ms = millis(self.ttl);
            tracing::info!(%error, ttl_ms, "the leadership's lease ends by itself");
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Leader {
    /// A pod that other pods reach at this URL.
    pub(crate) fn new(address: String) -> Self {
        Self {
            secret: random::secret(),
            address,
        }
    }

    fn encode(&self) -> String {
        let secret = u128::from_be_bytes(self.secret);
        format!("{secret:032x} {}", self.address)
    }

    fn decode(value: &[u8]) -> Option<Self> {
        let (secret, address) = std::str::from_utf8(value).ok()?.split_once(' ')?;
        Some(Self {
            secret: u128::from_str_radix(secret, 16).ok()?.to_be_bytes(),
            address: address.to_owned(),
        })
    }
}

/// Secrets are not printed.
impl std::fmt::Debug for Leader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Leader").field(&self.address).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_is_read_as_it_was_written() {
        let leader = Leader::new("http://pod-0:2190".to_owned());
        let text = leader.encode();
        assert!(text.ends_with(" http://pod-0:2190"), "{text}");
        assert_eq!(Leader::decode(text.as_bytes()), Some(leader));
        for other in ["", "7", "x http://pod", "\u{fffd}"] {
            assert_eq!(Leader::decode(other.as_bytes()), None, "{other}");
        }
    }
}
