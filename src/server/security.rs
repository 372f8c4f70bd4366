//! Who sends a request, from which page and address, and how often.

mod bearer;
mod caller;
mod forwarded;
mod limits;
mod origin;
mod public_address;
mod refusals;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hyper::header::HeaderValue;
use hyper::{Request, Response, header};
use prometheus_client::registry::Registry;

use super::error::ApiError;
use super::response::Body;
use crate::auth::Verifier;
use crate::config::ServerConfig;
use crate::session::{ConnectionPermit, Rate};
use caller::CallerChecks;
use forwarded::TrustedProxies;
use limits::ClientLimits;
use origin::OriginPolicy;
use public_address::AddressFinder;
use refusals::{RefusalKind, Refusals};

pub(super) use bearer::{API_KEY, SCHEME, is_offered};
pub(super) use caller::{Caller, Peer};
pub(super) use limits::LimitExceeded;
pub(super) use origin::CorsHeaders;
pub(super) use public_address::PublicAddress;

/// Decides which connections and requests are served. One for all connections.
#[derive(Debug)]
pub(super) struct Security {
    checks: Arc<CallerChecks>,
    origins: OriginPolicy,
    proxies: TrustedProxies,
    addresses: AddressFinder,
    /// Whether a token may come as the password of HTTP basic.
    takes_basic: bool,
}

impl Security {
    /// `listen` is the address that the relay listens on.
    pub(super) fn new(
        config: &ServerConfig,
        verifier: Arc<Verifier>,
        requests: Rate,
        listen: SocketAddr,
    ) -> Self {
        let access = &config.access;
        let (public_url, has_tls) = (access.public_url.as_ref(), config.tls.is_some());
        Self {
            checks: Arc::new(CallerChecks {
                verifier,
                limits: ClientLimits::new(config.limits, requests),
                refusals: Refusals::default(),
            }),
            origins: OriginPolicy::new(access.origins.clone(), listen, access.keys.is_some()),
            proxies: TrustedProxies::new(access.trusted_proxies.clone()),
            addresses: AddressFinder::new(public_url, has_tls, listen.to_string()),
            takes_basic: false,
        }
    }

    /// The same for the listener of ComfyUI's API at `listen`: what clients ask for there counts for the same limits.
    pub(super) fn for_comfy(&self, config: &ServerConfig, listen: SocketAddr) -> Self {
        let (access, has_tls) = (&config.access, config.tls.is_some());
        Self {
            checks: self.checks.clone(),
            origins: OriginPolicy::new(access.origins.clone(), listen, access.keys.is_some())
                .for_comfy(),
            proxies: TrustedProxies::new(access.trusted_proxies.clone()),
            // The public URL is that of the relay's own API.
            addresses: AddressFinder::new(None, has_tls, listen.to_string()),
            takes_basic: true,
        }
    }

    /// A permit for a connection that has just been accepted. The clients of a trusted proxy are counted
    /// when they send requests.
    pub(super) fn connect(&self, peer: IpAddr) -> Result<ConnectionPermit, LimitExceeded> {
        let limits = &self.checks.limits;
        let permit = if self.proxies.is_trusted(peer) {
            limits.acquire(None)
        } else {
            let counted = limits.count_attempt(peer, None);
            counted.and_then(|()| limits.acquire(Some(peer)))
        };
        permit.inspect_err(|&exceeded| {
            self.checks.over_limit(peer, exceeded);
        })
    }

    /// Stands for the permit of a connection that is over a limit and only gets an answer.
    pub(super) fn no_permit(&self) -> ConnectionPermit {
        self.checks.limits.no_permit()
    }

    /// The address under which the sender of a request has reached the relay.
    pub(super) fn public_address<B>(&self, peer: &Peer, request: &Request<B>) -> PublicAddress {
        let headers = request.headers();
        self.addresses.find(&self.proxies, peer.address, headers)
    }

    /// The address of the sender of a request, not of its proxy.
    pub(super) fn client_ip<B>(&self, peer: &Peer, request: &Request<B>) -> IpAddr {
        self.proxies.client_ip(peer.address, request.headers())
    }

    /// Checks a request before its route is looked up: rate, host, and origin.
    pub(super) fn admit<B>(
        &self,
        peer: &Peer,
        request: &Request<B>,
        public_address: PublicAddress,
        opens_socket: bool,
    ) -> Result<Caller, ApiError> {
        let client = self.client_ip(peer, request);
        if let Err(exceeded) = self.checks.limits.count_request(client, None) {
            return Err(self.checks.over_limit(client, exceeded));
        }
        let record = |kind, name, error: &ApiError| {
            self.record_refusal(kind, request.headers().get(name), client, error);
        };
        self.origins
            .check_host(request, self.addresses.configured())
            .inspect_err(|error| record(RefusalKind::Host, header::HOST, error))?;
        self.origins
            .check_origin(request, &public_address, opens_socket)
            .inspect_err(|error| record(RefusalKind::Origin, header::ORIGIN, error))?;
        Ok(Caller::new(
            self.checks.clone(),
            client,
            public_address,
            peer.clone(),
            bearer::token(request, self.takes_basic),
        ))
    }

    /// Refuses a request that a page of another site has made a browser send, whatever its method.
    pub(super) fn check_site<B>(
        &self,
        request: &Request<B>,
        caller: &Caller,
    ) -> Result<(), ApiError> {
        let checked = self.origins.check_site(request, &caller.public_address);
        checked.inspect_err(|error| {
            let origin = request.headers().get(header::ORIGIN);
            self.record_refusal(RefusalKind::Origin, origin, caller.address, error);
        })
    }

    /// Counts and logs that a request is refused for what a header says.
    fn record_refusal(
        &self,
        kind: RefusalKind,
        source: Option<&HeaderValue>,
        client: IpAddr,
        error: &ApiError,
    ) {
        let source = source.map_or_else(Default::default, |it| {
            String::from_utf8_lossy(it.as_bytes())
        });
        let refusals = &self.checks.refusals;
        refusals.record(kind, &source, client, error.message());
    }

    /// The response to a CORS preflight; `None` if the request is not one.
    pub(super) fn preflight<B>(&self, request: &Request<B>) -> Option<Response<Body>> {
        self.origins.preflight(request)
    }

    /// The CORS headers of the response to this request.
    pub(super) fn cors_headers<B>(
        &self,
        request: &Request<B>,
        public_address: &PublicAddress,
    ) -> CorsHeaders {
        self.origins.cors_headers(request, public_address)
    }

    /// Adds the counters of what was refused to a registry.
    pub(super) fn register_metrics(&self, registry: &mut Registry) {
        self.checks.refusals.register(registry);
    }

    /// Forgets the rates of clients that have sent nothing for a while.
    pub(super) fn forget_idle(&self) {
        self.checks.limits.forget_idle();
    }
}
