//! The invariants, checked after every event. Each has its own file and cites its source.
//!
//! The simulated shells report their actions, and the invariants check them. They know the true
//! time, all disks (including those of crashed nodes) and everything that was ever committed. A
//! violated invariant ends the run.

mod ack_durability;
mod adoption;
mod agreement;
mod client_answers;
mod config_agreement;
mod config_in_log;
mod durable_claims;
mod durable_quorum;
mod election_safety;
mod exactly_once;
mod kept_promises;
mod leader_completeness;
mod lease_exclusivity;
mod lease_promises;
mod linearizability;
mod log_matching;
mod log_recovery;
mod model;
mod monotonic;
mod one_config;
mod own_acks;
mod own_commit;
mod own_term;
mod peer_progress;
mod positions;
mod pre_vote;
mod read_index;
mod real_time;
mod shell_contract;
mod state_equality;
mod timeouts;
mod transfer_lease;

use std::collections::BTreeMap;

use synod_consensus_core::{
    ConfigCommand, Entry, EntryKind, Membership, Message, SnapshotMeta, Status, Write,
};
use synod_types::{Ballot, Index, LogPosition, NodeId, RequestId, Tick};

pub(crate) use self::agreement::Agreement;
pub(crate) use self::client_answers::{check_read, check_write};
pub(crate) use self::exactly_once::ExactlyOnce;
pub(crate) use self::kept_promises::is_forbidden;
pub(crate) use self::lease_exclusivity::Lease;
pub(crate) use self::linearizability::{History, check as check_history};
pub(crate) use self::log_recovery::{LogAction, RULE as LOG_RECOVERY, Recovered};
pub(crate) use self::real_time::RealTime;
pub(crate) use self::shell_contract::RULE as SHELL_CONTRACT;
pub(crate) use self::transfer_lease::check as check_transfer;
use crate::Algorithm;
use crate::command::Applied;
use crate::disk_model::DurableLog;

/// An invariant, as named in reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invariant {
    /// The invariant's name.
    pub name: &'static str,
    /// The source of the invariant.
    pub source: &'static str,
}

/// All invariants. The cores' own assertions are `core-assertion`.
pub const INVARIANTS: [Invariant; 36] = [
    election_safety::RULE,
    log_matching::RULE,
    agreement::RULE,
    leader_completeness::RULE,
    durable_quorum::RULE,
    durable_quorum::KEPT,
    positions::RULE,
    monotonic::RULE,
    state_equality::RULE,
    ack_durability::RULE,
    durable_claims::RULE,
    lease_exclusivity::RULE,
    lease_promises::RULE,
    kept_promises::RULE,
    transfer_lease::RULE,
    one_config::RULE,
    one_config::JOINT,
    own_term::RULE,
    peer_progress::RULE,
    config_agreement::RULE,
    config_in_log::RULE,
    own_commit::RULE,
    own_acks::RULE,
    adoption::RULE,
    pre_vote::RULE,
    timeouts::RULE,
    exactly_once::RULE,
    read_index::RULE,
    real_time::RULE,
    client_answers::RULE,
    linearizability::RULE,
    log_recovery::RULE,
    shell_contract::RULE,
    LIVENESS,
    CONVERGENCE,
    CORE_ASSERTION,
];

/// With a healthy majority there is soon a leader, and new proposals are committed.
pub(crate) const LIVENESS: Invariant = Invariant {
    name: "liveness",
    source: "Raft §5.6 and thesis §6; Paxos Made Simple §2.4, given one proposer",
};

/// Once all faults are healed, all members reach the same state.
pub(crate) const CONVERGENCE: Invariant = Invariant {
    name: "convergence",
    source: "Raft §5.3: the leader retries until all followers store all entries",
};

/// A core, the log or the keyspace panicked because of its own assertion.
pub(crate) const CORE_ASSERTION: Invariant = Invariant {
    name: "core-assertion",
    source: "assertions of the code under test",
};

/// A violated invariant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{invariant}: {detail}")]
pub struct Violation {
    /// The invariant's name.
    pub invariant: &'static str,
    /// What was observed.
    pub detail: String,
}

/// The result of a check.
pub(crate) type Check<T = ()> = Result<T, Violation>;

impl Invariant {
    /// Returns a violation unless `holds` is true.
    pub(crate) fn ensure(self, holds: bool, detail: impl FnOnce() -> String) -> Check {
        if holds {
            Ok(())
        } else {
            Err(self.broken(detail()))
        }
    }

    pub(crate) fn broken(self, detail: impl Into<String>) -> Violation {
        Violation {
            invariant: self.name,
            detail: detail.into(),
        }
    }
}

/// The state of the invariants.
pub(crate) struct Invariants {
    pub(crate) algorithm: Algorithm,
    elections: election_safety::Elections,
    written: log_matching::Written,
    configs: config_agreement::Configs,
    changes: own_commit::Changes,
    pre_votes: pre_vote::PreVotes,
    timeouts: timeouts::Timeouts,
    pub(crate) agreement: Agreement,
    pub(crate) once: ExactlyOnce,
    pub(crate) states: state_equality::States,
    pub(crate) leases: lease_exclusivity::Leases,
    pub(crate) promises: lease_promises::Promises,
    pub(crate) real_time: RealTime,
    nodes: BTreeMap<NodeId, Known>,
}

/// What is known about a node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// Everything that was reported as durable.
    pub(crate) disk: DurableLog,
    /// The log including all writes that the core has handed out.
    pub(crate) shadow: DurableLog,
    positions: monotonic::Last,
    led: own_term::Led,
    told: adoption::Told,
    acks: own_acks::Acks,
    /// The membership at the last turn. Entries that commit in this turn may have been decided by
    /// it.
    membership: Membership,
    /// Entries were handed out up to here since the start.
    handed: Index,
}

impl Invariants {
    pub(crate) fn new(algorithm: Algorithm, base: LogPosition) -> Self {
        Self {
            algorithm,
            elections: election_safety::Elections::default(),
            written: log_matching::Written::default(),
            configs: config_agreement::Configs::default(),
            changes: own_commit::Changes::default(),
            pre_votes: pre_vote::PreVotes::default(),
            timeouts: timeouts::Timeouts::default(),
            agreement: Agreement::new(base),
            once: ExactlyOnce::default(),
            states: state_equality::States::default(),
            leases: lease_exclusivity::Leases::default(),
            promises: lease_promises::Promises::default(),
            real_time: RealTime::default(),
            nodes: BTreeMap::new(),
        }
    }

    /// The last committed configuration in a node's log, and all uncommitted ones.
    pub(crate) fn memberships_of(&self, node: NodeId) -> Vec<Membership> {
        let Some(known) = self.nodes.get(&node) else {
            return Vec::new();
        };
        let committed = self.agreement.last();
        let mut all = Vec::new();
        for entry in known.shadow.entries.values().rev() {
            if entry.kind == EntryKind::Config
                && let Ok(command) = ConfigCommand::decode(entry.data.clone())
            {
                all.push(command.membership);
                if entry.index <= committed {
                    return all;
                }
            }
        }
        all.push(known.shadow.start.membership.clone());
        all
    }

    fn known(&mut self, node: NodeId) -> &mut Known {
        self.nodes.entry(node).or_default()
    }

    /// A node's data is lost for good. It still counts as present: no node with this id will vote
    /// again, so no quorum is possible without the other nodes that have the data.
    pub(crate) fn wiped(&mut self, node: NodeId) {
        self.leases.gone(node);
    }

    /// A process has ended. Promises that depended only on its clock are void, since no node acts
    /// on them any more.
    pub(crate) fn stopped(&mut self, node: NodeId) {
        self.leases.gone(node);
    }

    /// A node starts with an empty disk. `start` is what its bootstrap made durable.
    pub(crate) fn born(&mut self, node: NodeId, disk: DurableLog) {
        let known = self.known(node);
        known.shadow = disk.clone();
        known.disk = disk;
    }

    /// A process starts from the state that its log and its state machine kept.
    pub(crate) fn restarted(
        &mut self,
        node: NodeId,
        recovered: &Recovered<'_>,
        applied: Index,
    ) -> Check {
        let known = self.known(node);
        let disk = log_recovery::check(node, &known.disk, recovered)?;
        monotonic::at_restart(node, &mut known.positions, &disk)?;
        known.shadow = disk.clone();
        known.disk = disk;
        known.handed = applied;
        Ok(())
    }

    /// A node's first process starts.
    pub(crate) fn handed_from(&mut self, node: NodeId, applied: Index) {
        self.known(node).handed = applied;
    }

    /// Called after every turn of a node.
    pub(crate) fn after_turn(&mut self, node: NodeId, status: &Status) -> Check<bool> {
        let known = self.nodes.entry(node).or_default();
        positions::check(node, status)?;
        durable_claims::check(node, known, known.positions.commit(), status)?;
        monotonic::check(node, &mut known.positions, status)?;
        known.membership.clone_from(&status.membership);
        own_term::check(self.algorithm, node, &mut known.led, &known.shadow, status)?;
        if self.agreement.last() >= status.commit {
            self.configs.check(node, status)?;
        }
        config_in_log::check(self.algorithm, node, &known.shadow, status)?;
        let is_new = self.elections.check(node, status)?;
        if is_new {
            leader_completeness::check(self.algorithm, node, known, status, &self.agreement)?;
        }
        if let Some(known) = self.nodes.get(&node) {
            known.acks.check(node, status)?;
        }
        let nodes = &self.nodes;
        let chosen = self.agreement.last();
        peer_progress::check(self.algorithm, node, status, chosen, |id| nodes.get(&id))?;
        Ok(is_new)
    }

    /// A core hands out writes. `leads` is the ballot in which it leads, with its commit index.
    pub(crate) fn on_writes(
        &mut self,
        node: NodeId,
        writes: &[Write],
        leads: Option<(Ballot, Index)>,
    ) -> Check {
        let known = self.nodes.entry(node).or_default();
        for write in writes {
            self.written
                .check(self.algorithm, node, &known.shadow, write)?;
            shell_contract::check_write(self.algorithm, node, &known.shadow, write)?;
            one_config::check(self.algorithm, node, known, write, leads)?;
            self.changes
                .check(self.algorithm, node, &known.shadow, write, leads)?;
            known
                .told
                .check(self.algorithm, node, &known.shadow, write, leads)?;
            known.shadow.write(write);
        }
        Ok(())
    }

    /// Writes have become durable.
    pub(crate) fn on_durable(&mut self, node: NodeId, writes: &[Write]) -> Check {
        let known = self.nodes.entry(node).or_default();
        for write in writes {
            durable_quorum::check_kept(self.algorithm, node, &known.disk, write, &self.agreement)?;
            known.disk.write(write);
        }
        monotonic::durable(node, &mut known.positions, &known.disk)
    }

    /// The log was told to release what a state machine holds durably.
    pub(crate) fn on_release(&mut self, node: NodeId, start: &SnapshotMeta) {
        self.known(node).disk.release(start);
    }

    /// Like [`Invariants::on_release`], before the release is durable.
    pub(crate) fn on_release_asked(&mut self, node: NodeId, start: &SnapshotMeta) {
        self.known(node).shadow.release(start);
    }

    /// A peer's state was durably installed.
    pub(crate) fn on_installed(&mut self, node: NodeId, index: Index) {
        let known = self.known(node);
        known.disk.installed = known.disk.installed.max(index);
        known.handed = known.handed.max(index);
    }

    /// A message leaves a node.
    pub(crate) fn on_send(&mut self, tick: Tick, message: &Message) -> Check {
        self.timeouts.check(tick, message)?;
        self.promises.kept.check_pre_vote(tick, message)?;
        let Some(known) = self.nodes.get(&message.from) else {
            return Ok(());
        };
        self.pre_votes
            .check(self.algorithm, known.disk.last(), message)?;
        ack_durability::check(&known.disk, message)
    }

    /// A message reaches a core. If the core accepts its sender as leader, it supports no other
    /// candidate for as long as the leader asks, and before `loyal_until` only if that leader seems
    /// to be gone.
    pub(crate) fn on_received(
        &mut self,
        node: NodeId,
        now: Tick,
        loyal_until: Tick,
        message: &Message,
    ) {
        let known = self.nodes.entry(node).or_default();
        known.acks.received(message);
        let ballot = known.positions.ballot();
        self.promises
            .received(node, ballot, (now, loyal_until), message);
    }

    /// A core, which is in this ballot, is asked whether it would help a candidate.
    pub(crate) fn on_pre_vote(
        &mut self,
        node: NodeId,
        now: Tick,
        ballot: Ballot,
        message: &Message,
    ) {
        self.promises.kept.asked(node, now, ballot, message);
    }

    /// A core is told that a peer seems to be gone.
    pub(crate) fn on_gone(&mut self, node: NodeId, now: Tick, peer: NodeId) {
        self.promises.kept.gone(node, now, peer);
    }

    /// A candidate's request reached a core, with the core's ballots before and after it.
    pub(crate) fn on_asked(
        &self,
        node: NodeId,
        now: Tick,
        ballots: (Ballot, Ballot),
        candidate: NodeId,
    ) -> Check {
        self.promises.kept.check(node, now, ballots, candidate)
    }

    /// A candidate receives a promise, or a part of one, in its ballot.
    pub(crate) fn on_promised(&mut self, node: NodeId, ballot: Ballot, entries: &[Entry]) {
        self.known(node).told.promised(ballot, entries);
    }

    /// A node hands out committed entries. Returns the number of entries that no node has handed
    /// out before.
    pub(crate) fn on_committed(
        &mut self,
        node: NodeId,
        status: &Status,
        entries: &[Entry],
    ) -> Check<u64> {
        let mut new = 0;
        for entry in entries {
            let known = self.nodes.entry(node).or_default();
            shell_contract::check_handed(node, known.handed, entry)?;
            known.handed = entry.index;
            let ballot = status.ballot;
            if self.agreement.check(self.algorithm, node, ballot, entry)? {
                new += 1;
                self.once.committed(entry)?;
                if entry.kind == EntryKind::Config
                    && let Ok(command) = ConfigCommand::decode(entry.data.clone())
                {
                    self.configs.committed(entry.index, command.membership);
                }
                let nodes = &self.nodes;
                let before = nodes.get(&node).map(|known| &known.membership);
                let memberships = [Some(&status.membership), before];
                let known = |id| nodes.get(&id);
                durable_quorum::check(self.algorithm, memberships, node, entry, known)?;
            }
        }
        Ok(new)
    }

    /// A state machine has applied entries up to and including `last`.
    pub(crate) fn on_applied(
        &mut self,
        node: NodeId,
        first: Index,
        outcomes: &[Applied],
        digest: u64,
    ) -> Check {
        state_equality::check(node, &self.agreement, first, outcomes, digest)
    }

    /// A core reports that a read may be served.
    pub(crate) fn on_read(&self, node: NodeId, index: Index, floor: Index) -> Check {
        read_index::check(node, index, floor)
    }

    /// A core reports that a proposal was certainly not appended and never will be.
    pub(crate) fn on_refused(&mut self, id: RequestId) -> Check {
        self.once.refused(id)
    }
}
