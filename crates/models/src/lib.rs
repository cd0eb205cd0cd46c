//! Exhaustive models of small groups: the real cores, every order of events, every loss and
//! repetition of messages, crashes between any two writes. [`stateright`] walks through all states
//! that the [`Bounds`] allow.
//!
//! - **Network.** A set that only grows: a message that was sent once may arrive at any later time,
//!   any number of times, or never. Loss, duplication, delay and reordering need no actions of
//!   their own.
//! - **Disks.** What the core hands out is written when the model says so ([`Disks::Slow`]) or at
//!   once. A crash keeps any prefix of what is under way; only the disk survives it.
//! - **Time.** A node's clock stands still but for [`Action::Tick`], which moves it to the core's
//!   next deadline: an election timeout, or a leader's heartbeat. Nodes' clocks are independent of
//!   each other, so nothing that rests on bounded drift (leases) is checked here; the simulation
//!   does that.
//!
//! A core's step is a function of its state and its input, so that each is computed once: states
//! and messages are interned, and a state of the whole group is a few numbers. `docs/models.md` has
//! the bounds and the sizes of the models in `tests/`.

mod bounds;
mod ghost;
mod model;
mod node;
mod start;
mod tables;

pub use bounds::{Bounds, Step, Traffic};
pub use ghost::Violations;
pub use model::{Action, CoreModel, Report, World};
pub use node::{Core, Disks, Shell};
