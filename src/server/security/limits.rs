//! Rate limits, and limits of open connections.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::refusals::RefusalKind;
use crate::config::LimitConfig;
use crate::server::error::ApiError;
use crate::session::{ConnectionPermit, NoPermit, Permits};

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

/// The limits of each client, and what counts against them.
#[derive(Debug)]
pub(in crate::server) struct ClientLimits {
    limits_loopback: bool,
    requests: Option<Rate>,
    attempts: Option<Rate>,
    permits: Permits,
}

/// A token bucket per client, by the generic cell rate algorithm.
#[derive(Debug)]
struct Rate {
    limiter: DefaultKeyedRateLimiter<RateKey>,
    clock: DefaultClock,
}

/// Why a connection or a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum LimitExceeded {
    /// The rate of requests is exceeded; the next one is possible after this time.
    Requests(Duration),
    /// The rate of connections is exceeded; the next one is possible after this time.
    Attempts(Duration),
    /// Too many connections are open, in all or from this address.
    Connections(NoPermit),
}

impl LimitExceeded {
    /// What it counts as in metrics and in the log.
    pub(super) fn kind(self) -> RefusalKind {
        match self {
            Self::Requests(_) => RefusalKind::RequestRate,
            Self::Attempts(_) => RefusalKind::ConnectionRate,
            Self::Connections(NoPermit::Address) => RefusalKind::AddressConnections,
            Self::Connections(NoPermit::Total) => RefusalKind::Connections,
        }
    }
}

impl From<NoPermit> for LimitExceeded {
    fn from(reason: NoPermit) -> Self {
        Self::Connections(reason)
    }
}

impl From<LimitExceeded> for ApiError {
    fn from(exceeded: LimitExceeded) -> Self {
        match exceeded {
            LimitExceeded::Requests(wait) | LimitExceeded::Attempts(wait) => {
                Self::too_many_requests(wait)
            }
            LimitExceeded::Connections(NoPermit::Total) => {
                Self::too_many_connections("too many open connections; try again in a moment")
            }
            LimitExceeded::Connections(NoPermit::Address) => Self::too_many_connections(
                "too many connections from this address; close some, or share one for several jobs",
            ),
        }
    }
}

impl ClientLimits {
    pub(super) fn new(config: LimitConfig) -> Self {
        Self {
            limits_loopback: config.loopback,
            requests: Rate::new(config.requests),
            attempts: Rate::new(config.attempts),
            permits: Permits::new(config.connections, config.connections_per_address),
        }
    }

    /// Counts a request of an address, or of a `sub` if there is one.
    pub(super) fn count_request(
        &self,
        address: IpAddr,
        sub: Option<&Arc<str>>,
    ) -> Result<(), LimitExceeded> {
        self.count(self.requests.as_ref(), address, sub)
            .map_err(LimitExceeded::Requests)
    }

    /// Counts an attempt to connect, or to open a socket.
    pub(super) fn count_attempt(
        &self,
        address: IpAddr,
        sub: Option<&Arc<str>>,
    ) -> Result<(), LimitExceeded> {
        self.count(self.attempts.as_ref(), address, sub)
            .map_err(LimitExceeded::Attempts)
    }

    fn count(
        &self,
        rate: Option<&Rate>,
        address: IpAddr,
        sub: Option<&Arc<str>>,
    ) -> Result<(), Duration> {
        let Some(rate) = rate.filter(|_| self.is_limited(address)) else {
            return Ok(());
        };
        rate.count(match sub {
            Some(sub) => RateKey::Subject(sub.clone()),
            None => RateKey::Address(network(address)),
        })
    }

    /// A permit for a connection. `address` is `None` for a trusted proxy, which serves several clients.
    pub(super) fn acquire(
        &self,
        address: Option<IpAddr>,
    ) -> Result<ConnectionPermit, LimitExceeded> {
        let counted = address.and_then(|address| self.counted(address));
        Ok(self.permits.acquire(counted)?)
    }

    /// A permit for one client of a proxy whose connection has a permit itself.
    pub(super) fn acquire_shared(
        &self,
        address: IpAddr,
    ) -> Result<ConnectionPermit, LimitExceeded> {
        Ok(self.permits.acquire_shared(self.counted(address))?)
    }

    /// Stands for the permit of a connection that is over a limit and only gets an answer.
    pub(super) fn no_permit(&self) -> ConnectionPermit {
        self.permits.none()
    }

    /// What an address is counted as; `None` if it is not limited.
    fn counted(&self, address: IpAddr) -> Option<IpAddr> {
        self.is_limited(address).then(|| network(address))
    }

    fn is_limited(&self, address: IpAddr) -> bool {
        self.limits_loopback || !address.is_loopback()
    }

    /// Forgets the rates of clients whose whole quota is available again.
    pub(super) fn forget_idle(&self) {
        for rate in self.requests.iter().chain(&self.attempts) {
            rate.limiter.retain_recent();
        }
    }
}

impl Rate {
    /// `None` for no limit. An idle client may use the quota of one second at once.
    fn new(per_second: u32) -> Option<Self> {
        let quota = Quota::per_second(NonZeroU32::new(per_second)?);
        Some(Self {
            limiter: RateLimiter::hashmap(quota),
            clock: DefaultClock::default(),
        })
    }

    /// Fails with the time after which the next request is possible.
    fn count(&self, key: RateKey) -> Result<(), Duration> {
        if self.limiter.len() > MAX_REMEMBERED {
            self.limiter.retain_recent();
        }
        let counted = self.limiter.check_key(&key);
        counted.map_err(|refused| refused.wait_time_from(self.clock.now()))
    }
}

/// What an address is counted as.
pub(super) fn network(address: IpAddr) -> IpAddr {
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
    fn loopback_is_not_limited_unless_configured() {
        for loopback in [false, true] {
            let limits = ClientLimits::new(LimitConfig {
                requests: 1,
                loopback,
                ..LimitConfig::default()
            });
            let own = address("::1");
            assert!(limits.count_request(own, None).is_ok());
            assert_eq!(limits.count_request(own, None).is_err(), loopback);
        }
    }

    #[test]
    fn idle_clients_are_forgotten() {
        let limits = ClientLimits::new(LimitConfig {
            // The quota is whole again after a microsecond.
            requests: 1_000_000,
            ..LimitConfig::default()
        });
        for number in 0..200_000_u32 {
            let address = std::net::Ipv4Addr::from_bits((10 << 24) + number);
            let _ = limits.count_request(address.into(), None);
        }
        let remembered = limits.requests.unwrap().limiter.len();
        assert!(remembered <= MAX_REMEMBERED + 1, "{remembered}");
    }
}
