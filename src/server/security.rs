//! Who sends a request, from which page and address, and how often.

mod bearer;
mod caller;
mod client_ip;
mod limits;
mod origin;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hyper::{Request, Response};

use super::error::ApiError;
use super::response::Body;
use crate::auth::Verifier;
use crate::config::ServerConfig;
use crate::session::ConnectionPermit;
use client_ip::TrustedProxies;
use limits::ClientLimits;
use origin::OriginPolicy;

pub(super) use bearer::{SCHEME, is_offered};
pub(super) use caller::{Caller, Peer};
pub(super) use limits::LimitExceeded;
pub(super) use origin::CorsHeaders;

/// Decides which connections and requests are served. One for all connections.
#[derive(Debug)]
pub(super) struct Security {
    verifier: Arc<Verifier>,
    origins: OriginPolicy,
    proxies: TrustedProxies,
    limits: Arc<ClientLimits>,
}

impl Security {
    /// `listen` is the address that the relay listens on.
    pub(super) fn new(config: &ServerConfig, verifier: Arc<Verifier>, listen: SocketAddr) -> Self {
        let access = &config.access;
        Self {
            verifier,
            origins: OriginPolicy::new(access.origins.clone(), listen),
            proxies: TrustedProxies::new(access.trusted_proxies.clone()),
            limits: Arc::new(ClientLimits::new(config.limits)),
        }
    }

    /// A permit for a connection that has just been accepted. The clients of a trusted proxy are counted
    /// when they send requests.
    pub(super) fn connect(&self, peer: IpAddr) -> Result<ConnectionPermit, LimitExceeded> {
        if self.proxies.is_trusted(peer) {
            return self.limits.acquire(None);
        }
        self.limits.count_attempt(peer, None)?;
        self.limits.acquire(Some(peer))
    }

    /// Stands for the permit of a connection that is over a limit and only gets an answer.
    pub(super) fn no_permit(&self) -> ConnectionPermit {
        self.limits.no_permit()
    }

    /// Checks a request before its route is looked up: rate, host, and origin.
    pub(super) fn admit<B>(
        &self,
        peer: &Peer,
        request: &Request<B>,
        opens_socket: bool,
    ) -> Result<Caller, ApiError> {
        let address = self.proxies.client_ip(peer.address, request.headers());
        self.limits.count_request(address, None)?;
        self.origins.check_host(request)?;
        self.origins.check_origin(request, opens_socket)?;
        Ok(Caller::new(
            self.verifier.clone(),
            self.limits.clone(),
            address,
            peer.clone(),
            bearer::token(request),
        ))
    }

    /// The response to a CORS preflight; `None` if the request is not one.
    pub(super) fn preflight<B>(&self, request: &Request<B>) -> Option<Response<Body>> {
        self.origins.preflight(request)
    }

    /// The CORS headers of the response to this request.
    pub(super) fn cors_headers<B>(&self, request: &Request<B>) -> CorsHeaders {
        self.origins.cors_headers(request)
    }

    /// Forgets the rates of clients that have sent nothing for a while.
    pub(super) fn forget_idle(&self) {
        self.limits.forget_idle();
    }
}
