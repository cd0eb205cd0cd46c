//! Applies commands to the state.

use prost::Message as _;
use synod_auth::{AuthState, Origin, Tokens};
use synod_consensus_core::{ConfigCommand, Entry, EntryKind, Membership};
use synod_lease::{GrantError, KEEPER_ROW, Leases};
use synod_mvcc::{LeaseId, MvccError, MvccStore, Revision, WriteTxn};
use synod_proto::consensus::v1::{
    AuthCommand, Command, MemberChange, command::Command as Kind, member_change::Change,
};
use synod_proto::etcd::etcdserverpb::{
    AlarmRequest, AlarmType, CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, PutRequest,
    TxnRequest, alarm_request::AlarmAction,
};
use synod_replica::ApplyError;
use synod_types::{Index, NodeId};

use super::outcome::{Outcome, Reply};
use super::roster::Roster;
use super::txn;
use crate::convert::key_range;
use crate::error::Error;
use crate::metrics::Metrics;
use crate::version::BOUNDED_WRITES;

/// Why a command has no reply.
#[derive(Debug)]
pub(super) enum Failure {
    /// It is refused on all members alike, and has no effect.
    Refused(Error),
    /// The store failed: this member must stop.
    Fatal(MvccError),
    /// It deletes so much that it needs a batch of its own. It had no effect yet.
    NeedsOwnBatch,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<GrantError> for Failure {
    fn from(error: GrantError) -> Self {
        Self::Refused(error.into())
    }
}

impl From<MvccError> for Failure {
    fn from(error: MvccError) -> Self {
        match error {
            MvccError::Compacted { .. }
            | MvccError::FutureRevision { .. }
            | MvccError::KeyNotFound
            | MvccError::KeyLength { .. }
            | MvccError::ResultTooLarge { .. }
            | MvccError::DeleteTooLarge { .. }
            | MvccError::LeaseNotFound { .. }
            | MvccError::LeaseExists { .. } => Self::Refused(error.into()),
            MvccError::Corrupt { .. }
            | MvccError::MalformedImport { .. }
            | MvccError::Failed
            | MvccError::Engine(_) => Self::Fatal(error),
        }
    }
}

/// Applies the entries of one batch, before it is committed.
pub(super) struct Applier<'a> {
    pub(super) store: &'a mut MvccStore,
    pub(super) roster: &'a mut Roster,
    pub(super) leases: &'a Leases,
    pub(super) users: &'a mut AuthState,
    pub(super) tokens: &'a Tokens,
    pub(super) metrics: &'a Metrics,
    /// The membership of the last configuration entry, if there was one.
    pub(super) membership: Option<Membership>,
    /// Whether the roster has to be published.
    pub(super) roster_changed: bool,
    /// Whether users and roles are to be published.
    pub(super) users_changed: bool,
    /// This member's feature level.
    pub(super) feature_level: u32,
}

impl Applier<'_> {
    /// Applies one entry. `None`: it was not applied, since it has to be the first after a commit.
    ///
    /// # Errors
    /// The store failed, or the entry is a command of a newer release.
    pub(super) fn apply(&mut self, entry: Entry) -> Result<Option<Outcome>, ApplyError> {
        // Only for the answer. The state must not depend on it: with Multi-Paxos members may have
        // accepted the same entry in different ballots.
        let term = entry.ballot.round;
        let result = match entry.kind {
            EntryKind::Noop => Ok(Reply::Done),
            EntryKind::Config => self.configure(entry)?,
            EntryKind::Normal => {
                let index = entry.index;
                let applied = match decode(&entry)? {
                    Ok((by, kind)) => {
                        self.check_level(&entry, &kind)?;
                        self.command(term, index, &by, kind)
                    }
                    Err(error) => Err(Failure::Refused(error)),
                };
                match applied {
                    Ok(reply) => Ok(reply),
                    Err(Failure::Refused(error)) => Err(error),
                    Err(Failure::NeedsOwnBatch) => return Ok(None),
                    Err(Failure::Fatal(error)) => {
                        return Err(ApplyError::caused_by(
                            format!("entry {index} failed"),
                            error,
                        ));
                    }
                }
            }
        };
        Ok(Some(Outcome {
            term,
            revision: self.store.revision().get(),
            result,
        }))
    }

    fn command(
        &mut self,
        term: u64,
        index: Index,
        by: &Origin,
        kind: Kind,
    ) -> Result<Reply, Failure> {
        self.check_alarms(&kind)?;
        self.check_origin(by, &kind)?;
        match kind {
            Kind::Put(request) => self.put(&request),
            Kind::DeleteRange(request) => self.delete_range(&request),
            Kind::Txn(request) => self.txn(&request),
            Kind::Compact(request) => self.compact(request),
            Kind::LeaseGrant(request) => self.grant(request),
            Kind::LeaseClaim(request) => {
                let keeper = self.leases.apply_claim(request);
                self.write_leases(|txn| {
                    if let Some(keeper) = keeper {
                        txn.meta_put(KEEPER_ROW, keeper.encode());
                    }
                    Ok(())
                })?;
                let held = self.leases.is_kept_by(request);
                Ok(Reply::LeasesClaimed { held })
            }
            Kind::LeaseRevoke(request) => {
                let ids = self.leases.revocable(term, &request);
                self.revoke_leases(&ids)?;
                self.leases.apply_revoke(&ids);
                Ok(Reply::LeasesRevoked { ids })
            }
            Kind::LeaseCheckpoint(request) => {
                let changed = self.leases.apply_checkpoint(term, &request);
                self.write_leases(|txn| {
                    for (id, lease) in &changed {
                        txn.lease_checkpoint(LeaseId::new(*id), lease.remaining_s)?;
                    }
                    Ok(())
                })?;
                Ok(Reply::Done)
            }
            Kind::Alarm(request) => Ok(self.alarm(request)),
            Kind::Publish(request) => {
                let id = NodeId::new(request.member_id);
                self.members(|roster, txn| {
                    roster.publish(id, request.name, request.client_urls, txn);
                    Ok(())
                })
            }
            Kind::UpdatePeerUrls(request) => {
                let id = NodeId::new(request.member_id);
                self.members(|roster, txn| roster.update_peer_urls(id, request.peer_urls, txn))
            }
            Kind::SetClusterVersion(request) => self.members(|roster, txn| {
                roster.set_version(request.version, request.feature_level, txn);
                Ok(())
            }),
            Kind::Auth(request) => self.auth(index, by.identity(), request),
        }
    }

    /// Stops at an entry that raises the feature level above this member's, since later entries may
    /// rely on it. A leader asks all members before it raises the level, so this happens only if
    /// this member went back to an earlier release at that moment.
    fn check_level(&self, entry: &Entry, kind: &Kind) -> Result<(), ApplyError> {
        let Kind::SetClusterVersion(request) = kind else {
            return Ok(());
        };
        let (index, raised, ours) = (entry.index, request.feature_level, self.feature_level);
        if raised <= ours {
            return Ok(());
        }
        Err(ApplyError::new(format!(
            "entry {index} raises the cluster's feature level to {raised}, and this member has level {ours}: start a newer \
             release on it"
        )))
    }

    /// `bytes` if the cluster's feature level has the bound, else no bound: all members must do the
    /// same.
    fn bound(&self, bytes: usize) -> usize {
        match self.roster.feature_level() >= BOUNDED_WRITES {
            true => bytes,
            false => usize::MAX,
        }
    }

    /// NOSPACE refuses commands that need space; CORRUPT refuses all that read or write keys.
    fn check_alarms(&self, kind: &Kind) -> Result<(), Error> {
        if !self.roster.alarmed(AlarmType::None) {
            return Ok(());
        }
        let (needs_space, concerns_keys) = match kind {
            Kind::Put(_) | Kind::LeaseGrant(_) => (true, true),
            Kind::Txn(request) => (txn::puts_anything(request), true),
            Kind::DeleteRange(_) | Kind::Compact(_) | Kind::LeaseRevoke(_) => (false, true),
            Kind::LeaseClaim(_)
            | Kind::LeaseCheckpoint(_)
            | Kind::Alarm(_)
            | Kind::Publish(_)
            | Kind::UpdatePeerUrls(_)
            | Kind::SetClusterVersion(_)
            | Kind::Auth(_) => (false, false),
        };
        if concerns_keys && self.roster.alarmed(AlarmType::Corrupt) {
            return Err(Error::Corrupt);
        }
        if needs_space && self.roster.alarmed(AlarmType::Nospace) {
            return Err(Error::NoSpace);
        }
        Ok(())
    }

    fn put(&mut self, request: &PutRequest) -> Result<Reply, Failure> {
        if request.lease != 0 && !self.leases.contains(request.lease) {
            return Err(Error::LeaseNotFound.into());
        }
        let mut txn = self.store.begin();
        let response = txn::put(&mut txn, request)?;
        txn.finish();
        self.metrics.puts.inc();
        Ok(Reply::Put {
            prev_kv: response.prev_kv,
        })
    }

    fn delete_range(&mut self, request: &DeleteRangeRequest) -> Result<Reply, Failure> {
        let max_reply_bytes = self.bound(txn::MAX_REPLY_BYTES);
        let max_delete_bytes = self.bound(txn::MAX_DELETE_BYTES);
        let mut txn = self.store.begin();
        txn.limit_deletes(max_delete_bytes);
        let response = match txn::delete_range(&mut txn, request, max_reply_bytes) {
            Err(MvccError::DeleteTooLarge { .. }) if !request.prev_kv => {
                drop(txn);
                return self.delete_large_range(request);
            }
            response => response?,
        };
        txn.finish();
        self.metrics.deletes.inc();
        Ok(Reply::Deleted {
            count: response.deleted,
            prev_kvs: response.prev_kvs,
        })
    }

    fn delete_large_range(&mut self, request: &DeleteRangeRequest) -> Result<Reply, Failure> {
        let mut large = self.store.begin_large().ok_or(Failure::NeedsOwnBatch)?;
        large.delete_range(&key_range(&request.key, &request.range_end))?;
        let count = large.finish()?;
        self.metrics.deletes.inc();
        Ok(Reply::Deleted {
            count: i64::try_from(count).unwrap_or(i64::MAX),
            prev_kvs: Vec::new(),
        })
    }

    /// Deletes the keys of all leases in one revision.
    fn revoke_leases(&mut self, ids: &[i64]) -> Result<(), Failure> {
        let max_delete_bytes = self.bound(txn::MAX_DELETE_BYTES);
        let mut txn = self.store.begin();
        txn.limit_deletes(max_delete_bytes);
        let revoked = ids
            .iter()
            .try_for_each(|id| txn.lease_revoke(LeaseId::new(*id)).map(drop));
        match revoked {
            Ok(()) => {
                txn.finish();
                return Ok(());
            }
            Err(MvccError::DeleteTooLarge { .. }) => drop(txn),
            Err(error) => return Err(error.into()),
        }
        let mut large = self.store.begin_large().ok_or(Failure::NeedsOwnBatch)?;
        for id in ids {
            large.revoke_lease(LeaseId::new(*id))?;
        }
        large.finish()?;
        Ok(())
    }

    fn txn(&mut self, request: &TxnRequest) -> Result<Reply, Failure> {
        let max_bytes = self.bound(txn::MAX_REPLY_BYTES);
        let max_delete_bytes = self.bound(txn::MAX_DELETE_BYTES);
        let mut txn = self.store.begin();
        txn.limit_deletes(max_delete_bytes);
        let response = txn::run(&mut txn, self.leases, request, max_bytes)?;
        txn.finish();
        self.metrics.txns.inc();
        Ok(Reply::Txn(Box::new(response)))
    }

    fn compact(&mut self, request: CompactionRequest) -> Result<Reply, Failure> {
        let mut txn = self.store.begin();
        txn.compact(Revision::new(request.revision))?;
        txn.finish();
        Ok(Reply::Compacted)
    }

    fn grant(&mut self, request: LeaseGrantRequest) -> Result<Reply, Failure> {
        let lease = self.leases.apply_grant(request.id, request.ttl)?;
        self.write_leases(|txn| txn.lease_grant(LeaseId::new(request.id), lease))?;
        Ok(Reply::LeaseGranted {
            id: request.id,
            ttl: lease.ttl_s,
        })
    }

    /// Writes a change of the lease table to the store.
    fn write_leases(
        &mut self,
        change: impl FnOnce(&mut WriteTxn<'_>) -> Result<(), MvccError>,
    ) -> Result<(), Failure> {
        let mut txn = self.store.begin();
        change(&mut txn)?;
        txn.finish();
        Ok(())
    }

    fn alarm(&mut self, request: AlarmRequest) -> Reply {
        let member = NodeId::new(request.member_id);
        let kind = AlarmType::try_from(request.alarm).unwrap_or(AlarmType::None);
        let mut txn = self.store.begin();
        let alarms = match AlarmAction::try_from(request.action) {
            Ok(AlarmAction::Activate) => self.roster.raise(kind, member, &mut txn),
            Ok(AlarmAction::Deactivate) => self.roster.disarm(kind, member, &mut txn),
            Ok(AlarmAction::Get) | Err(_) => self.roster.alarms(kind),
        };
        txn.finish();
        self.roster_changed = true;
        Reply::Alarms(alarms)
    }

    fn members(
        &mut self,
        change: impl FnOnce(&mut Roster, &mut WriteTxn<'_>) -> Result<(), Error>,
    ) -> Result<Reply, Failure> {
        let mut txn = self.store.begin();
        change(self.roster, &mut txn)?;
        txn.finish();
        self.roster_changed = true;
        Ok(Reply::Members(self.roster.list()))
    }

    /// Applies a change of membership to the roster. The core has made it already. The second entry
    /// of a joint change has no context.
    fn configure(&mut self, entry: Entry) -> Result<Result<Reply, Error>, ApplyError> {
        let index = entry.index;
        let damaged = |error: &dyn std::error::Error| {
            ApplyError::new(format!("configuration entry {index} is damaged: {error}"))
        };
        let command = ConfigCommand::decode(entry.data.clone()).map_err(|error| damaged(&error))?;
        self.membership = Some(command.membership);
        let Ok(change) = MemberChange::decode(command.context) else {
            // The core has made the change on all members; none of them applies it to its roster.
            tracing::error!(%index, "the names and URLs in a membership change can't be decoded and are ignored; if the list of members is \
                 wrong now, remove that member and add it again");
            return Ok(Err(Error::Undecodable));
        };
        let Some(change) = change.change else {
            return Ok(Ok(Reply::Members(self.roster.list())));
        };
        let changed = self.members(|roster, txn| match change {
            Change::Add(member) => roster.add(member, txn),
            Change::Remove(id) => roster.remove(NodeId::new(id), txn),
            Change::Promote(id) => roster.promote(NodeId::new(id), txn),
        });
        match changed {
            Ok(reply) => Ok(Ok(reply)),
            Err(Failure::Refused(error)) => Ok(Err(error)),
            Err(Failure::NeedsOwnBatch) => {
                Err(ApplyError::new("a change of members deletes no keys"))
            }
            Err(Failure::Fatal(error)) => Err(damaged(&error)),
        }
    }
}

/// The command of an entry, and who asked for it. All members refuse bytes that are no command,
/// without effect: a member that stopped at them would stop again after each restart.
///
/// # Errors
/// A command of a newer release. It must not be skipped, since other members may apply it.
fn decode(entry: &Entry) -> Result<Result<(Origin, Kind), Error>, ApplyError> {
    let index = entry.index;
    let newer = || {
        Err(ApplyError::new(format!(
            "entry {index} holds a command of a newer release: start that release on this member"
        )))
    };
    match Command::decode(entry.data.clone()) {
        Ok(Command {
            command: Some(Kind::Auth(AuthCommand { command: None })),
            ..
        }) => newer(),
        Ok(Command {
            command: Some(kind),
            requester,
        }) => Ok(Ok((Origin::of(requester.as_ref()), kind))),
        Ok(Command { command: None, .. }) if !entry.data.is_empty() => newer(),
        Ok(Command { command: None, .. }) | Err(_) => {
            let bytes = entry.data.len();
            tracing::error!(%index, bytes, "an entry can't be decoded and has no effect");
            Ok(Err(Error::Undecodable))
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use synod_consensus_core::EntryFields;
    use synod_proto::etcd::etcdserverpb::{RequestOp, request_op::Request};
    use synod_types::{Ballot, RequestId};

    use super::*;

    fn entry(data: Vec<u8>) -> Entry {
        EntryFields {
            index: Index::new(7),
            ballot: Ballot::ZERO,
            id: RequestId::NONE,
            kind: EntryKind::Normal,
            data: Bytes::from(data),
        }
        .into()
    }

    /// An entry that an earlier release let into the log.
    fn too_deep() -> Vec<u8> {
        let deep = (0..60).fold(TxnRequest::default(), |child, _| TxnRequest {
            success: vec![RequestOp {
                request: Some(Request::RequestTxn(child)),
            }],
            ..TxnRequest::default()
        });
        let command = Command {
            command: Some(Kind::Txn(deep)),
            requester: None,
        };
        command.encode_to_vec()
    }

    #[test]
    fn what_is_no_command_is_refused_and_stops_no_member() {
        for data in [too_deep(), vec![], vec![0xff; 20], vec![0x0a, 0x7f]] {
            let refused = decode(&entry(data.clone())).unwrap();
            assert_eq!(refused, Err(Error::Undecodable), "{data:?}");
        }
    }

    #[test]
    fn a_command_of_a_newer_release_is_never_skipped() {
        // Field 100 with an empty message, of a command and of an auth command.
        for data in [vec![0xa2, 0x06, 0x00], vec![0x6a, 0x03, 0xa2, 0x06, 0x00]] {
            let error = decode(&entry(data)).unwrap_err();
            assert!(error.to_string().contains("newer release"), "{error}");
        }
    }
}
