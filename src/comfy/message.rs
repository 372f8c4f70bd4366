//! Text frames of every version of ComfyUI, and what each means for a job. Pure.

mod envelope;
mod head;
mod progress_state;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::error::ExecutionError;
use super::known_types::with_known_types;
use super::output;
use crate::job::{Event, Outcome};
use crate::python_json;
use envelope::{Data, Envelope};
use progress_state::ProgressState;

pub use head::{EventKind, FrameHead};

/// A text frame of ComfyUI's socket.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// The queue changed, or the socket was just opened.
    Status {
        /// How many prompts run or wait, those of all clients included.
        queue_remaining: Option<u64>,
    },
    /// Something happened to a prompt.
    Prompt {
        /// The prompt; `None` from old servers, and in the first `executing` after a reconnect.
        prompt_id: Option<String>,
        /// What happened.
        event: Event,
    },
    /// The prompt has ended, and its history is written (`executing` with `node: null`).
    PromptEnded {
        /// The prompt.
        prompt_id: Option<String>,
    },
    /// What the server can do.
    Features,
    /// Known, but without meaning for a job: blocked executions.
    Ignored,
    /// A type that is not known, or data of an unknown shape.
    Unknown,
}

#[derive(Deserialize)]
struct StatusData {
    status: Option<QueueStatus>,
}

#[derive(Deserialize)]
struct QueueStatus {
    exec_info: Option<ExecInfo>,
}

#[derive(Deserialize)]
struct ExecInfo {
    queue_remaining: Option<u64>,
}

#[derive(Deserialize)]
struct PromptData {
    prompt_id: Option<String>,
}

#[derive(Deserialize)]
struct CachedData {
    prompt_id: Option<String>,
    #[serde(default)]
    nodes: Vec<String>,
}

#[derive(Deserialize)]
struct ExecutingData {
    prompt_id: Option<String>,
    node: Option<String>,
    display_node: Option<String>,
}

#[derive(Deserialize)]
struct ProgressData {
    prompt_id: Option<String>,
    node: Option<String>,
    value: Option<f64>,
    max: Option<f64>,
}

#[derive(Deserialize)]
struct ExecutedData<'a> {
    prompt_id: Option<String>,
    node: Option<String>,
    display_node: Option<String>,
    #[serde(borrow, default)]
    output: Option<&'a RawValue>,
}

impl Message {
    /// Reads a text frame. `view` is the URL of the server's `/view`.
    ///
    /// Never fails: text that is not JSON, or of an unknown type or shape, is [`Message::Unknown`].
    pub fn parse(text: &str, view: &str) -> Self {
        Self::read(text, view).unwrap_or_else(|_| Self::read_by_field(text, view))
    }

    /// Reads a frame in Python's dialect of JSON, or with fields of unexpected types, which count as missing.
    fn read_by_field(text: &str, view: &str) -> Self {
        let frame = python_json::read(text.as_bytes()).ok();
        let frame = frame.and_then(with_known_types);
        let message = frame.and_then(|frame| Self::read(&frame.to_string(), view).ok());
        message.unwrap_or(Self::Unknown)
    }

    fn read(text: &str, view: &str) -> serde_json::Result<Self> {
        let Envelope { kind, data } = serde_json::from_str(text)?;
        let data = match data {
            Data::Raw(data) => data.get(),
            Data::Missing => "{}",
            Data::ProgressState(state) => {
                let (prompt_id, event) = (state.prompt_id, Event::Nodes(state.nodes.0));
                return Ok(Self::Prompt { prompt_id, event });
            }
        };
        Ok(match kind.as_ref() {
            "status" => Self::Status {
                queue_remaining: queue_remaining(data)?,
            },
            "executing" => executing(data)?,
            "execution_error" => execution_error(data)?,
            "execution_start" => prompt(data, Event::Started)?,
            "execution_success" => prompt(data, Event::Ended(Outcome::Completed))?,
            "execution_interrupted" => prompt(data, Event::Ended(Outcome::Cancelled))?,
            "execution_cached" => {
                let CachedData { prompt_id, nodes } = serde_json::from_str(data)?;
                let event = Event::Cached { nodes };
                Self::Prompt { prompt_id, event }
            }
            "progress" => progress(data)?,
            "progress_state" => {
                let ProgressState { prompt_id, nodes } = serde_json::from_str(data)?;
                let event = Event::Nodes(nodes.0);
                Self::Prompt { prompt_id, event }
            }
            "executed" => executed(data, view)?,
            "feature_flags" => Self::Features,
            _ => Self::Unknown,
        })
    }
}

/// A message whose data matters only for its prompt.
fn prompt(data: &str, event: Event) -> serde_json::Result<Message> {
    let PromptData { prompt_id } = serde_json::from_str(data)?;
    Ok(Message::Prompt { prompt_id, event })
}

fn queue_remaining(data: &str) -> serde_json::Result<Option<u64>> {
    let data: StatusData = serde_json::from_str(data)?;
    let info = data.status.and_then(|status| status.exec_info);
    Ok(info.and_then(|info| info.queue_remaining))
}

/// A bar without a position or a length still shows which node runs.
fn progress(data: &str) -> serde_json::Result<Message> {
    let data: ProgressData = serde_json::from_str(data)?;
    let event = match (data.value, data.max, data.node) {
        (Some(value), Some(max), node) => Event::Bar { node, value, max },
        (_, _, Some(node)) => Event::NodeStarted {
            node,
            display: None,
        },
        _ => return Ok(Message::Unknown),
    };
    Ok(Message::Prompt {
        prompt_id: data.prompt_id,
        event,
    })
}

fn executing(data: &str) -> serde_json::Result<Message> {
    let data: ExecutingData = serde_json::from_str(data)?;
    let prompt_id = data.prompt_id;
    let Some(node) = data.node else {
        return Ok(Message::PromptEnded { prompt_id });
    };
    let event = Event::NodeStarted {
        node,
        display: data.display_node,
    };
    Ok(Message::Prompt { prompt_id, event })
}

fn executed(data: &str, view: &str) -> serde_json::Result<Message> {
    let data: ExecutedData<'_> = serde_json::from_str(data)?;
    let node = data.display_node.or(data.node).unwrap_or_default();
    let output = data.output.map_or("null", RawValue::get);
    let output = serde_json::from_str(output)?;
    Ok(Message::Prompt {
        prompt_id: data.prompt_id,
        event: Event::Outputs(output::outputs(&node, &output, view)),
    })
}

fn execution_error(data: &str) -> serde_json::Result<Message> {
    let data: Value = serde_json::from_str(data)?;
    // Without a prompt, it would end the one that runs.
    let prompt_id = data.get("prompt_id").unwrap_or(&Value::Null);
    if prompt_id.is_object() || prompt_id.is_array() {
        return Ok(Message::Unknown);
    }
    let error = ExecutionError::of(&data);
    if !error.is_final() {
        return Ok(Message::Ignored);
    }
    Ok(Message::Prompt {
        prompt_id: error.prompt_id.clone(),
        event: Event::Ended(Outcome::Failed(error.into())),
    })
}

#[cfg(test)]
mod tests;
