//! Log indexes, ballots, ticks and write sequence numbers.

use std::fmt;

macro_rules! position {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(u64);

        impl $name {
            /// The position before the first.
            pub const ZERO: Self = Self(0);
            /// The largest position.
            pub const MAX: Self = Self(u64::MAX);

            /// The position with this number.
            #[must_use]
            pub const fn new(value: u64) -> Self {
                Self(value)
            }

            /// The number, as used in file formats and on the wire.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The next position, saturating.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }

            /// The previous position, saturating at zero.
            #[must_use]
            pub const fn prev(self) -> Self {
                Self(self.0.saturating_sub(1))
            }

            /// The position `n` after this one, saturating.
            #[must_use]
            pub const fn plus(self, n: u64) -> Self {
                Self(self.0.saturating_add(n))
            }

            /// The position `n` before this one, saturating at zero.
            #[must_use]
            pub const fn minus(self, n: u64) -> Self {
                Self(self.0.saturating_sub(n))
            }

            /// The distance from `earlier` to this position; zero if `earlier` is later.
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
    /// An index in a group's log. The first entry has index 1; zero is before it.
    Index
}
position! {
    /// A time on a node's monotonic clock, in ticks of 10 ms since an arbitrary start.
    Tick
}
position! {
    /// The number of a batch of writes that the core passed to its shell.
    WriteSeq
}

/// A leadership period. In Raft, the term is `round` and `node` is zero. Multi-Paxos orders ballots
/// by round, then node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Ballot {
    /// Raft's term or Paxos's round.
    pub round: u64,
    /// The proposer that owns the ballot in Paxos; zero in Raft.
    pub node: u64,
}

impl Ballot {
    /// The ballot before the first.
    pub const ZERO: Self = Self { round: 0, node: 0 };

    /// A Raft term as a ballot.
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

/// An entry's position. Ordered by ballot first, then index: Raft's "at least as up to date" (Raft
/// §5.4.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct LogPosition {
    /// The ballot under which the entry was proposed.
    pub ballot: Ballot,
    /// The entry's index.
    pub index: Index,
}

impl LogPosition {
    /// The position before the first entry.
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
