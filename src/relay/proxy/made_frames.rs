//! Frames that the relay makes in place of a server, in ComfyUI's shapes.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::tap_queue::{Conflation, TapFrame};
use crate::job::{Job, JobError, Status};

/// How the names of features begin that are forms of frames.
const SUPPORTS: &str = "supports_";

/// The one that the relay asks servers for.
const ASKED_FOR: &str = "supports_preview_metadata";

/// A text frame.
#[derive(Serialize)]
struct MadeFrame<T> {
    #[serde(rename = "type")]
    kind: &'static str,
    data: T,
}

#[derive(Serialize)]
struct StatusFrame<'a> {
    status: QueueLength,
    /// The client id; only in the first message of a socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<&'a str>,
}

/// What ComfyUI says of its queue: `{"exec_info": {"queue_remaining": 2}}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct QueueLength {
    exec_info: ExecutionInfo,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct ExecutionInfo {
    queue_remaining: u64,
}

#[derive(Serialize)]
struct RunningNode<'a> {
    node: &'a str,
}

#[derive(Serialize)]
struct PromptDone<'a> {
    node: Option<&'a str>,
    prompt_id: &'a str,
}

#[derive(Serialize)]
struct PromptEnd<'a> {
    prompt_id: &'a str,
    /// Milliseconds since 1970.
    timestamp: i64,
    #[serde(flatten)]
    interrupted: Option<InterruptedAt<'a>>,
    #[serde(flatten)]
    failed: Option<FailedBy<'a>>,
}

#[derive(Serialize)]
struct InterruptedAt<'a> {
    node_id: Option<&'a str>,
    node_type: Option<&'a str>,
    executed: [&'a str; 0],
}

#[derive(Serialize)]
struct FailedBy<'a> {
    exception_message: &'a str,
    exception_type: &'a str,
    traceback: [&'a str; 0],
    current_inputs: BTreeMap<&'a str, &'a str>,
    current_outputs: [&'a str; 0],
}

impl QueueLength {
    /// Of a queue in which so many prompts run or wait.
    pub fn of(queue_remaining: u64) -> Self {
        Self {
            exec_info: ExecutionInfo { queue_remaining },
        }
    }
}

/// The length of the queue; in the first message of a socket with the id of its client.
pub(super) fn status(length: u64, client_id: Option<&str>) -> TapFrame {
    let data = StatusFrame {
        status: QueueLength::of(length),
        sid: client_id,
    };
    frame("status", data)
}

/// The node that runs, as ComfyUI sends it to a client that connects again.
pub(super) fn running(node: &str) -> TapFrame {
    frame("executing", RunningNode { node })
}

/// The end of a job that its server has not sent. One that was cancelled before it began ends without a message, as in ComfyUI.
pub(super) fn end(job: &Job) -> Vec<TapFrame> {
    let prompt_id = job.id().as_str();
    let node = job.nodes().current().map(|current| current.id);
    let class = node.and_then(|node| job.plan().node(node));
    let class = class.map(|node| node.class_type.as_str());
    let at_node = InterruptedAt {
        node_id: node,
        node_type: class,
        executed: [],
    };
    let (kind, interrupted, failed) = match (job.status(), job.error()) {
        (Status::Completed, _) => ("execution_success", None, None),
        (Status::Cancelled, _) if job.started_at().is_none() => return Vec::new(),
        (Status::Cancelled, _) => ("execution_interrupted", Some(at_node), None),
        (_, error) => ("execution_error", Some(at_node), Some(failed_by(error))),
    };
    let ended_at = job.ended_at().unwrap_or_default();
    let end = PromptEnd {
        prompt_id,
        timestamp: ended_at.as_millisecond(),
        interrupted,
        failed,
    };
    vec![frame(kind, end), done(prompt_id)]
}

/// What a server says of its features, without frames that it sends only to clients that ask for them, as the relay does not.
pub(super) fn features(text: Utf8Bytes) -> Utf8Bytes {
    let Ok(mut message) = serde_json::from_str::<Value>(&text) else {
        return text;
    };
    let Some(flags) = message.get_mut("data").and_then(Value::as_object_mut) else {
        return text;
    };
    let before = flags.len();
    flags.retain(|name, _| !name.starts_with(SUPPORTS) || name == ASKED_FOR);
    if flags.len() == before {
        return text;
    }
    message.to_string().into()
}

/// A prompt has ended, and its history is written.
pub(super) fn done(prompt_id: &str) -> TapFrame {
    let node = None;
    frame("executing", PromptDone { node, prompt_id })
}

fn failed_by(error: Option<&JobError>) -> FailedBy<'_> {
    FailedBy {
        exception_message: error.map_or("the prompt failed", |error| &error.message),
        exception_type: error.map_or("Exception", |error| error.code.as_str()),
        traceback: [],
        current_inputs: BTreeMap::new(),
        current_outputs: [],
    }
}

fn frame(kind: &'static str, data: impl Serialize) -> TapFrame {
    let text = serde_json::to_string(&MadeFrame { kind, data });
    let text = text.expect("frames have texts as keys and whole numbers");
    TapFrame::text(text.into(), Conflation::All)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_learn_of_no_frames_that_the_relay_has_not_asked_for() {
        let text = r#"{"type":"feature_flags","data":{"supports_preview_metadata":true,"supports_other":true,"max_upload_size":5}}"#;
        let expected = r#"{"type":"feature_flags","data":{"supports_preview_metadata":true,"max_upload_size":5}}"#;
        assert_eq!(features(text.into()).as_str(), expected);
        for same in [expected, "not JSON", "[]"] {
            assert_eq!(features(same.into()).as_str(), same);
        }
    }
}
