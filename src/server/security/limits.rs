//! Rate limits, and limits of open connections.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::refusals::RefusalKind;
use crate::config::LimitConfig;
use crate::server::error::ApiError;
use crate::session::{ConnectionPermit, NoPermit, Permits, Rate, network};

/// The limits of each client, and what counts against them.
#[derive(Debug)]
pub(in crate::server) struct ClientLimits {
    limits_loopback: bool,
    requests: Rate,
    attempts: Rate,
    permits: Permits,
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
    /// `requests` also counts what sockets look for.
    pub(super) fn new(config: LimitConfig, requests: Rate) -> Self {
        Self {
            limits_loopback: config.loopback,
            requests,
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
        self.count(&self.requests, address, sub)
            .map_err(LimitExceeded::Requests)
    }

    /// Counts an attempt to connect, or to open a socket.
    pub(super) fn count_attempt(
        &self,
        address: IpAddr,
        sub: Option<&Arc<str>>,
    ) -> Result<(), LimitExceeded> {
        self.count(&self.attempts, address, sub)
            .map_err(LimitExceeded::Attempts)
    }

    fn count(&self, rate: &Rate, address: IpAddr, sub: Option<&Arc<str>>) -> Result<(), Duration> {
        if !self.is_limited(address) {
            return Ok(());
        }
        rate.count(address, sub)
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
        self.requests.forget_idle();
        self.attempts.forget_idle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_not_limited_unless_configured() {
        for loopback in [false, true] {
            let config = LimitConfig {
                loopback,
                ..LimitConfig::default()
            };
            let limits = ClientLimits::new(config, Rate::new(1));
            let own = "::1".parse().unwrap();
            assert!(limits.count_request(own, None).is_ok());
            assert_eq!(limits.count_request(own, None).is_err(), loopback);
        }
    }
}
