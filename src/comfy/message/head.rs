//! What of a text frame says whom it is for.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
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

/// A frame whose fields have the types that ComfyUI gives them: it is read in one go.
#[derive(Deserialize)]
struct PlainFrame<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    data: PlainData,
}

#[derive(Deserialize)]
struct PlainData {
    prompt_id: Option<String>,
    node: Option<IgnoredAny>,
    exception_type: Option<String>,
}

/// Any other one.
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
        let Ok(PlainFrame { kind, data }) = serde_json::from_str::<PlainFrame<'_>>(text) else {
            return Self::read_by_field(text);
        };
        let exception = data.exception_type.as_deref();
        Some(Self {
            kind: EventKind::of(&kind, data.node.is_some(), exception),
            prompt_id: data.prompt_id,
        })
    }

    /// Reads a frame in Python's dialect of JSON, or with fields of unexpected types, which count as missing.
    fn read_by_field(text: &str) -> Option<Self> {
        let frame: RawFrame = python_json::read(text.as_bytes()).ok()?;
        let Ok(data) = RawData::read(frame.data.as_deref()) else {
            // Extensions send what they like, also under names of ComfyUI's.
            return Some(Self {
                kind: EventKind::Unknown,
                prompt_id: None,
            });
        };
        let exception = data.exception_type.as_ref().and_then(|it| it.as_str());
        let prompt_id = data.prompt_id.as_ref().and_then(|id| id.as_str());
        Some(Self {
            kind: EventKind::of(&frame.kind, data.node.is_some(), exception),
            prompt_id: prompt_id.map(str::to_owned),
        })
    }
}

impl EventKind {
    /// The kind of a message of this type, with the type of its exception.
    fn of(kind: &str, has_node: bool, exception: Option<&str>) -> Self {
        // The prompt goes on without the outputs that are blocked.
        let is_blocked = exception == Some("ExecutionBlocked");
        match kind {
            "status" | "feature_flags" => Self::OfSocket,
            "progress" => Self::Progress,
            "progress_state" => Self::ProgressState,
            "execution_success" | "execution_interrupted" => Self::End,
            "execution_error" if !is_blocked => Self::End,
            "executing" if !has_node => Self::Done,
            "executing" | "executed" | "execution_start" | "execution_cached"
            | "execution_error" => Self::OfPrompt,
            _ => Self::Unknown,
        }
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
