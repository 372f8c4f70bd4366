//! How often clients may come, and how many connections they may open.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::config::LimitConfig;
use crate::server::error::ApiError;
use crate::session::{ConnectionPermit, NoPermit, Permits};

/// How many clients a limiter remembers before it looks for those that it can forget.
const MANY_CLIENTS: usize = 1 << 16;

/// Who is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Client {
    /// An IPv4 address, or a network of IPv6: one subscriber's line has at least that many addresses.
    Address(IpAddr),
    /// The `sub` of tokens.
    Subject(Arc<str>),
}

/// The limits, and what counts against them.
#[derive(Debug)]
pub(in crate::server) struct Limits {
    limits_loopback: bool,
    requests: Option<Rate>,
    attempts: Option<Rate>,
    permits: Permits,
}

/// How often clients come.
#[derive(Debug)]
struct Rate {
    limiter: DefaultKeyedRateLimiter<Client>,
    clock: DefaultClock,
}

/// Why a connection or a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum LimitExceeded {
    /// Its client comes too often: how long it is to wait.
    Rate(Duration),
    /// All connections are taken, or all of its address.
    Connections(NoPermit),
}

impl From<NoPermit> for LimitExceeded {
    fn from(reason: NoPermit) -> Self {
        Self::Connections(reason)
    }
}

impl From<LimitExceeded> for ApiError {
    fn from(exceeded: LimitExceeded) -> Self {
        match exceeded {
            LimitExceeded::Rate(wait) => Self::too_many_requests(wait),
            LimitExceeded::Connections(NoPermit::Total) => Self::too_many_connections(
                "the relay has no place for one more connection; try again in a moment",
            ),
            LimitExceeded::Connections(NoPermit::Address) => Self::too_many_connections(
                "too many connections from this address; close some, or share one for several jobs",
            ),
        }
    }
}

impl Limits {
    pub(super) fn new(config: LimitConfig) -> Self {
        Self {
            limits_loopback: config.loopback,
            requests: Rate::new(config.requests),
            attempts: Rate::new(config.attempts),
            permits: Permits::new(config.connections, config.connections_per_address),
        }
    }

    /// Counts a request.
    pub(super) fn request(
        &self,
        address: IpAddr,
        sub: Option<&Arc<str>>,
    ) -> Result<(), LimitExceeded> {
        self.count(self.requests.as_ref(), address, sub)
    }

    /// Counts an attempt to connect, or to open a socket.
    pub(super) fn attempt(
        &self,
        address: IpAddr,
        sub: Option<&Arc<str>>,
    ) -> Result<(), LimitExceeded> {
        self.count(self.attempts.as_ref(), address, sub)
    }

    fn count(
        &self,
        rate: Option<&Rate>,
        address: IpAddr,
        sub: Option<&Arc<str>>,
    ) -> Result<(), LimitExceeded> {
        let Some(rate) = rate.filter(|_| self.is_limited(address)) else {
            return Ok(());
        };
        rate.count(match sub {
            Some(sub) => Client::Subject(sub.clone()),
            None => Client::Address(network(address)),
        })
    }

    /// A permit for a connection. `address` is `None` for one that brings several clients.
    pub(super) fn connect(
        &self,
        address: Option<IpAddr>,
    ) -> Result<ConnectionPermit, LimitExceeded> {
        let counted = address.and_then(|address| self.counted(address));
        Ok(self.permits.acquire(counted)?)
    }

    /// A permit for one of the clients on a connection that has a permit itself.
    pub(super) fn share(&self, address: IpAddr) -> Result<ConnectionPermit, LimitExceeded> {
        Ok(self.permits.acquire_shared(self.counted(address))?)
    }

    /// Stands for the permit of a connection that is only answered that none is left.
    pub(super) fn no_permit(&self) -> ConnectionPermit {
        self.permits.none()
    }

    /// What an address counts as; `None` if it is not limited.
    fn counted(&self, address: IpAddr) -> Option<IpAddr> {
        self.is_limited(address).then(|| network(address))
    }

    fn is_limited(&self, address: IpAddr) -> bool {
        self.limits_loopback || !address.is_loopback()
    }

    /// Forgets clients that came long ago.
    pub(super) fn forget_idle(&self) {
        for rate in self.requests.iter().chain(&self.attempts) {
            rate.limiter.retain_recent();
        }
    }
}

impl Rate {
    /// `None` where there is no limit. A client that was away may do at once what a second allows.
    fn new(per_second: u32) -> Option<Self> {
        let quota = Quota::per_second(NonZeroU32::new(per_second)?);
        Some(Self {
            limiter: RateLimiter::hashmap(quota),
            clock: DefaultClock::default(),
        })
    }

    fn count(&self, client: Client) -> Result<(), LimitExceeded> {
        if self.limiter.len() > MANY_CLIENTS {
            self.limiter.retain_recent();
        }
        let counted = self.limiter.check_key(&client);
        counted.map_err(|refused| LimitExceeded::Rate(refused.wait_time_from(self.clock.now())))
    }
}

/// What an address is counted as.
fn network(address: IpAddr) -> IpAddr {
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
    fn a_network_of_ipv6_is_one_client_and_ipv4_is_the_same_in_both_spellings() {
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
    fn the_relays_own_machine_is_not_limited_unless_asked_for() {
        for loopback in [false, true] {
            let limits = Limits::new(LimitConfig {
                requests: 1,
                loopback,
                ..LimitConfig::default()
            });
            let own = address("::1");
            assert!(limits.request(own, None).is_ok());
            assert_eq!(limits.request(own, None).is_err(), loopback);
        }
    }

    #[test]
    fn clients_that_came_long_ago_are_forgotten() {
        let limits = Limits::new(LimitConfig {
            // A client is as new again after a microsecond.
            requests: 1_000_000,
            ..LimitConfig::default()
        });
        for number in 0..200_000_u32 {
            let address = std::net::Ipv4Addr::from_bits((10 << 24) + number);
            let _ = limits.request(address.into(), None);
        }
        let remembered = limits.requests.unwrap().limiter.len();
        assert!(remembered <= MANY_CLIENTS + 1, "{remembered}");
    }
}
