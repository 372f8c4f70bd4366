use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

/// How many clients a rate limiter remembers before it forgets idle ones at every request.
const MAX_REMEMBERED: usize = 1 << 16;

/// What requests are counted by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum RateKey {
    /// An IPv4 address, or an IPv6 /64 network: one client can use all addresses of its network.
    Address(IpAddr),
    /// The `sub` of a token.
    Subject(Arc<str>),
}

/// A token bucket per client, by the generic cell rate algorithm. Cheap to clone; clones share the buckets.
#[derive(Debug, Clone)]
pub(crate) struct Rate(Option<Arc<Buckets>>);

#[derive(Debug)]
struct Buckets {
    limiter: DefaultKeyedRateLimiter<RateKey>,
    clock: DefaultClock,
}

impl Rate {
    /// 0 for no limit. An idle client may use the quota of one second at once.
    pub(crate) fn new(per_second: u32) -> Self {
        let quota = NonZeroU32::new(per_second).map(Quota::per_second);
        Self(quota.map(|quota| {
            Arc::new(Buckets {
                limiter: RateLimiter::hashmap(quota),
                clock: DefaultClock::default(),
            })
        }))
    }

    /// Counts something that a client asks for, by its `sub` if it has one, else by its address. Fails with the time
    /// after which the next is possible.
    pub(crate) fn count(&self, address: IpAddr, sub: Option<&Arc<str>>) -> Result<(), Duration> {
        let Some(buckets) = &self.0 else {
            return Ok(());
        };
        if buckets.limiter.len() > MAX_REMEMBERED {
            buckets.limiter.retain_recent();
        }
        let key = match sub {
            Some(sub) => RateKey::Subject(sub.clone()),
            None => RateKey::Address(network(address)),
        };
        let counted = buckets.limiter.check_key(&key);
        counted.map_err(|refused| refused.wait_time_from(buckets.clock.now()))
    }

    /// Forgets the clients whose whole quota is available again.
    pub(crate) fn forget_idle(&self) {
        if let Some(buckets) = &self.0 {
            buckets.limiter.retain_recent();
        }
    }
}

/// What an address is counted as.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    /// The first 64 bits of an IPv6 address.
    const NETWORK: u128 = !(u64::MAX as u128);
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_ipv6_network_is_one_client_and_ipv4_is_the_same_in_both_notations() {
        for (one, other, is_same) in [
            ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
        ] {
            let (found, expected) = (network(address(one)), network(address(other)));
            assert_eq!(found == expected, is_same, "{one} and {other}");
        }
    }

    #[test]
    fn idle_clients_are_forgotten() {
        // The quota is whole again after a microsecond.
        let rate = Rate::new(1_000_000);
        for number in 0..200_000_u32 {
            let address = std::net::Ipv4Addr::from_bits((10 << 24) + number);
            let _ = rate.count(address.into(), None);
        }
        let remembered = rate.0.unwrap().limiter.len();
        assert!(remembered <= MAX_REMEMBERED + 1, "{remembered}");
    }
}
