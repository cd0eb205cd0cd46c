//! Users and roles: their commands, and whether whoever asked for a command may have it.

use synod_auth::{AuthError, CheckError, Effect, Identity};
use synod_mvcc::{LeaseId, MvccError};
use synod_proto::consensus::v1::{AuthCommand, command::Command as Kind};
use synod_types::Index;

use super::apply::{Applier, Failure};
use super::outcome::Reply;
use crate::error::Error;

impl From<CheckError<MvccError>> for Failure {
    fn from(error: CheckError<MvccError>) -> Self {
        match error {
            CheckError::Denied(error) => Self::Refused(error.into()),
            CheckError::Host(error) => error.into(),
        }
    }
}

impl Applier<'_> {
    /// Refuses what the requester may not do, as of this entry. What members propose by themselves
    /// has no requester and needs none.
    pub(super) fn check_requester(
        &mut self,
        by: Option<&Identity>,
        kind: &Kind,
    ) -> Result<(), Failure> {
        if !self.users.is_enabled() {
            return Ok(());
        }
        let users = &*self.users;
        // Sees what the entries before in this batch have done. Nothing is written: it is dropped.
        let txn = self.store.begin();
        let keys_of = |lease| txn.keys_of_lease(LeaseId::new(lease));
        match kind {
            Kind::Put(request) => users.check_put(by, request, &keys_of)?,
            Kind::DeleteRange(request) => users.check_delete_range(by, request).map_err(denied)?,
            Kind::Txn(request) => users.check_txn(by, request, &keys_of)?,
            Kind::Compact(_) => users.check_root(by).map_err(denied)?,
            Kind::LeaseGrant(_) => users.check_authenticated(by).map_err(denied)?,
            // The others ran out.
            Kind::LeaseRevoke(request) if request.expired_in_term == 0 => {
                let mut ids = request.ids.iter();
                ids.try_for_each(|id| users.check_lease(by, *id, &keys_of))?;
            }
            // Alarms and members are checked by whoever takes the request: members raise alarms,
            // and publish themselves, of their own accord.
            Kind::LeaseRevoke(_)
            | Kind::LeaseClaim(_)
            | Kind::LeaseCheckpoint(_)
            | Kind::Alarm(_)
            | Kind::Publish(_)
            | Kind::UpdatePeerUrls(_)
            | Kind::SetClusterVersion(_)
            // Checked with the change.
            | Kind::Auth(_) => {}
        }
        Ok(())
    }

    /// Changes users and roles, or makes a token known.
    pub(super) fn auth(
        &mut self,
        index: Index,
        by: Option<&Identity>,
        request: AuthCommand,
    ) -> Result<Reply, Failure> {
        // `decode` lets no other pass.
        let command = request.command.ok_or(Error::Undecodable)?;
        let changed = self.users.apply(by, &command).map_err(denied)?;
        if !changed.rows.is_empty() {
            let mut txn = self.store.begin();
            for row in changed.rows {
                match row.value {
                    Some(value) => txn.meta_put(&row.key, value),
                    None => txn.meta_delete(&row.key),
                }
            }
            txn.finish();
            self.users_changed = true;
        }
        self.tokens.follow(&changed.effect);
        Ok(match changed.effect {
            Effect::Granted { .. } => Reply::TokenGranted { index: index.get() },
            Effect::None | Effect::UserEnded { .. } | Effect::AllEnded => Reply::Done,
        })
    }
}

fn denied(error: AuthError) -> Failure {
    Failure::Refused(error.into())
}
