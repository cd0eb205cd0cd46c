//! Places in queues: how they are taken and given up.

use bytes::{BufMut as _, Bytes, BytesMut};
use synod_proto::etcd::etcdserverpb as pb;
use synod_proto::etcd::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use synod_proto::etcd::etcdserverpb::request_op::Request;
use synod_service::Advice;

use super::standing::{self, Standing, modified};
use super::{Entry, OWN_LEASE_TTL_S, Purpose, Queues};
use crate::call::Call;
use crate::error::Error;

/// A key in a queue.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) key: Bytes,
    pub(super) lease: i64,
    /// Whether the lease was granted for this call.
    is_own_lease: bool,
    taken: Taken,
    /// The header of the transaction that took the place. Its revision is the key's mod revision
    /// until another call writes the same key.
    pub(super) header: pb::ResponseHeader,
}

/// How a place was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    /// The call created the key.
    Created,
    /// The key existed: an earlier call may have been told that it is the first.
    Again,
    /// The outcome of the transaction is unknown. This was the key's mod revision before it.
    Unknown { seen: i64 },
}

/// A call without a place.
#[derive(Debug)]
pub(super) struct Untaken {
    pub(super) error: Error,
    /// A place that the call may have taken, and must leave.
    pub(super) leave: Option<Place>,
}

impl From<Error> for Untaken {
    fn from(error: Error) -> Self {
        Self { error, leave: None }
    }
}

impl Queues {
    /// Takes a place. A lease that already has one keeps it. Proposes nothing if the caller has
    /// given up.
    ///
    /// Has the full request timeout, even if the caller's is shorter, so that the outcome is
    /// usually known.
    pub(super) async fn take_place(
        &self,
        entry: &Entry,
        call: &Call,
        is_given_up: impl Fn() -> bool,
    ) -> Result<Place, Untaken> {
        let call = self.renewed(call);
        self.check_read(&entry.name, &call).await?;
        let is_own_lease = entry.lease == 0;
        let lease = match is_own_lease {
            true => self.own_lease(&call).await?,
            false => entry.lease,
        };
        let mut place = Place {
            key: key(&entry.name, lease),
            lease,
            is_own_lease,
            taken: Taken::Created,
            header: pb::ResponseHeader::default(),
        };
        loop {
            let taken = match is_given_up() {
                // The caller is gone, so the error does not matter.
                true => Err(Error::DeadlineExceeded),
                false => self.take(entry, &mut place, &call).await,
            };
            match taken {
                Ok(true) => return Ok(place),
                Ok(false) => {}
                Err(error) => {
                    let may_be_there = matches!(place.taken, Taken::Unknown { .. });
                    let leave = (is_own_lease || may_be_there).then_some(place);
                    return Err(Untaken { error, leave });
                }
            }
        }
    }

    /// Takes the place, unless another call writes the key in between.
    async fn take(&self, entry: &Entry, place: &mut Place, call: &Call) -> Result<bool, Error> {
        let seen = modified(self.shared(), &place.key)?;
        let request = take(entry, &place.key, place.lease, seen);
        let taken = self.kv().txn(request, call).await;
        let response = taken.inspect_err(|error| {
            if error.advice() == Advice::Unknown {
                place.taken = Taken::Unknown { seen };
            }
        })?;
        let response = response.into_inner();
        place.header = response.header.unwrap_or_default();
        place.taken = match seen {
            0 => Taken::Created,
            _ => Taken::Again,
        };
        Ok(response.succeeded)
    }

    /// Gives the place up, unless a later call has written the key, since that one may have been
    /// answered. The member deletes the key in its own name: the caller's token may have ended.
    pub(super) async fn leave(&self, name: &[u8], place: &Place) -> Result<(), Error> {
        if place.is_own_lease {
            return self.end_own_lease(place.lease).await;
        }
        match place.taken {
            Taken::Created => {
                let still = vec![modified_at(&place.key, place.header.revision)];
                self.delete_if(still, &place.key).await?;
                Ok(())
            }
            Taken::Again => self.leave_while_waiting(name, place).await,
            Taken::Unknown { seen } => {
                self.shared().linearize(self.soon().deadline).await?;
                let revision = modified(self.shared(), &place.key)?;
                if revision == seen {
                    return Ok(());
                }
                let mut place = place.clone();
                place.header.revision = revision;
                self.leave_while_waiting(name, &place).await
            }
        }
    }

    /// Gives up a place that an earlier call may have taken, but only while an older key exists. As
    /// long as one exists, no call was told that this key is the first.
    async fn leave_while_waiting(&self, name: &[u8], place: &Place) -> Result<(), Error> {
        let mut known = None;
        loop {
            let before = match standing::look(self.shared(), name, place, known.as_ref()).await? {
                Standing::After(before) => before,
                Standing::First { .. } | Standing::Lost => return Ok(()),
            };
            let still = vec![
                created_at(&before.key, before.created.get()),
                modified_at(&place.key, place.header.revision),
            ];
            if self.delete_if(still, &place.key).await?
                || modified(self.shared(), &place.key)? != place.header.revision
            {
                return Ok(());
            }
            known = Some(before);
        }
    }

    /// Deletes a key if all comparisons hold. Returns whether they did.
    async fn delete_if(&self, compare: Vec<pb::Compare>, key: &Bytes) -> Result<bool, Error> {
        let request = pb::TxnRequest {
            compare,
            success: vec![delete(key)],
            failure: Vec::new(),
        };
        let done = self.kv().txn(request, &self.soon()).await?;
        Ok(done.get_ref().succeeded)
    }

    /// Grants a lease that nobody keeps alive.
    pub(in crate::service) async fn own_lease(&self, call: &Call) -> Result<i64, Error> {
        let grant = pb::LeaseGrantRequest {
            ttl: OWN_LEASE_TTL_S,
            id: 0,
        };
        Ok(self.leases.grant(grant, call).await?.id)
    }

    /// Ends a lease of [`Self::own_lease`].
    pub(in crate::service) async fn end_own_lease(&self, lease: i64) -> Result<(), Error> {
        match self.leases.revoke(lease, &self.soon()).await {
            Ok(_) | Err(Error::LeaseNotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The transaction that takes a place if the key's mod revision is still `seen`. So a late
/// transaction, whose caller has given up and called again, does nothing.
///
/// etcd does not write a key that exists. Synod does, to change its mod revision: then an earlier
/// call with the same lease that was cancelled does not remove the key.
fn take(entry: &Entry, key: &Bytes, lease: i64, seen: i64) -> pb::TxnRequest {
    let put = match (seen, entry.purpose) {
        // As in etcd, a candidate that already has a key proclaims its new value.
        (0, _) | (_, Purpose::Election) => put_with_lease(key, entry.value.clone(), lease),
        (_, Purpose::Lock) => op(Request::RequestPut(pb::PutRequest {
            key: key.clone(),
            ignore_value: true,
            ignore_lease: true,
            ..Default::default()
        })),
    };
    pb::TxnRequest {
        compare: vec![modified_at(key, seen)],
        success: vec![put],
        failure: Vec::new(),
    }
}

/// The key's create revision is this one; zero if there is no such key.
pub(in crate::service) fn created_at(key: &Bytes, revision: i64) -> pb::Compare {
    equals(
        key,
        CompareTarget::Create,
        TargetUnion::CreateRevision(revision),
    )
}

/// The key's mod revision is this one; zero if there is no such key.
fn modified_at(key: &Bytes, revision: i64) -> pb::Compare {
    equals(key, CompareTarget::Mod, TargetUnion::ModRevision(revision))
}

fn equals(key: &Bytes, target: CompareTarget, operand: TargetUnion) -> pb::Compare {
    pb::Compare {
        result: CompareResult::Equal.into(),
        target: target.into(),
        key: key.clone(),
        target_union: Some(operand),
        ..Default::default()
    }
}

/// Writes a key with a lease.
pub(in crate::service) fn put_with_lease(key: &Bytes, value: Bytes, lease: i64) -> pb::RequestOp {
    op(Request::RequestPut(pb::PutRequest {
        key: key.clone(),
        value,
        lease,
        ..Default::default()
    }))
}

/// Deletes a key.
pub(in crate::service) fn delete(key: &Bytes) -> pb::RequestOp {
    op(Request::RequestDeleteRange(pb::DeleteRangeRequest {
        key: key.clone(),
        ..Default::default()
    }))
}

fn op(request: Request) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(request),
    }
}

/// All keys of a queue begin with this.
pub(in crate::service) fn prefix_of(name: &[u8]) -> Bytes {
    let mut prefix = BytesMut::with_capacity(name.len() + 1);
    prefix.put_slice(name);
    prefix.put_u8(b'/');
    prefix.freeze()
}

/// The end of the range of a queue's keys: `0` comes after `/`.
pub(in crate::service) fn prefix_end(name: &[u8]) -> Bytes {
    let mut end = BytesMut::with_capacity(name.len() + 1);
    end.put_slice(name);
    end.put_u8(b'/' + 1);
    end.freeze()
}

/// The key of a lease's place. A negative id has a sign, as Go prints it.
fn key(name: &[u8], lease: i64) -> Bytes {
    let sign = if lease < 0 { "-" } else { "" };
    let id = format!("{sign}{:x}", lease.unsigned_abs());
    [&prefix_of(name)[..], id.as_bytes()].concat().into()
}

#[cfg(test)]
mod tests;
