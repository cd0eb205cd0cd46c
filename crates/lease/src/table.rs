//! The leases: replicated state that only applied entries change. The keyspace stores the rows.
//! This is their image in memory, so that looking up a lease or starting the clocks reads nothing.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;
use synod_mvcc::{LeaseId, LeaseRecord};
use synod_proto::consensus::v1::LeaseClaim;

use crate::error::GrantError;
use crate::policy::MAX_TTL_S;

/// The row that stores the [`Keeper`].
pub const KEEPER_ROW: &[u8] = b"lease-keeper";

/// The member whose clocks decide about leases: the one with the latest claim, and its term. Two
/// leaders of Multi-Paxos may share a round, but never round and node. Ordered like their ballots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Keeper {
    /// The term of the claim.
    pub term: u64,
    /// The member's id.
    pub member: u64,
}

impl Keeper {
    /// Encodes the row.
    #[must_use]
    pub fn encode(self) -> Bytes {
        let Self { term, member } = self;
        LeaseClaim { term, member }.encode_to_vec().into()
    }

    /// Decodes the row. Without a row, there is no keeper.
    ///
    /// # Errors
    /// The row is corrupt.
    pub fn decode(row: Option<Bytes>) -> Result<Self, prost::DecodeError> {
        let LeaseClaim { term, member } = LeaseClaim::decode(row.unwrap_or_default())?;
        Ok(Self { term, member })
    }
}

/// All leases. Each change returns what to write to the keyspace with the entry that makes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeaseTable {
    leases: BTreeMap<i64, LeaseRecord>,
    keeper: Keeper,
}

impl LeaseTable {
    /// Creates the table from stored rows.
    pub(crate) fn new(
        leases: impl IntoIterator<Item = (LeaseId, LeaseRecord)>,
        keeper: Keeper,
    ) -> Self {
        Self {
            leases: leases
                .into_iter()
                .map(|(id, lease)| (id.get(), lease))
                .collect(),
            keeper,
        }
    }

    /// The current keeper.
    pub(crate) const fn keeper(&self) -> Keeper {
        self.keeper
    }

    /// Applies a claim; `false` if a later one is in force.
    pub(crate) fn claim(&mut self, keeper: Keeper) -> bool {
        let later = keeper > self.keeper;
        self.keeper = self.keeper.max(keeper);
        later
    }

    /// Looks up a lease.
    pub(crate) fn get(&self, id: i64) -> Option<LeaseRecord> {
        self.leases.get(&id).copied()
    }

    /// All leases, ordered by id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (i64, LeaseRecord)> {
        self.leases.iter().map(|(id, lease)| (*id, *lease))
    }

    /// Adds a lease.
    ///
    /// # Errors
    /// [`GrantError`] with the reason.
    pub(crate) fn grant(&mut self, id: i64, ttl_s: i64) -> Result<LeaseRecord, GrantError> {
        if id == 0 {
            return Err(GrantError::NoId);
        }
        if ttl_s > MAX_TTL_S {
            return Err(GrantError::TtlTooLarge);
        }
        if self.leases.contains_key(&id) {
            return Err(GrantError::Exists);
        }
        let lease = LeaseRecord {
            ttl_s: ttl_s.max(1),
            remaining_s: 0,
        };
        self.leases.insert(id, lease);
        Ok(lease)
    }

    /// Removes a lease; `false` if it doesn't exist.
    pub(crate) fn revoke(&mut self, id: i64) -> bool {
        self.leases.remove(&id).is_some()
    }

    /// Records the remaining time of a lease; zero deletes the record. `None` if nothing changes.
    pub(crate) fn checkpoint(&mut self, id: i64, remaining_s: i64) -> Option<LeaseRecord> {
        let lease = self.leases.get_mut(&id)?;
        let remaining_s = remaining_s.clamp(0, lease.ttl_s);
        if lease.remaining_s == remaining_s {
            return None;
        }
        lease.remaining_s = remaining_s;
        Some(*lease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_checkpoints_and_revocations() {
        let mut table = LeaseTable::default();
        let sixty = LeaseRecord {
            ttl_s: 60,
            remaining_s: 0,
        };
        assert_eq!(table.grant(7, 60), Ok(sixty));
        assert_eq!(table.grant(7, 5), Err(GrantError::Exists));
        assert_eq!(table.grant(0, 5), Err(GrantError::NoId));
        assert_eq!(table.grant(8, MAX_TTL_S + 1), Err(GrantError::TtlTooLarge));
        assert!(table.grant(-3, MAX_TTL_S).is_ok());
        let left = LeaseRecord {
            ttl_s: 60,
            remaining_s: 41,
        };
        assert_eq!(table.checkpoint(7, 41), Some(left));
        assert_eq!(table.checkpoint(7, 41), None, "no change, nothing to write");
        assert_eq!(
            table.checkpoint(7, 99).map(|lease| lease.remaining_s),
            Some(60)
        );
        assert_eq!(table.checkpoint(7, 0), Some(sixty));
        assert_eq!(table.checkpoint(8, 41), None);
        assert!(table.revoke(-3));
        assert!(!table.revoke(-3));
        let stored = table.iter().map(|(id, lease)| (LeaseId::new(id), lease));
        assert_eq!(LeaseTable::new(stored, table.keeper()), table);
        assert_eq!(table.iter().collect::<Vec<_>>(), [(7, sixty)]);
        assert_eq!(table.get(7), Some(sixty));
    }

    #[test]
    fn the_latest_claim_holds() {
        let mut table = LeaseTable::default();
        let keeper = |term, member| Keeper { term, member };
        assert!(table.claim(keeper(3, 9)));
        assert!(!table.claim(keeper(3, 9)), "repeated");
        // Two leaders of one round: the higher node's ballot is later.
        assert!(!table.claim(keeper(3, 8)));
        assert!(table.claim(keeper(3, 10)));
        assert!(table.claim(keeper(4, 1)));
        // Delayed, and decided after the next leader's claim.
        assert!(!table.claim(keeper(3, 11)));
        assert_eq!(table.keeper(), keeper(4, 1));
        assert_eq!(
            Keeper::decode(Some(keeper(4, 1).encode())),
            Ok(keeper(4, 1))
        );
        assert_eq!(Keeper::decode(None), Ok(Keeper::default()));
    }
}
