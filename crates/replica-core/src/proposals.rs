//! Rejected proposals.

use synod_consensus_core::Rejected;

/// Whether a rejection is transient: the proposal was certainly not appended and may be proposed
/// again.
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
