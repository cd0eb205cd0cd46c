//! Leases: keys that go away unless their owner stays in touch.
//!
//! Two halves. The [`LeaseTable`](table::LeaseTable) is replicated state: which leases exist, how
//! long they last, what is left of those that were checkpointed. It changes only when entries are
//! applied and is the same on every member. The [`Lessor`](lessor::Lessor) is the leader's
//! clockwork: deadlines on a timing wheel, in local monotonic time. Nothing expires by itself: a
//! leader first claims the leases' time by an entry, then proposes to revoke what ran out, and that
//! counts only until the next leader's claim, because a later leader gave the leases new time.
//! [`Leases`] holds both halves under one lock, so that a lease that is granted while a leader
//! takes over is in exactly one of the two.
//!
//! Remaining time survives a change of leader: the leader checkpoints what is left of leases that
//! have not been renewed for a while, and of all of them before it hands over on purpose. A renewal
//! first takes such a checkpoint back, since otherwise the next leader would end the lease early.
//!
//! What is replicated where is the business of the [`Host`]: this crate knows the keyspace's rows
//! (`synod-mvcc`) and the leader's Lease service as a client, and nothing of consensus or of the
//! service around it.

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
pub use renewal::{LeaderClock, Origin};
pub use table::{KEEPER_ROW, Keeper};
