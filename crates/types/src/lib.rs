//! Ids and positions shared by all crates of Synod. Without I/O and dependencies, so that the
//! deterministic cores can use them.
//!
//! Each quantity is a newtype with a private field, so that an index can't be added to a term by
//! accident.

mod id;
mod position;
mod random;
mod request;

pub use id::{ClusterId, GroupId, NodeId};
pub use position::{Ballot, Index, LogPosition, Tick, WriteSeq};
pub use random::{SplitMix64, mix};
pub use request::RequestId;
