//! Leadership transfer (Raft thesis §3.10).

use synod_types::NodeId;

use super::{Asked, Core, Part, Protocol, leading::Transfer};
use crate::{CommonBody, Handover, Rejected, TransferEpoch};

impl<P: Protocol> Core<P> {
    pub(super) fn transfer(&mut self, to: NodeId) -> Result<(), Rejected> {
        let reason = self.not_leader();
        let Part::Leader(leading) = &mut self.part else {
            return Err(reason);
        };
        if to == self.config.id || !self.configs.current().voters.contains(&to) {
            return Err(Rejected::InvalidTransfer { to });
        }
        match leading.transfer {
            Some(transfer) if transfer.to == to => Ok(()),
            Some(_) => Err(Rejected::Transferring),
            None => {
                leading.transfer = Some(Transfer {
                    to,
                    deadline: self.now.plus(self.config.election_ticks),
                    told: false,
                    retell: false,
                });
                Ok(())
            }
        }
    }

    /// Tells the next leader to campaign as soon as it has the whole log.
    pub(super) fn hand_over(&mut self) {
        let last = self.log.last().index;
        let Part::Leader(leading) = &mut self.part else {
            return;
        };
        let transfers = leading.transfers;
        if let Some(transfer) = &mut leading.transfer
            && (!transfer.told || transfer.retell)
            && leading
                .peers
                .get(transfer.to)
                .is_some_and(|peer| peer.matched == last)
        {
            transfer.told = true;
            transfer.retell = false;
            let to = transfer.to;
            self.send(to, CommonBody::TimeoutNow { transfers });
        }
    }

    /// Accepts proposals again. The other node may still campaign if it was told to. But nodes that
    /// hear the new number won't vote for it, and only answers to that number renew the lease.
    pub(super) fn abort_transfer(&mut self) {
        let Part::Leader(leading) = &mut self.part else {
            return;
        };
        if leading
            .transfer
            .take()
            .is_none_or(|transfer| !transfer.told)
        {
            return;
        }
        leading.transfers = TransferEpoch(leading.transfers.0 + 1);
        leading.lease_floor = leading.round;
        leading.confirmed_at = None;
        self.broadcast_heartbeat();
    }

    /// After a change that took away this node's vote, hands leadership to the voter with the
    /// longest log.
    pub(super) fn resign(&mut self) {
        let Part::Leader(leading) = &self.part else {
            return;
        };
        if !leading.resigning {
            return;
        }
        let transfers = leading.transfers;
        let voters = &self.configs.current().voters;
        let heir = leading
            .peers
            .iter()
            .filter(|(node, _)| voters.contains(node))
            .max_by_key(|(_, peer)| peer.matched)
            .map(|(node, _)| node);
        if let Some(heir) = heir {
            self.send(heir, CommonBody::TimeoutNow { transfers });
        }
        self.become_follower(self.ballot, None);
    }

    pub(super) fn on_timeout_now(
        &mut self,
        from: NodeId,
        transfers: TransferEpoch,
    ) -> Result<(), Rejected> {
        // It has no effect if a later heartbeat has said that the transfer was given up.
        let handover = Handover {
            by: self.ballot,
            transfers,
        };
        if self.may_campaign() && !self.refuses_to_vote(Some(handover)) {
            let asked = Asked {
                transfers,
                ..Asked::default()
            };
            self.heard_leader(from, asked)?;
            P::campaign(self, Some(handover));
        }
        Ok(())
    }
}
