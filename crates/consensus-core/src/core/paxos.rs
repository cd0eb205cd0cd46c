//! Multi-Paxos (Lamport: "The Part-Time Parliament", 1998; "Paxos Made Simple", 2001), reconfigured
//! as in "Reconfiguring a state machine" (Lamport, Malkhi, Zhou, 2010) with a window of one around
//! configurations.
//!
//! Slots are log indexes. An acceptor's log is what it has accepted: a value per slot, with its
//! ballot. Up to `commit` the values are chosen. After `commit`, a leader's entries have its own
//! ballot.

mod accept;
mod lead;
mod load;
mod phase1;
mod synod;

use std::collections::VecDeque;

use bytes::Bytes;
use synod_types::{Ballot, Index, LogPosition, NodeId, RequestId, Tick};

use super::{Core, protocol::Protocol, restore::Loaded};
use crate::mutants::{Mutant, is_active};
use crate::{
    Body, CommonBody, ConfigCommand, ConfigError, Entry, EntryKind, Handover, Membership,
    PaxosBody, Rejected, Restored, SnapshotMeta, Write,
};

use phase1::Phase1;

/// A Multi-Paxos core: one member's part in one group.
pub type MultiPaxos = Core<PaxosRules>;

/// The state that only Multi-Paxos needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PaxosRules {
    /// Everything up to here is chosen or accepted in the ballot `held_in`.
    held: Index,
    held_in: Ballot,
    /// Values that a leader will propose once the configuration before them is chosen.
    queue: VecDeque<Queued>,
    queued_bytes: u64,
    /// Whether a snapshot is being fetched so that this node can campaign.
    resume: bool,
    /// The earliest time at which the commit index alone may be worth a write again.
    note_at: Tick,
}

/// A value that waits for its slot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Queued {
    id: RequestId,
    kind: EntryKind,
    data: Bytes,
    origin: Origin,
}

/// Whom to tell if a value is not proposed after all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Origin {
    /// The shell.
    Local,
    /// The node with this id, which forwarded it.
    Remote(NodeId),
    /// No one: it was accepted in an earlier ballot and may still be chosen.
    Recovered,
}

impl Protocol for PaxosRules {
    type Campaign = Phase1;

    /// A node needs the previous configuration to determine whether the first one in its log was
    /// chosen.
    const JOINS_BY_SNAPSHOT: bool = true;

    fn load(restored: Restored) -> Result<Loaded, ConfigError> {
        load::load(restored)
    }

    /// Accepted configurations count too, since they may have been chosen.
    fn is_sole(loaded: &Loaded, node: NodeId) -> bool {
        let accepted = loaded.log.from(loaded.log.start().index.next());
        loaded.configs.current().is_sole_voter(node)
            && accepted
                .filter(|entry| entry.kind == EntryKind::Config)
                .filter_map(|entry| ConfigCommand::decode(entry.data.clone()).ok())
                .all(|command| command.membership.is_sole_voter(node))
    }

    fn is_ballot(ballot: Ballot) -> bool {
        ballot.round < u64::MAX
    }

    fn next_ballot(latest: Ballot, node: NodeId) -> Ballot {
        Ballot {
            round: latest.round.saturating_add(1),
            node: node.get(),
        }
    }

    /// A ballot has only one proposer, so its messages must come from that node.
    fn admits(from: NodeId, ballot: Ballot, body: &Body) -> bool {
        let is_proposers = match body {
            Body::Raft(_) => return false,
            Body::Common(body) => {
                body.is_from_leader() || matches!(body, CommonBody::PreVote { .. })
            }
            Body::Paxos(body) => match body {
                PaxosBody::Prepare { .. } | PaxosBody::Accept { .. } => true,
                PaxosBody::Promise { .. }
                | PaxosBody::Nack
                | PaxosBody::Accepted { .. }
                | PaxosBody::Gap { .. } => false,
            },
        };
        !is_proposers || ballot.node == from.get()
    }

    fn candidacy(_ballot: Ballot, body: &Body) -> Option<Option<Handover>> {
        let Body::Paxos(PaxosBody::Prepare { transfer, .. }) = body else {
            return None;
        };
        Some(*transfer)
    }

    /// A node may also vote if it has accepted a configuration in which it is a voter. It may be
    /// the only such voter that is alive, and must determine whether that configuration was chosen.
    fn may_vote(core: &Core<Self>) -> bool {
        let id = core.config.id;
        let accepted = core.log.from(core.commit.next());
        core.configs.decided().is_voter(id)
            || accepted
                .filter(|entry| entry.kind == EntryKind::Config)
                .filter_map(|entry| ConfigCommand::decode(entry.data.clone()).ok())
                .any(|command| command.membership.is_voter(id))
    }

    /// Any log will do: phase 1 supplies what it lacks.
    fn may_lead(core: &Core<Self>, last: LogPosition) -> bool {
        !is_active(Mutant::LogCheckInPaxosPreVote) || last >= core.log.last()
    }

    fn campaign(core: &mut Core<Self>, handover: Option<Handover>) {
        core.begin_phase1(handover);
    }

    fn ask_again_at(campaign: &Phase1) -> Tick {
        campaign.ask_again_at()
    }

    fn ask_again(core: &mut Core<Self>) {
        core.prepare_again();
    }

    fn own_vote_durable(core: &mut Core<Self>) {
        core.end_phase1();
    }

    #[inline]
    fn on_message(core: &mut Core<Self>, from: NodeId, body: Body) -> Result<(), Rejected> {
        let Body::Paxos(body) = body else {
            return Err(Rejected::InvalidMessage);
        };
        match body {
            PaxosBody::Prepare { from: slot, .. } => core.on_prepare(from, slot),
            PaxosBody::Promise {
                from: slot,
                commit,
                entries,
                next,
                snapshot,
            } => {
                let chunk = phase1::Chunk {
                    slot,
                    commit,
                    entries,
                    next,
                    snapshot,
                };
                return core.on_promise(from, chunk);
            }
            PaxosBody::Accept {
                prev,
                entries,
                commit,
            } => return core.on_accept(from, prev, entries, commit),
            PaxosBody::Accepted { upto } => core.on_accepted(from, upto),
            PaxosBody::Gap { prev, held } => core.on_lacking(from, prev, held),
            // It only carries a ballot, which is not above this node's.
            PaxosBody::Nack => {}
        }
        Ok(())
    }

    fn stepped_down(core: &mut Core<Self>) {
        core.drop_queue();
        core.configs.withdraw();
        core.log.close_gap();
    }

    fn append_own(
        core: &mut Core<Self>,
        id: RequestId,
        kind: EntryKind,
        data: Bytes,
        from: Option<NodeId>,
    ) {
        let origin = from.map_or(Origin::Local, Origin::Remote);
        core.propose_value(Queued {
            id,
            kind,
            data,
            origin,
        });
    }

    fn queued_bytes(core: &Core<Self>) -> u64 {
        core.rules.queued_bytes
    }

    /// All entries of a leader after the chosen ones have its own ballot.
    fn may_commit(core: &Core<Self>, index: Index) -> bool {
        index <= core.log.last().index
    }

    /// A chosen value may be proposed in any later ballot: phase 1 would find the same one (P2c).
    fn append<'a>(
        ballot: Ballot,
        prev: LogPosition,
        entries: impl Iterator<Item = &'a Entry>,
        commit: Index,
    ) -> Body {
        let entries = entries.map(|entry| entry.with_ballot(ballot));
        Body::Paxos(PaxosBody::Accept {
            prev: prev.index,
            entries: entries.collect(),
            commit,
        })
    }

    fn acknowledgement(matched: Index) -> Body {
        Body::Paxos(PaxosBody::Accepted { upto: matched })
    }

    fn acknowledged(body: &mut Body) -> Option<&mut Index> {
        match body {
            Body::Paxos(PaxosBody::Accepted { upto }) => Some(upto),
            Body::Common(_) | Body::Raft(_) | Body::Paxos(_) => None,
        }
    }

    fn learn_commit(core: &mut Core<Self>, commit: LogPosition) {
        let held = core.held();
        core.set_commit(commit.index.min(held));
    }

    fn note_commit(core: &mut Core<Self>) {
        if core.now >= core.rules.note_at {
            core.rules.note_at = core.now.plus(core.config.heartbeat_ticks);
            core.storage.note_commit();
        }
    }

    fn committed(core: &mut Core<Self>, before: Index) {
        core.slots_chosen(before);
    }

    /// A configuration is handed out once the slot after it is chosen, too. Nothing is proposed in
    /// later slots before the configuration is chosen. So by then a majority of the new voters
    /// durably knows that it is chosen, and the old voters may be switched off.
    fn settled(core: &Core<Self>) -> Index {
        if core.configs.current_index() == core.commit {
            core.commit.prev()
        } else {
            core.commit
        }
    }

    /// The final membership at once: there is no joint one.
    fn proposed(first: Membership) -> Membership {
        first.leave()
    }

    fn config_appended(core: &mut Core<Self>, membership: Membership) {
        core.configs.propose(core.log.last().index, membership);
        core.sync_peers();
    }

    /// A configuration is handed out only with the slot after it.
    fn farewell(index: Index) -> Index {
        index.next()
    }

    fn knows(core: &Core<Self>, last: LogPosition) -> bool {
        last.index <= core.commit
    }

    fn replace_log(core: &mut Core<Self>, meta: SnapshotMeta) {
        core.log.advance(meta.last);
        let last = meta.last.index;
        core.storage.replace(Write::Advance(meta), last);
        if std::mem::take(&mut core.rules.resume) && core.leader.is_none() {
            // Not before the promise has ended: the leader may only seem to be gone.
            core.election_deadline = core.now.max(core.promise.until);
        }
    }
}
