//! Registers a job for a prompt that another client has submitted.

use std::sync::Arc;

use uuid::Uuid;

use crate::broker::Hint;
use crate::comfy::WrongInput;
use crate::job::{JobId, Tags};
use crate::relay::backend::Lease;
use crate::relay::ownership::Ownership;
use crate::relay::registry::Entry;
use crate::relay::requests::job_webhook::JobWebhook;
use crate::relay::restore::Known;
use crate::relay::tracker::{Durability, Tracker};
use crate::relay::{BackendChoice, Relay, RelayError};

/// A job that was accepted.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The job.
    pub job_id: JobId,
    /// ComfyUI's id for it.
    pub prompt_id: String,
    /// The name of the backend that runs it.
    pub backend: String,
    /// ComfyUI has not answered yet: the job waits for it.
    pub is_unanswered: bool,
    /// Inputs because of which ComfyUI ignores some outputs; the other outputs of the graph are valid.
    pub ignored: Vec<WrongInput>,
    /// Whether it is on the disk. If not, it is followed all the same, and written when the database answers.
    pub is_written: bool,
    /// An earlier request has made it.
    pub is_replayed: bool,
}

/// A reserved job id. Frees it when dropped, unless the job was registered.
pub(in crate::relay) struct Reservation {
    tracker: Arc<Tracker>,
    pub(in crate::relay) id: JobId,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.tracker.registry().release(&self.id);
    }
}

impl Relay {
    /// Registers a job for a prompt. The chosen backends are asked for it, all if there are no choices. Without a `job_id`,
    /// the prompt id is the job id if it can be one. A job that is registered already keeps its tags,
    /// unless its prompt has become it by itself.
    pub(in crate::relay) async fn register(
        &self,
        job_id: Option<JobId>,
        prompt_id: String,
        choices: &[BackendChoice],
        tags: Tags,
        webhook: Option<&JobWebhook>,
    ) -> Result<Accepted, RelayError> {
        let tracker = &self.0.tracker;
        let is_named = job_id.is_some();
        let own = || {
            JobId::parse(&prompt_id)
                .ok()
                .filter(|id| id.check_job().is_ok())
        };
        let job_id = job_id.or_else(own).unwrap_or_else(new_job_id);
        let mut known = tracker.restore_from_store(&job_id).await;
        if let Known::No | Known::Unread = known {
            let has_row = tracker.write_published(&job_id, Some(&prompt_id));
            if has_row.await? {
                known = Known::Yes;
            }
        }
        if let Some(mut accepted) = self.registered(&job_id, &prompt_id) {
            accepted.is_written = matches!(known, Known::Yes);
            return self.claim_registered(accepted, tags, webhook).await;
        }
        match known {
            // It may be forgotten again already.
            Known::Yes | Known::Unread => return Err(RelayError::JobExists(job_id)),
            Known::Unreachable(error) if is_named => return Err(error.into()),
            Known::No | Known::Unreachable(_) => {}
        }
        let _reservation = self.reserve(&job_id)?;
        tracker.check_choices(choices)?;
        let mut prompt = self.locate(&prompt_id, choices).await?;
        prompt.tags = Arc::new(tags);
        self.store_webhook(std::slice::from_ref(&job_id), webhook)
            .await?;
        tracker.register(&mut tracker.registry(), &job_id, &prompt, None);
        let is_written = self.is_written(&job_id).await?;
        if *prompt.backend.lease.borrow() == Lease::HeldByPeer {
            let backend = prompt.backend.name().to_owned();
            tracker.broker.hint(Hint::Registered(backend));
        }
        Ok(Accepted {
            job_id,
            prompt_id,
            backend: prompt.backend.name().to_owned(),
            is_unanswered: false,
            ignored: Vec::new(),
            is_written,
            is_replayed: false,
        })
    }

    /// The answer to the registration of a prompt that has a job of this id. If it has become that by itself, the registration
    /// is the first.
    async fn claim_registered(
        &self,
        mut accepted: Accepted,
        tags: Tags,
        webhook: Option<&JobWebhook>,
    ) -> Result<Accepted, RelayError> {
        let (tracker, id) = (&self.0.tracker, accepted.job_id.clone());
        let is_ours = |entry: &Entry| entry.ownership != Ownership::Reader;
        if tracker.registry().get(&id).is_some_and(is_ours) {
            // The first may have been answered before it was written.
            accepted.is_written = match tracker.await_written(&id).await {
                Durability::Late => false,
                // Another relay has taken it over: it has a row.
                Durability::Moved => true,
                durability => durability.check(&id).map(|()| true)?,
            };
        }
        if let Some(backend) = tracker.registry().discovered_elsewhere(&id) {
            return Err(RelayError::HeldByPeer(backend));
        }
        if tracker.registry().is_discovered(&id) {
            self.store_webhook(std::slice::from_ref(&id), webhook)
                .await?;
            if tracker.claim_discovered(&id, Arc::new(tags)) {
                accepted.is_written = self.is_written(&id).await?;
            }
        }
        Ok(accepted)
    }

    /// Waits until a job that ComfyUI has is on the disk. `false` if it is not yet: it is followed all the same.
    pub(in crate::relay) async fn is_written(&self, job_id: &JobId) -> Result<bool, RelayError> {
        match self.0.tracker.await_written(job_id).await {
            Durability::Late => Ok(false),
            durability => durability.check(job_id).map(|()| true),
        }
    }

    /// The answer to a registration that is repeated: that of the first.
    fn registered(&self, job_id: &JobId, prompt_id: &str) -> Option<Accepted> {
        let registry = self.0.tracker.registry();
        let job = &registry.get(job_id)?.job;
        (job.prompt_id() == Some(prompt_id)).then(|| Accepted {
            job_id: job_id.clone(),
            prompt_id: prompt_id.to_owned(),
            backend: job.backend().unwrap_or_default().to_owned(),
            is_unanswered: false,
            ignored: Vec::new(),
            is_written: true,
            is_replayed: false,
        })
    }

    /// Reserves a job id.
    pub(in crate::relay) fn reserve(&self, job_id: &JobId) -> Result<Reservation, RelayError> {
        let tracker = &self.0.tracker;
        if !tracker.registry().reserve(job_id) {
            return Err(RelayError::JobExists(job_id.clone()));
        }
        Ok(Reservation {
            tracker: tracker.clone(),
            id: job_id.clone(),
        })
    }
}

/// A random job id.
pub(in crate::relay) fn new_job_id() -> JobId {
    JobId::parse(&Uuid::new_v4().to_string())
        .expect("a UUID is made of hexadecimal digits and hyphens")
}
