//! Randomness for the shells: ids, seeds of the deterministic cores, jitter and secrets.

use std::time::Duration;

use rand::Rng as _;

/// Bytes that nobody can guess: the thread's generator is a cryptographic one, seeded by the
/// operating system.
#[must_use]
pub fn secret<const N: usize>() -> [u8; N] {
    rand::random()
}

/// A uniformly random number from the thread's generator.
#[must_use]
pub fn u64() -> u64 {
    rand::random()
}

/// A seed for a deterministic component, from the operating system's entropy.
#[must_use]
pub fn seed() -> u64 {
    use rand::TryRngCore as _;
    // The thread's generator was seeded from the same source, so it is an acceptable fallback.
    rand::rngs::OsRng.try_next_u64().unwrap_or_else(|_| u64())
}

/// A duration drawn uniformly from `[base / 2, base)`, for back-off: it spreads the retries of
/// clients that failed at the same time. Zero stays zero.
#[must_use]
pub fn jitter(base: Duration) -> Duration {
    base.mul_f64(rand::rng().random_range(0.5..1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_differ_and_jitter_stays_in_its_range() {
        assert_ne!(u64(), u64());
        assert_ne!(seed(), seed());
        assert_ne!(secret::<16>(), secret());
        for _ in 0..1000 {
            let base = Duration::from_millis(100);
            let value = jitter(base);
            assert!(value >= base / 2 && value < base, "{value:?}");
        }
        assert_eq!(jitter(Duration::ZERO), Duration::ZERO);
    }
}
