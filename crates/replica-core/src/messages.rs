//! Properties of messages that a driver needs.

use synod_consensus_core::{Body, CommonBody, PaxosBody, RaftBody};
use synod_types::RequestId;

/// Whether the message gives a follower more entries to apply. Slots that a candidate learns are
/// not refused: without a leader the backlog only shrinks.
#[must_use]
pub fn brings_entries(body: &Body) -> bool {
    match body {
        Body::Raft(RaftBody::Append { entries, .. })
        | Body::Paxos(PaxosBody::Accept { entries, .. }) => !entries.is_empty(),
        Body::Common(_) | Body::Raft(_) | Body::Paxos(_) => false,
    }
}

/// The requests that a message carries to the leader.
#[must_use]
pub fn requests(body: Body) -> Vec<RequestId> {
    match body {
        Body::Common(CommonBody::Forward { proposals, .. }) => {
            proposals.into_iter().map(|one| one.id).collect()
        }
        Body::Common(CommonBody::ForwardChange { change, .. }) => vec![change.id],
        Body::Common(_) | Body::Raft(_) | Body::Paxos(_) => Vec::new(),
    }
}
