//! Raft (Ongaro, Ousterhout 2014; Ongaro's thesis).

mod election;
mod load;
mod replication;

use bytes::Bytes;
use synod_types::{Ballot, Index, LogPosition, NodeId, RequestId, Tick};

use super::{Core, Part, election::Votes, protocol::Protocol, restore::Loaded};
use crate::mutants::{Mutant, is_active};
use crate::{
    AppendOutcome, Body, ConfigCommand, ConfigError, Entry, EntryFields, EntryKind, Handover,
    Membership, RaftBody, Rejected, Restored, SnapshotMeta, Write,
};

/// A Raft core: one member's part in one group.
pub type Raft = Core<RaftRules>;

/// Raft needs no additional state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RaftRules;

impl Protocol for RaftRules {
    type Campaign = Votes;

    /// A node only needs the last configuration in its log.
    const JOINS_BY_SNAPSHOT: bool = false;

    fn load(restored: Restored) -> Result<Loaded, ConfigError> {
        load::load(restored)
    }

    fn is_sole(loaded: &Loaded, node: NodeId) -> bool {
        loaded.configs.current().is_sole_voter(node)
    }

    /// A Raft ballot is a term, without a node.
    fn is_ballot(ballot: Ballot) -> bool {
        ballot.node == 0 && ballot.round < u64::MAX
    }

    fn next_ballot(latest: Ballot, _node: NodeId) -> Ballot {
        Ballot::term(latest.round.saturating_add(1))
    }

    fn admits(_from: NodeId, ballot: Ballot, body: &Body) -> bool {
        Self::is_ballot(ballot) && !matches!(body, Body::Paxos(_))
    }

    /// The leader that hands over leadership led in the term before.
    fn candidacy(ballot: Ballot, body: &Body) -> Option<Option<Handover>> {
        let Body::Raft(RaftBody::Vote { transfer, .. }) = body else {
            return None;
        };
        Some(transfer.map(|transfers| Handover {
            by: Ballot::term(ballot.round.saturating_sub(1)),
            transfers,
        }))
    }

    /// A node without a vote in its latest configuration may campaign until that configuration is
    /// committed: it may be the only node that has the entry, and no node with an older log can win
    /// (thesis §4.2.2).
    fn may_vote(core: &Core<Self>) -> bool {
        let id = core.config.id;
        core.membership().is_voter(id) || core.configs.at(core.commit).is_voter(id)
    }

    /// The election restriction (Raft §5.4.1).
    fn may_lead(core: &Core<Self>, last: LogPosition) -> bool {
        last >= core.log.last()
    }

    fn campaign(core: &mut Core<Self>, handover: Option<Handover>) {
        core.campaign(handover.map(|handover| handover.transfers));
    }

    /// The next campaign repeats a lost vote request.
    fn ask_again_at(_campaign: &Votes) -> Tick {
        Tick::MAX
    }

    fn ask_again(_core: &mut Core<Self>) {}

    fn own_vote_durable(core: &mut Core<Self>) {
        core.count_own_vote();
    }

    #[inline]
    fn on_message(core: &mut Core<Self>, from: NodeId, body: Body) -> Result<(), Rejected> {
        let Body::Raft(body) = body else {
            return Err(Rejected::InvalidMessage);
        };
        match body {
            RaftBody::Vote { last, .. } => core.on_vote(from, last),
            RaftBody::VoteReply { granted } => core.on_vote_reply(from, granted),
            RaftBody::Append {
                prev,
                entries,
                commit,
            } => return core.on_append(from, prev, entries, commit),
            RaftBody::AppendReply { outcome } => return core.on_append_reply(from, outcome),
        }
        Ok(())
    }

    fn stepped_down(_core: &mut Core<Self>) {}

    fn append_own(
        core: &mut Core<Self>,
        id: RequestId,
        kind: EntryKind,
        data: Bytes,
        _from: Option<NodeId>,
    ) {
        let entry = EntryFields {
            index: core.log.last().index.next(),
            ballot: core.ballot,
            id,
            kind,
            data,
        };
        core.log.push(entry.into());
    }

    fn queued_bytes(_core: &Core<Self>) -> u64 {
        0
    }

    /// Only entries of this term: an entry of an earlier term may be replaced even if a majority
    /// has it (Raft §5.4.2, figure 8).
    fn may_commit(core: &Core<Self>, index: Index) -> bool {
        core.log.ballot_at(index) == Some(core.ballot) || is_active(Mutant::PriorTermByCount)
    }

    fn append<'a>(
        _ballot: Ballot,
        prev: LogPosition,
        entries: impl Iterator<Item = &'a Entry>,
        commit: Index,
    ) -> Body {
        Body::Raft(RaftBody::Append {
            prev,
            entries: entries.cloned().collect(),
            commit,
        })
    }

    fn acknowledgement(matched: Index) -> Body {
        let outcome = AppendOutcome::Matched(matched);
        Body::Raft(RaftBody::AppendReply { outcome })
    }

    fn acknowledged(body: &mut Body) -> Option<&mut Index> {
        match body {
            Body::Raft(RaftBody::AppendReply {
                outcome: AppendOutcome::Matched(upto),
            }) => Some(upto),
            Body::Common(_) | Body::Raft(_) | Body::Paxos(_) => None,
        }
    }

    /// The entry is committed here too, if we have exactly that entry.
    fn learn_commit(core: &mut Core<Self>, commit: LogPosition) {
        if core.log.matches(commit) {
            core.set_commit(commit.index);
        }
    }

    /// Not needed: a restart determines the commit index again.
    fn note_commit(_core: &mut Core<Self>) {}

    fn committed(core: &mut Core<Self>, before: Index) {
        core.config_committed(before);
    }

    fn settled(core: &Core<Self>) -> Index {
        core.commit
    }

    /// Joint consensus (Raft thesis §4.3).
    fn proposed(first: Membership) -> Membership {
        if is_active(Mutant::NoJointConfiguration) {
            return first.leave();
        }
        first
    }

    fn config_appended(core: &mut Core<Self>, membership: Membership) {
        core.configs.push(core.log.last().index, membership);
        core.sync_peers();
    }

    fn farewell(index: Index) -> Index {
        index
    }

    fn knows(core: &Core<Self>, last: LogPosition) -> bool {
        core.log.matches(last)
    }

    fn replace_log(core: &mut Core<Self>, meta: SnapshotMeta) {
        core.log.reset(meta.last);
        let last = meta.last.index;
        core.storage.replace(Write::Reset(meta), last);
    }
}

impl Core<RaftRules> {
    /// Entries after `before` were committed.
    fn config_committed(&mut self, before: Index) {
        if is_active(Mutant::ConfigAtApply) {
            self.adopt_committed_configs(before);
        }
        if let Some(removed) = self.configs.removes(self.config.id, before, self.commit) {
            self.removed = removed;
        }
        let Part::Leader(leading) = &mut self.part else {
            return;
        };
        // The joint configuration ends automatically once its start is committed. A new leader that
        // finds one has committed an entry of its own here, since its commit index can't advance
        // otherwise.
        if self.configs.current_index() > self.commit {
            return;
        }
        if self.configs.current().is_joint() {
            let command = ConfigCommand {
                membership: self.configs.current().leave(),
                context: Bytes::new(),
            };
            RaftRules::append_own(
                self,
                RequestId::NONE,
                EntryKind::Config,
                command.encode(),
                None,
            );
            RaftRules::config_appended(self, command.membership);
        } else if !self.configs.current().voters.contains(&self.config.id) {
            // A leader that is no longer a voter leads until that configuration is committed (Raft
            // thesis §4.2.2).
            leading.resigning = true;
        }
    }
}
