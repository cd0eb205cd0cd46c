//! What a driver needs to know of messages.

use synod_consensus_core::Body;
use synod_types::RequestId;

/// Whether a follower would get more to apply by it. What a candidate is told of slots is not
/// refused: without a leader the backlog only shrinks.
#[must_use]
pub fn brings_entries(body: &Body) -> bool {
    match body {
        Body::Append { entries, .. } | Body::Accept { entries, .. } => !entries.is_empty(),
        Body::PreVote { .. }
        | Body::PreVoteReply { .. }
        | Body::Vote { .. }
        | Body::VoteReply { .. }
        | Body::AppendReply { .. }
        | Body::Commit { .. }
        | Body::Heartbeat { .. }
        | Body::HeartbeatReply { .. }
        | Body::Snapshot { .. }
        | Body::TimeoutNow { .. }
        | Body::Prepare { .. }
        | Body::Promise { .. }
        | Body::Nack
        | Body::Accepted { .. }
        | Body::Gap { .. }
        | Body::Forward { .. }
        | Body::ForwardChange { .. }
        | Body::ForwardRejected { .. }
        | Body::ReadIndex { .. }
        | Body::ReadIndexReply { .. } => false,
    }
}

/// The requests that a message carries to the leader.
#[must_use]
pub fn requests(body: Body) -> Vec<RequestId> {
    match body {
        Body::Forward { proposals, .. } => proposals.into_iter().map(|one| one.id).collect(),
        Body::ForwardChange { change, .. } => vec![change.id],
        Body::PreVote { .. }
        | Body::PreVoteReply { .. }
        | Body::Vote { .. }
        | Body::VoteReply { .. }
        | Body::Append { .. }
        | Body::AppendReply { .. }
        | Body::Commit { .. }
        | Body::Heartbeat { .. }
        | Body::HeartbeatReply { .. }
        | Body::Snapshot { .. }
        | Body::TimeoutNow { .. }
        | Body::Prepare { .. }
        | Body::Promise { .. }
        | Body::Nack
        | Body::Accept { .. }
        | Body::Accepted { .. }
        | Body::Gap { .. }
        | Body::ForwardRejected { .. }
        | Body::ReadIndex { .. }
        | Body::ReadIndexReply { .. } => Vec::new(),
    }
}
