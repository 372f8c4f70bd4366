//! Who has sent a request.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::Guard;
use super::access::{Access, Scope};
use super::limits::Place;
use super::token::Token;
use crate::job::JobId;
use crate::server::error::ApiError;

/// Who has sent a request, as far as it has said so.
#[derive(Debug)]
pub(in crate::server) struct Visitor {
    guard: Arc<Guard>,
    /// Of the client, not of its proxy.
    pub(in crate::server) address: IpAddr,
    /// The other end of the connection.
    peer: Peer,
    token: Option<Token>,
}

/// The other end of a connection.
#[derive(Debug, Clone)]
pub(in crate::server) struct Peer {
    /// Its address.
    pub(in crate::server) address: IpAddr,
    /// Its place among the connections.
    pub(in crate::server) place: Place,
    /// Of one that is not served: its place among those that are told why.
    pub(in crate::server) _refusal: Option<Arc<OwnedSemaphorePermit>>,
}

impl Visitor {
    pub(super) fn new(
        guard: Arc<Guard>,
        address: IpAddr,
        peer: Peer,
        token: Option<Token>,
    ) -> Self {
        Self {
            guard,
            address,
            peer,
            token,
        }
    }

    /// What the visitor may do, if that is enough: `job` is the one that is meant, `None` where it may
    /// be any job.
    pub(in crate::server) fn may(
        &self,
        scope: Scope,
        job: Option<&JobId>,
    ) -> Result<Access, ApiError> {
        let access = self.enter(scope)?;
        access.check(scope, job)?;
        Ok(access)
    }

    /// What the visitor may do, if that has the scope, for some jobs at least.
    pub(in crate::server) fn enter(&self, scope: Scope) -> Result<Access, ApiError> {
        let access = self.guard.authenticate(self.token.as_ref())?;
        if let Some(sub) = access.sub() {
            self.guard.limits.request(self.address, Some(sub))?;
        }
        access.check_scope(scope)?;
        Ok(access)
    }

    /// As [`Visitor::may`], for a socket or a stream, which takes a place while it is open.
    pub(in crate::server) fn may_stay(
        &self,
        scope: Scope,
        job: Option<&JobId>,
    ) -> Result<Access, ApiError> {
        let mut access = self.may(scope, job)?;
        let limits = &self.guard.limits;
        if let Some(sub) = access.sub() {
            limits.attempt(self.address, Some(sub))?;
        }
        // Who comes without a proxy was counted when it connected.
        let mut own = None;
        if self.address != self.peer.address {
            limits.attempt(self.address, None)?;
            own = Some(limits.share(self.address)?);
        }
        access.keep(self.peer.place.clone(), own);
        Ok(access)
    }
}
