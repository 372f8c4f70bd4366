//! Frames of every version of ComfyUI, and what each means for a job. Pure.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::error::ExecutionError;
use super::{output, python_json};
use crate::job::{Event, NodeReport, NodeState, Outcome};

/// One text frame of ComfyUI's socket, understood.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// The queue changed, or the socket was just opened.
    Status {
        /// How many prompts run or wait, those of all clients counted.
        queue_remaining: Option<u64>,
    },
    /// Something happened to a prompt.
    Prompt {
        /// The prompt; `None` from old servers, and in the greeting after a reconnect.
        prompt_id: Option<String>,
        /// What happened.
        event: Event,
    },
    /// The prompt is over, and its history is written (`executing` with `node: null`).
    PromptEnded {
        /// The prompt.
        prompt_id: Option<String>,
    },
    /// Understood, and of no meaning for a job: flags, blocked executions.
    Ignored,
    /// A type that is not known here, or data of another shape than is known.
    Unknown,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
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
    value: f64,
    max: f64,
}

#[derive(Deserialize)]
struct ProgressStateData {
    prompt_id: Option<String>,
    nodes: NodeList,
}

/// The nodes of a `progress_state` in the server's order.
struct NodeList(Vec<NodeReport>);

#[derive(Deserialize)]
struct NodeData<'a> {
    #[serde(default)]
    value: f64,
    #[serde(default)]
    max: f64,
    #[serde(borrow)]
    state: Cow<'a, str>,
    display_node_id: Option<String>,
    #[serde(borrow, default)]
    activity: Option<Cow<'a, str>>,
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
    /// Reads a text frame. `view` is the address below which outputs are fetched.
    ///
    /// Total: what is no JSON, of an unknown type, or of another shape is [`Message::Unknown`].
    pub fn parse(text: &str, view: &str) -> Self {
        Self::read(text, view).unwrap_or_else(|_| Self::read_python(text, view))
    }

    /// Reads a frame that takes Python's liberties with JSON.
    fn read_python(text: &str, view: &str) -> Self {
        let Cow::Owned(plain) = python_json::to_strict(text.as_bytes()) else {
            return Self::Unknown;
        };
        let plain = std::str::from_utf8(&plain).ok();
        let read = plain.and_then(|plain| Self::read(plain, view).ok());
        read.unwrap_or(Self::Unknown)
    }

    fn read(text: &str, view: &str) -> serde_json::Result<Self> {
        let envelope: Envelope<'_> = serde_json::from_str(text)?;
        let data = envelope.data.map_or("{}", RawValue::get);
        let prompt = |prompt_id, event| Self::Prompt { prompt_id, event };
        Ok(match envelope.kind.as_ref() {
            "status" => {
                let data: StatusData = serde_json::from_str(data)?;
                let info = data.status.and_then(|status| status.exec_info);
                Self::Status {
                    queue_remaining: info.and_then(|info| info.queue_remaining),
                }
            }
            "execution_start" => {
                let data: PromptData = serde_json::from_str(data)?;
                prompt(data.prompt_id, Event::Started)
            }
            "execution_cached" => {
                let data: CachedData = serde_json::from_str(data)?;
                prompt(data.prompt_id, Event::Cached { nodes: data.nodes })
            }
            "executing" => {
                let data: ExecutingData = serde_json::from_str(data)?;
                match data.node {
                    Some(node) => prompt(
                        data.prompt_id,
                        Event::NodeStarted {
                            node,
                            display: data.display_node,
                        },
                    ),
                    None => Self::PromptEnded {
                        prompt_id: data.prompt_id,
                    },
                }
            }
            "progress" => {
                let data: ProgressData = serde_json::from_str(data)?;
                let (node, value, max) = (data.node, data.value, data.max);
                prompt(data.prompt_id, Event::Bar { node, value, max })
            }
            "progress_state" => {
                let data: ProgressStateData = serde_json::from_str(data)?;
                prompt(data.prompt_id, Event::Nodes(data.nodes.0))
            }
            "executed" => {
                let data: ExecutedData<'_> = serde_json::from_str(data)?;
                let node = data.display_node.or(data.node).unwrap_or_default();
                let made = data.output.map(RawValue::get).unwrap_or("null");
                let made = serde_json::from_str(made)?;
                prompt(
                    data.prompt_id,
                    Event::Outputs(output::files(&node, &made, view)),
                )
            }
            "execution_success" => {
                let data: PromptData = serde_json::from_str(data)?;
                prompt(data.prompt_id, Event::Ended(Outcome::Completed))
            }
            "execution_interrupted" => {
                let data: PromptData = serde_json::from_str(data)?;
                prompt(data.prompt_id, Event::Ended(Outcome::Cancelled))
            }
            "execution_error" => {
                let error: ExecutionError = serde_json::from_str(data)?;
                match error.is_final() {
                    true => prompt(
                        error.prompt_id.clone(),
                        Event::Ended(Outcome::Failed(error.into())),
                    ),
                    false => Self::Ignored,
                }
            }
            "feature_flags" => Self::Ignored,
            _ => Self::Unknown,
        })
    }
}

impl<'de> Deserialize<'de> for NodeList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NodeListVisitor;
        impl<'de> Visitor<'de> for NodeListVisitor {
            type Value = NodeList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the nodes of a progress_state")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<NodeList, A::Error> {
                let mut nodes = Vec::with_capacity(map.size_hint().unwrap_or(0));
                while let Some(id) = map.next_key::<String>()? {
                    let node: NodeData<'de> = map.next_value()?;
                    nodes.push(NodeReport {
                        node: id,
                        display: node.display_node_id,
                        value: node.value,
                        max: node.max,
                        state: match node.state.as_ref() {
                            "finished" => NodeState::Finished,
                            "error" => NodeState::Failed,
                            _ => NodeState::Running,
                        },
                        loading: node.activity.as_deref() == Some("loading"),
                    });
                }
                Ok(NodeList(nodes))
            }
        }
        deserializer.deserialize_map(NodeListVisitor)
    }
}

#[cfg(test)]
mod tests;
