//! Where and when: log indexes, ballots, ticks, write sequence numbers.

use std::fmt;

macro_rules! position {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(u64);

        impl $name {
            /// Before the first.
            pub const ZERO: Self = Self(0);
            /// The largest.
            pub const MAX: Self = Self(u64::MAX);

            /// The position with this number.
            #[must_use]
            pub const fn new(value: u64) -> Self {
                Self(value)
            }

            /// The number, as it stands in formats and on the wire.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The one after this; the largest stays itself.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }

            /// The one before this; zero stays itself.
            #[must_use]
            pub const fn prev(self) -> Self {
                Self(self.0.saturating_sub(1))
            }

            /// `n` further on, saturating.
            #[must_use]
            pub const fn plus(self, n: u64) -> Self {
                Self(self.0.saturating_add(n))
            }

            /// `n` back, saturating at zero.
            #[must_use]
            pub const fn minus(self, n: u64) -> Self {
                Self(self.0.saturating_sub(n))
            }

            /// How far this is past `earlier`; zero where it is not.
            #[must_use]
            pub const fn since(self, earlier: Self) -> u64 {
                self.0.saturating_sub(earlier.0)
            }
        }

        impl From<u64> for $name {
            fn from(value: u64) -> Self {
                Self(value)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

position! {
    /// An index in a group's log; the first entry is 1, zero is before it.
    Index
}
position! {
    /// A point on a node's monotonic clock, in ticks of 10 ms since an arbitrary start.
    Tick
}
position! {
    /// The number of a batch of writes that the core handed to its shell.
    WriteSeq
}

/// A leadership period. Raft's term is `round` with `node` zero; Multi-Paxos orders by round, then
/// node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Ballot {
    /// Raft's term, Paxos's round.
    pub round: u64,
    /// The proposer that owns the ballot (Paxos); zero in Raft.
    pub node: u64,
}

impl Ballot {
    /// Before the first.
    pub const ZERO: Self = Self { round: 0, node: 0 };

    /// Raft's term as a ballot.
    #[must_use]
    pub const fn term(term: u64) -> Self {
        Self {
            round: term,
            node: 0,
        }
    }
}

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.node == 0 {
            write!(f, "{}", self.round)
        } else {
            write!(f, "{}.{:x}", self.round, self.node)
        }
    }
}

/// An entry's identity. Ordered by ballot first: Raft's "at least as up to date" (Raft §5.4.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct LogPosition {
    /// The ballot under which the entry was proposed.
    pub ballot: Ballot,
    /// Its index.
    pub index: Index,
}

impl LogPosition {
    /// Before the first entry.
    pub const ZERO: Self = Self {
        ballot: Ballot::ZERO,
        index: Index::ZERO,
    };
}

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ballot, self.index)
    }
}
