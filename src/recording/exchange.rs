//! [`Exchange`]: one line of `http.jsonl`.

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One HTTP request of the recorded client and the server's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exchange {
    /// When the request was sent, in seconds since the recording began.
    pub t: f64,
    /// When the answer was complete.
    pub t_end: f64,
    /// The method, in capitals.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The JSON that was sent, `null` without one.
    #[serde(default)]
    pub request_body: Value,
    /// The answer's status, none where no answer came.
    #[serde(default)]
    pub status: Option<u16>,
    /// The JSON that was answered, `null` without one.
    #[serde(default)]
    pub response: Value,
    /// Why no answer came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What was answered where it was no JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_text: Option<String>,
}

impl Exchange {
    /// Whether this is a request of that method for that very path.
    pub fn is(&self, method: &str, path: &str) -> bool {
        self.method == method && self.path == path
    }

    /// The prompt id, decoded, where this is a `GET /history/{id}`.
    pub fn asks_history_of(&self) -> Option<String> {
        let id = self.path.strip_prefix("/history/")?;
        (self.method == "GET").then(|| percent_decode_str(id).decode_utf8_lossy().into_owned())
    }
}
