//! Counts what is refused, and logs it once for each kind and source.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// How many sources are remembered. Further ones are counted, and logged at debug level only.
const MAX_SOURCES: usize = 1_000;

/// How many characters of a source are remembered and logged: a client can send any.
const MAX_SOURCE: usize = 100;

/// Why a connection or a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum RefusalKind {
    /// It comes from a page of an origin that is not allowed.
    Origin,
    /// It names a host that is not the relay's.
    Host,
    /// Its token is missing, wrong, or has expired.
    Token,
    /// Its token does not permit this.
    Scope,
    /// The client sends too many requests.
    RequestRate,
    /// The client connects too often.
    ConnectionRate,
    /// Too many connections from this address are open.
    AddressConnections,
    /// Too many connections are open.
    Connections,
    /// A proxy has taken the headers of a WebSocket handshake out.
    Handshake,
}

/// What was refused so far.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    counts: Family<[(&'static str, &'static str); 1], Counter>,
    /// The kinds and sources that were logged.
    logged: Mutex<HashSet<(RefusalKind, String)>>,
}

impl RefusalKind {
    /// The label in metrics and log lines.
    fn as_str(self) -> &'static str {
        match self {
            Self::Origin => "origin",
            Self::Host => "host",
            Self::Token => "token",
            Self::Scope => "scope",
            Self::RequestRate => "request_rate",
            Self::ConnectionRate => "connection_rate",
            Self::AddressConnections => "address_connections",
            Self::Connections => "connections",
            Self::Handshake => "handshake",
        }
    }

    /// What an operator changes to allow it.
    fn remedy(self) -> &'static str {
        match self {
            Self::Origin => "list the origin in ALLOWED_ORIGINS (--allowed-origins)",
            Self::Host => {
                "list the pages that may use the relay in ALLOWED_ORIGINS (--allowed-origins), or name the \
                 relay's own address in PUBLIC_URL (--public-url)"
            }
            Self::Token => {
                "give the client a token that AUTH_JWT_SECRET or AUTH_JWKS_FILE verifies (RELAY_TOKEN, or \
                 Authorization: Bearer)"
            }
            Self::Scope => "give the client a token whose claims scope and jobs allow it",
            Self::RequestRate => "raise RATE_LIMIT_REQUESTS (--rate-limit-requests)",
            Self::ConnectionRate => "raise RATE_LIMIT_CONNECTIONS (--rate-limit-connections)",
            Self::AddressConnections => {
                "raise MAX_CONNECTIONS_PER_ADDRESS (--max-connections-per-address)"
            }
            Self::Connections => "raise MAX_CONNECTIONS (--max-connections)",
            Self::Handshake => "have the proxy pass on Upgrade and Connection: see docs/install.md",
        }
    }
}

impl Refusals {
    /// Records that something was refused. `source` is what the remedy is about: an origin, a host, or the
    /// address of a client. `why` is what the client was answered.
    pub(super) fn record(&self, kind: RefusalKind, source: &str, client: IpAddr, why: &str) {
        self.count(kind);
        let reason = kind.as_str();
        let source: String = source.chars().take(MAX_SOURCE).collect();
        let is_first = {
            let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
            logged.len() < MAX_SOURCES && logged.insert((kind, source.clone()))
        };
        if is_first {
            let remedy = kind.remedy();
            tracing::warn!(reason, source, %client, "refused: {why}. To allow it, {remedy}");
        } else {
            tracing::debug!(reason, source, %client, "refused: {why}");
        }
    }

    /// Counts what is logged elsewhere.
    pub(super) fn count(&self, kind: RefusalKind) {
        self.counts
            .get_or_create(&[("reason", kind.as_str())])
            .inc();
    }

    /// Adds the counters to a registry.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "refused",
            "Connections and requests that were refused",
            self.counts.clone(),
        );
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn memory_is_bounded_whatever_clients_send() {
        let refusals = Refusals::default();
        for number in 0..5_000 {
            let origin = format!("https://{number}.example/{}", "x".repeat(1_000));
            refusals.record(
                RefusalKind::Origin,
                &origin,
                Ipv4Addr::LOCALHOST.into(),
                "no",
            );
        }
        let logged = refusals.logged.lock().unwrap();
        assert_eq!(logged.len(), MAX_SOURCES);
        assert!(logged.iter().all(|(_, source)| source.len() <= MAX_SOURCE));
        let counted = refusals.counts.get_or_create(&[("reason", "origin")]).get();
        assert_eq!(counted, 5_000);
    }
}
