//! The replicated state: keys, leases, members and alarms. Only entries of the log change it.
//!
//! [`Machine`](machine::Machine) applies entries on the apply thread. [`View`] is what it publishes
//! for all other threads.

mod apply;
mod create;
mod guard;
mod machine;
mod outcome;
mod roster;
mod snapshot;
mod txn;
mod view;

pub(crate) use create::create;
pub(crate) use machine::{Listeners, MachineConfig, MachineError, OpenState};
pub(crate) use outcome::{Outcome, Reply};
pub(crate) use roster::Roster;
pub(crate) use txn::{
    MAX_REPLY_BYTES, delete_reads_much, is_read_only, is_serializable, put_bytes, put_cost,
    read_only_txn_bytes, run_read_only, txn_reads_much,
};
pub(crate) use view::View;
