//! [`Exchange`]: one line of `http.jsonl`.

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One HTTP request of the recorded client, with the server's response.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exchange {
    /// When the request was sent, in seconds since the recording began.
    pub t: f64,
    /// When the response was complete, in seconds since the recording began.
    pub t_end: f64,
    /// The method, in capitals.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The JSON body of the request, `null` if it had none.
    #[serde(default)]
    pub request_body: Value,
    /// The status of the response; none if no response came.
    #[serde(default)]
    pub status: Option<u16>,
    /// The JSON body of the response, `null` if it had none.
    #[serde(default)]
    pub response: Value,
    /// Why no response came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The body of the response if it was not JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_text: Option<String>,
}

impl Exchange {
    /// Whether this is a request with this method for exactly this path.
    pub fn is(&self, method: &str, path: &str) -> bool {
        self.method == method && self.path == path
    }

    /// The prompt id, decoded, if this is a `GET /history/{id}`.
    pub fn history_id(&self) -> Option<String> {
        let id = self.path.strip_prefix("/history/")?;
        (self.method == "GET").then(|| decode(id))
    }

    /// The prompt id, decoded, if this is a `POST /api/jobs/{id}/cancel`.
    pub fn cancelled_id(&self) -> Option<String> {
        let id = self.path.strip_prefix("/api/jobs/")?;
        let id = id.strip_suffix("/cancel")?;
        (self.method == "POST").then(|| decode(id))
    }
}

fn decode(segment: &str) -> String {
    percent_decode_str(segment).decode_utf8_lossy().into_owned()
}
