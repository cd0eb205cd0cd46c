//! What a node does by itself: it publishes its name, promotes members that caught up, gives space
//! back, compacts the history, and stops when it must not go on.

use std::sync::Arc;
use std::time::Duration;

use synod_consensus_core::Change;
use synod_proto::consensus::v1::{Command, Publish, SetClusterVersion, command, member_change};
use synod_proto::etcd::etcdserverpb::{
    AlarmRequest, AlarmType, CompactionRequest, alarm_request::AlarmAction,
};
use synod_runtime::{clock, shutdown::Shutdown};
use synod_service::{Retention, RetentionPlan};
use synod_types::NodeId;

use crate::error::Error;
use crate::shared::{Readiness, ServiceContext};
use crate::version;

/// How often the housekeeper looks around.
const HOUSEKEEPING: Duration = Duration::from_millis(500);
/// A pause after a proposal that failed.
const RETRY: Duration = Duration::from_millis(250);
/// NOSPACE is taken back once the live data is below this many percent of the quota.
const SPACE_IS_BACK_PERCENT: u64 = 95;

/// Keeps role and leader in [`ServiceContext`] up to date, and logs changes of the leader. Ends
/// with the replica.
pub(crate) async fn follow_role(shared: Arc<ServiceContext>) {
    let mut role = shared.replica.watch_role();
    let mut leader = None;
    loop {
        let now = *role.borrow_and_update();
        shared.set_leadership(&now);
        if now.leader != leader {
            leader = now.leader;
            match leader {
                Some(leader) => tracing::info!(%leader, term = now.ballot.round, "leader elected"),
                None => tracing::warn!(term = now.ballot.round, "no leader"),
            }
        }
        if role.changed().await.is_err() {
            return;
        }
    }
}

/// Tells the cluster this member's name and client URLs, until it is told. Clients find members by
/// it.
pub(crate) async fn publish(shared: Arc<ServiceContext>, stop: Shutdown) {
    let command = Command {
        command: Some(command::Command::Publish(Publish {
            member_id: shared.member.get(),
            name: shared.settings.name.clone(),
            client_urls: shared.settings.client_urls.clone(),
        })),
        requester: None,
    };
    while !is_published(&shared) && !stop.is_triggered() {
        let deadline = clock::now() + shared.settings.request_timeout;
        match shared.propose(&command, deadline).await {
            Ok(_) => {
                tracing::info!(
                    name = shared.settings.name,
                    "published this member to its cluster"
                );
            }
            Err(error) => {
                tracing::debug!(%error, "publishing the member's name failed, trying again");
                clock::sleep(RETRY).await;
            }
        }
    }
}

fn is_published(shared: &ServiceContext) -> bool {
    let roster = shared.view.roster();
    roster.member(shared.member).is_some_and(|member| {
        member.name == shared.settings.name && member.client_urls == shared.settings.client_urls
    })
}

/// The leader's duties that are not urgent, and each member's own alarm.
pub(crate) async fn keep_house(shared: Arc<ServiceContext>, stop: Shutdown) {
    while !stop.is_triggered() {
        if let Err(error) = tidy(&shared).await {
            tracing::debug!(%error, "housekeeping failed, trying again");
        }
        clock::sleep(HOUSEKEEPING).await;
    }
}

async fn tidy(shared: &ServiceContext) -> Result<(), Error> {
    give_space_back(shared).await?;
    if !shared.is_leader() {
        return Ok(());
    }
    decide_version(shared).await?;
    drop_unknown_members(shared).await?;
    promote_joined_voters(shared).await
}

/// Takes this member's NOSPACE back when there is space again.
async fn give_space_back(shared: &ServiceContext) -> Result<(), Error> {
    let raised = shared
        .view
        .roster()
        .alarmed_by(AlarmType::Nospace, shared.member);
    let threshold = shared
        .settings
        .quota_bytes
        .saturating_mul(SPACE_IS_BACK_PERCENT)
        / 100;
    if !raised || shared.view.live_bytes() >= threshold {
        return Ok(());
    }
    tracing::info!("there is space again: taking the NOSPACE alarm back");
    alarm(shared, AlarmAction::Deactivate, shared.member).await
}

/// Raises NOSPACE for this member, and waits until every write knows of it.
///
/// # Errors
/// The proposal's.
pub(crate) async fn raise_no_space(shared: &ServiceContext) -> Result<(), Error> {
    tracing::warn!(
        quota_bytes = shared.settings.quota_bytes,
        live_bytes = shared.view.live_bytes(),
        "the quota is used up: raising the NOSPACE alarm; delete keys or compact the history to free space"
    );
    alarm(shared, AlarmAction::Activate, shared.member).await
}

async fn alarm(shared: &ServiceContext, action: AlarmAction, member: NodeId) -> Result<(), Error> {
    let command = command::Command::Alarm(AlarmRequest {
        action: action.into(),
        member_id: member.get(),
        alarm: AlarmType::Nospace.into(),
    });
    propose(shared, command).await
}

/// Decides the version once, and raises the feature level to what all members have. A member that
/// can't be asked counts as having none, because the level never falls again.
async fn decide_version(shared: &ServiceContext) -> Result<(), Error> {
    let (decided, level) = {
        let roster = shared.view.roster();
        (roster.version().is_some(), roster.feature_level())
    };
    let common = common_feature_level(shared);
    if decided && common <= level {
        return Ok(());
    }
    let command = SetClusterVersion {
        version: version::ETCD_CLUSTER_VERSION.to_owned(),
        feature_level: common.max(level),
    };
    propose(shared, command::Command::SetClusterVersion(command)).await?;
    tracing::info!(
        version = version::ETCD_CLUSTER_VERSION,
        feature_level = common.max(level),
        "decided what all members have"
    );
    Ok(())
}

/// The highest feature level that all members have, also those that were added but have not been
/// heard of.
fn common_feature_level(shared: &ServiceContext) -> u32 {
    let status = shared.replica.status();
    let roster = shared.view.roster();
    let named = roster.members().map(|member| NodeId::new(member.id));
    let in_core = status
        .membership
        .voters
        .iter()
        .chain(&status.membership.learners);
    let others = named
        .chain(in_core.copied())
        .filter(|id| *id != shared.member)
        .map(|id| shared.peers.feature_level(id).unwrap_or(0));
    others.fold(shared.settings.feature_level, u32::min)
}

/// The core takes a new member before the roster has looked at it. One that the roster refused, for
/// a peer URL that another had meanwhile, is taken out again.
async fn drop_unknown_members(shared: &ServiceContext) -> Result<(), Error> {
    let status = shared.replica.status();
    if status.membership_index > shared.replica.applied() {
        // The roster may not have heard of it yet.
        return Ok(());
    }
    let roster = shared.view.roster();
    let unknown = status.membership.learners.iter().copied();
    for id in unknown.filter(|id| roster.member(*id).is_none()) {
        let context = member_change::Change::Remove(id.get());
        match change(shared, Change::Remove(id), context).await {
            // The roster never had it.
            Ok(_) | Err(Error::MemberNotFound) => {
                tracing::info!(member = %id, "dropped a member that was refused when it was added");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Members that were added as voters join as learners. The leader promotes them once they have
/// caught up; until then it refuses, and is asked again.
async fn promote_joined_voters(shared: &ServiceContext) -> Result<(), Error> {
    let status = shared.replica.status();
    let waiting: Vec<NodeId> = {
        let roster = shared.view.roster();
        status
            .membership
            .learners
            .iter()
            .copied()
            .filter(|id| roster.member(*id).is_some_and(|member| !member.is_learner))
            .collect()
    };
    for id in waiting {
        let context = member_change::Change::Promote(id.get());
        match change(shared, Change::Promote(id), context).await {
            Ok(_) => tracing::info!(member = %id, "a new member has caught up and votes now"),
            Err(Error::LearnerNotReady | Error::Unhealthy | Error::TooManyRequests) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn change(
    shared: &ServiceContext,
    change: Change,
    context: member_change::Change,
) -> Result<(), Error> {
    let deadline = clock::now() + shared.settings.request_timeout;
    let always = || Ok(Readiness::Ready);
    let changed = shared.change_members(change, context, always, deadline);
    changed.await.map(drop)
}

async fn propose(shared: &ServiceContext, command: command::Command) -> Result<(), Error> {
    let command = Command {
        command: Some(command),
        requester: None,
    };
    let deadline = clock::now() + shared.settings.request_timeout;
    shared.propose(&command, deadline).await.map(drop)
}

/// Compacts the history as configured. Every member keeps the samples, only the leader acts on
/// them.
pub(crate) async fn compact(shared: Arc<ServiceContext>, retention: Retention, stop: Shutdown) {
    let mut plan = RetentionPlan::new(retention);
    let Some(pause) = plan.pause() else { return };
    loop {
        tokio::select! {
            biased; // stopping comes first
            () = stop.triggered() => return,
            () = clock::sleep(pause) => {}
        }
        let target = plan.sample(clock::now(), shared.view.revision());
        let Some(revision) = target.filter(|revision| *revision > shared.view.compacted()) else {
            continue;
        };
        if !shared.is_leader() {
            continue;
        }
        let request = CompactionRequest {
            revision,
            physical: false,
        };
        match propose(&shared, command::Command::Compact(request)).await {
            Ok(()) => tracing::info!(revision, "compacted the history automatically"),
            Err(Error::Compacted) => {}
            Err(error) => {
                tracing::warn!(%error, revision, "automatic compaction failed, trying again");
            }
        }
    }
}
