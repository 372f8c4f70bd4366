//! Runs an ended job again, under a new id.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::job::{JobId, Tags};
use crate::relay::queue::queued_request::QueuedRequest;
use crate::relay::requests::once::RequestId;
use crate::relay::requests::register::Accepted;
use crate::relay::requests::submit::{Submission, SubmitOptions};
use crate::relay::{BackendChoice, Relay, RelayError};
use crate::store::StoredSubmission;
use crate::workflow::GivenParameters;

/// What is to be different from the job that is repeated.
#[derive(Debug, Clone, Default)]
pub struct RetryOptions {
    /// The id of the new job.
    pub job_id: Option<JobId>,
    /// The backends that may run it.
    pub backends: Option<Vec<BackendChoice>>,
    /// Jobs of a higher priority are handed in first.
    pub priority: Option<i64>,
    /// How often it may be handed in again after it is lost with its server.
    pub retries: Option<u32>,
    /// For whom it is, if the job that is repeated does not say.
    pub share: Option<String>,
    /// What identifies the request.
    pub request: RequestId,
}

impl Relay {
    /// Submits what a known job was submitted with once more: graph, tags and everything that is passed on.
    ///
    /// # Errors
    ///
    /// If the job has not ended, or its graph or the keys of its partner nodes are no longer available.
    pub async fn retry(&self, id: &JobId, changes: RetryOptions) -> Result<Accepted, RelayError> {
        let tags = self.tags_of_ended(id)?;
        let stored = self.0.tracker.recorder.store().submission(id).await?;
        let (graph, mut options) = match stored {
            Some(stored) => self.submitted_before(id, stored)?,
            None => (self.workflow(id).await?, SubmitOptions::default()),
        };
        options.share = options.share.or(changes.share);
        options.backends = changes.backends.unwrap_or(options.backends);
        options.priority = changes.priority.unwrap_or(options.priority);
        options.retries = changes.retries.unwrap_or(options.retries);
        options.request = changes.request;
        options.retry_of = Some(id.clone());
        options.webhook = self.job_webhook(id).await?;
        let params = GivenParameters::default();
        let submission = Submission::Graph(graph);
        self.submit(
            changes.job_id,
            submission,
            &params,
            Tags::clone(&tags).undiscovered(),
            options,
        )
        .await
    }

    fn tags_of_ended(&self, id: &JobId) -> Result<Arc<Tags>, RelayError> {
        let registry = self.0.tracker.registry();
        let entry = registry.get(id);
        let job = &entry
            .ok_or_else(|| RelayError::JobNotFound(id.clone()))?
            .job;
        if job.status().is_final() {
            return Ok(job.tags().clone());
        }
        Err(RelayError::JobOpen(id.clone()))
    }

    /// What a job was submitted with.
    fn submitted_before(
        &self,
        id: &JobId,
        stored: StoredSubmission,
    ) -> Result<(Map<String, Value>, SubmitOptions), RelayError> {
        let request = QueuedRequest::unpack(&stored.request);
        let request = request.map_err(|_| RelayError::WorkflowUnavailable(id.clone()))?;
        let comfy = &self.0.comfy;
        let has_own_key = comfy.api_key.is_some() || comfy.api_key_file.is_some();
        if request.has_keys && !has_own_key {
            return Err(RelayError::KeysGone(id.clone()));
        }
        let options = SubmitOptions {
            prompt: request.prompt_options(),
            backends: request.backends,
            priority: stored.priority,
            retries: stored.retries,
            share: stored.share,
            ..SubmitOptions::default()
        };
        Ok((request.graph, options))
    }
}
