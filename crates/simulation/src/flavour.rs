//! Kinds of runs.

use std::fmt;
use std::str::FromStr;

/// Which faults a run may have. Within that, each seed has a random subset (swarm testing).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flavour {
    /// All of them.
    Everything,
    /// All but those that concern the members.
    Fixed,
    /// Much ado about the members.
    Churn,
    /// What endangers leases: hasty candidates, restarts, transfers, delays, bad clocks.
    Leases,
    /// What disks do.
    Disk,
    /// Cuts of links, of all shapes.
    Partitions,
    /// None at all.
    Calm,
    /// Leaders that end in the middle of replicating, on links that lose and reorder much.
    Gaps,
    /// Messages of one node that are held back for several election timeouts.
    Stragglers,
    /// Leaders whose own disks are slower than the others', and that are replaced.
    Laggards,
}

impl Flavour {
    /// All kinds.
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

    /// Its name on the command line.
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

/// Not the name of a flavour.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no such flavour: {0}; there are everything, fixed, churn, leases, disk, partitions, calm, gaps, stragglers, laggards"
)]
pub struct UnknownFlavour(String);

impl FromStr for Flavour {
    type Err = UnknownFlavour;

    fn from_str(text: &str) -> Result<Self, UnknownFlavour> {
        let found = Self::ALL.into_iter().find(|flavour| flavour.name() == text);
        found.ok_or_else(|| UnknownFlavour(text.to_owned()))
    }
}
