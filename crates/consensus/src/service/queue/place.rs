//! Places in queues: how they are taken and given up.

use bytes::{BufMut as _, Bytes, BytesMut};
use synod_proto::etcd::etcdserverpb as pb;
use synod_proto::etcd::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use synod_proto::etcd::etcdserverpb::request_op::Request;

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
    /// Of the transaction that took the place. Its revision is the key's mod revision, until
    /// another call for the same key comes.
    pub(super) header: pb::ResponseHeader,
}

impl Queues {
    /// Takes a place. A lease that already has one keeps it.
    pub(super) async fn take_place(&self, entry: &Entry, call: &Call) -> Result<Place, Error> {
        self.check_read(entry, call).await?;
        let is_own_lease = entry.lease == 0;
        let lease = match is_own_lease {
            true => self.own_lease(call).await?,
            false => entry.lease,
        };
        let key = key(&entry.name, lease);
        let taken = self.kv().txn(take(entry, &key, lease), call).await;
        match taken {
            Ok(response) => Ok(Place {
                key,
                lease,
                is_own_lease,
                header: response.into_inner().header.unwrap_or_default(),
            }),
            Err(error) => {
                if is_own_lease && let Err(error) = self.end_own_lease(lease).await {
                    tracing::debug!(%error, "could not revoke the lease of a failed call; it expires");
                }
                Err(error)
            }
        }
    }

    /// Gives the place up, unless a later call came for the same key: that one may have been
    /// answered already. The member does it itself: the caller's token may have ended meanwhile.
    pub(super) async fn leave(&self, place: &Place) -> Result<(), Error> {
        if place.is_own_lease {
            return self.end_own_lease(place.lease).await;
        }
        let request = pb::TxnRequest {
            compare: vec![modified_at(&place.key, place.header.revision)],
            success: vec![delete(&place.key)],
            failure: Vec::new(),
        };
        self.kv().txn(request, &self.soon()).await?;
        Ok(())
    }

    /// As [`Self::leave`], when there is nobody to tell.
    pub(super) async fn leave_quietly(&self, place: &Place) {
        if let Err(error) = self.leave(place).await {
            tracing::debug!(%error, "could not remove a key of a lock or an election; it goes with its lease");
        }
    }

    /// Grants a lease that nobody keeps alive.
    pub(in crate::service) async fn own_lease(&self, call: &Call) -> Result<i64, Error> {
        let grant = pb::LeaseGrantRequest {
            ttl: OWN_LEASE_TTL_S,
            id: 0,
        };
        Ok(self.leases.grant(grant, call).await?.id)
    }

    async fn end_own_lease(&self, lease: i64) -> Result<(), Error> {
        match self.leases.revoke(lease, &self.soon()).await {
            Ok(_) | Err(Error::LeaseNotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The transaction that takes a place. In etcd a key that exists is not written. Here it is: its
/// mod revision changes, and an earlier call with the same lease, which was given up, does not
/// remove the key.
fn take(entry: &Entry, key: &Bytes, lease: i64) -> pb::TxnRequest {
    let put = put_with_lease(key, entry.value.clone(), lease);
    let again = match entry.purpose {
        Purpose::Lock => op(Request::RequestPut(pb::PutRequest {
            key: key.clone(),
            ignore_value: true,
            ignore_lease: true,
            ..Default::default()
        })),
        // The candidate proclaims its new value.
        Purpose::Election => put.clone(),
    };
    pb::TxnRequest {
        compare: vec![created_at(key, 0)],
        success: vec![put],
        failure: vec![again],
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
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_etcds_clients() {
        for (name, lease, expected) in [
            ("n", 0x0694_3bc4, "n/6943bc4"),
            ("", 1, "/1"),
            ("a/b", i64::MAX, "a/b/7fffffffffffffff"),
            ("n", -1, "n/-1"),
            ("n", i64::MIN, "n/-8000000000000000"),
        ] {
            assert_eq!(key(name.as_bytes(), lease), expected, "{name} {lease}");
        }
    }

    #[test]
    fn a_queues_range_holds_its_keys_and_no_others() {
        let (start, end) = (prefix_of(b"n"), prefix_end(b"n"));
        let holds = |key: &[u8]| start[..] <= *key && *key < end[..];
        assert!(holds(&key(b"n", 1)) && holds(&key(b"n", -1)) && holds(b"n/\xff\xff"));
        assert!(!holds(b"n") && !holds(&key(b"n0", 1)) && !holds(&key(b"m", 1)));
    }
}
