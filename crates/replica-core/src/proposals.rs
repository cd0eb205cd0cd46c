//! Proposals that were refused.

use synod_consensus_core::Rejected;

/// Transient refusals: the proposal certainly was not appended, and may be made again.
#[must_use]
pub fn is_transient(rejected: Rejected) -> bool {
    match rejected {
        Rejected::NoLeader
        | Rejected::NotLeader { .. }
        | Rejected::Overloaded
        | Rejected::LeaderNotReady
        | Rejected::Transferring
        | Rejected::TimedOut => true,
        Rejected::TooLarge
        | Rejected::ConfigChangeInFlight
        | Rejected::LearnerNotReady
        | Rejected::UnhealthyQuorum
        | Rejected::InvalidChange(_)
        | Rejected::InvalidTransfer { .. }
        | Rejected::LeaseExpired
        | Rejected::CannotCampaign
        | Rejected::Removed
        | Rejected::InvalidMessage
        | Rejected::Failed => false,
    }
}
