//! What of a text frame says whom it is for.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::python_json;

/// What of a text frame says whom it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameHead {
    /// What kind of event it is.
    pub kind: EventKind,
    /// The prompt that it is about, if it names one.
    pub prompt_id: Option<String>,
}

/// The kinds of events that are treated in different ways when they are passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// `status` and `feature_flags`, which are about the socket that receives them.
    OfSocket,
    /// `progress`, of which a newer one says all.
    Progress,
    /// `progress_state`, of which a newer one says all.
    ProgressState,
    /// The prompt succeeds, fails or is interrupted.
    End,
    /// The prompt has ended, and its history is written (`executing` with `node: null`).
    Done,
    /// Every other one that ComfyUI itself sends to the client of a prompt.
    OfPrompt,
    /// One of an extension.
    Unknown,
}

#[derive(Deserialize)]
struct RawFrame {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    data: Option<Box<RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawData {
    prompt_id: Option<serde_json::Value>,
    node: Option<serde_json::Value>,
    exception_type: Option<serde_json::Value>,
}

impl RawData {
    /// Fails if the data is not an object.
    fn read(data: Option<&RawValue>) -> serde_json::Result<Self> {
        let read = data.map(|data| serde_json::from_str::<Option<Self>>(data.get()));
        Ok(read.transpose()?.flatten().unwrap_or_default())
    }
}

impl FrameHead {
    /// Reads a text frame. `None` for one that is not an object with a type.
    pub fn read(text: &str) -> Option<Self> {
        let frame: RawFrame = python_json::read(text.as_bytes()).ok()?;
        let Ok(data) = RawData::read(frame.data.as_deref()) else {
            // Extensions send what they like, also under names of ComfyUI's.
            return Some(Self {
                kind: EventKind::Unknown,
                prompt_id: None,
            });
        };
        // The prompt goes on without the outputs that are blocked.
        let is_blocked = data
            .exception_type
            .is_some_and(|it| it == "ExecutionBlocked");
        let kind = match frame.kind.as_str() {
            "status" | "feature_flags" => EventKind::OfSocket,
            "progress" => EventKind::Progress,
            "progress_state" => EventKind::ProgressState,
            "execution_success" | "execution_interrupted" => EventKind::End,
            "execution_error" if !is_blocked => EventKind::End,
            "executing" if data.node.is_none() => EventKind::Done,
            "executing" | "executed" | "execution_start" | "execution_cached"
            | "execution_error" => EventKind::OfPrompt,
            _ => EventKind::Unknown,
        };
        let prompt_id = data.prompt_id.as_ref().and_then(|id| id.as_str());
        Some(Self {
            kind,
            prompt_id: prompt_id.map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_from_an_error_after_which_the_prompt_goes_on() {
        let kind = |text| FrameHead::read(text).unwrap().kind;
        let error = r#"{"type":"execution_error","data":{"prompt_id":"p","exception_type":"ValueError","value":NaN}}"#;
        assert_eq!(kind(error), EventKind::End);
        let blocked = r#"{"type":"execution_error","data":{"exception_type":"ExecutionBlocked"}}"#;
        assert_eq!(kind(blocked), EventKind::OfPrompt);
        assert_eq!(
            kind(r#"{"type":"executing","data":{"node":null}}"#),
            EventKind::Done
        );
        assert_eq!(
            kind(r#"{"type":"executing","data":{"node":"3"}}"#),
            EventKind::OfPrompt
        );
        assert_eq!(
            kind(r#"{"type":"cm-queue-status","data":null}"#),
            EventKind::Unknown
        );
        assert_eq!(FrameHead::read("[]"), None);
    }

    #[test]
    fn data_of_an_extension_is_any_json() {
        for data in ["\"a text\"", "7", "true", "[1]", "NaN"] {
            let head = FrameHead::read(&format!(r#"{{"type":"my.event","data":{data}}}"#));
            let head = head.unwrap_or_else(|| panic!("{data} is dropped"));
            assert_eq!((head.kind, head.prompt_id), (EventKind::Unknown, None));
        }
    }

    #[test]
    fn the_prompt_is_named() {
        let head = FrameHead::read(r#"{"type":"progress","data":{"prompt_id":"p","value":1}}"#);
        assert_eq!(head.unwrap().prompt_id.as_deref(), Some("p"));
        let head = FrameHead::read(r#"{"type":"progress","data":{"value":1}}"#);
        assert_eq!(head.unwrap().prompt_id, None);
    }
}
