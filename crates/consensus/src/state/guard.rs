//! Users and roles: their commands, and whether the client that asked for a command is allowed it.

use synod_auth::{AuthError, CheckError, Effect, Identity, MAX_KEY_BYTES, Origin, Row};
use synod_mvcc::{LeaseId, MvccError, WriteTxn};
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
    /// Refuses a command that the client may not execute as of this entry. Commands that members
    /// propose themselves need no permission.
    pub(super) fn check_origin(&mut self, by: &Origin, kind: &Kind) -> Result<(), Failure> {
        if !self.users.is_enabled() || *by == Origin::Member {
            return Ok(());
        }
        let by = by.identity();
        let users = &*self.users;
        // Sees what the entries before in this batch have done. Nothing is written: it is dropped.
        let txn = self.store.begin();
        let key_from = |lease, start: &[u8]| txn.lease_key_from(LeaseId::new(lease), start);
        match kind {
            Kind::Put(request) => users.check_put(by, request, &key_from)?,
            Kind::DeleteRange(request) => users.check_delete_range(by, request).map_err(denied)?,
            Kind::Txn(request) => users.check_txn(by, request, &key_from)?,
            Kind::LeaseGrant(_) => users.check_authenticated(by).map_err(denied)?,
            Kind::LeaseRevoke(request) if request.expired_in_term == 0 => {
                let mut ids = request.ids.iter();
                ids.try_for_each(|id| users.check_lease(by, *id, &key_from))?;
            }
            Kind::Alarm(request) => users.check_alarm(by, request).map_err(denied)?,
            Kind::Compact(_)
            | Kind::UpdatePeerUrls(_)
            // Only members propose these.
            | Kind::LeaseRevoke(_)
            | Kind::LeaseClaim(_)
            | Kind::LeaseCheckpoint(_)
            | Kind::Publish(_)
            | Kind::SetClusterVersion(_) => users.check_root(by).map_err(denied)?,
            // Checked with the change.
            Kind::Auth(_) => {}
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
        self.roster.check_users()?;
        // `decode` lets no other pass.
        let command = request.command.ok_or(Error::Undecodable)?;
        let changed = self.users.apply(by, &command).map_err(denied)?;
        if !changed.rows.is_empty() {
            let mut txn = self.store.begin();
            write_rows(&mut txn, changed.rows);
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

// A permission can be on any key.
const _: () = assert!(MAX_KEY_BYTES == synod_mvcc::MAX_KEY_BYTES);

/// Writes rows of users and roles.
pub(super) fn write_rows(txn: &mut WriteTxn<'_>, rows: Vec<Row>) {
    for row in rows {
        match row.value {
            Some(value) => txn.meta_put(&row.key, value),
            None => txn.meta_delete(&row.key),
        }
    }
}

fn denied(error: AuthError) -> Failure {
    Failure::Refused(error.into())
}
