//! What leaves the driver: messages for peers, writes for the log.

use synod_consensus_core::{Body, Message, Rejected, Write};
use synod_log::LogError;
use synod_types::{RequestId, WriteSeq};

use super::Driver;
use crate::error::Fault;
use crate::state_machine::StateMachine;
use crate::transport::Unsent;

impl<S: StateMachine> Driver<S> {
    /// Queues a message for its peer. What could not be queued is lost to the core, except that proposals which certainly
    /// did not get to the leader are held and proposed again.
    pub(super) fn send(&mut self, message: Message) {
        let Some((unsent, message)) = self.transport.send(self.group, message) else {
            return;
        };
        let reason = match unsent {
            Unsent::NoStream => Rejected::NoLeader,
            Unsent::Overflow => Rejected::Overloaded,
        };
        let dropped = requests(message.body).into_iter().map(|id| (id, reason));
        self.dropped(dropped.collect());
    }

    /// Sends what waited for the writes that are durable now.
    pub(super) fn send_durable(&mut self) {
        while self
            .unsent
            .front()
            .is_some_and(|(seq, _)| *seq <= self.persisted)
        {
            for message in self
                .unsent
                .pop_front()
                .into_iter()
                .flat_map(|(_, held)| held)
            {
                self.send(message);
            }
        }
    }

    /// Hands `next` to the log, after what it had no room for before.
    pub(super) fn write(&mut self, next: Option<(WriteSeq, Vec<Write>)>) -> Result<(), Fault> {
        self.unwritten.extend(next);
        while let Some((seq, writes)) = self.unwritten.pop_front() {
            match self.log.append(self.group, seq, writes) {
                Ok(()) => {}
                Err(LogError::Full { writes, .. }) => {
                    self.unwritten.push_front((seq, writes));
                    return Ok(());
                }
                Err(
                    error @ (LogError::TooLarge { .. }
                    | LogError::GroupExists { .. }
                    | LogError::Failed(_)
                    | LogError::Closed),
                ) => return Err(Fault::Log(error.to_string())),
            }
        }
        Ok(())
    }
}

/// The requests that a message carries to the leader.
fn requests(body: Body) -> Vec<RequestId> {
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
