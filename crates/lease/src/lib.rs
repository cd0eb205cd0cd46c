//! Leases: keys that are deleted unless their owner renews them.
//!
//! There are two parts. The [`LeaseTable`](table::LeaseTable) is replicated state: which leases
//! exist, their TTLs, and the remaining time of those that were checkpointed. It changes only when
//! entries are applied and is the same on every member. The [`Lessor`](lessor::Lessor) is the
//! leader's clock: deadlines on a timing wheel, in local monotonic time. No lease expires by
//! itself. A leader first claims the leases through an entry, then proposes to revoke those that
//! ran out. Such a proposal is valid only until the next leader's claim, because a new leader gives
//! the leases new time. [`Leases`] holds both parts under one lock, so a lease that is granted
//! while a leader takes over is in exactly one of them.
//!
//! Remaining time survives a change of leader. The leader checkpoints the remaining time of leases
//! that have not been renewed for a while, and of all leases before it hands over leadership. A
//! renewal first deletes such a checkpoint; otherwise the next leader would end the lease early.
//!
//! Replication is the job of the [`Host`]. This crate depends on the keyspace's rows (`synod-mvcc`)
//! and, as a client, on the leader's Lease service, but not on consensus or the consensus service.

mod error;
mod forward;
mod host;
mod keeper;
mod leases;
mod lessor;
mod policy;
mod renewal;
mod table;
mod wheel;

pub use error::{GrantError, LeaseError};
pub use forward::{LeaderLink, was_forwarded};
pub use host::Host;
pub use keeper::{checkpoint_all, keep};
pub use leases::Leases;
pub use policy::{LeasePolicy, MAX_TTL_S};
pub use renewal::{LeaderClock, Origin, Renewed};
pub use table::{KEEPER_ROW, Keeper};
