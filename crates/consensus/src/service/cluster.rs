//! The members: listing, adding, removing and updating them.

use std::sync::{Arc, OnceLock};

use synod_auth::AuthState;
use synod_consensus_core::Change;
use synod_proto::consensus::v1::{UpdatePeerUrls, command, member_change};
use synod_proto::etcd::etcdserverpb as pb;
use synod_runtime::{clock, random};
use synod_service::config::value::check_url;
use synod_types::NodeId;
use tonic::{Request, Response, Status};

use super::{with_engine, with_joining};
use crate::call::{Call, Caller};
use crate::error::Error;
use crate::identity::added_member_id;
use crate::shared::{Readiness, ServiceContext};
use crate::state::{Reply, Roster};

/// The Cluster service of the client port.
#[derive(Clone)]
pub(crate) struct ClusterService {
    shared: Arc<ServiceContext>,
}

impl ClusterService {
    pub(crate) fn new(shared: Arc<ServiceContext>) -> Self {
        Self { shared }
    }

    async fn change(
        &self,
        change: Change,
        context: member_change::Change,
        check: impl Fn(&Roster) -> Result<Readiness, Error>,
        call: &Call,
    ) -> Result<Vec<pb::Member>, Error> {
        let check = || check(&self.shared.view.roster());
        let changed = self.shared.change_members(change, context, check, call);
        Ok(members(changed.await?.reply, &self.shared))
    }

    async fn add(
        &self,
        request: pb::MemberAddRequest,
        call: &Call,
    ) -> Result<pb::MemberAddResponse, Error> {
        let peer_urls = checked_urls(&request.peer_urls)?;
        let id = added_member_id(&peer_urls, self.shared.cluster, random::u64());
        let member = pb::Member {
            id: id.get(),
            peer_urls,
            is_learner: request.is_learner,
            ..Default::default()
        };
        // A voter joins as a learner, and background.rs promotes it once it has caught up. Until
        // then the quorum does not depend on a member that may not even run.
        let members = self.change(
            Change::AddLearner(id),
            member_change::Change::Add(member.clone()),
            |roster| self.may_add(roster, &member),
            call,
        );
        let members = members.await?;
        Ok(pb::MemberAddResponse {
            header: Some(self.shared.header_without_revision()),
            member: Some(member),
            members,
        })
    }

    /// Refuses early what would fail. What counts is the check when the entry is applied.
    fn may_add(&self, roster: &Roster, member: &pb::Member) -> Result<Readiness, Error> {
        check_new(roster, member, self.shared.settings.max_learners)?;
        if self.shared.settings.strict_reconfig && !member.is_learner {
            let voters = voters(roster);
            ready_to_add(voters.len(), started(&voters))?;
            if self.connected(&voters) < voters.len() {
                return Err(Error::Unhealthy);
            }
        }
        Ok(Readiness::Ready)
    }

    async fn remove(&self, id: NodeId, call: &Call) -> Result<Vec<pb::Member>, Error> {
        self.change(
            Change::Remove(id),
            member_change::Change::Remove(id.get()),
            |roster| self.may_remove(roster, id),
            call,
        )
        .await
    }

    fn may_remove(&self, roster: &Roster, id: NodeId) -> Result<Readiness, Error> {
        let member = roster.member(id).ok_or(Error::MemberNotFound)?;
        if !self.shared.settings.strict_reconfig || member.is_learner {
            return Ok(Readiness::Ready);
        }
        // Whoever removes a member after adding one relies on the new one. So the removal waits
        // until the new members that run count. Removing a member that does not count yet costs no
        // quorum.
        let joining = self.shared.joining();
        let runs = |id: &NodeId| *id == self.shared.member || self.shared.peers.is_connected(*id);
        if !joining.contains(&id) && joining.iter().any(runs) {
            return Ok(Readiness::Later(Error::Unhealthy));
        }
        let mut rest = voters(roster);
        rest.retain(|other| other.id != id.get());
        let quorum = rest.len() / 2 + 1;
        // The last member can't be removed.
        if rest.is_empty() || started(&rest) < quorum {
            return Err(Error::NotEnoughStarted);
        }
        // A member that does not run can always be removed. One that runs can be removed if the
        // rest has a quorum without it.
        if self.connected(&[member]) == 1 && self.connected(&rest) < quorum {
            return Err(Error::Unhealthy);
        }
        Ok(Readiness::Ready)
    }

    async fn promote(&self, id: NodeId, call: &Call) -> Result<Vec<pb::Member>, Error> {
        self.change(
            Change::Promote(id),
            member_change::Change::Promote(id.get()),
            |roster| self.may_promote(roster, id),
            call,
        )
        .await
    }

    fn may_promote(&self, roster: &Roster, id: NodeId) -> Result<Readiness, Error> {
        let member = roster.member(id).ok_or(Error::MemberNotFound)?;
        if !member.is_learner {
            return Err(Error::NotLearner);
        }
        if !is_started(member) {
            return Err(Error::LearnerNotReady);
        }
        if self.shared.settings.strict_reconfig {
            let mut after = voters(roster);
            after.push(member);
            if started(&after) < after.len() / 2 + 1 {
                return Err(Error::NotEnoughStarted);
            }
        }
        Ok(Readiness::Ready)
    }

    /// How many of the members run: this one, and those that it is connected to.
    fn connected(&self, members: &[&pb::Member]) -> usize {
        let is_connected = |member: &&&pb::Member| {
            member.id == self.shared.member.get()
                || self.shared.peers.is_connected(NodeId::new(member.id))
        };
        members.iter().filter(is_connected).count()
    }

    async fn update(
        &self,
        request: pb::MemberUpdateRequest,
        call: &Call,
    ) -> Result<Vec<pb::Member>, Error> {
        let peer_urls = checked_urls(&request.peer_urls)?;
        let command = command::Command::UpdatePeerUrls(UpdatePeerUrls {
            member_id: request.id,
            peer_urls,
        });
        let applied = self.shared.propose(command, call).await?;
        Ok(members(applied.reply, &self.shared))
    }

    async fn list(
        &self,
        request: pb::MemberListRequest,
        call: &Call,
    ) -> Result<pb::MemberListResponse, Error> {
        if request.linearizable {
            self.shared.linearize(call.deadline).await?;
        }
        self.shared
            .permit(call, AuthState::check_authenticated)
            .await?;
        Ok(pb::MemberListResponse {
            header: Some(self.shared.header_without_revision()),
            members: self.shared.view.roster().list(),
        })
    }
}

#[tonic::async_trait]
impl pb::cluster_server::Cluster for ClusterService {
    async fn member_add(
        &self,
        request: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        let rpc = "/etcdserverpb.Cluster/MemberAdd";
        let call = self.shared.admit(&request, rpc, Caller::NeedsVoter).await?;
        Ok(Response::new(self.add(request.into_inner(), &call).await?))
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        let rpc = "/etcdserverpb.Cluster/MemberRemove";
        let call = self.shared.admit(&request, rpc, Caller::NeedsVoter).await?;
        let id = NodeId::new(request.into_inner().id);
        let members = self.remove(id, &call).await?;
        let header = Some(self.shared.header_without_revision());
        Ok(Response::new(pb::MemberRemoveResponse { header, members }))
    }

    async fn member_update(
        &self,
        request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        let rpc = "/etcdserverpb.Cluster/MemberUpdate";
        let call = self.shared.admit(&request, rpc, Caller::NeedsVoter).await?;
        let members = self.update(request.into_inner(), &call).await?;
        let header = Some(self.shared.header_without_revision());
        Ok(Response::new(pb::MemberUpdateResponse { header, members }))
    }

    async fn member_list(
        &self,
        request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        let rpc = "/etcdserverpb.Cluster/MemberList";
        let call = self.shared.admit(&request, rpc, Caller::NeedsVoter).await?;
        let list = self.list(request.into_inner(), &call).await?;
        Ok(with_joining(&self.shared, list))
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        let rpc = "/etcdserverpb.Cluster/MemberPromote";
        let call = self.shared.admit(&request, rpc, Caller::NeedsVoter).await?;
        let id = NodeId::new(request.into_inner().id);
        let members = self.promote(id, &call).await?;
        let header = Some(self.shared.header_without_revision());
        Ok(Response::new(pb::MemberPromoteResponse { header, members }))
    }
}

/// The Cluster service of the peer port. It only lists members, for those that join.
///
/// The peer port opens with the replica, before the rest of the node runs.
#[derive(Clone, Default)]
pub(crate) struct PeerClusterService {
    cluster: Arc<OnceLock<ClusterService>>,
}

impl PeerClusterService {
    /// Starts to answer.
    pub(crate) fn open(&self, shared: &Arc<ServiceContext>) {
        // Called once.
        let _again = self.cluster.set(ClusterService::new(Arc::clone(shared)));
    }
}

macro_rules! not_for_peers {
    () => {
        Err(Error::Unimplemented("changing members on the peer port").into())
    };
}

#[tonic::async_trait]
impl pb::cluster_server::Cluster for PeerClusterService {
    async fn member_list(
        &self,
        request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        let cluster = self.cluster.get().ok_or(Error::NotRunning)?;
        let deadline = clock::now() + cluster.shared.settings.request_timeout;
        let request = request.into_inner();
        let members = cluster.list(request, &Call::own(deadline)).await?;
        Ok(with_engine(&cluster.shared, members))
    }

    async fn member_add(
        &self,
        _: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        not_for_peers!()
    }

    async fn member_remove(
        &self,
        _: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        not_for_peers!()
    }

    async fn member_update(
        &self,
        _: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        not_for_peers!()
    }

    async fn member_promote(
        &self,
        _: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        not_for_peers!()
    }
}

fn members(reply: Reply, shared: &ServiceContext) -> Vec<pb::Member> {
    if let Reply::Members(members) = reply {
        return members;
    }
    shared.view.roster().list()
}

fn checked_urls(urls: &[String]) -> Result<Vec<String>, Error> {
    if urls.is_empty() {
        return Err(Error::MemberBadUrls);
    }
    let mut checked = urls
        .iter()
        .map(|url| check_url(url).map_err(|_| Error::MemberBadUrls))
        .collect::<Result<Vec<_>, _>>()?;
    checked.sort();
    Ok(checked)
}

fn voters(roster: &Roster) -> Vec<&pb::Member> {
    roster
        .members()
        .filter(|member| !member.is_learner)
        .collect()
}

/// How many of the members have started at least once.
fn started(members: &[&pb::Member]) -> usize {
    members.iter().filter(|member| is_started(member)).count()
}

/// Whether a member has started at least once: then it has published its name and client URLs.
fn is_started(member: &pb::Member) -> bool {
    !member.name.is_empty() || !member.client_urls.is_empty()
}

fn check_new(roster: &Roster, member: &pb::Member, max_learners: usize) -> Result<(), Error> {
    let taken = roster.members().any(|other| {
        other
            .peer_urls
            .iter()
            .any(|url| member.peer_urls.contains(url))
    });
    if taken {
        return Err(Error::PeerUrlExists);
    }
    let learners = roster.members().filter(|other| other.is_learner).count();
    if member.is_learner && learners >= max_learners {
        return Err(Error::TooManyLearners);
    }
    Ok(())
}

/// As in etcd, the started members must be a quorum of the cluster with the new one, except that a
/// cluster of one can always grow.
fn ready_to_add(voters: usize, started: usize) -> Result<(), Error> {
    let members = voters + 1;
    if started == 1 && members == 2 {
        return Ok(());
    }
    match started < members / 2 + 1 {
        true => Err(Error::NotEnoughStarted),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_grows_only_while_a_quorum_has_started() {
        for (voters, started, ok) in [
            (1, 1, true),
            (2, 1, false),
            (2, 2, true),
            (3, 2, false),
            (3, 3, true),
            (5, 4, true),
        ] {
            assert_eq!(
                ready_to_add(voters, started).is_ok(),
                ok,
                "{started} of {voters}"
            );
        }
    }

    #[test]
    fn urls_are_checked() {
        assert!(checked_urls(&[]).is_err());
        assert!(checked_urls(&["nonsense".to_owned()]).is_err());
        assert_eq!(
            checked_urls(&["http://a:1/".to_owned()]).unwrap(),
            ["http://a:1"]
        );
    }
}
