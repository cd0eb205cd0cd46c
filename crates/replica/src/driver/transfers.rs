//! Leadership transfers that were requested on this node.

use std::time::Instant;

use synod_consensus_core::{Input, Rejected};
use synod_types::NodeId;

use super::Driver;
use crate::error::TransferError;
use crate::inbox::TransferRequest;
use crate::state_machine::StateMachine;

/// Requests that wait for the core, and requests that wait for the new leader. There are only a
/// few, since operators make them.
#[derive(Default)]
pub(super) struct Transfers {
    new: Vec<TransferRequest>,
    waiting: Vec<TransferRequest>,
}

impl Transfers {
    pub(super) fn take(&mut self, requests: &mut Vec<TransferRequest>) {
        self.new.append(requests);
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiting.iter().map(|request| request.deadline).min()
    }

    /// Answers the requests that have succeeded, or can't succeed any more.
    pub(super) fn leader_is(&mut self, leader: Option<NodeId>) {
        let Some(leader) = leader else {
            return;
        };
        for request in self.waiting.drain(..) {
            let result = if request.to == leader {
                Ok(())
            } else {
                let leader = Some(leader);
                Err(TransferError::Rejected(Rejected::NotLeader { leader }))
            };
            let _gone = request.reply.send(result);
        }
    }

    pub(super) fn expire(&mut self, now: Instant) {
        for request in self
            .waiting
            .extract_if(.., |request| request.deadline <= now)
        {
            let _gone = request.reply.send(Err(TransferError::Timeout));
        }
    }
}

impl<S: StateMachine> Driver<S> {
    pub(super) fn start_transfers(&mut self) {
        for mut request in std::mem::take(&mut self.transfers.new) {
            if !request.to.is_some() {
                request.to = self.heir();
            }
            if self.role.leader == Some(request.to) {
                let _gone = request.reply.send(Ok(()));
                continue;
            }
            let tick = self.tick();
            match self.core.step(tick, Input::Transfer { to: request.to }) {
                Ok(()) => self.transfers.waiting.push(request),
                Err(reason) => {
                    let _gone = request.reply.send(Err(TransferError::Rejected(reason)));
                }
            }
        }
    }

    /// The voter with the longest log; [`NodeId::NONE`] if there is none.
    pub(super) fn heir(&self) -> NodeId {
        let status = self.core.status();
        let voters = status
            .peers
            .iter()
            .filter(|(node, _)| status.membership.voters.contains(node));
        voters
            .max_by_key(|(_, peer)| (peer.matched, peer.heard_at))
            .map_or(NodeId::NONE, |(node, _)| *node)
    }
}
