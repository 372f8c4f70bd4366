//! The guard at the door: who may do what, which web pages may ask, and how much is borne.

mod access;
mod keys;
mod limits;
mod pages;
mod proxies;
mod token;
mod visitor;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hyper::{Request, Response};

use super::body::Body;
use super::error::ApiError;
use crate::config::ServerConfig;
use keys::Keys;
use limits::Limits;
use pages::Pages;
use proxies::Proxies;

pub use keys::KeysError;
pub use token::Token;

pub(super) use access::{Access, Scope};
pub(super) use limits::{Crowd, Place};
pub(super) use pages::PageAnswer;
pub(super) use token::{PROTOCOL, is_offered};
pub(super) use visitor::{Peer, Visitor};

/// Keeps strangers out. One for all connections.
#[derive(Debug)]
pub(super) struct Guard {
    keys: Option<Keys>,
    pages: Pages,
    proxies: Proxies,
    limits: Limits,
}

impl Guard {
    /// Reads the keys. `listen` is where the relay listens.
    pub(super) fn new(config: &ServerConfig, listen: SocketAddr) -> Result<Self, KeysError> {
        let access = &config.access;
        Ok(Self {
            keys: Keys::load(access)?,
            pages: Pages::new(access.origins.clone(), listen),
            proxies: Proxies::new(access.trusted_proxies.clone()),
            limits: Limits::new(config.limits),
        })
    }

    /// Takes a place for a connection that has just come. A proxy that is believed brings others, who are
    /// counted when they ask.
    pub(super) fn connect(&self, peer: IpAddr) -> Result<Place, Crowd> {
        if self.proxies.is_trusted(peer) {
            return self.limits.connect(None);
        }
        self.limits.attempt(peer, None)?;
        self.limits.connect(Some(peer))
    }

    /// The place of a connection that has none.
    pub(super) fn no_place(&self) -> Place {
        self.limits.no_place()
    }

    /// Looks at a request before anything is done for it: `opens` says whether it opens a socket.
    pub(super) fn receive<B>(
        self: &Arc<Self>,
        peer: &Peer,
        request: &Request<B>,
        opens: bool,
    ) -> Result<Visitor, ApiError> {
        let address = self.proxies.client(peer.address, request.headers());
        self.limits.request(address, None)?;
        self.pages.check_host(request)?;
        self.pages.check_origin(request, opens)?;
        let token = Token::of(request);
        Ok(Visitor::new(self.clone(), address, peer.clone(), token))
    }

    /// The answer to a browser that asks whether a page may ask; `None` for any other request.
    pub(super) fn preflight<B>(&self, request: &Request<B>) -> Option<Response<Body>> {
        self.pages.preflight(request)
    }

    /// What the web page that asks is told beside its answer.
    pub(super) fn page_answer<B>(&self, request: &Request<B>) -> PageAnswer {
        self.pages.answer(request)
    }

    /// What a token allows, or everything where nobody is asked for one.
    pub(super) fn authenticate(&self, token: Option<&Token>) -> Result<Access, ApiError> {
        let Some(keys) = &self.keys else {
            return Ok(Access::everything());
        };
        let token = token.ok_or_else(ApiError::no_token)?;
        keys.check(token)
            .map(Access::of)
            .map_err(ApiError::bad_token)
    }

    /// Reads the keys again where they have changed, and forgets clients that came long ago. Blocks.
    pub(super) fn refresh(&self) {
        if let Some(keys) = &self.keys {
            keys.refresh();
        }
        self.limits.tidy();
    }
}
