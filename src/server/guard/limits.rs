//! How much is borne from one client, and from all.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use slotmap::{DefaultKey as Key, SlotMap};

use crate::config::LimitConfig;
use crate::server::error::ApiError;

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
    config: LimitConfig,
    requests: Option<Rate>,
    attempts: Option<Rate>,
    places: Arc<Places>,
}

/// How often clients come.
#[derive(Debug)]
struct Rate {
    limiter: DefaultKeyedRateLimiter<Client>,
    clock: DefaultClock,
}

#[derive(Debug, Default)]
struct Places {
    taken: Mutex<Taken>,
    /// It was told in the log that no place is left.
    is_told: AtomicBool,
}

#[derive(Debug, Default)]
struct Taken {
    total: u32,
    by_address: HashMap<IpAddr, u32>,
    /// All in one piece of memory: what is on its own for the life of a connection keeps the memory of
    /// its handshake from being given back.
    held: SlotMap<Key, Held>,
}

/// A place that is taken.
#[derive(Debug)]
struct Held {
    holders: u32,
    /// Whether it counts in all.
    is_counted: bool,
    address: Option<IpAddr>,
}

/// A connection's place. Clones are the same place, which is given back with the last of them.
#[derive(Debug)]
pub(in crate::server) struct Place {
    places: Arc<Places>,
    /// `None` for one that stands for no place.
    key: Option<Key>,
}

/// Why a connection is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Crowd {
    /// Its client comes too often: how long it is to wait.
    Often(Duration),
    /// All places are taken.
    Full,
    /// All places of its client are taken.
    FullForAddress,
}

impl From<Crowd> for ApiError {
    fn from(crowd: Crowd) -> Self {
        match crowd {
            Crowd::Often(wait) => Self::too_many_requests(wait),
            Crowd::Full => Self::too_many_connections(
                "the relay has no place for one more connection; try again in a moment",
            ),
            Crowd::FullForAddress => Self::too_many_connections(
                "too many connections from this address; close some, or share one for several jobs",
            ),
        }
    }
}

impl Limits {
    pub(super) fn new(config: LimitConfig) -> Self {
        Self {
            config,
            requests: Rate::new(config.requests),
            attempts: Rate::new(config.attempts),
            places: Arc::default(),
        }
    }

    /// Counts a request.
    pub(super) fn request(&self, address: IpAddr, sub: Option<&Arc<str>>) -> Result<(), Crowd> {
        self.count(self.requests.as_ref(), address, sub)
    }

    /// Counts an attempt to connect, or to open a socket.
    pub(super) fn attempt(&self, address: IpAddr, sub: Option<&Arc<str>>) -> Result<(), Crowd> {
        self.count(self.attempts.as_ref(), address, sub)
    }

    fn count(
        &self,
        rate: Option<&Rate>,
        address: IpAddr,
        sub: Option<&Arc<str>>,
    ) -> Result<(), Crowd> {
        let Some(rate) = rate.filter(|_| self.is_limited(address)) else {
            return Ok(());
        };
        rate.count(match sub {
            Some(sub) => Client::Subject(sub.clone()),
            None => Client::Address(network(address)),
        })
    }

    /// Takes a place for a connection. `address` is `None` for one that brings several clients.
    pub(super) fn connect(&self, address: Option<IpAddr>) -> Result<Place, Crowd> {
        self.take(true, address)
    }

    /// Takes a place for one of the clients on a connection that has a place itself.
    pub(super) fn share(&self, address: IpAddr) -> Result<Place, Crowd> {
        self.take(false, Some(address))
    }

    /// What stands for the place of a connection that is only told that there is none.
    pub(super) fn no_place(&self) -> Place {
        Place {
            places: self.places.clone(),
            key: None,
        }
    }

    fn take(&self, is_counted: bool, address: Option<IpAddr>) -> Result<Place, Crowd> {
        let address = address
            .filter(|&address| self.is_limited(address))
            .map(network);
        let mut taken = self.places.taken();
        let is_full = |limit: u32, taken: u32| limit > 0 && taken >= limit;
        if is_counted && is_full(self.config.connections, taken.total) {
            if !self.places.is_told.swap(true, Ordering::Relaxed) {
                let connections = taken.total;
                tracing::warn!(
                    connections,
                    "no place is left, connections are refused (MAX_CONNECTIONS)"
                );
            }
            return Err(Crowd::Full);
        }
        if let Some(address) = address {
            let of_address = taken.by_address.entry(address).or_default();
            if is_full(self.config.connections_per_address, *of_address) {
                return Err(Crowd::FullForAddress);
            }
            *of_address += 1;
        }
        taken.total += u32::from(is_counted);
        let key = taken.held.insert(Held {
            holders: 1,
            is_counted,
            address,
        });
        Ok(Place {
            places: self.places.clone(),
            key: Some(key),
        })
    }

    fn is_limited(&self, address: IpAddr) -> bool {
        self.config.loopback || !address.is_loopback()
    }

    /// Forgets clients that came long ago.
    pub(super) fn tidy(&self) {
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

    fn count(&self, client: Client) -> Result<(), Crowd> {
        if self.limiter.len() > MANY_CLIENTS {
            self.limiter.retain_recent();
        }
        let counted = self.limiter.check_key(&client);
        counted.map_err(|refused| Crowd::Often(refused.wait_time_from(self.clock.now())))
    }
}

impl Places {
    fn taken(&self) -> std::sync::MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clone for Place {
    fn clone(&self) -> Self {
        if let Some(key) = self.key {
            self.places.taken().held[key].holders += 1;
        }
        Self {
            places: self.places.clone(),
            key: self.key,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut taken = self.places.taken();
        let held = &mut taken.held[key];
        held.holders -= 1;
        if held.holders > 0 {
            return;
        }
        let Some(held) = taken.held.remove(key) else {
            return;
        };
        if held.is_counted {
            taken.total -= 1;
            self.places.is_told.store(false, Ordering::Relaxed);
        }
        if let Some(address) = held.address
            && let Some(of_address) = taken.by_address.get_mut(&address)
        {
            *of_address -= 1;
            if *of_address == 0 {
                taken.by_address.remove(&address);
            }
        }
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

    fn limits(config: LimitConfig) -> Limits {
        Limits::new(LimitConfig {
            requests: 0,
            attempts: 0,
            connections: 0,
            connections_per_address: 0,
            ..config
        })
    }

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
    fn places_are_given_back() {
        let mut limits = limits(LimitConfig::default());
        limits.config.connections = 3;
        limits.config.connections_per_address = 2;
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let first = limits.connect(Some(one)).unwrap();
        let second = limits.connect(Some(one)).unwrap();
        assert_eq!(
            limits.connect(Some(one)).unwrap_err(),
            Crowd::FullForAddress
        );
        let third = limits.connect(Some(other)).unwrap();
        assert_eq!(limits.connect(Some(other)).unwrap_err(), Crowd::Full);
        drop((first, second, third));
        assert_eq!(limits.places.taken().total, 0);
        assert!(limits.places.taken().by_address.is_empty());
        assert!(limits.connect(Some(one)).is_ok());
    }

    #[test]
    fn a_proxys_clients_take_no_second_place_in_all() {
        let mut limits = limits(LimitConfig::default());
        limits.config.connections = 1;
        limits.config.connections_per_address = 1;
        let _proxy = limits.connect(None).unwrap();
        let _one = limits.share(address("192.0.2.1")).unwrap();
        let _other = limits.share(address("192.0.2.2")).unwrap();
        assert_eq!(
            limits.share(address("192.0.2.1")).unwrap_err(),
            Crowd::FullForAddress
        );
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
