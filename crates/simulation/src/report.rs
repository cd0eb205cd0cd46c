//! What a run was like.

use std::fmt;

use crate::choices::Record;
use crate::flavour::Flavour;
use crate::invariants::Violation;
use crate::{Algorithm, run::Options};

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// How often things happened: what doesn't happen isn't tested.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counts {
            /// Adds those of another run.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }
        }

        impl fmt::Display for Counts {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut first = true;
                $(
                    if self.$name > 0 {
                        if !first {
                            f.write_str(", ")?;
                        }
                        first = false;
                        write!(f, "{} {}", stringify!($name).replace('_', " "), self.$name)?;
                    }
                )*
                if first {
                    f.write_str("nothing")?;
                }
                Ok(())
            }
        }
    };
}

counts! {
    /// Events of the world.
    events,
    /// Leaders, one a ballot.
    leaders,
    /// Entries committed.
    commits,
    /// Entries applied, on all nodes.
    applied,
    /// Whole states compared between nodes.
    states_compared,
    /// Messages sent.
    messages,
    /// Messages lost to cuts and bad links.
    messages_lost,
    /// Log truncations (Raft).
    truncations,
    /// Core logs cut.
    compactions,
    /// Snapshot transfers begun.
    snapshots_begun,
    /// Snapshots installed.
    snapshots,
    /// Snapshot transfers that came to nothing.
    snapshots_failed,
    /// Configurations committed.
    config_changes,
    /// Leadership transfers taken up.
    transfers,
    /// Writes acknowledged to clients.
    writes,
    /// Writes whose outcome the client never learned.
    unknown_writes,
    /// Linearizable reads answered.
    index_reads,
    /// Lease reads answered.
    lease_reads,
    /// Lease reads that needed nobody.
    lease_hits,
    /// Reads of whatever is there.
    serializable_reads,
    /// Proposals that cores refused at once.
    refusals,
    /// Proposals that cores dropped later.
    drops,
    /// Inputs that cores refused.
    refused_inputs,
    /// Operations searched for a linearization.
    history_checked,
    /// Cuts of links.
    cuts,
    /// Processes paused.
    pauses,
    /// Processes killed.
    kills,
    /// Nodes that took a peer for gone.
    gone,
    /// Power losses.
    power_losses,
    /// Power losses of the whole cluster.
    blackouts,
    /// Processes started again.
    restarts,
    /// Clocks that changed their rate.
    clock_changes,
    /// Failed syncs injected.
    sync_failures,
    /// Logs that stopped after an error.
    failed_logs,
    /// Disks damaged behind the log's back.
    damages,
    /// Logs that refused to start.
    refused_logs,
    /// Nodes that lost their disk and came back as new ones.
    replacements,
    /// Clusters that lost a member for good and then changed to members of whom it is half: nothing
    /// can save those.
    wedged,
}

/// A run without a finding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What happened.
    pub counts: Counts,
    /// Simulated time, in microseconds.
    pub simulated_us: u64,
    /// The trace, where it was asked for.
    pub trace: Vec<String>,
}

/// A run that found something.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The kind of run.
    pub flavour: Flavour,
    /// The seed.
    pub seed: u64,
    /// The broken rule's name.
    pub invariant: &'static str,
    /// What was seen.
    pub detail: String,
    /// When, in true microseconds.
    pub at_us: u64,
    /// What had happened until then.
    pub counts: Counts,
    /// The decisions, where they were recorded.
    pub record: Record,
    /// The trace, where it was asked for.
    pub trace: Vec<String>,
}

impl Failure {
    pub(crate) fn new(options: &Options<'_>, violation: Violation) -> Self {
        Self {
            algorithm: options.algorithm,
            flavour: options.flavour,
            seed: options.seed,
            invariant: violation.invariant,
            detail: violation.detail,
            at_us: 0,
            counts: Counts::default(),
            record: Record::default(),
            trace: Vec::new(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            algorithm,
            flavour,
            seed,
            invariant,
            detail,
            at_us,
            ..
        } = self;
        write!(
            f,
            "{algorithm}, flavour {flavour}, seed {seed}: {invariant} after {at_us} us: {detail}"
        )
    }
}

impl std::error::Error for Failure {}
