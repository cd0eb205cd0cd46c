//! The flavours of runs.

use std::fmt;
use std::str::FromStr;

/// The faults that a run may have. Each seed uses a random subset (swarm testing).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flavour {
    /// All faults.
    Everything,
    /// All faults except membership changes.
    Fixed,
    /// Mainly membership changes.
    Churn,
    /// Faults that endanger leases: early candidates, restarts, transfers, delays, bad clocks.
    Leases,
    /// Disk faults.
    Disk,
    /// Cuts of links in all shapes.
    Partitions,
    /// No faults.
    Calm,
    /// Leaders that end while they replicate, with links that lose and reorder many messages.
    Gaps,
    /// Messages of one node that are delayed by several election timeouts.
    Stragglers,
    /// Leaders whose own disks are slower than the others', and that are replaced.
    Laggards,
}

impl Flavour {
    /// All flavours.
    pub const ALL: [Self; 10] = [
        Self::Everything,
        Self::Fixed,
        Self::Churn,
        Self::Leases,
        Self::Disk,
        Self::Partitions,
        Self::Calm,
        Self::Gaps,
        Self::Stragglers,
        Self::Laggards,
    ];

    /// The flavour's name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Everything => "everything",
            Self::Fixed => "fixed",
            Self::Churn => "churn",
            Self::Leases => "leases",
            Self::Disk => "disk",
            Self::Partitions => "partitions",
            Self::Calm => "calm",
            Self::Gaps => "gaps",
            Self::Stragglers => "stragglers",
            Self::Laggards => "laggards",
        }
    }
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No flavour has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no such flavour: {0}; the flavours are everything, fixed, churn, leases, disk, partitions, calm, gaps, stragglers, laggards"
)]
pub struct UnknownFlavour(String);

impl FromStr for Flavour {
    type Err = UnknownFlavour;

    fn from_str(text: &str) -> Result<Self, UnknownFlavour> {
        let found = Self::ALL.into_iter().find(|flavour| flavour.name() == text);
        found.ok_or_else(|| UnknownFlavour(text.to_owned()))
    }
}
