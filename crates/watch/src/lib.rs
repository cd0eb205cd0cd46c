//! Watching: every change of the keys that a client is interested in, once, in order, and without a
//! gap.
//!
//! ```text
//! apply thread --Feed--> [inbox] --> hub thread --responses--> [queue of each stream] --> the stream's task
//!                                      ^     |
//!                                      |    Job   pieces of history
//!                                      |     v
//!                                     reader thread
//! ```
//! The [`Hub`](hub::Hub) decides who gets what and is deterministic; [`runner`] gives it its two
//! threads; a [`StreamQueue`](queue::StreamQueue) is filled without ever waiting and emptied at the
//! client's pace. Every queue is bounded ([`limits`]): a hub that lags reads the store's history
//! instead, and so does a watcher whose client is slow, so nothing is lost and nobody waits for
//! anybody.
//!
//! It knows the keyspace (`synod-mvcc`) and nothing of consensus, gRPC or the service around it.

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

pub use history::StoreHistory;
pub use interest::{EventFlags, WatchRange};
pub use limits::WatchLimits;
pub use message::{Command, Create};
pub use queue::{End, Notice, Outgoing, Progress, Splitting, WatchId};
pub use runner::{Requests, WatchHandle, WatchHub};
