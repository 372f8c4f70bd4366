use std::sync::OnceLock;
use std::time::Instant;

use bytes::Bytes;

use crate::job::{JobError, JobId, Outcome, Progress, Status};

/// One state of a job, encoded once for all subscribers.
#[derive(Debug, Clone, PartialEq)]
pub struct Publication {
    /// The job.
    pub job: JobId,
    /// The number of the state within the job. Grows by one with each state.
    pub seq: u64,
    /// The status of the job.
    pub status: Status,
    /// The documented `progress` message, as JSON.
    pub payload: Bytes,
    /// How the job ended; set on its last publication only.
    pub outcome: Option<Outcome>,
    /// When the event of ComfyUI came that it shows, or the first of those since the state before. `None` where it shows none,
    /// and of states of other relays.
    pub event_at: Option<Instant>,
}

/// A preview image of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// The job.
    pub job: JobId,
    /// The node that made the image, if ComfyUI names it.
    pub node: Option<String>,
    /// Grows with each preview of the job.
    pub seq: u64,
    /// `image/jpeg` or `image/png`.
    pub mime: &'static str,
    /// The image as ComfyUI made it.
    pub image: Bytes,
    /// It as an event of Comfy API v2, which the first viewer that is sent it encodes for all.
    pub event: OnceLock<Bytes>,
}

impl Publication {
    /// Encodes a state. `outcome` is how the job ended, if the state is its last one.
    pub fn encode(progress: &Progress, outcome: Option<Outcome>) -> serde_json::Result<Self> {
        Ok(Self {
            job: progress.job_id.clone(),
            seq: progress.seq,
            status: progress.status,
            payload: serde_json::to_vec(progress)?.into(),
            outcome,
            event_at: None,
        })
    }

    /// Whether it is the last one of its job.
    pub fn is_final(&self) -> bool {
        self.outcome.is_some()
    }

    /// Why the job failed, if it did.
    pub fn failure(&self) -> Option<&JobError> {
        match &self.outcome {
            Some(Outcome::Failed(error)) => Some(error),
            Some(Outcome::Completed | Outcome::Cancelled) | None => None,
        }
    }
}
