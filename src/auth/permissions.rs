//! What a caller may do.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::sleep;

use super::claims::Claims;
use super::error::AuthError;
use crate::job::JobId;

/// How long after a change of the system clock a token still expires by the old one, at most.
const CLOCK_CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// One kind of action that a token permits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Follow its jobs.
    Subscribe,
    /// Submit workflows under its job ids.
    Submit,
    /// Follow prompts that other clients have submitted, under its job ids.
    Register,
    /// Report the progress of its jobs.
    Progress,
    /// Cancel its jobs.
    Cancel,
    /// Watch the relay as a whole.
    Monitor,
    /// Pause, drain and resume backends and the queue.
    Operate,
    /// Have the events of its jobs sent to webhooks, and see what was sent.
    Webhook,
}

/// The jobs that a token is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum JobGrant {
    All,
    Listed(HashSet<JobId>),
}

/// A set of scopes, one bit for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Scopes(u8);

/// What a caller may do, and until when. Small, because every subscriber holds one.
#[derive(Debug)]
pub(crate) struct Permissions {
    grants: Arc<Grants>,
    /// `None` if no token is required: then it never expires.
    expires_at: Option<Timestamp>,
}

/// What a token permits.
#[derive(Debug)]
struct Grants {
    sub: Option<Arc<str>>,
    jobs: JobGrant,
    scopes: Scopes,
}

impl Scope {
    /// Every scope that there is.
    pub(crate) const ALL: [Self; 8] = [
        Self::Subscribe,
        Self::Submit,
        Self::Register,
        Self::Progress,
        Self::Cancel,
        Self::Monitor,
        Self::Operate,
        Self::Webhook,
    ];

    fn bit(self) -> u8 {
        1 << self as u8
    }

    /// Its name in the claim `scope`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe",
            Self::Submit => "submit",
            Self::Register => "register",
            Self::Progress => "progress",
            Self::Cancel => "cancel",
            Self::Monitor => "monitor",
            Self::Operate => "operate",
            Self::Webhook => "webhook",
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
    /// For a relay without keys, which requires no token.
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

    /// What the claims of a token permit. Unknown scopes and malformed job ids permit nothing.
    pub(super) fn of(claims: Claims) -> Self {
        let jobs = if claims.jobs.iter().any(|job| job == "*") {
            JobGrant::All
        } else {
            let listed = claims.jobs.iter().filter_map(|job| JobId::parse(job).ok());
            JobGrant::Listed(listed.collect())
        };
        let is_named = |scope: &Scope| claims.scope.iter().any(|word| word == scope.as_str());
        let grants = Grants {
            sub: claims.sub.as_deref().map(Arc::from),
            jobs,
            scopes: Scope::ALL.into_iter().filter(is_named).collect(),
        };
        Self {
            grants: Arc::new(grants),
            expires_at: Some(claims.expires_at),
        }
    }

    /// Whom the token was issued to.
    pub(crate) fn sub(&self) -> Option<&Arc<str>> {
        self.grants.sub.as_ref()
    }

    /// When the token expires; `None` if no token is required.
    pub(crate) fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }

    /// The jobs that the token is restricted to; `None` for all.
    pub(crate) fn restricted_to(&self) -> Option<HashSet<JobId>> {
        match &self.grants.jobs {
            JobGrant::All => None,
            JobGrant::Listed(jobs) => Some(jobs.clone()),
        }
    }

    /// Refuses an action that the token has no scope for, whatever its jobs.
    pub(crate) fn check_scope(&self, scope: Scope) -> Result<(), AuthError> {
        if self.grants.scopes.contains(scope) {
            return Ok(());
        }
        Err(AuthError::forbidden(format!(
            "the token does not have the scope {:?}; ask for one that has",
            scope.as_str()
        )))
    }

    /// Refuses an action that the token does not permit on this job; `None` for an action on any job.
    pub(crate) fn check(&self, scope: Scope, job: Option<&JobId>) -> Result<(), AuthError> {
        self.check_scope(scope)?;
        match (&self.grants.jobs, job) {
            (JobGrant::All, _) => Ok(()),
            (JobGrant::Listed(jobs), Some(job)) if jobs.contains(job) => Ok(()),
            (JobGrant::Listed(_), Some(job)) => Err(AuthError::forbidden(format!(
                "the token is not for the job {:?}; ask for one that names it in \"jobs\"",
                job.as_str()
            ))),
            // The relay as a whole is not a job.
            (JobGrant::Listed(_), None) if scope == Scope::Monitor => Ok(()),
            (JobGrant::Listed(_), None) => Err(AuthError::forbidden(
                "the token is for certain jobs only; name one of them as job_id (job_ids of a batch)",
            )),
        }
    }

    /// Refuses to follow a prompt of another client, of which nobody knows whose it is: a token for certain jobs
    /// needs the scope `register` for that, one for all jobs `submit`.
    pub(crate) fn check_register(&self, job: Option<&JobId>) -> Result<(), AuthError> {
        match self.grants.jobs {
            JobGrant::All if self.check_scope(Scope::Register).is_err() => {
                self.check(Scope::Submit, job)
            }
            _ => self.check(Scope::Register, job),
        }
    }

    /// Whether the token is for a job.
    pub(crate) fn is_for(&self, job: &JobId) -> bool {
        match &self.grants.jobs {
            JobGrant::All => true,
            JobGrant::Listed(jobs) => jobs.contains(job),
        }
    }

    /// Takes the place of the permissions before, if it is for the same `sub` and permits at least as much.
    pub(super) fn replace(&mut self, newest: Self) -> Result<(), AuthError> {
        let (newer, older) = (&newest.grants, &self.grants);
        if newer.sub != older.sub {
            return Err(AuthError::forbidden(
                "the new token is for another sub; connect again with it",
            ));
        }
        let has_jobs = match (&newer.jobs, &older.jobs) {
            (JobGrant::All, _) => true,
            (JobGrant::Listed(_), JobGrant::All) => false,
            (JobGrant::Listed(newer), JobGrant::Listed(older)) => newer.is_superset(older),
        };
        if !has_jobs || !newer.scopes.is_superset(older.scopes) {
            return Err(AuthError::forbidden(
                "the new token permits less than the one before; connect again with it",
            ));
        }
        self.grants = newest.grants;
        self.expires_at = newest.expires_at;
        Ok(())
    }

    /// Waits until the token has expired. Does not notice a renewal: call it again after one.
    pub(crate) async fn expired(&self) {
        let Some(expires_at) = self.expires_at else {
            return std::future::pending().await;
        };
        // Not one sleep: the system clock may be set meanwhile.
        while let Ok(left) = Duration::try_from(expires_at.duration_since(Timestamp::now()))
            && !left.is_zero()
        {
            sleep(left.min(CLOCK_CHECK_INTERVAL)).await;
        }
    }
}
