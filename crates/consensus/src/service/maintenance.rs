//! What operators need: status, alarms, hashes, snapshots and moving the leadership.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use futures::Stream;
use synod_lease::Leases;
use synod_proto::consensus::v1::command;
use synod_proto::etcd::etcdserverpb::{
    self as pb, AlarmType, alarm_request::AlarmAction, downgrade_request::DowngradeAction,
};
use synod_replica::TransferError;
use synod_runtime::clock;
use synod_types::NodeId;
use tonic::{Request, Response, Status};

use super::snapshot;
use super::with_engine;
use crate::call::{Call, Caller};
use crate::error::Error;
use crate::shared::ServiceContext;
use crate::state::{Reply, View};
use crate::version;

/// The Maintenance service of the client port.
#[derive(Clone)]
pub(crate) struct MaintenanceService {
    shared: Arc<ServiceContext>,
    leases: Arc<Leases>,
}

impl MaintenanceService {
    pub(crate) fn new(shared: Arc<ServiceContext>, leases: Arc<Leases>) -> Self {
        Self { shared, leases }
    }

    async fn propose_alarm(
        &self,
        request: pb::AlarmRequest,
        call: &Call,
    ) -> Result<pb::AlarmResponse, Error> {
        let action = AlarmAction::try_from(request.action).map_err(|_| Error::UnknownEnum {
            what: "alarm action",
        })?;
        let is_known = AlarmType::try_from(request.alarm).is_ok();
        if !is_known && action != AlarmAction::Get {
            return Err(Error::UnknownEnum { what: "alarm type" });
        }
        // As in etcd, reading alarms goes through the log too, and so is linearizable.
        let is_read = request.action == i32::from(AlarmAction::Get);
        let command = command::Command::Alarm(request);
        let proposed = self.shared.propose(command, call).await;
        let applied = proposed.map_err(|error| match is_read {
            true => error.of_read(),
            false => error,
        })?;
        let Reply::Alarms(mut alarms) = applied.reply else {
            return Err(Error::Internal(
                "an alarm was answered with something else".to_owned(),
            ));
        };
        if !is_known {
            // An alarm of an unknown type is never raised.
            alarms.clear();
        }
        Ok(pb::AlarmResponse {
            header: Some(applied.header),
            alarms,
        })
    }

    fn describe(&self) -> pb::StatusResponse {
        let shared = &self.shared;
        let sizes = shared.view.sizes();
        let leader = shared.leader();
        let mut errors = Vec::new();
        if leader.is_none() {
            errors.push(Error::NoLeader.to_string());
        }
        for alarm in shared.view.roster().alarms(AlarmType::None) {
            let name =
                AlarmType::try_from(alarm.alarm).map_or("UNKNOWN", |kind| kind.as_str_name());
            errors.push(format!("memberID:{} alarm:{name} ", alarm.member_id));
        }
        pb::StatusResponse {
            header: Some(shared.header_now()),
            version: version::ETCD_VERSION.to_owned(),
            db_size: signed(sizes.total()),
            leader: leader.map_or(0, NodeId::get),
            raft_index: shared.replica.commit().get(),
            raft_term: shared.term(),
            raft_applied_index: shared.replica.applied().get(),
            errors,
            db_size_in_use: signed(sizes.live),
            // A member that was added as a voter is a learner until it has caught up.
            is_learner: shared.view.is_learner() || !shared.votes(),
            storage_version: version::ETCD_STORAGE_VERSION.to_owned(),
            db_size_quota: signed(shared.settings.quota_bytes),
            downgrade_info: Some(pb::DowngradeInfo::default()),
        }
    }

    async fn transfer(&self, to: NodeId, deadline: Instant) -> Result<(), Error> {
        let shared = &self.shared;
        if !shared.is_leader() {
            return Err(Error::NotLeader);
        }
        if to == shared.member {
            return Ok(());
        }
        let is_voter = shared
            .view
            .roster()
            .member(to)
            .is_some_and(|member| !member.is_learner);
        if !is_voter {
            return Err(Error::BadTransferee);
        }
        if let Err(error) = synod_lease::checkpoint_all(&**shared, &self.leases, deadline).await {
            tracing::warn!(%error, "could not record the remaining time of leases before the hand-over; they will last longer");
        }
        // The core gives up an attempt after an election timeout, for instance if the target
        // started too recently to campaign. Try again as long as this member leads.
        let mut tried = false;
        loop {
            let attempt = deadline.min(clock::now() + 2 * shared.settings.election_timeout);
            match shared.replica.transfer(to, attempt).await {
                Ok(()) => return Ok(()),
                Err(TransferError::Timeout) if shared.leader() == Some(to) => return Ok(()),
                Err(TransferError::Timeout) if shared.is_leader() && attempt < deadline => {
                    tried = true;
                }
                Err(TransferError::Timeout) => return Err(Error::TimeoutLeaderTransfer),
                // An earlier attempt may still take effect.
                Err(TransferError::Rejected(_)) if tried => {
                    return Err(Error::TimeoutLeaderTransfer);
                }
                Err(TransferError::Rejected(rejected)) => return Err(rejected.into()),
                Err(TransferError::Stopped) => return Err(Error::Stopped),
                Err(other) => return Err(Error::Internal(other.to_string())),
            }
        }
    }
}

/// Requests that read all data take their view before the caller is checked, so that the data is
/// not newer than the permissions.
#[tonic::async_trait]
impl pb::maintenance_server::Maintenance for MaintenanceService {
    type SnapshotStream = Pin<Box<dyn Stream<Item = Result<pb::SnapshotResponse, Status>> + Send>>;

    async fn alarm(
        &self,
        request: Request<pb::AlarmRequest>,
    ) -> Result<Response<pb::AlarmResponse>, Status> {
        let rpc = "/etcdserverpb.Maintenance/Alarm";
        let call = self.shared.admit(&request, rpc, Caller::NeedsVoter).await?;
        Ok(Response::new(
            self.propose_alarm(request.into_inner(), &call).await?,
        ))
    }

    async fn status(
        &self,
        request: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        let rpc = "/etcdserverpb.Maintenance/Status";
        self.shared.admit(&request, rpc, Caller::Anyone).await?;
        Ok(with_engine(&self.shared, self.describe()))
    }

    async fn defragment(
        &self,
        request: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        let rpc = "/etcdserverpb.Maintenance/Defragment";
        self.shared.admit(&request, rpc, Caller::NeedsVoter).await?;
        tracing::info!("defragment requested: nothing to do, the engine reclaims space by itself");
        Ok(Response::new(pb::DefragmentResponse { header: None }))
    }

    async fn hash(
        &self,
        request: Request<pb::HashRequest>,
    ) -> Result<Response<pb::HashResponse>, Status> {
        let rpc = "/etcdserverpb.Maintenance/Hash";
        let view = self.shared.view.reader().view();
        self.shared.admit(&request, rpc, Caller::NeedsVoter).await?;
        let (hash, revision) = self
            .shared
            .reads
            .scans
            .run(move || View::hash_store(&view))
            .await?;
        Ok(Response::new(pb::HashResponse {
            header: Some(self.shared.header(revision)),
            hash,
        }))
    }

    async fn hash_kv(
        &self,
        request: Request<pb::HashKvRequest>,
    ) -> Result<Response<pb::HashKvResponse>, Status> {
        let rpc = "/etcdserverpb.Maintenance/HashKV";
        let view = self.shared.view.reader().view();
        self.shared.admit(&request, rpc, Caller::NeedsVoter).await?;
        let revision = request.into_inner().revision;
        let hashed = self
            .shared
            .reads
            .scans
            .run(move || View::hash_kv(&view, revision))
            .await?;
        Ok(Response::new(pb::HashKvResponse {
            header: Some(self.shared.header(hashed.current)),
            hash: hashed.hash,
            compact_revision: hashed.compacted,
            hash_revision: hashed.revision,
        }))
    }

    async fn snapshot(
        &self,
        request: Request<pb::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        // A learner can be backed up too.
        let rpc = "/etcdserverpb.Maintenance/Snapshot";
        let view = self.shared.view.reader().view();
        self.shared.admit(&request, rpc, Caller::Anyone).await?;
        Ok(Response::new(snapshot::stream(&self.shared, view)?))
    }

    async fn move_leader(
        &self,
        request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        let rpc = "/etcdserverpb.Maintenance/MoveLeader";
        let call = self.shared.admit(&request, rpc, Caller::NeedsVoter).await?;
        let to = NodeId::new(request.into_inner().target_id);
        self.transfer(to, call.deadline).await?;
        Ok(Response::new(pb::MoveLeaderResponse { header: None }))
    }

    async fn downgrade(
        &self,
        request: Request<pb::DowngradeRequest>,
    ) -> Result<Response<pb::DowngradeResponse>, Status> {
        let rpc = "/etcdserverpb.Maintenance/Downgrade";
        self.shared.admit(&request, rpc, Caller::NeedsVoter).await?;
        let request = request.into_inner();
        let action = DowngradeAction::try_from(request.action).map_err(|_| Error::UnknownMethod)?;
        Err(match action {
            DowngradeAction::Validate | DowngradeAction::Enable => {
                refuse_downgrade(&request.version)
            }
            DowngradeAction::Cancel => Error::NoInflightDowngrade,
        }
        .into())
    }
}

/// Refuses every downgrade: there is one format, so no version to go back to.
fn refuse_downgrade(version: &str) -> Error {
    let mut parts = version.split('.').map(str::parse::<u32>);
    let well_formed =
        parts.by_ref().all(|part| part.is_ok()) && (2..=3).contains(&version.split('.').count());
    match well_formed {
        true => Error::InvalidDowngradeTarget,
        false => Error::WrongDowngradeVersion,
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
