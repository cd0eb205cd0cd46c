//! How much of its answers an address gets over UDP, where anybody can ask in another's name.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::time::Instant;

/// Full answers a second to the addresses of a network: /24 of IPv4, /56 of IPv6. Further answers
/// are not larger than the query, and send the client to TCP.
const PER_SECOND: u32 = 1_000;

/// What an idle network may get at once.
const BURST: u32 = 2_000;

/// Networks with the same place share their limit.
const PLACES: usize = 4_096;

/// Counts answers by network, in memory of a fixed size.
pub(super) struct Limit {
    places: Vec<Place>,
    hasher: RandomState,
}

#[derive(Clone)]
struct Place {
    left: f64,
    at: Instant,
}

impl Limit {
    pub(super) fn new(now: Instant) -> Self {
        let full = Place {
            left: BURST.into(),
            at: now,
        };
        Self {
            places: vec![full; PLACES],
            hasher: RandomState::new(),
        }
    }

    /// Whether an address gets a full answer.
    pub(super) fn take(&mut self, address: IpAddr, now: Instant) -> bool {
        let hash = self.hasher.hash_one(network(address));
        let place = usize::try_from(hash % PLACES as u64).unwrap_or_default();
        let place = &mut self.places[place];
        let passed = now.saturating_duration_since(place.at).as_secs_f64();
        place.at = now;
        place.left = (place.left + passed * f64::from(PER_SECOND)).min(BURST.into());
        let has_room = place.left >= 1.0;
        if has_room {
            place.left -= 1.0;
        }
        has_room
    }
}

fn network(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => (address.to_bits() >> 8).into(),
        IpAddr::V6(address) => address.to_bits() >> 72 << 72,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use synod_runtime::clock;

    #[test]
    fn a_network_that_asks_too_much_waits_and_others_do_not() {
        let now = clock::now();
        let mut limit = Limit::new(now);
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut take = |text, count: u32, now| {
            (0..count)
                .filter(|_| limit.take(address(text), now))
                .count()
        };
        assert_eq!(take("10.0.0.1", BURST + 10, now), 2_000);
        assert_eq!(take("10.0.0.2", 10, now), 0, "of the same network");
        assert_eq!(take("::ffff:10.0.0.3", 10, now), 0);
        assert_eq!(take("10.0.1.1", 10, now), 10);
        assert_eq!(take("2001:db8::1", BURST, now), 2_000);
        assert_eq!(take("2001:db8:0:00ff::1", 10, now), 0);
        let later = now + Duration::from_millis(100);
        assert_eq!(take("10.0.0.1", 1_000, later), 100);
        assert_eq!(
            take("10.0.0.1", 3_000, later + Duration::from_secs(60)),
            2_000
        );
    }
}
