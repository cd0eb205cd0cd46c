//! Converts between wire types and core types. Wire types are not used beyond this module, and it
//! checks every field of a peer's message.

mod parts;
mod paxos;
mod pieces;
mod rejection;

use synod_consensus_core::{
    AppendOutcome, Body, CommonBody, Entry, EntryFields, EntryKind, ForwardToken, MemberChange,
    Message, PaxosBody, Proposal, RaftBody, ReadMode, TransferEpoch,
};
use synod_proto::replica::v1 as wire;
use synod_types::{Ballot, GroupId, Index, LogPosition, NodeId, RequestId};
use wire::message::Body as WireBody;

use parts::{ballot_from_wire, ballot_to_wire, change_from_wire, change_to_wire};
pub(crate) use parts::{meta_from_wire, meta_to_wire, position_from_wire, position_to_wire};
pub(crate) use pieces::{piece_from_wire, piece_to_wire, resume_from_wire, resume_to_wire};
use rejection::{rejection_from_wire, rejection_to_wire};

/// A peer's message is invalid. The message is dropped; the stream continues.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("field {0} is missing")]
    Missing(&'static str),
    #[error("field {field} has the unknown value {value}")]
    Unknown { field: &'static str, value: i32 },
    #[error("invalid membership")]
    Membership,
    #[error("wrong checksum")]
    Checksum,
}

/// The order in which a peer's queue is sent: small, urgent messages don't wait behind large ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lane {
    /// Elections, heartbeats, acknowledgements, reads.
    Urgent,
    /// Entries on their way to followers or to the leader. All appends, including empty ones, stay
    /// in order: an append that overtakes the previous one is rejected and costs a round trip.
    Bulk,
}

pub(crate) fn lane(body: &Body) -> Lane {
    match body {
        Body::Common(body) => match body {
            CommonBody::Forward { .. }
            | CommonBody::ForwardChange { .. }
            | CommonBody::Commit { .. }
            | CommonBody::TimeoutNow { .. } => Lane::Bulk,
            CommonBody::PreVote { .. }
            | CommonBody::PreVoteReply { .. }
            | CommonBody::Heartbeat { .. }
            | CommonBody::HeartbeatReply { .. }
            | CommonBody::Snapshot { .. }
            | CommonBody::ForwardRejected { .. }
            | CommonBody::ReadIndex { .. }
            | CommonBody::ReadIndexReply { .. } => Lane::Urgent,
        },
        Body::Raft(body) => match body {
            RaftBody::Append { .. } => Lane::Bulk,
            RaftBody::Vote { .. } | RaftBody::VoteReply { .. } | RaftBody::AppendReply { .. } => {
                Lane::Urgent
            }
        },
        Body::Paxos(body) => match body {
            PaxosBody::Accept { .. } | PaxosBody::Promise { .. } => Lane::Bulk,
            PaxosBody::Prepare { .. }
            | PaxosBody::Nack
            | PaxosBody::Accepted { .. }
            | PaxosBody::Gap { .. } => Lane::Urgent,
        },
    }
}

/// The approximate size of a message, on the wire and in a queue.
pub(crate) fn message_bytes(message: &Message) -> usize {
    const HEADER: usize = 48;
    const ITEM: usize = 32;
    let entry_bytes =
        |entries: &[Entry]| -> usize { entries.iter().map(|e| e.data.len() + ITEM).sum() };
    HEADER
        + match &message.body {
            Body::Common(body) => match body {
                CommonBody::Forward { proposals, .. } => proposals
                    .iter()
                    .map(|proposal| proposal.data.len() + ITEM)
                    .sum(),
                CommonBody::ForwardChange { change, .. } => change.context.len() + ITEM,
                CommonBody::ForwardRejected { ids, .. } => ids.len() * ITEM,
                CommonBody::PreVote { .. }
                | CommonBody::PreVoteReply { .. }
                | CommonBody::Commit { .. }
                | CommonBody::Heartbeat { .. }
                | CommonBody::HeartbeatReply { .. }
                | CommonBody::Snapshot { .. }
                | CommonBody::TimeoutNow { .. }
                | CommonBody::ReadIndex { .. }
                | CommonBody::ReadIndexReply { .. } => 0,
            },
            Body::Raft(body) => match body {
                RaftBody::Append { entries, .. } => entry_bytes(entries),
                RaftBody::Vote { .. }
                | RaftBody::VoteReply { .. }
                | RaftBody::AppendReply { .. } => 0,
            },
            Body::Paxos(body) => match body {
                PaxosBody::Accept { entries, .. } | PaxosBody::Promise { entries, .. } => {
                    entry_bytes(entries)
                }
                PaxosBody::Prepare { .. }
                | PaxosBody::Nack
                | PaxosBody::Accepted { .. }
                | PaxosBody::Gap { .. } => 0,
            },
        }
}

/// Encodes a message. Sender and receiver are those of the stream.
pub(crate) fn message_to_wire(group: GroupId, message: Message) -> wire::Message {
    wire::Message {
        group: group.get(),
        ballot: ballot_to_wire(message.ballot),
        body: Some(body_to_wire(message.body)),
    }
}

fn body_to_wire(body: Body) -> WireBody {
    match body {
        Body::Common(body) => common_to_wire(body),
        Body::Raft(body) => raft_to_wire(body),
        Body::Paxos(body) => paxos::to_wire(body),
    }
}

fn raft_to_wire(body: RaftBody) -> WireBody {
    match body {
        RaftBody::Vote { last, transfer } => WireBody::Vote(wire::Vote {
            last: position_to_wire(last),
            transfer: transfer.map(|epoch| epoch.0),
        }),
        RaftBody::VoteReply { granted } => WireBody::VoteReply(wire::VoteReply { granted }),
        RaftBody::Append {
            prev,
            entries,
            commit,
        } => WireBody::Append(wire::Append {
            prev: position_to_wire(prev),
            entries: entries_to_wire(prev, entries),
            commit: commit.get(),
        }),
        RaftBody::AppendReply { outcome } => WireBody::AppendReply(outcome_to_wire(outcome)),
    }
}

fn common_to_wire(body: CommonBody) -> WireBody {
    match body {
        CommonBody::PreVote { last } => WireBody::PreVote(wire::PreVote {
            last: position_to_wire(last),
        }),
        CommonBody::PreVoteReply { granted } => {
            WireBody::PreVoteReply(wire::PreVoteReply { granted })
        }
        CommonBody::Commit { commit } => WireBody::Commit(wire::Commit {
            commit: position_to_wire(commit),
        }),
        CommonBody::Heartbeat {
            round,
            commit,
            transfers,
            lease_ticks,
        } => WireBody::Heartbeat(wire::Heartbeat {
            round,
            commit: position_to_wire(commit),
            transfers: transfers.0,
            lease_ticks,
        }),
        CommonBody::HeartbeatReply { round } => {
            WireBody::HeartbeatReply(wire::HeartbeatReply { round })
        }
        CommonBody::Snapshot { meta } => WireBody::Snapshot(wire::SnapshotOffer {
            meta: Some(meta_to_wire(&meta)),
        }),
        CommonBody::TimeoutNow { transfers } => WireBody::TimeoutNow(wire::TimeoutNow {
            transfers: transfers.0,
        }),
        CommonBody::Forward { token, proposals } => WireBody::Forward(wire::Forward {
            token: Some(token_to_wire(token)),
            proposals: proposals.into_iter().map(proposal_to_wire).collect(),
        }),
        CommonBody::ForwardChange { token, change } => {
            WireBody::ForwardChange(wire::ForwardChange {
                token: Some(token_to_wire(token)),
                id: Some(id_to_wire(change.id)),
                changes: change.changes.into_iter().map(change_to_wire).collect(),
                context: change.context,
            })
        }
        CommonBody::ForwardRejected { ids, reason } => {
            WireBody::ForwardRejected(wire::ForwardRejected {
                ids: ids.into_iter().map(id_to_wire).collect(),
                reason: Some(rejection_to_wire(reason)),
            })
        }
        CommonBody::ReadIndex { token, mode } => WireBody::ReadIndex(wire::ReadIndex {
            token,
            lease: mode == ReadMode::Lease,
        }),
        CommonBody::ReadIndexReply { token, result } => {
            use wire::read_index_reply::Result as WireResult;
            let result = match result {
                Ok(index) => WireResult::Index(index.get()),
                Err(reason) => WireResult::Rejected(rejection_to_wire(reason)),
            };
            WireBody::ReadIndexReply(wire::ReadIndexReply {
                token,
                result: Some(result),
            })
        }
    }
}

/// Decodes the group and the message that `from` sent to `to`.
pub(crate) fn message_from_wire(
    from: NodeId,
    to: NodeId,
    message: wire::Message,
) -> Result<(GroupId, Message), WireError> {
    let body = message.body.ok_or(WireError::Missing("body"))?;
    let ballot = ballot_from_wire(message.ballot.unwrap_or_default());
    let core = Message {
        from,
        to,
        ballot,
        body: body_from_wire(ballot, body)?,
    };
    Ok((GroupId::new(message.group), core))
}

fn body_from_wire(ballot: Ballot, body: WireBody) -> Result<Body, WireError> {
    Ok(match body {
        WireBody::Prepare(prepare) => Body::Paxos(paxos::prepare_from_wire(prepare)),
        WireBody::Promise(promise) => Body::Paxos(paxos::promise_from_wire(promise)?),
        WireBody::Nack(wire::Nack {}) => Body::Paxos(PaxosBody::Nack),
        WireBody::Accept(accept) => Body::Paxos(paxos::accept_from_wire(ballot, accept)?),
        WireBody::Accepted(accepted) => Body::Paxos(PaxosBody::Accepted {
            upto: Index::new(accepted.upto),
        }),
        WireBody::Gap(gap) => Body::Paxos(PaxosBody::Gap {
            prev: Index::new(gap.prev),
            held: Index::new(gap.held),
        }),
        WireBody::PreVote(vote) => Body::Common(CommonBody::PreVote {
            last: position_from_wire(vote.last),
        }),
        WireBody::PreVoteReply(reply) => Body::Common(CommonBody::PreVoteReply {
            granted: reply.granted,
        }),
        WireBody::Vote(vote) => Body::Raft(RaftBody::Vote {
            last: position_from_wire(vote.last),
            transfer: vote.transfer.map(TransferEpoch),
        }),
        WireBody::VoteReply(reply) => Body::Raft(RaftBody::VoteReply {
            granted: reply.granted,
        }),
        WireBody::Append(append) => {
            let prev = position_from_wire(append.prev);
            Body::Raft(RaftBody::Append {
                prev,
                entries: entries_from_wire(prev, append.entries)?,
                commit: Index::new(append.commit),
            })
        }
        WireBody::AppendReply(reply) => Body::Raft(RaftBody::AppendReply {
            outcome: outcome_from_wire(reply)?,
        }),
        WireBody::Commit(commit) => Body::Common(CommonBody::Commit {
            commit: position_from_wire(commit.commit),
        }),
        WireBody::Heartbeat(heartbeat) => Body::Common(CommonBody::Heartbeat {
            round: heartbeat.round,
            commit: position_from_wire(heartbeat.commit),
            transfers: TransferEpoch(heartbeat.transfers),
            lease_ticks: heartbeat.lease_ticks,
        }),
        WireBody::HeartbeatReply(reply) => {
            Body::Common(CommonBody::HeartbeatReply { round: reply.round })
        }
        WireBody::Snapshot(offer) => Body::Common(CommonBody::Snapshot {
            meta: Box::new(meta_from_wire(
                offer.meta.ok_or(WireError::Missing("meta"))?,
            )?),
        }),
        WireBody::TimeoutNow(now) => Body::Common(CommonBody::TimeoutNow {
            transfers: TransferEpoch(now.transfers),
        }),
        WireBody::Forward(forward) => Body::Common(CommonBody::Forward {
            token: token_from_wire(forward.token)?,
            proposals: forward
                .proposals
                .into_iter()
                .map(proposal_from_wire)
                .collect(),
        }),
        WireBody::ForwardChange(forward) => {
            let changes = forward.changes.iter().map(change_from_wire);
            Body::Common(CommonBody::ForwardChange {
                token: token_from_wire(forward.token)?,
                change: Box::new(MemberChange {
                    id: id_from_wire(forward.id.ok_or(WireError::Missing("id"))?),
                    changes: changes.collect::<Result<_, _>>()?,
                    context: forward.context,
                }),
            })
        }
        WireBody::ForwardRejected(rejected) => Body::Common(CommonBody::ForwardRejected {
            ids: rejected.ids.into_iter().map(id_from_wire).collect(),
            reason: rejection_from_wire(rejected.reason)?,
        }),
        WireBody::ReadIndex(read) => Body::Common(CommonBody::ReadIndex {
            token: read.token,
            mode: if read.lease {
                ReadMode::Lease
            } else {
                ReadMode::Index
            },
        }),
        WireBody::ReadIndexReply(reply) => {
            use wire::read_index_reply::Result as WireResult;
            let result = match reply.result.ok_or(WireError::Missing("result"))? {
                WireResult::Index(index) => Ok(Index::new(index)),
                WireResult::Rejected(reason) => Err(rejection_from_wire(Some(reason))?),
            };
            Body::Common(CommonBody::ReadIndexReply {
                token: reply.token,
                result,
            })
        }
    })
}

fn entries_to_wire(prev: LogPosition, entries: Vec<Entry>) -> Vec<wire::Entry> {
    let mut before = prev;
    let convert = |entry: Entry| {
        let position = entry.position();
        let wire = wire::Entry {
            index_step: position.index.get().wrapping_sub(before.index.get()),
            round_step: position.ballot.round.wrapping_sub(before.ballot.round),
            node: position.ballot.node,
            kind: match entry.kind {
                EntryKind::Normal => wire::EntryKind::Normal,
                EntryKind::Noop => wire::EntryKind::Noop,
                EntryKind::Config => wire::EntryKind::Config,
            }
            .into(),
            origin: entry.id.node.get(),
            number: entry.id.seq,
            data: entry.data.clone(),
        };
        before = position;
        wire
    };
    entries.into_iter().map(convert).collect()
}

fn entries_from_wire(
    prev: LogPosition,
    entries: Vec<wire::Entry>,
) -> Result<Vec<Entry>, WireError> {
    let mut before = prev;
    let convert = |entry: wire::Entry| {
        let kind = match wire::EntryKind::try_from(entry.kind) {
            Ok(wire::EntryKind::Normal) => EntryKind::Normal,
            Ok(wire::EntryKind::Noop) => EntryKind::Noop,
            Ok(wire::EntryKind::Config) => EntryKind::Config,
            Err(_) => {
                let (field, value) = ("entry.kind", entry.kind);
                return Err(WireError::Unknown { field, value });
            }
        };
        before = LogPosition {
            ballot: Ballot {
                round: before.ballot.round.wrapping_add(entry.round_step),
                node: entry.node,
            },
            index: Index::new(before.index.get().wrapping_add(entry.index_step)),
        };
        Ok(Entry::from(EntryFields {
            index: before.index,
            ballot: before.ballot,
            id: RequestId {
                node: NodeId::new(entry.origin),
                seq: entry.number,
            },
            kind,
            data: entry.data,
        }))
    };
    entries.into_iter().map(convert).collect()
}

fn outcome_to_wire(outcome: AppendOutcome) -> wire::AppendReply {
    use wire::append_reply::Outcome;
    let outcome = match outcome {
        AppendOutcome::Matched(index) => Outcome::Matched(index.get()),
        AppendOutcome::Rejected { at, hint } => Outcome::Rejected(wire::AppendRejected {
            at: at.get(),
            hint: position_to_wire(hint),
        }),
    };
    wire::AppendReply {
        outcome: Some(outcome),
    }
}

fn outcome_from_wire(reply: wire::AppendReply) -> Result<AppendOutcome, WireError> {
    use wire::append_reply::Outcome;
    Ok(match reply.outcome.ok_or(WireError::Missing("outcome"))? {
        Outcome::Matched(index) => AppendOutcome::Matched(Index::new(index)),
        Outcome::Rejected(rejected) => AppendOutcome::Rejected {
            at: Index::new(rejected.at),
            hint: position_from_wire(rejected.hint),
        },
    })
}

fn proposal_to_wire(proposal: Proposal) -> wire::Proposal {
    wire::Proposal {
        origin: proposal.id.node.get(),
        number: proposal.id.seq,
        data: proposal.data,
    }
}

fn proposal_from_wire(proposal: wire::Proposal) -> Proposal {
    Proposal {
        id: RequestId {
            node: NodeId::new(proposal.origin),
            seq: proposal.number,
        },
        data: proposal.data,
    }
}

fn token_to_wire(token: ForwardToken) -> wire::ForwardToken {
    wire::ForwardToken {
        session: token.session,
        number: token.number,
    }
}

fn token_from_wire(token: Option<wire::ForwardToken>) -> Result<ForwardToken, WireError> {
    let token = token.ok_or(WireError::Missing("token"))?;
    Ok(ForwardToken {
        session: token.session,
        number: token.number,
    })
}

fn id_to_wire(id: RequestId) -> wire::RequestId {
    wire::RequestId {
        node: id.node.get(),
        number: id.seq,
    }
}

fn id_from_wire(id: wire::RequestId) -> RequestId {
    RequestId {
        node: NodeId::new(id.node),
        seq: id.number,
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
