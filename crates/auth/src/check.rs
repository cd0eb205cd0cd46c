//! Who may do what: one function for each kind of request. A request that goes through the log is
//! checked when it is applied, with the same result on every member. A request that only reads is
//! checked after it took its view of the data and before it reads.

use std::collections::BTreeSet;

use bytes::Bytes;
use synod_proto::etcd::etcdserverpb::request_op::Request;
use synod_proto::etcd::etcdserverpb::{
    AlarmRequest, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    WatchCreateRequest, alarm_request::AlarmAction,
};

use crate::state::{Allowed, Intervals, User};
use crate::{AuthError, AuthState, CheckError, Identity};

/// What a request's maker may do with keys.
#[derive(Clone, Copy, Debug)]
enum Access<'a> {
    Everything,
    Only(&'a Allowed),
}

impl Access<'_> {
    fn read(self, key: &[u8], range_end: &[u8]) -> Result<(), AuthError> {
        match self {
            Self::Everything => Ok(()),
            Self::Only(allowed) => permit(allowed.read.contain(key, range_end)),
        }
    }

    fn write(self, key: &[u8], range_end: &[u8]) -> Result<(), AuthError> {
        match self {
            Self::Everything => Ok(()),
            Self::Only(allowed) => permit(allowed.write.contain(key, range_end)),
        }
    }

    /// Whether all keys of a lease may be written: then it may be kept, ended, and given more keys.
    fn write_lease<E>(
        self,
        lease: i64,
        key_from: &impl Fn(i64, &[u8]) -> Result<Option<Bytes>, E>,
    ) -> Result<(), CheckError<E>> {
        match self {
            Self::Only(allowed) if lease != 0 => contain_lease(&allowed.write, lease, key_from),
            Self::Everything | Self::Only(_) => Ok(()),
        }
    }

    fn read_lease<E>(
        self,
        lease: i64,
        key_from: &impl Fn(i64, &[u8]) -> Result<Option<Bytes>, E>,
    ) -> Result<(), CheckError<E>> {
        match self {
            Self::Everything => Ok(()),
            Self::Only(allowed) => contain_lease(&allowed.read, lease, key_from),
        }
    }

    /// A put that attaches the key to a lease gives the lease's end to whoever may write the key,
    /// and the key's end to whoever may end the lease.
    fn put<E>(
        self,
        request: &PutRequest,
        checked: &mut BTreeSet<i64>,
        key_from: &impl Fn(i64, &[u8]) -> Result<Option<Bytes>, E>,
    ) -> Result<(), CheckError<E>> {
        self.write(&request.key, &[])?;
        if checked.insert(request.lease) {
            self.write_lease(request.lease, key_from)?;
        }
        if request.prev_kv {
            self.read(&request.key, &[])?;
        }
        Ok(())
    }

    fn delete_range(self, request: &DeleteRangeRequest) -> Result<(), AuthError> {
        self.write(&request.key, &request.range_end)?;
        if request.prev_kv {
            self.read(&request.key, &request.range_end)?;
        }
        Ok(())
    }

    /// Checks both branches, since the refusal must not depend on what the store holds. A lease is
    /// checked once (`checked`), however many puts name it.
    fn txn<E>(
        self,
        request: &TxnRequest,
        checked: &mut BTreeSet<i64>,
        key_from: &impl Fn(i64, &[u8]) -> Result<Option<Bytes>, E>,
    ) -> Result<(), CheckError<E>> {
        for compare in &request.compare {
            self.read(&compare.key, &compare.range_end)?;
        }
        let mut ops = request.success.iter().chain(&request.failure);
        ops.try_for_each(|op| self.op(op, checked, key_from))
    }

    fn op<E>(
        self,
        op: &RequestOp,
        checked: &mut BTreeSet<i64>,
        key_from: &impl Fn(i64, &[u8]) -> Result<Option<Bytes>, E>,
    ) -> Result<(), CheckError<E>> {
        match &op.request {
            None => Ok(()),
            Some(Request::RequestRange(range)) => Ok(self.read(&range.key, &range.range_end)?),
            Some(Request::RequestPut(put)) => self.put(put, checked, key_from),
            Some(Request::RequestDeleteRange(delete)) => Ok(self.delete_range(delete)?),
            Some(Request::RequestTxn(txn)) => self.txn(txn, checked, key_from),
        }
    }
}

/// Whether all keys of a lease are in the set.
fn contain_lease<E>(
    set: &Intervals,
    lease: i64,
    key_from: &impl Fn(i64, &[u8]) -> Result<Option<Bytes>, E>,
) -> Result<(), CheckError<E>> {
    let outside = set.first_outside(|start| key_from(lease, start));
    permit(outside.map_err(CheckError::Host)?.is_none())?;
    Ok(())
}

fn permit(allowed: bool) -> Result<(), AuthError> {
    if allowed {
        Ok(())
    } else {
        Err(AuthError::PermissionDenied)
    }
}

/// `by` is `None` if the request shows neither a token nor a certificate. `key_from` returns the
/// first key at or after a given one that is attached to a lease; `None` if there is none. It is
/// called only if the result depends on it, and at most once for each interval of the user's
/// permissions plus once, however many keys the lease has.
impl AuthState {
    /// A range, streamed or not.
    ///
    /// # Errors
    /// Why not.
    pub fn check_range(
        &self,
        by: Option<&Identity>,
        request: &RangeRequest,
    ) -> Result<(), AuthError> {
        self.access(by)?.read(&request.key, &request.range_end)
    }

    /// A put.
    ///
    /// # Errors
    /// Why not, or the host's.
    pub fn check_put<E>(
        &self,
        by: Option<&Identity>,
        request: &PutRequest,
        key_from: &impl Fn(i64, &[u8]) -> Result<Option<Bytes>, E>,
    ) -> Result<(), CheckError<E>> {
        self.access(by)?
            .put(request, &mut BTreeSet::new(), key_from)
    }

    /// A deletion.
    ///
    /// # Errors
    /// Why not.
    pub fn check_delete_range(
        &self,
        by: Option<&Identity>,
        request: &DeleteRangeRequest,
    ) -> Result<(), AuthError> {
        self.access(by)?.delete_range(request)
    }

    /// A transaction, whether it writes or not.
    ///
    /// # Errors
    /// Why not, or the host's.
    pub fn check_txn<E>(
        &self,
        by: Option<&Identity>,
        request: &TxnRequest,
        key_from: &impl Fn(i64, &[u8]) -> Result<Option<Bytes>, E>,
    ) -> Result<(), CheckError<E>> {
        self.access(by)?
            .txn(request, &mut BTreeSet::new(), key_from)
    }

    /// A new watch. One without a key watches from the smallest key on.
    ///
    /// # Errors
    /// Why not; see [`AuthError::watch_cancel_reason`].
    pub fn check_watch(
        &self,
        by: Option<&Identity>,
        request: &WatchCreateRequest,
    ) -> Result<(), AuthError> {
        let key: &[u8] = if request.key.is_empty() {
            b"\0"
        } else {
            &request.key
        };
        self.access(by)?.read(key, &request.range_end)
    }

    /// The end of a lease, or its renewal.
    ///
    /// # Errors
    /// Why not, or the host's.
    pub fn check_lease<E>(
        &self,
        by: Option<&Identity>,
        lease: i64,
        key_from: &impl Fn(i64, &[u8]) -> Result<Option<Bytes>, E>,
    ) -> Result<(), CheckError<E>> {
        self.lease_access(by)?.write_lease(lease, key_from)
    }

    /// What is left of a lease. Only one that asks for the keys too needs to be allowed them.
    ///
    /// # Errors
    /// Why not, or the host's.
    pub fn check_time_to_live<E>(
        &self,
        by: Option<&Identity>,
        lease: i64,
        with_keys: bool,
        key_from: &impl Fn(i64, &[u8]) -> Result<Option<Bytes>, E>,
    ) -> Result<(), CheckError<E>> {
        self.check_authenticated(by)?;
        if !with_keys {
            return Ok(());
        }
        self.lease_access(by)?.read_lease(lease, key_from)
    }

    /// The list of all leases: whoever gets it may read all keys of all of them.
    ///
    /// # Errors
    /// Why not, or the host's.
    pub fn check_leases<E>(
        &self,
        by: Option<&Identity>,
        leases: impl IntoIterator<Item = i64>,
        key_from: &impl Fn(i64, &[u8]) -> Result<Option<Bytes>, E>,
    ) -> Result<(), CheckError<E>> {
        let access = self.lease_access(by)?;
        let mut leases = leases.into_iter();
        leases.try_for_each(|lease| access.read_lease(lease, key_from))
    }

    /// Alarms: everybody may look at them.
    ///
    /// # Errors
    /// Why not.
    pub fn check_alarm(
        &self,
        by: Option<&Identity>,
        request: &AlarmRequest,
    ) -> Result<(), AuthError> {
        if request.action == AlarmAction::Get as i32 {
            self.check_authenticated(by)
        } else {
            self.check_root(by)
        }
    }

    /// A user's roles: everybody may know their own.
    ///
    /// # Errors
    /// Why not.
    pub fn check_user_get(&self, by: Option<&Identity>, user: &str) -> Result<(), AuthError> {
        self.check_own(by, |by, _| &*by.user == user)
    }

    /// A role's permissions: everybody may know those of their own roles.
    ///
    /// # Errors
    /// Why not.
    pub fn check_role_get(&self, by: Option<&Identity>, role: &str) -> Result<(), AuthError> {
        self.check_own(by, |_, user| user.has_role(role))
    }

    /// Checks a request that every user may make.
    ///
    /// # Errors
    /// Why not.
    pub fn check_authenticated(&self, by: Option<&Identity>) -> Result<(), AuthError> {
        if !self.is_enabled() {
            return Ok(());
        }
        match self.caller(by) {
            Ok(_) => Ok(()),
            Err(AuthError::UserNotFound) => Err(AuthError::PermissionDenied),
            Err(error) => Err(error),
        }
    }

    /// Checks a request that only users with the root role may make. As in etcd, the identity may
    /// be older than the last change: otherwise an administrator would have to log in again after
    /// each change.
    ///
    /// # Errors
    /// Why not.
    pub fn check_root(&self, by: Option<&Identity>) -> Result<(), AuthError> {
        self.check_own(by, |_, _| false)
    }

    /// Checks a request that root may make, and also the user for whom `is_own` is true.
    fn check_own(
        &self,
        by: Option<&Identity>,
        is_own: impl Fn(&Identity, &User) -> bool,
    ) -> Result<(), AuthError> {
        if !self.is_enabled() {
            return Ok(());
        }
        let (by, user) = self.caller(by)?;
        permit(user.is_root() || is_own(by, user))
    }

    /// The user of an identity. The identity may be older than the last change of users and roles,
    /// but not older than the user's password.
    fn caller<'b>(&self, by: Option<&'b Identity>) -> Result<(&'b Identity, &User), AuthError> {
        let by = by
            .filter(|by| !by.user.is_empty())
            .ok_or(AuthError::UserEmpty)?;
        let user = self.user(&by.user).ok_or(AuthError::UserNotFound)?;
        if by.revision < user.since() {
            return Err(AuthError::OldRevision);
        }
        Ok((by, user))
    }

    fn access(&self, by: Option<&Identity>) -> Result<Access<'_>, AuthError> {
        if !self.is_enabled() {
            return Ok(Access::Everything);
        }
        // Revisions begin with one: zero is nobody's, in etcd too.
        let by = by
            .filter(|by| by.revision != 0)
            .ok_or(AuthError::UserEmpty)?;
        if by.revision < self.revision() {
            return Err(AuthError::OldRevision);
        }
        let user = self.user(&by.user).ok_or(AuthError::PermissionDenied)?;
        if user.is_root() {
            return Ok(Access::Everything);
        }
        Ok(Access::Only(self.allowed(user)))
    }

    /// Like [`Self::access`], but root's identity may be old, as in etcd.
    fn lease_access(&self, by: Option<&Identity>) -> Result<Access<'_>, AuthError> {
        if self.check_root(by).is_ok() {
            return Ok(Access::Everything);
        }
        self.access(by)
    }
}

#[cfg(test)]
mod tests;
