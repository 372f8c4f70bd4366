//! What one client may do.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::sleep;

use super::Verifier;
use super::error::AuthError;
use super::keys::Claims;
use super::token::Token;
use crate::job::JobId;

/// What a token may allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// To follow its jobs.
    Subscribe,
    /// To hand in jobs under its ids.
    Submit,
    /// To report on its jobs.
    Progress,
    /// To call its jobs off.
    Cancel,
    /// To see how the relay as a whole does.
    Monitor,
}

/// The jobs of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
enum JobGrant {
    All,
    Listed(HashSet<JobId>),
}

/// What a token allows, one bit for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Scopes(u8);

/// What one client may do, and until when. Small, because every subscriber has one.
#[derive(Debug)]
pub(crate) struct Permissions {
    grants: Arc<Grants>,
    /// `None` for ever: nobody is asked for a token.
    expires_at: Option<Timestamp>,
}

/// What a token allows.
#[derive(Debug)]
struct Grants {
    sub: Option<Arc<str>>,
    jobs: JobGrant,
    scopes: Scopes,
}

impl Scope {
    const ALL: [Self; 5] = [
        Self::Subscribe,
        Self::Submit,
        Self::Progress,
        Self::Cancel,
        Self::Monitor,
    ];

    fn bit(self) -> u8 {
        1 << self as u8
    }

    /// The word in tokens.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe",
            Self::Submit => "submit",
            Self::Progress => "progress",
            Self::Cancel => "cancel",
            Self::Monitor => "monitor",
        }
    }
}

impl Scopes {
    fn contains(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    fn is_superset(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
    }
}

impl Permissions {
    /// Where nobody is asked for a token.
    pub(crate) fn everything() -> Self {
        static EVERYTHING: LazyLock<Arc<Grants>> = LazyLock::new(|| {
            Arc::new(Grants {
                sub: None,
                jobs: JobGrant::All,
                scopes: Scope::ALL.into_iter().collect(),
            })
        });
        Self {
            grants: EVERYTHING.clone(),
            expires_at: None,
        }
    }

    /// What the claims of a token allow. Words and ids that are unknown here allow nothing.
    pub(super) fn of(claims: Claims) -> Self {
        let jobs = match claims.jobs.iter().any(|job| job == "*") {
            true => JobGrant::All,
            false => {
                let listed = claims.jobs.iter().filter_map(|job| JobId::parse(job).ok());
                JobGrant::Listed(listed.collect())
            }
        };
        let is_asked = |scope: &Scope| claims.scope.iter().any(|word| word == scope.as_str());
        let grants = Grants {
            sub: claims.sub.as_deref().map(Arc::from),
            jobs,
            scopes: Scope::ALL.into_iter().filter(is_asked).collect(),
        };
        Self {
            grants: Arc::new(grants),
            expires_at: Some(claims.expires_at),
        }
    }

    /// Whose token it is.
    pub(crate) fn sub(&self) -> Option<&Arc<str>> {
        self.grants.sub.as_ref()
    }

    /// Until when; `None` for ever.
    pub(crate) fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }

    /// Whether the token has the scope, whatever its jobs.
    pub(crate) fn may(&self, scope: Scope) -> bool {
        self.grants.scopes.contains(scope)
    }

    /// Whether the job is one of the token's, whatever its scopes.
    pub(crate) fn may_see(&self, job: &JobId) -> bool {
        match &self.grants.jobs {
            JobGrant::All => true,
            JobGrant::Listed(jobs) => jobs.contains(job),
        }
    }

    /// The jobs that it is restricted to; `None` for all.
    pub(crate) fn only(&self) -> Option<Vec<JobId>> {
        match &self.grants.jobs {
            JobGrant::All => None,
            JobGrant::Listed(jobs) => Some(jobs.iter().cloned().collect()),
        }
    }

    /// Refuses what the token has no scope for.
    pub(crate) fn check_scope(&self, scope: Scope) -> Result<(), AuthError> {
        match self.may(scope) {
            true => Ok(()),
            false => Err(AuthError::forbidden(format!(
                "the token does not have the scope {:?}; ask for one that has",
                scope.as_str()
            ))),
        }
    }

    /// Refuses what the token does not allow: `job` is the one that is meant, `None` where it may be
    /// any job.
    pub(crate) fn check(&self, scope: Scope, job: Option<&JobId>) -> Result<(), AuthError> {
        self.check_scope(scope)?;
        match job {
            Some(job) if !self.may_see(job) => Err(AuthError::forbidden(format!(
                "the token is not for the job {:?}; ask for one that names it in \"jobs\"",
                job.as_str()
            ))),
            Some(_) => Ok(()),
            // Who looks after the relay as a whole need not be told of jobs.
            None if self.grants.jobs == JobGrant::All || scope == Scope::Monitor => Ok(()),
            None => Err(AuthError::forbidden(
                "the token is for certain jobs only; name one of them as job_id",
            )),
        }
    }

    /// Goes on with a newer token, which must be for the same `sub` and allow all that this one does:
    /// what is open already is not looked at again.
    pub(crate) fn renew(&mut self, verifier: &Verifier, token: &Token) -> Result<(), AuthError> {
        let newest = verifier.verify(Some(token))?;
        let (newer, older) = (&newest.grants, &self.grants);
        if newer.sub != older.sub {
            return Err(AuthError::forbidden(
                "the new token is for another sub; connect anew with it",
            ));
        }
        let has_jobs = match (&newer.jobs, &older.jobs) {
            (JobGrant::All, _) => true,
            (JobGrant::Listed(_), JobGrant::All) => false,
            (JobGrant::Listed(newer), JobGrant::Listed(older)) => newer.is_superset(older),
        };
        if !has_jobs || !newer.scopes.is_superset(older.scopes) {
            return Err(AuthError::forbidden(
                "the new token allows less than the one before; connect anew with it",
            ));
        }
        self.grants = newest.grants;
        self.expires_at = newest.expires_at;
        Ok(())
    }

    /// Waits until the token has expired. Made anew after a renewal.
    pub(crate) async fn expired(&self) {
        let Some(expires_at) = self.expires_at else {
            return std::future::pending().await;
        };
        // The clock on the wall may be set meanwhile: it is looked at again.
        while let Ok(left) = Duration::try_from(expires_at.duration_since(Timestamp::now()))
            && !left.is_zero()
        {
            sleep(left.min(MAX_SLEEP)).await;
        }
    }
}

/// How long it may take until a clock that was set is noticed.
const MAX_SLEEP: Duration = Duration::from_secs(60);
