//! Links between nodes: cut, lossy, slow or duplicating.

use crate::choices::{Choices, Stream};
use crate::time::{MS, Time};

/// The maximum number of nodes.
pub(crate) const MAX_NODES: usize = 8;

/// How links treat messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Quality {
    /// Lost messages per thousand.
    pub(crate) loss: u64,
    /// Duplicated messages per thousand.
    pub(crate) duplicates: u64,
    /// Slow messages per thousand, and their maximum delay.
    pub(crate) slow: u64,
    pub(crate) slow_us: u64,
    /// The usual delay exceeds the minimum by up to this much.
    pub(crate) jitter_us: u64,
}

/// The links.
#[derive(Debug)]
pub(crate) struct Network {
    /// For each sender, a bit for each receiver that it can't reach.
    cut: [u8; MAX_NODES],
    /// For each sender, a bit for each receiver to which its messages are delayed.
    late: [u8; MAX_NODES],
    /// The maximum of that delay.
    pub(crate) late_us: u64,
    /// The node whose links those are.
    pub(crate) straggler: Option<usize>,
    /// The last leader that was cut off.
    pub(crate) aside: Option<usize>,
    pub(crate) quality: Quality,
}

/// The minimum delay.
const LEAST_US: u64 = 150;

impl Network {
    pub(crate) fn new(quality: Quality) -> Self {
        Self {
            cut: [0; MAX_NODES],
            late: [0; MAX_NODES],
            late_us: 0,
            straggler: None,
            aside: None,
            quality,
        }
    }

    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cut.get(from).is_some_and(|row| row & (1 << to) != 0)
    }

    /// Cuts the link from one node to the other.
    pub(crate) fn cut(&mut self, from: usize, to: usize) {
        if let Some(row) = self.cut.get_mut(from)
            && from != to
        {
            *row |= 1 << to;
        }
    }

    /// Cuts the links between two nodes.
    pub(crate) fn cut_both(&mut self, one: usize, other: usize) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// Restores all links.
    pub(crate) fn heal(&mut self) {
        self.cut = [0; MAX_NODES];
    }

    pub(crate) fn has_cuts(&self) -> bool {
        self.cut.iter().any(|row| *row != 0)
    }

    /// Delays most messages from one node to the other from now on.
    pub(crate) fn hold_back(&mut self, from: usize, to: usize) {
        if let Some(row) = self.late.get_mut(from)
            && from != to
        {
            *row |= 1 << to;
        }
    }

    /// Stops delaying new messages. Messages that are already delayed stay so.
    pub(crate) fn hasten(&mut self) {
        self.late = [0; MAX_NODES];
        self.straggler = None;
    }

    /// How long this message is delayed. Draws no decision if the link delays none.
    pub(crate) fn lateness(&self, choices: &mut Choices, from: usize, to: usize) -> Time {
        let is_late = self.late.get(from).is_some_and(|row| row & (1 << to) != 0);
        if is_late && choices.often(Stream::Network, 700) {
            choices.below(Stream::Network, self.late_us + 1)
        } else {
            0
        }
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
