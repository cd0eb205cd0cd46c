//! The spaces that rows live in.

use std::fmt;

/// A separate ordered keyspace. The numbers are part of the export format: never reuse one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Space {
    /// Positions, revisions and other single rows.
    Meta = 0,
    /// The current version of every key.
    Latest = 1,
    /// Replaced versions and tombstones.
    History = 2,
    /// The changes of each revision.
    Revisions = 3,
    /// Leases.
    Leases = 4,
    /// The keys attached to each lease.
    LeaseKeys = 5,
    /// Members of the cluster.
    Members = 6,
    /// The number of keys, by bucket.
    Counts = 7,
}

impl Space {
    /// All spaces, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Meta,
        Self::Latest,
        Self::History,
        Self::Revisions,
        Self::Leases,
        Self::LeaseKeys,
        Self::Members,
        Self::Counts,
    ];

    /// The number of spaces.
    pub const COUNT: usize = Self::ALL.len();

    /// The space's index in [`Space::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The number of this space in file formats.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The space with this number, if there is one.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The space's name on disk.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Latest => "latest",
            Self::History => "history",
            Self::Revisions => "revisions",
            Self::Leases => "leases",
            Self::LeaseKeys => "lease_keys",
            Self::Members => "members",
            Self::Counts => "counts",
        }
    }
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
