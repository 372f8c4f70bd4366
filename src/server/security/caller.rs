//! Who sent a request, and what it may do.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::limits::ClientLimits;
use crate::auth::{Permissions, Scope, Token, Verifier};
use crate::job::JobId;
use crate::server::error::ApiError;
use crate::session::{Admission, ConnectionPermit};

/// The sender of a request. Its token is verified only when a route asks for permissions.
#[derive(Debug)]
pub(in crate::server) struct Caller {
    verifier: Arc<Verifier>,
    limits: Arc<ClientLimits>,
    /// The address of the client, not of its proxy.
    pub(in crate::server) address: IpAddr,
    peer: Peer,
    token: Option<Token>,
}

/// The other end of a connection: a client, or a proxy.
#[derive(Debug, Clone)]
pub(in crate::server) struct Peer {
    pub(in crate::server) address: IpAddr,
    permit: ConnectionPermit,
    /// Limits how many connections without a permit are answered at a time.
    _rejection: Option<Arc<OwnedSemaphorePermit>>,
}

impl Peer {
    pub(in crate::server) fn new(address: IpAddr, permit: ConnectionPermit) -> Self {
        Self {
            address,
            permit,
            _rejection: None,
        }
    }

    /// A peer over a limit, which gets only an answer that says so.
    pub(in crate::server) fn rejected(
        address: IpAddr,
        permit: ConnectionPermit,
        rejection: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            address,
            permit,
            _rejection: Some(Arc::new(rejection)),
        }
    }
}

impl Caller {
    pub(super) fn new(
        verifier: Arc<Verifier>,
        limits: Arc<ClientLimits>,
        address: IpAddr,
        peer: Peer,
        token: Option<Token>,
    ) -> Self {
        Self {
            verifier,
            limits,
            address,
            peer,
            token,
        }
    }

    /// The caller's permissions, if they include the scope for this job; `None` for an action on any job.
    pub(in crate::server) fn authorize(
        &self,
        scope: Scope,
        job: Option<&JobId>,
    ) -> Result<Permissions, ApiError> {
        let permissions = self.authorize_scope(scope)?;
        permissions.check(scope, job)?;
        Ok(permissions)
    }

    /// The caller's permissions, if they include the scope for at least some jobs.
    pub(in crate::server) fn authorize_scope(&self, scope: Scope) -> Result<Permissions, ApiError> {
        let permissions = self.verifier.verify(self.token.as_ref())?;
        if let Some(sub) = permissions.sub() {
            self.limits.count_request(self.address, Some(sub))?;
        }
        permissions.check_scope(scope)?;
        Ok(permissions)
    }

    /// As [`Caller::authorize`], for a socket or an event stream, which holds a permit while it is open.
    pub(in crate::server) fn authorize_session(
        &self,
        scope: Scope,
        job: Option<&JobId>,
    ) -> Result<Admission, ApiError> {
        let permissions = self.authorize(scope, job)?;
        if let Some(sub) = permissions.sub() {
            self.limits.count_attempt(self.address, Some(sub))?;
        }
        // A client without a proxy was counted when it connected.
        let mut own = None;
        if self.address != self.peer.address {
            self.limits.count_attempt(self.address, None)?;
            own = Some(self.limits.acquire_shared(self.address)?);
        }
        Ok(Admission {
            permissions,
            _permits: [Some(self.peer.permit.clone()), own],
        })
    }
}
