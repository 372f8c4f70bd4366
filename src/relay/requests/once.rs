//! A request that is repeated makes its jobs once.
//!
//! The ids of the jobs are chosen first, and written with the key of the request before anything is made. So a relay that
//! ends in between leaves a key that leads to the jobs, or to the ids under which the next attempt makes them.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::job::{Job, JobId};
use crate::relay::requests::name_lock::{LOOK_PAUSE, MAX_WAIT, NameLock};
use crate::relay::requests::register::Accepted;
use crate::relay::requests::request_locks::RequestLock;
use crate::relay::restore::Known;
use crate::relay::{Relay, RelayError};
use crate::store::{StoreError, StoredRequest};

/// How long keys are kept.
pub(in crate::relay) const KEY_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// What identifies a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestId {
    /// A digest of its Idempotency-Key and of whom that belongs to, if it has one.
    pub key: Option<String>,
    /// A digest of what it asks for; `None` if it cannot be repeated.
    pub digest: Option<String>,
}

/// The jobs that a request makes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::relay) struct MadeJobs {
    pub(in crate::relay) job_ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::relay) group: Option<String>,
}

/// What is to be done for a request.
pub(in crate::relay) enum Begun {
    /// Nothing: its jobs are there.
    Done(MadeJobs),
    /// Its jobs are to be made. Nobody else does so.
    New(Claim),
}

/// A request whose jobs this relay makes.
pub(in crate::relay) struct Claim {
    pub(in crate::relay) made: MadeJobs,
    /// An attempt before it may have left a submission behind.
    pub(in crate::relay) may_be_left: bool,
    key: Option<String>,
    _locks: Vec<RequestLock>,
    name_lock: Option<NameLock>,
}

impl MadeJobs {
    pub(in crate::relay) fn new(ids: &[JobId], group: Option<String>) -> Self {
        Self {
            job_ids: ids.iter().map(JobId::to_string).collect(),
            group,
        }
    }

    /// The ids of the jobs.
    pub(in crate::relay) fn ids(&self) -> Vec<JobId> {
        let ids = self.job_ids.iter();
        ids.filter_map(|id| JobId::parse(id).ok()).collect()
    }

    /// The id of the first job.
    pub(in crate::relay) fn first(&self) -> Result<JobId, RelayError> {
        let id = self.job_ids.first().and_then(|id| JobId::parse(id).ok());
        id.ok_or(RelayError::RequestUnderWay)
    }
}

impl Relay {
    /// Begins a request that makes jobs; `is_named` if it names their ids itself.
    ///
    /// # Errors
    ///
    /// If there are jobs of these names that another request has made, or another request has the same key.
    pub(in crate::relay) async fn begin(
        &self,
        request: &RequestId,
        made: MadeJobs,
        is_named: bool,
    ) -> Result<Begun, RelayError> {
        let locks = self.lock_request(request, &made, is_named).await;
        let mut claim = Claim {
            made,
            may_be_left: is_named,
            key: None,
            _locks: locks,
            name_lock: None,
        };
        if let (Some(key), Some(digest)) = (&request.key, &request.digest) {
            let wanted = StoredRequest {
                request_key: key.clone(),
                digest: digest.clone(),
                made: serde_json::to_string(&claim.made).map_err(StoreError::from)?,
                owner: self.0.tracker.owner.as_str().to_owned(),
            };
            if let Some(before) = self.claim_key(&wanted).await? {
                claim.may_be_left = true;
                claim.made = serde_json::from_str(&before).map_err(StoreError::from)?;
                if self.are_known(&claim.made).await? {
                    return Ok(Begun::Done(claim.made));
                }
            }
            claim.key = Some(key.clone());
        }
        if !is_named {
            return Ok(Begun::New(claim));
        }
        match self.named_once(request, &mut claim).await {
            Ok(true) => Ok(Begun::Done(claim.made)),
            Ok(false) => Ok(Begun::New(claim)),
            Err(error) => {
                self.abandon(claim, &error).await;
                Err(error)
            }
        }
    }

    /// Has a request that was refused forgotten, unless it may have made something.
    pub(in crate::relay) async fn abandon(&self, claim: Claim, error: &RelayError) {
        let Some(key) = &claim.key else {
            return;
        };
        let is_made = || {
            let registry = self.0.tracker.registry();
            let ids = claim.made.ids();
            ids.iter().any(|id| registry.get(id).is_some())
        };
        // What was being sent to ComfyUI when the relay was stopped may run, and what the database did not answer may be written.
        if matches!(error, RelayError::Stopping | RelayError::Store(_)) || is_made() {
            return;
        }
        let tracker = &self.0.tracker;
        let store = tracker.recorder.store();
        if let Err(error) = store.remove_request(key, &tracker.owner).await {
            tracing::debug!(%error, "cannot remove the key of a request that was refused");
        }
    }

    /// The job that the same request has made before; `None` if it is to be made. What a request needs may be gone when it is
    /// repeated.
    ///
    /// # Errors
    ///
    /// If another request has the same key.
    pub async fn repeated(&self, request: &RequestId) -> Result<Option<Accepted>, RelayError> {
        let (Some(key), Some(digest)) = (&request.key, &request.digest) else {
            return Ok(None);
        };
        let store = self.0.tracker.recorder.store();
        let Some(before) = store.request(key).await? else {
            return Ok(None);
        };
        if before.digest != *digest {
            return Err(RelayError::IdempotencyConflict);
        }
        let made: MadeJobs = serde_json::from_str(&before.made).map_err(StoreError::from)?;
        if !self.are_known(&made).await? {
            return Ok(None);
        }
        self.made_before(&made.first()?).await.map(Some)
    }

    /// The job that a repeated request has made, as it is now.
    pub(in crate::relay) async fn made_before(&self, id: &JobId) -> Result<Accepted, RelayError> {
        let in_memory = {
            let registry = self.0.tracker.registry();
            registry.get(id).map(|entry| Accepted::before(&entry.job))
        };
        if let Some(accepted) = in_memory {
            return Ok(accepted);
        }
        let stored = self.0.tracker.recorder.store().job(id).await?;
        let stored = stored.ok_or_else(|| RelayError::JobNotFound(id.clone()))?;
        Ok(Accepted::before(&Job::stored(stored)))
    }

    async fn lock_request(
        &self,
        request: &RequestId,
        made: &MadeJobs,
        is_named: bool,
    ) -> Vec<RequestLock> {
        let mut names = Vec::new();
        if is_named {
            names.extend(made.job_ids.iter().map(|id| format!("job {id}")));
        }
        // All lock in the same order.
        names.sort_unstable();
        names.dedup();
        if let Some(key) = &request.key {
            names.insert(0, format!("key {key}"));
        }
        let mut locks = Vec::new();
        for name in names {
            locks.push(self.0.request_locks.lock(name).await);
        }
        locks
    }

    /// Claims a key for this relay. Returns what a request before has made, or was about to make, if there was one.
    async fn claim_key(&self, wanted: &StoredRequest) -> Result<Option<String>, RelayError> {
        let tracker = &self.0.tracker;
        let store = tracker.recorder.store();
        let deadline = Instant::now() + MAX_WAIT;
        loop {
            let Some(before) = store.add_request(wanted).await? else {
                return Ok(None);
            };
            if before.digest != wanted.digest {
                return Err(RelayError::IdempotencyConflict);
            }
            let made: MadeJobs = serde_json::from_str(&before.made).map_err(StoreError::from)?;
            if before.owner == tracker.owner.as_str() || self.are_known(&made).await? {
                return Ok(Some(before.made));
            }
            let is_running = store.is_running(&before.owner).await?;
            if !is_running && store.take_request(&before, &tracker.owner).await? {
                return Ok(Some(before.made));
            }
            if Instant::now() >= deadline {
                return Err(RelayError::RequestUnderWay);
            }
            sleep(LOOK_PAUSE).await;
        }
    }

    /// Whether the jobs of a request are there. They come all or none.
    async fn are_known(&self, made: &MadeJobs) -> Result<bool, RelayError> {
        let Some(first) = made.ids().into_iter().next() else {
            return Ok(false);
        };
        let tracker = &self.0.tracker;
        match tracker.restore_from_store(&first).await {
            Known::Yes => {
                let unread = |id: &JobId| tracker.registry().get(id).is_none();
                let others: Vec<JobId> = made.ids().into_iter().filter(unread).collect();
                tracker.read_rows(&others).await?;
                Ok(true)
            }
            Known::Unread => Ok(tracker.write_published(&first, None).await?),
            Known::No => Ok(false),
            Known::Unreachable(error) => Err(error.into()),
        }
    }

    /// Whether the same request has made jobs of these names before. If not, no other relay makes the only one of them.
    async fn named_once(&self, request: &RequestId, claim: &mut Claim) -> Result<bool, RelayError> {
        if self.named_before(request, &claim.made).await? {
            return Ok(true);
        }
        // Batches come in one transaction, which fails if there is a job of one of their names.
        let [id] = &claim.made.ids()[..] else {
            return Ok(false);
        };
        claim.name_lock = self.lock_name(id).await?;
        match claim.name_lock {
            Some(_) => self.named_before(request, &claim.made).await,
            None => Ok(false),
        }
    }

    /// Whether the same request has made jobs of these names before. Fails if another one has made one of them.
    async fn named_before(&self, request: &RequestId, made: &MadeJobs) -> Result<bool, RelayError> {
        let mut count = 0;
        let ids = made.ids();
        if ids.len() > 1 {
            // All at once.
            self.0.tracker.read_rows(&ids).await?;
        }
        for id in &ids {
            let is_known = match &ids[..] {
                [id] => {
                    self.are_known(&MadeJobs::new(std::slice::from_ref(id), None))
                        .await?
                }
                _ => self.0.tracker.registry().get(id).is_some(),
            };
            if !is_known {
                continue;
            }
            count += 1;
            let digest = self
                .0
                .tracker
                .recorder
                .store()
                .submission_digest(id)
                .await?;
            if digest.is_none() || digest != request.digest {
                return Err(RelayError::JobExists(id.clone()));
            }
        }
        Ok(count == ids.len())
    }
}

impl Accepted {
    /// A job that an earlier request has made.
    fn before(job: &Job) -> Self {
        let planned = || job.wait()?.backend.as_deref();
        let backend = job.backend().or_else(planned);
        Self {
            job_id: job.id().clone(),
            prompt_id: job.prompt_id().unwrap_or_default().to_owned(),
            backend: backend.unwrap_or_default().to_owned(),
            is_unanswered: false,
            ignored: Vec::new(),
            is_written: true,
            is_replayed: true,
        }
    }
}
