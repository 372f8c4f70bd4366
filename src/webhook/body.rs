//! What is sent: the type of an event, when it was, and what it is about.

use aws_lc_rs::digest;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::wire_schema::word_schema;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiEvent {
    /// A job was accepted.
    JobQueued,
    /// It has begun to run.
    JobStarted,
    /// It has passed a percentage that was asked for.
    JobProgress,
    /// It has completed.
    JobCompleted,
    /// It has failed.
    JobFailed,
    /// It was cancelled.
    JobCancelled,
    /// A server runs nothing any more.
    BackendSick,
    /// It runs jobs again.
    BackendRecovered,
    /// No job waits any more.
    QueueEmpty,
}

impl ApiEvent {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::JobQueued,
        Self::JobStarted,
        Self::JobProgress,
        Self::JobCompleted,
        Self::JobFailed,
        Self::JobCancelled,
        Self::BackendSick,
        Self::BackendRecovered,
        Self::QueueEmpty,
    ];

    /// The events of a job, but for its progress.
    pub const OF_JOBS: [Self; 5] = [
        Self::JobQueued,
        Self::JobStarted,
        Self::JobCompleted,
        Self::JobFailed,
        Self::JobCancelled,
    ];

    /// Its word in `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::JobQueued => "job.queued",
            Self::JobStarted => "job.started",
            Self::JobProgress => "job.progress",
            Self::JobCompleted => "job.completed",
            Self::JobFailed => "job.failed",
            Self::JobCancelled => "job.cancelled",
            Self::BackendSick => "backend.sick",
            Self::BackendRecovered => "backend.recovered",
            Self::QueueEmpty => "queue.empty",
        }
    }
}

word_schema!(ApiEvent, "What happened.");

/// What is sent to a webhook.
#[derive(Debug, JsonSchema, Serialize)]
#[schemars(rename = "WebhookBody_{T}")]
pub struct WebhookBody<'a, T> {
    /// What happened.
    #[schemars(with = "ApiEvent")]
    r#type: &'a str,
    /// When it was.
    timestamp: Timestamp,
    /// What it is about.
    data: &'a T,
}

/// The body of a webhook. `at` is when the event was, `data` what it is about.
pub fn body(event: ApiEvent, at: Timestamp, data: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string(&WebhookBody {
        r#type: event.as_str(),
        timestamp: at,
        data,
    })
}

/// The id of a message about something that `parts` identify: whichever relay makes it, and however often, it is the
/// same.
pub fn message_id(parts: &[&str]) -> String {
    let mut hash = digest::Context::new(&digest::SHA256);
    for part in parts {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let hash = hash.finish();
    let digits: String = hash.as_ref()[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("msg_{digits}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_its_parts_apart() {
        let id = message_id(&["job", "a", "bc"]);
        assert_eq!(id, message_id(&["job", "a", "bc"]));
        assert_ne!(id, message_id(&["job", "ab", "c"]));
        assert!(id.starts_with("msg_") && id.len() == 36, "{id}");
    }
}
