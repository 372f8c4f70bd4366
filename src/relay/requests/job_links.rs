//! What the submission of a job shows of others: which job it repeats, which repeat it, and the attempts that were lost.

use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::job::JobId;
use crate::relay::Relay;
use crate::relay::queue::lost::LostAttempt;

/// How long a job that is shown waits for the database: without it, all the rest is known.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many jobs that repeat a job are named.
const MAX_REPEATS: usize = 100;

/// What the submission of a job shows of others.
#[derive(Debug, Clone, Default, JsonSchema, Serialize)]
pub struct JobLinks {
    /// The job that it repeats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<String>,
    /// The jobs that repeat it, the first one first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub retried_as: Vec<String>,
    /// The attempts that were lost with their servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptView>,
}

/// An attempt that was lost.
#[derive(Debug, Clone, JsonSchema, Serialize, Deserialize)]
pub struct AttemptView {
    /// The name of the backend.
    pub backend: String,
    /// ComfyUI's id for it.
    pub prompt_id: String,
    /// When the relay learned that it was lost.
    pub at: Timestamp,
}

impl Relay {
    /// What is known of the submission of a job; nothing while the database is away.
    pub async fn links(&self, id: &JobId) -> JobLinks {
        let store = self.recorder().store();
        if !self.database_health().is_connected {
            return JobLinks::default();
        }
        let Ok(Ok(found)) = timeout(PATIENCE, store.submission_links(id, MAX_REPEATS)).await else {
            return JobLinks::default();
        };
        let mut links = JobLinks::default();
        for link in found {
            if link.job_key == id.as_str() {
                links.retry_of = link.retry_of;
                links.attempts = attempts(&link.lost);
            } else {
                links.retried_as.push(link.job_key);
            }
        }
        links
    }
}

fn attempts(lost: &str) -> Vec<AttemptView> {
    let lost: Vec<LostAttempt> = serde_json::from_str(lost).unwrap_or_default();
    let views = lost.into_iter().map(|lost| AttemptView {
        backend: lost.backend,
        prompt_id: lost.prompt_id,
        at: lost.at,
    });
    views.collect()
}
