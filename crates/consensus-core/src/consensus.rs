//! The interface of every consensus algorithm for its shell.

use synod_types::{Index, Tick};

use crate::{Input, Ready, Rejected, Status};

/// A replicated log as a state machine: inputs in, [`Ready`] batches out, no I/O.
///
/// The [crate documentation](crate) says what the shell must do, and in which order.
pub trait Consensus: Send {
    /// Processes one input. `now` is the node's monotonic clock, read after the input arrived;
    /// leases depend on it. An earlier `now` counts as the latest one seen.
    ///
    /// # Errors
    ///
    /// [`Rejected`] means that nothing was done: a rejected proposal was certainly not appended and
    /// never will be. A rejected message may at most have raised the ballot.
    fn step(&mut self, now: Tick, input: Input) -> Result<(), Rejected>;

    /// Returns the work since the last call, or `None`. Call it until it returns `None`, after one
    /// or many steps.
    fn ready(&mut self) -> Option<Ready>;

    /// The complete status, for operators and tests. It allocates; hot paths use the accessors
    /// below.
    fn status(&self) -> Status;

    /// The next tick at which [`Input::Tick`] can have an effect. The shell may sleep until then.
    fn deadline(&self) -> Tick;

    /// The highest index known to be committed.
    fn commit(&self) -> Index;

    /// Until when (exclusive) this node may serve reads at [`Consensus::commit`] without a round
    /// trip. `None` unless it is a leader with a running lease and has committed an entry of its
    /// own ballot.
    fn lease_until(&self) -> Option<Tick>;
}
