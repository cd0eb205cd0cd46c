//! Exhaustive models of small groups: real cores, every order of events, every loss and duplication
//! of messages, and crashes between any two writes. [`stateright`] visits all states within the
//! [`Bounds`].
//!
//! - **Network.** A set that only grows: a message may arrive at any later time, any number of
//!   times, or never. So loss, duplication, delay and reordering need no actions of their own.
//! - **Disks.** The core's writes become durable when the model chooses ([`Disks::Slow`]) or at
//!   once. A crash keeps any prefix of the writes in flight, and only the disk survives.
//! - **Time.** A node's clock only moves with [`Action::Tick`], to the core's next deadline: an
//!   election timeout, or a leader's heartbeat. The clocks are independent, so nothing that relies
//!   on bounded drift (leases) is checked here. The simulation checks that.
//!
//! A core's step is a function of its state and its input, so each step is computed once. States
//! and messages are interned, and a state of the group is a few numbers. `docs/models.md` lists the
//! bounds and sizes of the models in `tests/`.

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
