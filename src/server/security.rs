//! Who asks, from which page and address, and how often.

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
use limits::Limits;
use origin::OriginPolicy;

pub(super) use bearer::{SCHEME, is_offered};
pub(super) use caller::{Caller, Peer};
pub(super) use limits::LimitExceeded;
pub(super) use origin::CorsHeaders;

/// Decides which requests are served. One for all connections.
#[derive(Debug)]
pub(super) struct Security {
    verifier: Arc<Verifier>,
    origins: OriginPolicy,
    proxies: TrustedProxies,
    limits: Limits,
}

impl Security {
    /// `listen` is the address that the relay listens on.
    pub(super) fn new(config: &ServerConfig, verifier: Arc<Verifier>, listen: SocketAddr) -> Self {
        let access = &config.access;
        Self {
            verifier,
            origins: OriginPolicy::new(access.origins.clone(), listen),
            proxies: TrustedProxies::new(access.trusted_proxies.clone()),
            limits: Limits::new(config.limits),
        }
    }

    /// A permit for a connection that has just been accepted. The clients of a trusted proxy are counted
    /// when they send requests.
    pub(super) fn connect(&self, peer: IpAddr) -> Result<ConnectionPermit, LimitExceeded> {
        if self.proxies.is_trusted(peer) {
            return self.limits.connect(None);
        }
        self.limits.attempt(peer, None)?;
        self.limits.connect(Some(peer))
    }

    /// Stands for the permit of a connection that is only answered why it is refused.
    pub(super) fn no_permit(&self) -> ConnectionPermit {
        self.limits.no_permit()
    }

    /// Checks a request before anything is done for it: `is_upgrade` says whether it opens a socket.
    pub(super) fn admit<B>(
        self: &Arc<Self>,
        peer: &Peer,
        request: &Request<B>,
        is_upgrade: bool,
    ) -> Result<Caller, ApiError> {
        let address = self.proxies.client(peer.address, request.headers());
        self.limits.request(address, None)?;
        self.origins.check_host(request)?;
        self.origins.check_origin(request, is_upgrade)?;
        let token = bearer::token(request);
        Ok(Caller::new(self.clone(), address, peer.clone(), token))
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
