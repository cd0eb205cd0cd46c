//! The decisions of an algorithm. The rest of the core is the same for all.

use std::{fmt::Debug, hash::Hash};

use bytes::Bytes;
use synod_types::{Ballot, Index, LogPosition, NodeId, RequestId, Tick};

use super::{Core, restore::Loaded};
use crate::{
    Body, ConfigError, Entry, EntryKind, Handover, Membership, Rejected, Restored, SnapshotMeta,
};

/// A consensus algorithm with a leader. A value of the type is the state that only this algorithm
/// needs.
pub trait Protocol: Sized + Clone + Debug + Default + PartialEq + Eq + Hash + Send {
    /// A candidate's state.
    type Campaign: Clone + Debug + PartialEq + Eq + Hash + Send;

    /// Whether a joining node needs to know the membership before the first entry.
    const JOINS_BY_SNAPSHOT: bool;

    /// Loads the restored state, and checks it by the rules of this algorithm.
    fn load(restored: Restored) -> Result<Loaded, ConfigError>;

    /// Whether certainly no other node had a vote before the restart.
    fn is_sole(loaded: &Loaded, node: NodeId) -> bool;

    /// Whether a leader can have had this ballot.
    fn is_ballot(ballot: Ballot) -> bool;

    /// The ballot with which `node` campaigns after `latest`.
    fn next_ballot(latest: Ballot, node: NodeId) -> Ballot;

    /// Whether a correct peer may send this message.
    fn admits(from: NodeId, ballot: Ballot, body: &Body) -> bool;

    /// For a message that asks for this node's help to become the leader: the leader that told the
    /// candidate to campaign, if any. `None` for all other messages.
    fn candidacy(ballot: Ballot, body: &Body) -> Option<Option<Handover>>;

    /// Whether this node is a voter, or may be one without knowing it yet.
    fn may_vote(core: &Core<Self>) -> bool;

    /// Whether a node whose log ends with `last` could be elected.
    fn may_lead(core: &Core<Self>, last: LogPosition) -> bool;

    /// Asks the voters to elect this node.
    fn campaign(core: &mut Core<Self>, handover: Option<Handover>);

    /// When a candidate repeats its requests to nodes that haven't answered.
    fn ask_again_at(campaign: &Self::Campaign) -> Tick;

    /// Called at each tick on a node that doesn't lead: repeats requests if it is time.
    fn ask_again(core: &mut Core<Self>);

    /// Called when the candidate's vote, or promise, for itself may have become durable.
    fn own_vote_durable(core: &mut Core<Self>);

    /// Handles a message of the current ballot that only this algorithm uses.
    fn on_message(core: &mut Core<Self>, from: NodeId, body: Body) -> Result<(), Rejected>;

    /// Called when this node stops leading.
    fn stepped_down(core: &mut Core<Self>);

    /// Appends an entry. It is sent and written with the next `Ready`, in parallel. `from` is the
    /// node that forwarded it, if any.
    fn append_own(
        core: &mut Core<Self>,
        id: RequestId,
        kind: EntryKind,
        data: Bytes,
        from: Option<NodeId>,
    );

    /// The size of the entries that wait to be appended.
    fn queued_bytes(core: &Core<Self>) -> u64;

    /// Whether a leader may commit an entry that a quorum has.
    fn may_commit(core: &Core<Self>, index: Index) -> bool;

    /// A message with entries from the leader. All follow `prev`.
    fn append<'a>(
        ballot: Ballot,
        prev: LogPosition,
        entries: impl Iterator<Item = &'a Entry>,
        commit: Index,
    ) -> Body;

    /// A message that tells the leader that everything up to here is durable.
    fn acknowledgement(matched: Index) -> Body;

    /// The index up to which a message acknowledges; `None` if it is not an acknowledgement.
    fn acknowledged(body: &mut Body) -> Option<&mut Index>;

    /// Learns that the leader has committed everything up to here.
    fn learn_commit(core: &mut Core<Self>, commit: LogPosition);

    /// Called with each heartbeat: a good time to write the commit index.
    fn note_commit(core: &mut Core<Self>);

    /// Called when entries after `before` were committed.
    fn committed(core: &mut Core<Self>, before: Index);

    /// The index up to which committed entries may be applied.
    fn settled(core: &Core<Self>) -> Index;

    /// The membership to propose for the first step of [`Membership::change`].
    fn proposed(first: Membership) -> Membership;

    /// Called when a configuration was appended.
    fn config_appended(core: &mut Core<Self>, membership: Membership);

    /// The index that a node removed by the configuration at `index` must reach to learn of its
    /// removal.
    fn farewell(index: Index) -> Index;

    /// Whether everything that a snapshot covers is here.
    fn knows(core: &Core<Self>, last: LogPosition) -> bool;

    /// The state machine has installed a snapshot that is ahead of the log.
    fn replace_log(core: &mut Core<Self>, meta: SnapshotMeta);
}
