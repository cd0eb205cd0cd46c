//! Consensus as deterministic state machines without I/O: [`Raft`] and [`MultiPaxos`] behind one
//! interface, [`Consensus`].
//!
//! A core owns one member's part in one replication group: its log since the last compaction, its
//! ballot and vote, who leads, and what the peers have. It decides and never acts: no clock,
//! thread, socket, disk or unordered iteration is in here, random numbers come from a seed, and the
//! state is `Clone` and `Hash`. The same inputs give the same outputs. The shell around it acts.
//!
//! # What the shell does, in order
//!
//! 1. **Restore.** Read the log and the state machine, and give [`Algorithm::start`] what they kept
//!    ([`Restored`]). The seed and the [`RequestId`](synod_types::RequestId)s must be fresh at each
//!    start.
//! 2. **Step.** Feed events with [`Consensus::step`], one or many, each with a monotonic tick read
//!    *after* the event came in: promises and leases are counted from it. Sleep until
//!    [`Consensus::deadline`] at most, then step [`Input::Tick`].
//! 3. **Drain.** Call [`Consensus::ready`] until it gives `None`. For each [`Ready`]:
//!    1. where `role` is set, or whenever [`Consensus::lease_until`] or [`Consensus::commit`]
//!       changed, let the readers know **before** any message leaves. A node that serves reads by a
//!       lease it no longer has may contradict its successor;
//!    2. hand `writes` to the log under `seq`, to be made durable in this order, after those of all
//!       earlier Readys. A batch may be torn by a crash; then a prefix of its writes is there;
//!    3. send `messages`. No need to wait for the disk: the leader's write runs in parallel with
//!       those of its followers (Raft thesis §10.2.1);
//!    4. keep `messages_after_persist` until `seq` is durable, then send them. A vote or an
//!       acknowledgement that left earlier would be forgotten by a crash, and two leaders elected
//!       or a committed entry lost. Where `writes` is empty, they wait for the earlier write that
//!       has this `seq`;
//!    5. hand `committed` to the state machine, in order. They are committed by a durable quorum;
//!       the local copy may still be on its way to the disk;
//!    6. serve each of `reads` once the state machine has applied its index; answer `failed_reads`
//!       and `dropped`;
//!    7. where `install` is set, fetch the snapshot from that peer, and install it durably.
//! 4. **Report.** [`Input::Persisted`] when writes are durable, cumulatively and in order;
//!    [`Input::Applied`]; [`Input::SnapshotInstalled`] (after it no entry handed out earlier may be
//!    applied any more) or [`Input::SnapshotFailed`]. While a snapshot is fetched nothing is handed
//!    out.
//! 5. **Compact.** Keep memory bounded by [`Input::Compact`] up to what the state machine has made
//!    durable; the log may forget as much. A peer that needs more gets a snapshot.
//! 6. **Stop** for good after a failed write: [`Input::PersistFailed`]. After a failed fsync nobody
//!    knows what is on the disk, and asking again doesn't help.
//!
//! Several Readys may be outstanding at the log. Messages may be lost, duplicated, delayed and
//! reordered; connections that keep their order are only faster. Nothing a peer says is trusted to
//! be well-formed, but peers are trusted not to lie.
//!
//! # What it guarantees
//!
//! - One leader a ballot, and each has (Raft) or gets (Multi-Paxos) all committed entries;
//!   committed entries never change (Raft §5; "Paxos Made Simple" §2). Of Multi-Paxos that is their
//!   index, id, kind and data: the ballot of an entry may differ from node to node, and no state
//!   machine may depend on it.
//! - A proposal is appended at most once, also when it was forwarded and the message duplicated.
//!   Where the core refuses or drops one ([`Rejected`]), it was not appended and never will be.
//!   Otherwise its outcome is unknown until an entry with its id is applied. The core never
//!   proposes anything twice.
//! - A [`ReadState`] is linearizable. [`ReadMode::Index`] needs nothing but the algorithm;
//!   [`ReadMode::Lease`] also that clocks drift no more than configured.
//!
//! # Leases
//!
//! Who hears from a leader promises it not to help to elect another for as long as the leader asks
//! ([`CoreConfig::lease_ticks`]), whatever happens to the ballot meanwhile. A heartbeat round that
//! a quorum answers so gives the leader a lease of that length from the moment of its *sending*,
//! shorter by the clock drift and by what ticks round. A leader that asks for nothing has no lease.
//! What could break it, and why it does not:
//!
//! - *A restart forgets the promise.* A node that has a past neither votes nor campaigns for an
//!   election timeout after its start, and no promise is longer. A sole voter need not wait:
//!   nobody else has a lease, since a leader outside the voters takes none.
//! - *A transfer overrides the promise.* While one is under way there is no lease. A leader that
//!   gives one up counts it ([`TransferEpoch`]); those who hear the new count ignore campaigns of
//!   the old, and only their answers renew the lease.
//! - *A membership change moves the quorum.* Each configuration's majority overlaps with that of
//!   the next, through the joint one, and acknowledging entries promises as answering heartbeats
//!   does.
//! - *The leader seems to be gone, and isn't.* [`Input::Gone`] never shortens a promise. It ends
//!   the loyalty, on which no lease rests: beyond its promise a node helps nobody for an election
//!   timeout, so that a leader that works is left alone. A follower that is told so asks for
//!   pre-votes soon after the end of its promise.
//!
//! Both algorithms have the same leases. In Multi-Paxos it is the `Prepare` of another candidate
//! that is not answered, and two leaders may have the same round, so that a candidate which was
//! told to campaign says by which leader ([`Handover`]).
//!
//! # Membership
//!
//! In Raft a configuration counts from when it is appended (and no longer if it is truncated); one
//! change at a time; each change of voters goes through a joint configuration, which the leader
//! ends by itself. Learners are promoted when they have nine tenths of the log. A sole voter can't
//! add a voter, since the joint configuration would need the new one's vote to commit: add a
//! learner and promote it. A removed node is told so, if it can be reached.
//!
//! Multi-Paxos has no joint configuration: one entry changes the membership for all slots after it.
//! Nothing is proposed there before majorities of the old and of the new voters hold it (proposals
//! wait meanwhile), and it is handed out when the slot after it is chosen, too: then a majority of
//! the new voters durably knows it, and the old ones may be switched off. [`Status::membership`] is
//! the last one chosen. A node that joins always begins with a snapshot, since to settle the first
//! configuration of its log it needs the one before. The other rules and refusals are those of
//! Raft.
//!
//! # Raft or Multi-Paxos
//!
//! Any voter that a quorum answers can lead in Multi-Paxos, whatever its log: phase 1 brings it
//! what it lacks. In Raft it must have a log that a quorum's logs don't surpass. On the other hand
//! a new Raft leader need not ask for anything, and its log never has gaps. Both are the same code
//! but for what [`Algorithm`] decides.
//!
//! # Where to read on
//!
//! `core.rs` dispatches, and `core/protocol.rs` says what an algorithm decides. `core/raft` and
//! `core/paxos` are the algorithms; the synod, agreement on one value, is `core/paxos/synod.rs`.
//! What they share is beside them: `election.rs`, `leader.rs`, `follower.rs`, `reads.rs`,
//! `members.rs`, `transfer.rs` and `forward.rs`, and `storage.rs` says what is durable.
//! `tests/scenarios` shows each rule at work.

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
