//! Watching: clients get every change of the keys that they watch, once, in order, and without
//! gaps.
//!
//! ```text
//! apply thread --Feed--> [inbox] --> hub thread --responses--> [queue of each stream] --> the stream's task
//!                                      ^     |
//!                                      |    Job   pieces of history
//!                                      |     v
//!                                     reader thread
//! ```
//! The [`Hub`](hub::Hub) decides which watcher gets which events and is deterministic. [`runner`]
//! provides its two threads. Filling a [`StreamQueue`](queue::StreamQueue) never waits; the client
//! empties it at its own pace. Every queue is bounded ([`limits`]). A hub that lags reads the
//! store's history instead, and so does a watcher whose client is slow. So nothing is lost, and no
//! client can delay another.
//!
//! [`Deletions`] wakes tasks of the member itself: those that wait for a lock.
//!
//! This crate depends on the keyspace (`synod-mvcc`), but not on consensus, gRPC or the service.

mod deletions;
mod history;
mod hub;
mod interest;
mod interval;
mod limits;
mod message;
mod queue;
mod ring;
mod runner;
mod set;
mod source;
mod stats;
#[cfg(test)]
mod testing;

pub use deletions::{Deletions, Interested};
pub use history::StoreHistory;
pub use interest::{EventFlags, WatchRange};
pub use limits::WatchLimits;
pub use message::{Command, Create};
pub use queue::{End, Notice, Outgoing, Progress, Splitting, WatchId};
pub use runner::{Requests, Responses, WatchHandle, WatchHub};
