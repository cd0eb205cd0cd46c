//! All random decisions of a run: drawn from a seed, recorded, and replayed from a record.
//!
//! A decision is a number below a bound. Zero is always the harmless choice: no fault, the shortest
//! delay, the usual setting. So zeroing or truncating parts of a record gives a run with fewer
//! events, which shrinking needs (see [`crate::shrink`]). Decisions about different things come
//! from different streams, so removing a fault does not change what the network or the clients do.

use synod_types::{SplitMix64, mix};

/// The subject of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// The cluster's setup.
    Setup,
    /// Which faults occur, and when.
    Fault,
    /// Delays, losses and duplicates of messages.
    Network,
    /// How long writes take, and what survives a crash.
    Disk,
    /// The actions of clients.
    Client,
    /// The delays of a node's parts.
    Node,
}

impl Stream {
    /// All streams, in the order in which shrinking removes them: the one with the largest effect
    /// first.
    pub const ALL: [Self; 6] = [
        Self::Fault,
        Self::Network,
        Self::Disk,
        Self::Client,
        Self::Node,
        Self::Setup,
    ];

    /// The stream's name in a record.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Setup => "setup",
            Self::Fault => "fault",
            Self::Network => "network",
            Self::Disk => "disk",
            Self::Client => "client",
            Self::Node => "node",
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::Setup => 0,
            Self::Fault => 1,
            Self::Network => 2,
            Self::Disk => 3,
            Self::Client => 4,
            Self::Node => 5,
        }
    }
}

const STREAMS: usize = Stream::ALL.len();

/// The decisions of a run, by stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    streams: [Vec<u64>; STREAMS],
}

impl Record {
    /// One stream's decisions.
    #[must_use]
    pub fn stream(&self, stream: Stream) -> &[u64] {
        &self.streams[stream.index()]
    }

    /// One stream's decisions, mutable.
    pub fn stream_mut(&mut self, stream: Stream) -> &mut Vec<u64> {
        &mut self.streams[stream.index()]
    }

    /// The number of decisions other than the harmless choice.
    #[must_use]
    pub fn weight(&self) -> usize {
        let streams = self.streams.iter();
        streams
            .map(|s| s.iter().filter(|value| **value != 0).count())
            .sum()
    }
}

#[derive(Clone, Debug)]
enum Source {
    Seed(SplitMix64),
    /// The remaining values in reverse order; zeros follow them.
    Replay(Vec<u64>),
}

/// The source of decisions.
#[derive(Clone, Debug)]
pub(crate) struct Choices {
    sources: [Source; STREAMS],
    recorded: Option<Record>,
}

impl Choices {
    /// Decisions from a seed, recorded if `record` is set.
    pub(crate) fn from_seed(seed: u64, record: bool) -> Self {
        let source = |number: u64| {
            let begin = mix(seed ^ mix(0x5379_6e6f_6400 + number));
            Source::Seed(SplitMix64::new(begin))
        };
        Self {
            sources: [
                source(0),
                source(1),
                source(2),
                source(3),
                source(4),
                source(5),
            ],
            recorded: record.then(Record::default),
        }
    }

    /// The decisions of a record, followed by zeros.
    pub(crate) fn replay(record: &Record) -> Self {
        let source = |at: usize| {
            let mut values = record.streams[at].clone();
            values.reverse();
            Source::Replay(values)
        };
        Self {
            sources: [
                source(0),
                source(1),
                source(2),
                source(3),
                source(4),
                source(5),
            ],
            recorded: Some(Record::default()),
        }
    }

    /// The recorded decisions.
    pub(crate) fn into_record(self) -> Record {
        self.recorded.unwrap_or_default()
    }

    /// A number below `bound`; zero if `bound` is zero.
    pub(crate) fn below(&mut self, stream: Stream, bound: u64) -> u64 {
        if bound <= 1 {
            return 0;
        }
        let value = match &mut self.sources[stream.index()] {
            Source::Seed(rng) => rng.below(bound),
            Source::Replay(values) => values.pop().unwrap_or(0) % bound,
        };
        if let Some(record) = &mut self.recorded {
            record.streams[stream.index()].push(value);
        }
        value
    }

    /// A number from `low` to `high`. `low` is the harmless choice.
    pub(crate) fn between(&mut self, stream: Stream, low: u64, high: u64) -> u64 {
        low + self.below(stream, high.saturating_sub(low).saturating_add(1))
    }

    /// `true` with this probability per thousand. `false` is the harmless choice.
    pub(crate) fn often(&mut self, stream: Stream, per_mille: u64) -> bool {
        per_mille > 0 && self.below(stream, 1000) >= 1000_u64.saturating_sub(per_mille)
    }

    /// One of these. The first is the harmless choice.
    pub(crate) fn one_of<T: Copy, const N: usize>(&mut self, stream: Stream, from: [T; N]) -> T {
        const { assert!(N > 0, "there must be something to choose from") };
        from[self.index(stream, N)]
    }

    /// An index into something of this length.
    pub(crate) fn index(&mut self, stream: Stream, length: usize) -> usize {
        usize::try_from(self.below(stream, length as u64)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_replays_its_decisions_followed_by_zeros() {
        let mut first = Choices::from_seed(7, true);
        let drawn: Vec<u64> = (0..20).map(|_| first.below(Stream::Network, 100)).collect();
        let faults: Vec<u64> = (0..5).map(|_| first.below(Stream::Fault, 9)).collect();
        assert!(drawn.iter().any(|value| *value != 0));
        let record = first.into_record();
        let mut again = Choices::replay(&record);
        // The streams are independent of each other's order.
        let same: Vec<u64> = (0..5).map(|_| again.below(Stream::Fault, 9)).collect();
        assert_eq!(same, faults);
        let same: Vec<u64> = (0..20).map(|_| again.below(Stream::Network, 100)).collect();
        assert_eq!(same, drawn);
        assert_eq!(again.below(Stream::Network, 100), 0);
        assert!(!again.often(Stream::Network, 999), "zero is harmless");
        assert!(
            again.often(Stream::Network, 1000),
            "a probability of one is certain"
        );
    }
}
