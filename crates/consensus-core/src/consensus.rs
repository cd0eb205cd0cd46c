//! The interface that every protocol engine offers to its shell.

use synod_types::{Index, Tick};

use crate::{Input, Ready, Rejected, Status};

/// A replicated log as a state machine: inputs in, [`Ready`] batches out, no I/O inside.
///
/// The [crate documentation](crate) says what the shell must do, in order.
pub trait Consensus: Send {
    /// Takes one input. `now` is the node's monotonic clock, read after the input arrived: leases
    /// depend on it. A `now` that lies in the past counts as the latest one seen.
    ///
    /// # Errors
    ///
    /// [`Rejected`] means that nothing was done: a refused proposal was certainly not appended, and
    /// never will be. Of a refused message at most the ballot was taken up.
    fn step(&mut self, now: Tick, input: Input) -> Result<(), Rejected>;

    /// What there is to do since the last call, or `None`. Call it until `None` after one or many
    /// steps.
    fn ready(&mut self) -> Option<Ready>;

    /// A full picture, for operators and tests; allocates. Hot paths use the accessors below.
    fn status(&self) -> Status;

    /// The next tick at which [`Input::Tick`] can have an effect: the shell may sleep until then.
    fn deadline(&self) -> Tick;

    /// The highest index known to be committed.
    fn commit(&self) -> Index;

    /// Until when (exclusive) this node may serve reads at [`Consensus::commit`] without asking
    /// anyone: `None` unless it is a leader with a running lease and an entry of its own ballot
    /// committed.
    fn lease_until(&self) -> Option<Tick>;
}
