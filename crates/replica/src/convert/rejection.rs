//! Converts rejections: a code and a node.

use synod_consensus_core::{ChangeError, Rejected};
use synod_proto::replica::v1 as wire;
use synod_types::NodeId;
use wire::rejection::Code;

use super::WireError;

pub(super) fn rejection_to_wire(rejected: Rejected) -> wire::Rejection {
    let (code, node) = match rejected {
        Rejected::NoLeader => (Code::NoLeader, NodeId::NONE),
        Rejected::NotLeader { leader } => (Code::NotLeader, leader.unwrap_or(NodeId::NONE)),
        Rejected::Overloaded => (Code::Overloaded, NodeId::NONE),
        Rejected::TooLarge => (Code::TooLarge, NodeId::NONE),
        Rejected::ConfigChangeInFlight => (Code::ConfigChangeInFlight, NodeId::NONE),
        Rejected::LeaderNotReady => (Code::LeaderNotReady, NodeId::NONE),
        Rejected::LearnerNotReady => (Code::LearnerNotReady, NodeId::NONE),
        Rejected::UnhealthyQuorum => (Code::UnhealthyQuorum, NodeId::NONE),
        Rejected::InvalidChange(error) => change_error_to_wire(error),
        Rejected::InvalidTransfer { to } => (Code::InvalidTransfer, to),
        Rejected::LeaseExpired => (Code::LeaseExpired, NodeId::NONE),
        Rejected::Transferring => (Code::Transferring, NodeId::NONE),
        Rejected::CannotCampaign => (Code::CannotCampaign, NodeId::NONE),
        Rejected::TimedOut => (Code::TimedOut, NodeId::NONE),
        Rejected::Removed => (Code::Removed, NodeId::NONE),
        Rejected::InvalidMessage => (Code::InvalidMessage, NodeId::NONE),
        Rejected::Failed => (Code::Failed, NodeId::NONE),
    };
    wire::Rejection {
        code: code.into(),
        node: node.get(),
    }
}

fn change_error_to_wire(error: ChangeError) -> (Code, NodeId) {
    match error {
        ChangeError::Empty => (Code::ChangeEmpty, NodeId::NONE),
        ChangeError::NoNode => (Code::ChangeNoNode, NodeId::NONE),
        ChangeError::Twice(node) => (Code::ChangeTwice, node),
        ChangeError::AlreadyMember(node) => (Code::ChangeAlreadyMember, node),
        ChangeError::NotMember(node) => (Code::ChangeNotMember, node),
        ChangeError::NotLearner(node) => (Code::ChangeNotLearner, node),
        ChangeError::NotVoter(node) => (Code::ChangeNotVoter, node),
        ChangeError::NoVoters => (Code::ChangeNoVoters, NodeId::NONE),
    }
}

pub(super) fn rejection_from_wire(
    rejection: Option<wire::Rejection>,
) -> Result<Rejected, WireError> {
    let rejection = rejection.ok_or(WireError::Missing("rejection"))?;
    let node = NodeId::new(rejection.node);
    let unknown = WireError::Unknown {
        field: "rejection.code",
        value: rejection.code,
    };
    Ok(match Code::try_from(rejection.code).map_err(|_| unknown)? {
        Code::Unspecified => return Err(unknown),
        Code::NoLeader => Rejected::NoLeader,
        Code::NotLeader => Rejected::NotLeader {
            leader: node.is_some().then_some(node),
        },
        Code::Overloaded => Rejected::Overloaded,
        Code::TooLarge => Rejected::TooLarge,
        Code::ConfigChangeInFlight => Rejected::ConfigChangeInFlight,
        Code::LeaderNotReady => Rejected::LeaderNotReady,
        Code::LearnerNotReady => Rejected::LearnerNotReady,
        Code::UnhealthyQuorum => Rejected::UnhealthyQuorum,
        Code::InvalidTransfer => Rejected::InvalidTransfer { to: node },
        Code::LeaseExpired => Rejected::LeaseExpired,
        Code::Transferring => Rejected::Transferring,
        Code::CannotCampaign => Rejected::CannotCampaign,
        Code::TimedOut => Rejected::TimedOut,
        Code::Removed => Rejected::Removed,
        Code::InvalidMessage => Rejected::InvalidMessage,
        Code::Failed => Rejected::Failed,
        Code::ChangeEmpty => Rejected::InvalidChange(ChangeError::Empty),
        Code::ChangeNoNode => Rejected::InvalidChange(ChangeError::NoNode),
        Code::ChangeTwice => Rejected::InvalidChange(ChangeError::Twice(node)),
        Code::ChangeAlreadyMember => Rejected::InvalidChange(ChangeError::AlreadyMember(node)),
        Code::ChangeNotMember => Rejected::InvalidChange(ChangeError::NotMember(node)),
        Code::ChangeNotLearner => Rejected::InvalidChange(ChangeError::NotLearner(node)),
        Code::ChangeNotVoter => Rejected::InvalidChange(ChangeError::NotVoter(node)),
        Code::ChangeNoVoters => Rejected::InvalidChange(ChangeError::NoVoters),
    })
}
