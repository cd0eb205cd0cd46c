//! The random numbers of election timeouts.

/// `SplitMix64` (Steele, Lea, Flood 2014): tiny, and good enough to spread timeouts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; zero for a bound of zero.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        // The bias of the remainder is irrelevant for bounds this far below 2^64.
        self.next() % bound.max(1)
    }
}
