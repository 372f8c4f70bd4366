//! [`Meta`]: `meta.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a recording shows, and of which server: `meta.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// The server's version: a release, or the date of a commit of 2023.
    pub comfyui_version: String,
    /// The recording's name.
    pub scenario: String,
    /// What it shows, in a sentence.
    #[serde(default)]
    pub description: String,
    /// When it was recorded (RFC 3339).
    #[serde(default)]
    pub recorded_at: String,
    /// The server's command-line arguments.
    #[serde(default)]
    pub server_flags: Vec<String>,
    /// The client id of the recorded client's main socket.
    #[serde(default)]
    pub client_id: String,
    /// The ids of the accepted prompts, in the order of their submission.
    #[serde(default)]
    pub prompt_ids: Vec<String>,
    /// How each prompt ended, by its id.
    #[serde(default)]
    pub outcome: BTreeMap<String, RecordedOutcome>,
    /// Seconds from start to end of each prompt, by its id, if both were recorded.
    #[serde(default)]
    pub duration_s: BTreeMap<String, Option<f64>>,
    /// Remarks for readers of the recording.
    #[serde(default)]
    pub notes: Vec<String>,
    /// The server's machine and its load.
    #[serde(default)]
    pub host: Value,
}

/// How a recorded prompt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordedOutcome {
    /// It ran to its end.
    Completed,
    /// A node raised an exception.
    Failed,
    /// It was interrupted, or deleted from the queue.
    Cancelled,
    /// The server died before the prompt ended.
    Lost,
}
