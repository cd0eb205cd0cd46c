//! What all services of a node share: the way to propose and to read, limits, and the state that
//! was published last.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use synod_consensus_core::{Algorithm, Change, ReadMode, Rejected, Role};
use synod_proto::consensus::v1::{Command, MemberChange, member_change};
use synod_proto::etcd::etcdserverpb::{AlarmType, ResponseHeader};
use synod_replica::{Leadership, PeerBook, ProposeError, ReplicaHandle, is_transient};
use synod_runtime::clock;
use synod_service::{LargeReads, ResponseBudget, ScanPool, asked_timeout};
use synod_types::{ClusterId, NodeId};
use tokio::sync::Semaphore;
use tonic::metadata::MetadataMap;

use crate::error::Error;
use crate::metrics::{Metrics, Sample};
use crate::state::{Outcome, Reply, View};

/// The pause before a proposal that was refused for a moment is made again.
const RETRY: Duration = Duration::from_millis(20);

/// Backups that are sent at once; more are refused.
const MAX_BACKUPS: usize = 8;

/// Limits and choices that the services need, out of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) algorithm: Algorithm,
    pub(crate) name: String,
    pub(crate) client_urls: Vec<String>,
    pub(crate) max_request_bytes: usize,
    pub(crate) max_txn_ops: usize,
    pub(crate) max_learners: usize,
    pub(crate) strict_reconfig: bool,
    pub(crate) quota_bytes: u64,
    pub(crate) request_timeout: Duration,
    pub(crate) election_timeout: Duration,
    pub(crate) min_lease_ttl: i64,
    pub(crate) read_mode: ReadMode,
    /// The highest feature level that this member lets the cluster use.
    pub(crate) feature_level: u32,
}

/// Who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// A learner answers too.
    Anyone,
    /// A learner refuses.
    NeedsVoter,
}

/// Whether a change of members may be proposed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// It may.
    Ready,
    /// Not yet. It fails with this error if that doesn't change before the deadline.
    Later(Error),
}

/// A command that was applied here.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) header: ResponseHeader,
    pub(crate) reply: Reply,
}

/// One node's common ground.
pub(crate) struct ServiceContext {
    pub(crate) cluster: ClusterId,
    pub(crate) member: NodeId,
    pub(crate) settings: Settings,
    pub(crate) replica: ReplicaHandle<Outcome>,
    pub(crate) peers: PeerBook,
    pub(crate) view: Arc<View>,
    pub(crate) metrics: Metrics,
    pub(crate) reads: LargeReads,
    /// Places for backups that are being sent.
    pub(crate) backups: Arc<Semaphore>,
    /// The term and the leader as of the last change of role, without a lock.
    term: AtomicU64,
    leader: AtomicU64,
    leads: AtomicBool,
    stopping: AtomicBool,
}

impl fmt::Debug for ServiceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceContext")
            .field("cluster", &self.cluster)
            .field("member", &self.member)
            .finish_non_exhaustive()
    }
}

/// What [`ServiceContext::new`] needs.
pub(crate) struct Parts {
    pub(crate) cluster: ClusterId,
    pub(crate) member: NodeId,
    pub(crate) settings: Settings,
    pub(crate) replica: ReplicaHandle<Outcome>,
    pub(crate) peers: PeerBook,
    pub(crate) view: Arc<View>,
    pub(crate) metrics: Metrics,
    pub(crate) responses: ResponseBudget,
}

impl ServiceContext {
    pub(crate) fn new(parts: Parts) -> Self {
        let shared = Self {
            cluster: parts.cluster,
            member: parts.member,
            settings: parts.settings,
            replica: parts.replica,
            peers: parts.peers,
            view: parts.view,
            metrics: parts.metrics,
            reads: LargeReads {
                scans: ScanPool::default(),
                budget: parts.responses,
            },
            backups: Arc::new(Semaphore::new(MAX_BACKUPS)),
            term: AtomicU64::new(0),
            leader: AtomicU64::new(0),
            leads: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        };
        let now = *shared.replica.watch_role().borrow();
        shared.set_leadership(&now);
        shared
    }

    /// Takes note of a change of role.
    pub(crate) fn set_leadership(&self, leadership: &Leadership) {
        let leader = leadership.leader.unwrap_or(NodeId::NONE).get();
        self.leader.store(leader, Ordering::Relaxed);
        self.leads
            .store(leadership.role == Role::Leader, Ordering::Relaxed);
        self.term.store(leadership.ballot.round, Ordering::Relaxed);
    }

    /// The leader, if one is known.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        Some(NodeId::new(self.leader.load(Ordering::Relaxed))).filter(|leader| leader.is_some())
    }

    /// Whether this node leads, as far as it knows.
    pub(crate) fn is_leader(&self) -> bool {
        self.leads.load(Ordering::Relaxed)
    }

    /// The current term.
    pub(crate) fn term(&self) -> u64 {
        self.term.load(Ordering::Relaxed)
    }

    /// Whether this member counts for the quorum, as far as it knows. One that was added as a voter
    /// doesn't until it has caught up.
    pub(crate) fn votes(&self) -> bool {
        let status = self.replica.status();
        status.membership.voters.contains(&self.member)
    }

    /// Members that were added as voters and don't count yet: they join as learners, and the leader
    /// promotes them (`background`).
    pub(crate) fn joining(&self) -> Vec<NodeId> {
        let status = self.replica.status();
        let voters = &status.membership.voters;
        let roster = self.view.roster();
        let listed = roster.members().filter(|member| !member.is_learner);
        listed
            .map(|member| NodeId::new(member.id))
            .filter(|id| !voters.contains(id))
            .collect()
    }

    /// From here on the node is not ready.
    pub(crate) fn stop_serving(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether the node was asked to stop.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Whether the caller may ask this member at all, and until when it waits.
    ///
    /// # Errors
    /// A learner was asked what only voters answer, or the caller insists on a leader and there is
    /// none.
    pub(crate) fn admit(&self, metadata: &MetadataMap, caller: Caller) -> Result<Instant, Error> {
        if caller == Caller::NeedsVoter && self.view.is_learner() {
            return Err(Error::LearnerUnsupported);
        }
        if self.leader().is_none() && wants_leader(metadata) {
            return Err(Error::NoLeader);
        }
        let mut timeout = self.settings.request_timeout;
        if let Some(asked) = asked_timeout(metadata) {
            timeout = timeout.min(asked);
        }
        Ok(clock::now() + timeout)
    }

    /// Replicates a command and waits until it is applied here.
    ///
    /// # Errors
    /// The command's own failure, or why it was not replicated; [`Error::advice`] tells whether it
    /// may still happen.
    pub(crate) async fn propose(
        &self,
        command: &Command,
        deadline: Instant,
    ) -> Result<Applied, Error> {
        let size = command.encoded_len();
        if size > self.settings.max_request_bytes {
            return Err(Error::RequestTooLarge);
        }
        let mut data = BytesMut::with_capacity(size);
        // The buffer has exactly the room that is needed.
        command
            .encode(&mut data)
            .map_err(|error| Error::Internal(error.to_string()))?;
        let data = data.freeze();
        // What can't be read back must not reach the log: every member would meet it there.
        if Command::decode(data.clone()).is_err() {
            return Err(Error::Undecodable);
        }
        loop {
            match self.replica.propose(data.clone(), deadline).await {
                Err(error) if is_worth_another_try(&error, deadline) => {}
                outcome => return self.applied(outcome?),
            }
            clock::sleep(RETRY).await;
        }
    }

    /// Changes the membership; see [`ServiceContext::propose`]. `check` looks at the roster before
    /// each attempt: while one waited, another change may have come first.
    ///
    /// # Errors
    /// As [`ServiceContext::propose`], and those of `check`.
    pub(crate) async fn change_members(
        &self,
        change: Change,
        context: member_change::Change,
        check: impl Fn() -> Result<Readiness, Error>,
        deadline: Instant,
    ) -> Result<Applied, Error> {
        let context = MemberChange {
            change: Some(context),
        };
        let context = Bytes::from(context.encode_to_vec());
        loop {
            // The roster must know of all changes that were made before.
            self.linearize(deadline).await?;
            match check()? {
                Readiness::Ready => {
                    let (changes, context) = (vec![change], context.clone());
                    match self
                        .replica
                        .change_members(changes, context, deadline)
                        .await
                    {
                        Err(error) if is_worth_another_try(&error, deadline) => {}
                        outcome => return self.applied(outcome?),
                    }
                }
                Readiness::Later(error) if clock::now() + RETRY >= deadline => return Err(error),
                Readiness::Later(_) => {}
            }
            clock::sleep(RETRY).await;
        }
    }

    /// Waits until this member's state holds everything that was acknowledged before the call.
    ///
    /// # Errors
    /// No leader or no quorum in time.
    pub(crate) async fn linearize(&self, deadline: Instant) -> Result<(), Error> {
        match self.replica.read(self.settings.read_mode, deadline).await {
            Ok(_index) => Ok(()),
            Err(error) => {
                self.metrics.slow_reads.inc();
                Err(error.into())
            }
        }
    }

    /// The header of a response to a command or a read at `revision`.
    pub(crate) fn header(&self, revision: i64) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.cluster.get(),
            member_id: self.member.get(),
            revision,
            raft_term: self.term(),
        }
    }

    /// The header of Cluster's responses, which carry no revision.
    pub(crate) fn header_without_revision(&self) -> ResponseHeader {
        self.header(0)
    }

    /// The header of a response that is about no revision in particular: the current one.
    pub(crate) fn header_now(&self) -> ResponseHeader {
        self.header(self.view.revision())
    }

    /// Refuses writes that need space while there is none.
    ///
    /// # Errors
    /// [`Error::NoSpace`] while the alarm is raised anywhere; [`Error::Corrupt`] likewise.
    pub(crate) fn check_space(&self) -> Result<(), Error> {
        if !self.view.alarms_raised() {
            return Ok(());
        }
        let roster = self.view.roster();
        if roster.alarmed(AlarmType::Corrupt) {
            return Err(Error::Corrupt);
        }
        if roster.alarmed(AlarmType::Nospace) {
            return Err(Error::NoSpace);
        }
        Ok(())
    }

    /// Whether a read would be answered.
    ///
    /// # Errors
    /// Why not.
    pub(crate) async fn probe(&self, serializable: bool) -> Result<(), Error> {
        if !serializable {
            self.linearize(clock::now() + self.settings.request_timeout)
                .await?;
        }
        self.view.probe()
    }

    /// What the gauges show.
    pub(crate) fn sample(&self) -> Sample {
        let sizes = self.view.sizes();
        Sample {
            is_learner: self.view.is_learner(),
            votes: self.votes(),
            joining: self.joining().len(),
            live_bytes: sizes.live,
            total_bytes: sizes.total(),
            disk_bytes: self.view.disk_bytes(),
            revision: self.view.revision(),
            compacted: self.view.compacted(),
            keys: sizes.keys,
            cluster_version: self.view.roster().version().map(str::to_owned),
            feature_level: self.view.roster().feature_level(),
        }
    }

    fn applied(&self, outcome: Outcome) -> Result<Applied, Error> {
        let reply = outcome.result?;
        let header = ResponseHeader {
            cluster_id: self.cluster.get(),
            member_id: self.member.get(),
            revision: outcome.revision,
            raft_term: outcome.term,
        };
        Ok(Applied { header, reply })
    }
}

/// Whether to repeat a proposal: it was certainly not appended, and may succeed before the
/// deadline. The replica has waited already where it could, except for another change of members.
fn is_worth_another_try(error: &ProposeError, deadline: Instant) -> bool {
    let ProposeError::Rejected(rejected) = error else {
        return false;
    };
    let passes = is_transient(*rejected) || *rejected == Rejected::ConfigChangeInFlight;
    passes && clock::now() + RETRY < deadline
}

/// Clients that would rather fail than wait for a leader say so in the metadata.
pub(crate) fn wants_leader(metadata: &MetadataMap) -> bool {
    metadata
        .get("hasleader")
        .is_some_and(|value| value == "true")
}
