//! Which algorithm a group runs.

use std::{fmt, str::FromStr};

use synod_types::Tick;

use crate::{ConfigError, Consensus, CoreConfig, MultiPaxos, Raft, Restored};

/// The algorithms behind [`Consensus`](crate::Consensus). All members of a group run the same one,
/// from its first entry on: what one wrote to the disk means something else to the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// A leader with the longest log replicates it as it is.
    #[default]
    Raft,
    /// A leader with a quorum's promises finds out slot by slot what may be chosen, and goes on
    /// from there.
    MultiPaxos,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Raft, Self::MultiPaxos];

    /// Starts a core of this algorithm.
    ///
    /// # Errors
    ///
    /// As [`Raft::new`].
    pub fn start(
        self,
        config: CoreConfig,
        restored: Restored,
        now: Tick,
    ) -> Result<Box<dyn Consensus>, ConfigError> {
        Ok(match self {
            Self::Raft => Box::new(Raft::new(config, restored, now)?),
            Self::MultiPaxos => Box::new(MultiPaxos::new(config, restored, now)?),
        })
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Raft => "raft",
            Self::MultiPaxos => "multi-paxos",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// There is no algorithm of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown algorithm {0:?}: use raft or multi-paxos")]
pub struct UnknownAlgorithm(String);

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.name() == text)
            .ok_or_else(|| UnknownAlgorithm(text.to_owned()))
    }
}
