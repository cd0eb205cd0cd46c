//! What all services of a node share: proposals, linearizable reads, limits, and the published
//! state.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use synod_auth::{Auth, AuthState};
use synod_consensus_core::{Algorithm, Change, ReadMode, Rejected, Role};
use synod_proto::consensus::v1::{Command, MemberChange, command::Command as Kind, member_change};
use synod_proto::etcd::etcdserverpb::{AlarmType, ResponseHeader};
use synod_replica::{Leadership, PeerBook, ProposeError, ReplicaHandle, is_transient};
use synod_runtime::clock;
use synod_service::{LargeReads, ResponseBudget, ScanPool};
use synod_types::{ClusterId, NodeId};
use tokio::sync::Semaphore;

use crate::call::Call;
use crate::error::Error;
use crate::metrics::{Metrics, Sample};
use crate::state::{Outcome, Reply, View};

/// The pause before a proposal is repeated.
const RETRY: Duration = Duration::from_millis(20);

/// How many backups are sent at once; more are refused.
const MAX_BACKUPS: usize = 8;

/// The part of the configuration that the services need.
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
    /// Whether the common name of a client's certificate is the name of a user.
    pub(crate) certificates_name_users: bool,
}

/// Whether a change of members can be proposed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// It can.
    Ready,
    /// Not yet. If that does not change before the deadline, the change fails with this error.
    Later(Error),
}

/// A command that was applied here.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) header: ResponseHeader,
    pub(crate) reply: Reply,
}

/// What the services of one node share.
pub(crate) struct ServiceContext {
    pub(crate) cluster: ClusterId,
    pub(crate) member: NodeId,
    pub(crate) settings: Settings,
    pub(crate) replica: ReplicaHandle<Outcome>,
    pub(crate) peers: PeerBook,
    pub(crate) view: Arc<View>,
    /// Users and roles, and the users of tokens.
    pub(crate) auth: Arc<Auth>,
    pub(crate) metrics: Metrics,
    pub(crate) reads: LargeReads,
    /// Permits for backups.
    pub(crate) backups: Arc<Semaphore>,
    // Term and leader as of the last change of role.
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
    pub(crate) auth: Arc<Auth>,
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
            auth: parts.auth,
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

    /// Records a change of role.
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

    /// Whether this member counts for the quorum, as far as it knows. A member that was added as a
    /// voter counts once it has caught up.
    pub(crate) fn votes(&self) -> bool {
        let status = self.replica.status();
        status.membership.voters.contains(&self.member)
    }

    /// The members that were added as voters and don't count yet. They join as learners, and the
    /// leader promotes them (`background`).
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

    /// Makes readiness checks fail from now on.
    pub(crate) fn stop_serving(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether the node was told to stop.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Replicates a command and waits until it is applied here.
    ///
    /// # Errors
    /// The command failed, or was not replicated. [`Error::advice`] says whether it may still take
    /// effect.
    pub(crate) async fn propose(&self, kind: Kind, call: &Call) -> Result<Applied, Error> {
        let (deadline, requester) = (call.deadline, self.requester(call).await?);
        let command = Command {
            command: Some(kind),
            requester,
        };
        let size = command.encoded_len();
        if size > self.settings.max_request_bytes {
            return Err(Error::RequestTooLarge);
        }
        let mut data = BytesMut::with_capacity(size);
        // Can't fail: the buffer has the right size.
        command
            .encode(&mut data)
            .map_err(|error| Error::Internal(error.to_string()))?;
        let data = data.freeze();
        // What can't be decoded must not get into the log of all members.
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

    /// Changes the membership, as [`ServiceContext::propose`] does for commands. `check` is
    /// repeated before each attempt, since another change may have come first.
    ///
    /// # Errors
    /// As [`ServiceContext::propose`], and the errors of `check`.
    pub(crate) async fn change_members(
        &self,
        change: Change,
        context: member_change::Change,
        check: impl Fn() -> Result<Readiness, Error>,
        call: &Call,
    ) -> Result<Applied, Error> {
        let deadline = call.deadline;
        let context = MemberChange {
            change: Some(context),
        };
        let context = Bytes::from(context.encode_to_vec());
        loop {
            // `check` must see all changes that were acknowledged.
            self.linearize(deadline).await?;
            // A change of members names no client in the log, so this is its only check.
            self.permit(call, AuthState::check_root).await?;
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

    /// Waits until this member has applied everything that was acknowledged before the call.
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

    /// The header of the Cluster service's responses, which have no revision.
    pub(crate) fn header_without_revision(&self) -> ResponseHeader {
        self.header(0)
    }

    /// The header of a response that belongs to no revision: it has the current one.
    pub(crate) fn header_now(&self) -> ResponseHeader {
        self.header(self.view.revision())
    }

    /// Refuses writes while an alarm forbids them.
    ///
    /// # Errors
    /// [`Error::NoSpace`] or [`Error::Corrupt`] while any member has raised that alarm.
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

    /// Checks that a read succeeds.
    ///
    /// # Errors
    /// Why it fails.
    pub(crate) async fn probe(&self, serializable: bool) -> Result<(), Error> {
        if !serializable {
            self.linearize(clock::now() + self.settings.request_timeout)
                .await?;
        }
        self.view.probe()
    }

    /// The values of the gauges.
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
        let result = outcome.result;
        let reply = result.inspect_err(|error| self.metrics.denied.count(error))?;
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
/// deadline. The replica itself waits for all but another change of members.
fn is_worth_another_try(error: &ProposeError, deadline: Instant) -> bool {
    let ProposeError::Rejected(rejected) = error else {
        return false;
    };
    let passes = is_transient(*rejected) || *rejected == Rejected::ConfigChangeInFlight;
    passes && clock::now() + RETRY < deadline
}
