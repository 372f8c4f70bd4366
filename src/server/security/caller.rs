//! Who sent a request, and what it may do.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::limits::{ClientLimits, LimitExceeded};
use super::public_address::PublicAddress;
use super::refusals::{RefusalKind, Refusals};
use crate::auth::{AuthError, Permissions, Scope, SignedLink, Token, Verifier};
use crate::job::JobId;
use crate::server::error::ApiError;
use crate::session::{Admission, ConnectionPermit, network};

/// What callers are checked by. One for all of them.
#[derive(Debug)]
pub(super) struct CallerChecks {
    pub(super) verifier: Arc<Verifier>,
    pub(super) limits: ClientLimits,
    pub(super) refusals: Refusals,
}

/// The sender of a request. Its token is verified only when a route asks for permissions.
#[derive(Debug)]
pub(in crate::server) struct Caller {
    checks: Arc<CallerChecks>,
    /// The address of the client, not of its proxy.
    pub(in crate::server) address: IpAddr,
    /// The address under which the client has reached the relay.
    pub(in crate::server) public_address: PublicAddress,
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

impl CallerChecks {
    /// Counts and logs that a client is over a limit.
    pub(super) fn over_limit(&self, client: IpAddr, exceeded: LimitExceeded) -> ApiError {
        let error = ApiError::from(exceeded);
        match exceeded.kind() {
            // Logged where the permits are counted: once for as long as the relay is full.
            kind @ RefusalKind::Connections => self.refusals.count(kind),
            kind => self.refused(kind, client, &error),
        }
        error
    }

    /// Counts and logs that a client is refused for what it is itself.
    pub(super) fn refused(&self, kind: RefusalKind, client: IpAddr, error: &ApiError) {
        let source = network(client).to_string();
        self.refusals.record(kind, &source, client, error.message());
    }
}

impl Caller {
    pub(super) fn new(
        checks: Arc<CallerChecks>,
        address: IpAddr,
        public_address: PublicAddress,
        peer: Peer,
        token: Option<Token>,
    ) -> Self {
        Self {
            checks,
            address,
            public_address,
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
        let permissions = self.authorize_scopes(&[scope])?;
        self.permitted(permissions.check(scope, job))?;
        Ok(permissions)
    }

    /// The caller's permissions, if they include one of the scopes for at least some jobs.
    pub(in crate::server) fn authorize_scopes(
        &self,
        scopes: &[Scope],
    ) -> Result<Permissions, ApiError> {
        let permissions = self.permitted(self.checks.verifier.verify(self.token.as_ref()))?;
        if let Some(sub) = permissions.sub() {
            let counted = self.checks.limits.count_request(self.address, Some(sub));
            self.within_limit(counted)?;
        }
        let mut checks = scopes.iter().map(|scope| permissions.check_scope(*scope));
        let first = checks.next().unwrap_or(Ok(()));
        if first.is_err() && !checks.any(|check| check.is_ok()) {
            self.permitted(first)?;
        }
        Ok(permissions)
    }

    /// Whether the caller may read a file of a job: by a link, where it has no token, else as it may follow the job.
    pub(in crate::server) fn authorize_file(
        &self,
        job: &JobId,
        number: usize,
        link: Option<&SignedLink>,
    ) -> Result<(), ApiError> {
        match link {
            Some(link) if self.token.is_none() => {
                self.permitted(self.checks.verifier.check_link(job, number, link))
            }
            _ => self.authorize(Scope::Subscribe, Some(job)).map(drop),
        }
    }

    /// Whether the caller may watch the relay as a whole. It is not refused anything if not.
    pub(in crate::server) fn may_monitor(&self) -> bool {
        let permissions = self.checks.verifier.verify(self.token.as_ref());
        permissions.is_ok_and(|permissions| permissions.check(Scope::Monitor, None).is_ok())
    }

    /// As [`Caller::authorize`], for a socket or an event stream, which holds a permit while it is open.
    pub(in crate::server) fn authorize_session(
        &self,
        scope: Scope,
        job: Option<&JobId>,
    ) -> Result<Admission, ApiError> {
        let permissions = self.authorize(scope, job)?;
        self.admit_session(permissions)
    }

    /// As [`Caller::authorize_session`], for all jobs that the caller may follow.
    pub(in crate::server) fn authorize_feed(&self) -> Result<Admission, ApiError> {
        let permissions = self.authorize_scopes(&[Scope::Subscribe])?;
        self.admit_session(permissions)
    }

    fn admit_session(&self, permissions: Permissions) -> Result<Admission, ApiError> {
        let limits = &self.checks.limits;
        if let Some(sub) = permissions.sub() {
            self.within_limit(limits.count_attempt(self.address, Some(sub)))?;
        }
        // A client without a proxy was counted when it connected.
        let mut own = None;
        if self.address != self.peer.address {
            self.within_limit(limits.count_attempt(self.address, None))?;
            own = Some(self.within_limit(limits.acquire_shared(self.address))?);
        }
        Ok(Admission {
            permissions,
            _permits: [Some(self.peer.permit.clone()), own],
        })
    }

    /// Records that a proxy has taken the headers of a WebSocket handshake out.
    pub(in crate::server) fn handshake_broken(&self, error: &ApiError) {
        let peer = self.peer.address;
        self.checks.refused(RefusalKind::Handshake, peer, error);
    }

    fn within_limit<T>(&self, result: Result<T, LimitExceeded>) -> Result<T, ApiError> {
        result.map_err(|exceeded| self.checks.over_limit(self.address, exceeded))
    }

    fn permitted<T>(&self, result: Result<T, AuthError>) -> Result<T, ApiError> {
        result.map_err(|error| {
            let kind = match error {
                AuthError::Forbidden(_) => RefusalKind::Scope,
                AuthError::MissingToken
                | AuthError::InvalidToken(_)
                | AuthError::Expired
                | AuthError::BadLink
                | AuthError::LinkExpired => RefusalKind::Token,
            };
            let error = ApiError::from(error);
            self.checks.refused(kind, self.address, &error);
            error
        })
    }
}
