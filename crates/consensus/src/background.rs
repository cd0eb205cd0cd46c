//! Background tasks of a node: it publishes its name, promotes members that caught up, lowers its
//! alarm when there is space again, and compacts the history.

use std::sync::Arc;
use std::time::Duration;

use synod_consensus_core::Change;
use synod_proto::consensus::v1::{Publish, SetClusterVersion, command, member_change};
use synod_proto::etcd::etcdserverpb::{
    AlarmRequest, AlarmType, CompactionRequest, alarm_request::AlarmAction,
};
use synod_runtime::{clock, shutdown::Shutdown};
use synod_service::{Retention, RetentionPlan};
use synod_types::NodeId;

use crate::call::Call;
use crate::error::Error;
use crate::shared::{Readiness, ServiceContext};
use crate::version;

/// The pause between two rounds of housekeeping.
const HOUSEKEEPING: Duration = Duration::from_millis(500);
/// The pause after a proposal that failed.
const RETRY: Duration = Duration::from_millis(250);
/// NOSPACE is disarmed once live data is below this many percent of the quota.
const SPACE_IS_BACK_PERCENT: u64 = 95;

/// Keeps role and leader in [`ServiceContext`] up to date, and logs changes of the leader. Ends
/// when the replica stops.
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

/// Publishes this member's name and client URLs, by which clients find it. Repeats that until it
/// succeeds.
pub(crate) async fn publish(shared: Arc<ServiceContext>, stop: Shutdown) {
    while !is_published(&shared) && !stop.is_triggered() {
        let command = command::Command::Publish(Publish {
            member_id: shared.member.get(),
            name: shared.settings.name.clone(),
            client_urls: shared.settings.client_urls.clone(),
        });
        match propose(&shared, command).await {
            Ok(()) => {
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

/// Does what is not urgent: each member for its own alarm, the leader for the cluster.
pub(crate) async fn keep_house(shared: Arc<ServiceContext>, stop: Shutdown) {
    while !stop.is_triggered() {
        if let Err(error) = tidy(&shared).await {
            tracing::debug!(%error, "housekeeping failed, trying again");
        }
        clock::sleep(HOUSEKEEPING).await;
    }
}

async fn tidy(shared: &ServiceContext) -> Result<(), Error> {
    disarm_no_space(shared).await?;
    if !shared.is_leader() {
        return Ok(());
    }
    decide_version(shared).await?;
    drop_unknown_members(shared).await?;
    promote_joined_voters(shared).await
}

/// Disarms this member's NOSPACE when there is space again.
async fn disarm_no_space(shared: &ServiceContext) -> Result<(), Error> {
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
    tracing::info!("there is space again: disarming the NOSPACE alarm");
    alarm(shared, AlarmAction::Deactivate, shared.member).await
}

/// Raises NOSPACE for this member, and waits until that is applied.
///
/// # Errors
/// The proposal failed.
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

/// Sets the cluster's version once, and raises the feature level to what all members have. A member
/// that can't be reached counts as level 0, since the level never falls again.
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
        "raised the cluster's version and feature level to what all members support"
    );
    Ok(())
}

/// The highest feature level that all members have, including those that were added and have never
/// connected.
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

/// Removes members that the core has and the roster refused. The core accepts a new member before
/// the roster checks it, and another may have got its peer URL meanwhile.
async fn drop_unknown_members(shared: &ServiceContext) -> Result<(), Error> {
    let status = shared.replica.status();
    if status.membership_index > shared.replica.applied() {
        // The last change is not applied yet, so the roster does not know it.
        return Ok(());
    }
    let roster = shared.view.roster();
    let unknown = status.membership.learners.iter().copied();
    for id in unknown.filter(|id| roster.member(*id).is_none()) {
        let context = member_change::Change::Remove(id.get());
        match change(shared, Change::Remove(id), context).await {
            // The roster never had the member.
            Ok(_) | Err(Error::MemberNotFound) => {
                tracing::info!(member = %id, "removed a member again, because its addition was refused; add it with peer URLs that no other member has");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Promotes members that were added as voters. They join as learners, and the core refuses to
/// promote them until they have caught up.
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
    let call = Call::own(clock::now() + shared.settings.request_timeout);
    let always = || Ok(Readiness::Ready);
    let changed = shared.change_members(change, context, always, &call);
    changed.await.map(drop)
}

async fn propose(shared: &ServiceContext, command: command::Command) -> Result<(), Error> {
    let call = Call::own(clock::now() + shared.settings.request_timeout);
    shared.propose(command, &call).await.map(drop)
}

/// Compacts the history as configured. Every member takes samples, but only the leader compacts.
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
