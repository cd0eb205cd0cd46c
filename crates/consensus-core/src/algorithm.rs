//! The consensus algorithm of a group.

use std::{fmt, str::FromStr};

use synod_types::Tick;

use crate::{ConfigError, Consensus, CoreConfig, MultiPaxos, Raft, Restored};

/// The algorithms behind [`Consensus`](crate::Consensus). All members of a group run the same one
/// from its first entry on, since each reads the data on disk differently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// The leader has an up-to-date log and replicates it as it is.
    #[default]
    Raft,
    /// The leader has a quorum's promises, determines for each slot what may be chosen, and
    /// continues from there.
    MultiPaxos,
}

impl Algorithm {
    /// All algorithms.
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

/// No algorithm has this name.
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
