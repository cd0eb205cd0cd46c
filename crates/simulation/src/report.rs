//! The results of a run.

use std::fmt;

use crate::choices::Record;
use crate::flavour::Flavour;
use crate::invariants::Violation;
use crate::{Algorithm, run::Options};

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// How often things happened. What doesn't happen isn't tested.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counts {
            /// Adds the counts of another run.
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
    /// Simulation events.
    events,
    /// Leaders, one per ballot.
    leaders,
    /// Entries committed.
    commits,
    /// Entries applied on all nodes.
    applied,
    /// Whole states compared between nodes.
    states_compared,
    /// Messages sent.
    messages,
    /// Messages lost because of cuts and bad links.
    messages_lost,
    /// Log truncations (Raft).
    truncations,
    /// Compactions of core logs.
    compactions,
    /// Snapshot transfers started.
    snapshots_begun,
    /// Snapshots installed.
    snapshots,
    /// Snapshot transfers that failed.
    snapshots_failed,
    /// Configurations committed.
    config_changes,
    /// Leadership transfers started.
    transfers,
    /// Writes acknowledged to clients.
    writes,
    /// Writes whose outcome the client never learned.
    unknown_writes,
    /// Linearizable reads answered.
    index_reads,
    /// Lease reads answered.
    lease_reads,
    /// Lease reads served without a round trip.
    lease_hits,
    /// Serializable reads answered.
    serializable_reads,
    /// Proposals that cores rejected at once.
    refusals,
    /// Proposals that cores dropped later.
    drops,
    /// Inputs that cores rejected.
    refused_inputs,
    /// Operations checked for linearizability.
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
    /// Processes restarted.
    restarts,
    /// Changes of clock rates.
    clock_changes,
    /// Failed syncs injected.
    sync_failures,
    /// Logs that stopped after an error.
    failed_logs,
    /// Disks damaged.
    damages,
    /// Logs that refused to start.
    refused_logs,
    /// Nodes that lost their disk and were replaced.
    replacements,
    /// Clusters that lost a member for good and then changed to a membership of which it is half.
    /// Such a cluster can't recover.
    wedged,
}

/// The result of a run without a violation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How often things happened.
    pub counts: Counts,
    /// Simulated time, in microseconds.
    pub simulated_us: u64,
    /// The trace, if requested.
    pub trace: Vec<String>,
}

/// A run with a violation.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The flavour.
    pub flavour: Flavour,
    /// The seed.
    pub seed: u64,
    /// The violated invariant's name.
    pub invariant: &'static str,
    /// What was observed.
    pub detail: String,
    /// When it happened, in microseconds of true time.
    pub at_us: u64,
    /// How often things had happened until then.
    pub counts: Counts,
    /// The decisions, if recorded.
    pub record: Record,
    /// The trace, if requested.
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
