//! Who has sent a request.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::Security;
use crate::auth::{Permissions, Scope, Token};
use crate::job::JobId;
use crate::server::error::ApiError;
use crate::session::{Admission, ConnectionPermit};

/// Who has sent a request, as far as it has said so.
#[derive(Debug)]
pub(in crate::server) struct Caller {
    security: Arc<Security>,
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
    /// Its permit among the open connections.
    pub(in crate::server) permit: ConnectionPermit,
    /// Of one that is not served: its place among those that are told why.
    pub(in crate::server) _refusal: Option<Arc<OwnedSemaphorePermit>>,
}

impl Caller {
    pub(super) fn new(
        security: Arc<Security>,
        address: IpAddr,
        peer: Peer,
        token: Option<Token>,
    ) -> Self {
        Self {
            security,
            address,
            peer,
            token,
        }
    }

    /// What the caller may do, if that is enough: `job` is the one that is meant, `None` if it may be
    /// any job.
    pub(in crate::server) fn authorize(
        &self,
        scope: Scope,
        job: Option<&JobId>,
    ) -> Result<Permissions, ApiError> {
        let permissions = self.authorize_scope(scope)?;
        permissions.check(scope, job)?;
        Ok(permissions)
    }

    /// What the caller may do, if that has the scope, for some jobs at least.
    pub(in crate::server) fn authorize_scope(&self, scope: Scope) -> Result<Permissions, ApiError> {
        let permissions = self.security.verifier.verify(self.token.as_ref())?;
        if let Some(sub) = permissions.sub() {
            self.security.limits.request(self.address, Some(sub))?;
        }
        permissions.check_scope(scope)?;
        Ok(permissions)
    }

    /// As [`Caller::authorize`], for a socket or a stream, which holds a permit while it is open.
    pub(in crate::server) fn authorize_session(
        &self,
        scope: Scope,
        job: Option<&JobId>,
    ) -> Result<Admission, ApiError> {
        let permissions = self.authorize(scope, job)?;
        let limits = &self.security.limits;
        if let Some(sub) = permissions.sub() {
            limits.attempt(self.address, Some(sub))?;
        }
        // A client without a proxy was counted when it connected.
        let mut own = None;
        if self.address != self.peer.address {
            limits.attempt(self.address, None)?;
            own = Some(limits.share(self.address)?);
        }
        Ok(Admission {
            permissions,
            _permits: [Some(self.peer.permit.clone()), own],
        })
    }
}
