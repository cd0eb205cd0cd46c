//! Links between nodes: cut, lossy, slow, doubling.

use crate::choices::{Choices, Stream};
use crate::time::{MS, Time};

/// The most nodes there are.
pub(crate) const MAX_NODES: usize = 8;

/// What links do to messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Quality {
    /// Messages that get lost, in a thousand.
    pub(crate) loss: u64,
    /// Messages that come twice, in a thousand.
    pub(crate) duplicates: u64,
    /// Messages that take long, in a thousand, and up to how long.
    pub(crate) slow: u64,
    pub(crate) slow_us: u64,
    /// The usual delay goes up to this much over the least.
    pub(crate) jitter_us: u64,
}

/// The links.
#[derive(Debug)]
pub(crate) struct Network {
    /// For each sender, a bit for each receiver that it can't reach.
    cut: [u8; MAX_NODES],
    pub(crate) quality: Quality,
}

/// The least delay.
const LEAST_US: u64 = 150;

impl Network {
    pub(crate) fn new(quality: Quality) -> Self {
        Self {
            cut: [0; MAX_NODES],
            quality,
        }
    }

    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cut.get(from).is_some_and(|row| row & (1 << to) != 0)
    }

    /// Nothing gets from one node to the other any more.
    pub(crate) fn cut(&mut self, from: usize, to: usize) {
        if let Some(row) = self.cut.get_mut(from)
            && from != to
        {
            *row |= 1 << to;
        }
    }

    /// Nothing gets through between the two.
    pub(crate) fn cut_both(&mut self, one: usize, other: usize) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// All links work.
    pub(crate) fn heal(&mut self) {
        self.cut = [0; MAX_NODES];
    }

    pub(crate) fn has_cuts(&self) -> bool {
        self.cut.iter().any(|row| *row != 0)
    }

    /// When the copies of a message arrive: none, one or two.
    pub(crate) fn arrivals(&self, choices: &mut Choices) -> [Option<Time>; 2] {
        let quality = &self.quality;
        if choices.often(Stream::Network, quality.loss) {
            return [None, None];
        }
        let delay = |choices: &mut Choices| {
            let slow = choices.often(Stream::Network, quality.slow);
            let most = if slow {
                quality.slow_us
            } else {
                quality.jitter_us
            };
            LEAST_US + choices.below(Stream::Network, most + 1)
        };
        let first = delay(choices);
        let twice = choices.often(Stream::Network, quality.duplicates);
        let second = twice.then(|| delay(choices) + MS);
        [Some(first), second]
    }
}
