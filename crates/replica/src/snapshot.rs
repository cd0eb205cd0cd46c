//! Snapshots for peers that need compacted entries: a leader serves chunks of open views, a
//! follower pulls them.

mod fetch;
mod serve;

pub(crate) use fetch::Fetch;
pub(crate) use serve::{Hooks, SnapshotServer};

#[cfg(test)]
mod simulation;
