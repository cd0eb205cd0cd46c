//! Consensus as deterministic state machines without I/O: [`Raft`] and [`MultiPaxos`] behind one
//! interface, [`Consensus`].
//!
//! A core is one member's part in one replication group: its log since the last compaction, its
//! ballot and vote, the leader, and the peers' progress. It makes decisions, and the shell around
//! it carries them out. The core uses no clock, thread, socket, disk or unordered iteration. Random
//! numbers come from a seed, and the state is `Clone` and `Hash`. The same inputs give the same
//! outputs.
//!
//! # What the shell does, in order
//!
//! 1. **Restore.** Read the log and the state machine, and pass their stored state ([`Restored`])
//!    to [`Algorithm::start`]. The seed and the [`RequestId`](synod_types::RequestId)s must be
//!    fresh at each start.
//! 2. **Step.** Pass events to [`Consensus::step`], one or many, each with a monotonic tick that is
//!    read *after* the event arrived: promises and leases are counted from it. Sleep until
//!    [`Consensus::deadline`] at most, then step [`Input::Tick`].
//! 3. **Drain.** Call [`Consensus::ready`] until it returns `None`. For each [`Ready`]:
//!    1. if `role` is set, or whenever [`Consensus::lease_until`] or [`Consensus::commit`] changed,
//!       update the readers **before** any message is sent. A node that serves reads under a lease
//!       that it no longer has may contradict its successor;
//!    2. pass `writes` to the log under `seq`, to be made durable in this order, after those of all
//!       earlier Readys. A crash may tear a batch; then a prefix of its writes is durable;
//!    3. send `messages`, without waiting for the disk: the leader's write runs in parallel with
//!       those of its followers (Raft thesis §10.2.1);
//!    4. hold `messages_after_persist` until `seq` is durable, then send them. If a vote or an
//!       acknowledgement were sent earlier, a crash could lose it, and two leaders could be elected
//!       or a committed entry lost. If `writes` is empty, they wait for the earlier write that has
//!       this `seq`;
//!    5. pass `committed` to the state machine, in order. A durable quorum has committed the
//!       entries; the local copy may still be in flight to the disk;
//!    6. serve each of `reads` once the state machine has applied its index; answer `failed_reads`
//!       and `dropped`;
//!    7. if `install` is set, fetch the snapshot from that peer and install it durably.
//! 4. **Report.** Step [`Input::Persisted`] when writes are durable, cumulatively and in order;
//!    [`Input::Applied`]; [`Input::SnapshotInstalled`] (after it no entry that was handed out
//!    earlier may be applied) or [`Input::SnapshotFailed`]. While a snapshot is being fetched,
//!    nothing is handed out.
//! 5. **Compact.** Bound the memory with [`Input::Compact`], up to what the state machine has made
//!    durable. The log may release as much. A peer that needs older entries gets a snapshot.
//! 6. **Stop** for good after a failed write: [`Input::PersistFailed`]. After a failed fsync the
//!    content of the disk is unknown, and retrying doesn't help.
//!
//! Several Readys may be in flight at the log. Messages may be lost, duplicated, delayed and
//! reordered; connections that preserve order are only faster. Peers are not trusted to send
//! well-formed messages, but they are trusted not to lie.
//!
//! # Guarantees
//!
//! - A ballot has at most one leader, which has (Raft) or gets (Multi-Paxos) all committed entries.
//!   Committed entries never change (Raft §5; "Paxos Made Simple" §2). In Multi-Paxos this means
//!   their index, id, kind and data: an entry's ballot may differ between nodes, and no state
//!   machine may depend on it.
//! - A proposal is appended at most once, even if it was forwarded and the message duplicated. If
//!   the core rejects or drops it ([`Rejected`]), it was not appended and never will be. Otherwise
//!   its outcome is unknown until an entry with its id is applied. The core never proposes anything
//!   twice.
//! - A [`ReadState`] is linearizable. [`ReadMode::Index`] relies only on the algorithm;
//!   [`ReadMode::Lease`] also relies on clocks that drift no more than configured.
//!
//! # Leases
//!
//! A node that hears from a leader promises not to help elect another for as long as the leader
//! asks ([`CoreConfig::lease_ticks`]), whatever happens to the ballot meanwhile. So a heartbeat
//! round that a quorum answers gives the leader a lease of that length. It starts when the round
//! was *sent*, and is shorter by the clock drift and the rounding of ticks. A leader that asks for
//! nothing has no lease. What could break a lease, and why it doesn't:
//!
//! - *A restart forgets the promise.* A node with previous state neither votes nor campaigns for an
//!   election timeout after its start, and no promise is longer. A sole voter need not wait: no
//!   other node has a lease, since a leader that is not a voter takes none.
//! - *A transfer overrides the promise.* There is no lease while a transfer is in progress. A
//!   leader that gives one up increments a counter ([`TransferEpoch`]). Nodes that hear the new
//!   count ignore campaigns with the old one, and only their answers renew the lease.
//! - *A membership change moves the quorum.* Each configuration's majority overlaps with that of
//!   the next through the joint one, and acknowledging entries is a promise like answering
//!   heartbeats.
//! - *A leader seems to be gone, and isn't.* [`Input::Gone`] never shortens a promise. It only ends
//!   the loyalty, which no lease depends on: after its promise a node helps no other one for the
//!   rest of an election timeout, so that a working leader is not disturbed. A follower that is
//!   told that its leader is gone asks for pre-votes soon after its promise has ended.
//!
//! Both algorithms have the same leases. In Multi-Paxos the promise means not to answer the
//! `Prepare` of another candidate. Two leaders may have the same round, so a candidate that was
//! told to campaign names the leader that told it ([`Handover`]).
//!
//! # Membership
//!
//! In Raft a configuration takes effect when it is appended, and no longer if it is truncated.
//! There is one change at a time. Each change of voters goes through a joint configuration, which
//! the leader ends automatically. Learners can be promoted when they have nine tenths of the log. A
//! sole voter can't add a voter, since the joint configuration would need the new one's vote to
//! commit: add a learner and promote it. A removed node is told so, if it can be reached.
//!
//! Multi-Paxos has no joint configuration: one entry changes the membership for all slots after it.
//! Nothing is proposed in those slots before majorities of the old and of the new voters hold the
//! entry; proposals wait meanwhile. The entry is handed out once the slot after it is chosen, too.
//! By then a majority of the new voters durably knows it, and the old ones may be switched off.
//! [`Status::membership`] is the last one chosen. A joining node always starts with a snapshot,
//! because it needs the previous configuration to settle the first one in its log. The other rules
//! and rejections are the same as in Raft.
//!
//! # Raft or Multi-Paxos
//!
//! In Multi-Paxos any voter that a quorum answers can lead, whatever its log: phase 1 supplies what
//! it lacks. In Raft its log must be at least as up to date as those of a quorum. In return, a new
//! Raft leader need not ask for anything, and its log never has gaps. Both share all code except
//! what [`Algorithm`] decides.
//!
//! # Further reading
//!
//! `core.rs` dispatches inputs, and `core/protocol.rs` lists what an algorithm decides. `core/raft`
//! and `core/paxos` are the algorithms; the synod, agreement on one value, is in
//! `core/paxos/synod.rs`. The shared parts are next to them: `election.rs`, `leader.rs`,
//! `follower.rs`, `reads.rs`, `members.rs`, `transfer.rs`, `forward.rs`, and `storage.rs`, which
//! tracks what is durable. `tests/scenarios` shows each rule at work.

mod algorithm;
mod config;
mod consensus;
mod core;
mod entry;
mod input;
mod membership;
mod message;
pub mod mutants;
mod ready;
mod rejected;
mod status;

pub use self::core::{paxos::MultiPaxos, raft::Raft};
pub use algorithm::{Algorithm, UnknownAlgorithm};
pub use config::{ConfigError, CoreConfig, Priority, Restored};
pub use consensus::Consensus;
pub use entry::{
    ConfigCommand, DecodeError, Entry, EntryFields, EntryKind, InitialMembers, SnapshotMeta,
};
pub use input::{Change, Input, MemberChange, Proposal, ReadContext, ReadMode};
pub use membership::{Membership, MembershipError};
pub use message::{
    AppendOutcome, Body, CommonBody, ForwardToken, Handover, Message, PaxosBody, RaftBody,
    TransferEpoch,
};
pub use ready::{HardState, Install, ReadState, Ready, RoleChange, Write};
pub use rejected::{ChangeError, Rejected};
pub use status::{PeerMode, PeerStatus, Role, Status};
