//! Whose prompt a job is that came over ComfyUI's API: its tags say so, and what ComfyUI keeps of the prompt.

use serde_json::{Map, Value};

use crate::job::{JobId, TagError, Tags};

/// The text of [`Tags::VIA`] for ComfyUI's API.
const COMFY: &str = "comfy";

/// The label with the client id that the caller gave.
const CLIENT_ID: &str = "client_id";

/// The tags of a job that came over ComfyUI's API, under the client id of its caller.
///
/// # Errors
///
/// If the client id is too long for a label, or has control characters.
pub fn comfy_tags(client_id: Option<&str>) -> Result<Tags, TagError> {
    let mut labels = Map::new();
    if let Some(client_id) = client_id.filter(|id| !id.is_empty()) {
        labels.insert(CLIENT_ID.to_owned(), client_id.into());
    }
    labelled_comfy_tags(labels)
}

/// The tags of a job that came over ComfyUI's API, with the labels that its caller has given.
///
/// # Errors
///
/// If there are too many labels, or one is not a short text.
pub fn labelled_comfy_tags(mut labels: Map<String, Value>) -> Result<Tags, TagError> {
    labels.insert(Tags::VIA.to_owned(), COMFY.into());
    Tags::check(&labels, None)
}

/// Whether a job came over ComfyUI's API.
pub(in crate::relay) fn is_from_comfy(tags: &Tags) -> bool {
    tags.labels.get(Tags::VIA).is_some_and(|via| via == COMFY)
}

/// The client id under which a job came over ComfyUI's API: its events go to the sockets of that id.
pub(in crate::relay) fn client_of(tags: &Tags) -> Option<&str> {
    let client_id = tags.labels.get(CLIENT_ID);
    client_id
        .map(String::as_str)
        .filter(|_| is_from_comfy(tags))
}

/// What ComfyUI keeps of a prompt beside its graph, so that its queue and its history show whose it is: the relay submits under
/// a client id of its own, and a job that runs again under another prompt id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::relay) struct PromptCaller {
    /// The prompt id that the caller knows.
    pub(in crate::relay) prompt_id: String,
    /// The caller's client id.
    pub(in crate::relay) client_id: Option<String>,
}

impl PromptCaller {
    /// The key of `extra_data` under which it is kept.
    const KEY: &str = "comfy_relay";

    /// Of a job; `None` if it came over another API.
    pub(in crate::relay) fn of(job: &JobId, tags: &Tags) -> Option<Self> {
        is_from_comfy(tags).then(|| Self {
            prompt_id: job.to_string(),
            client_id: client_of(tags).map(str::to_owned),
        })
    }

    /// The key and the value for `extra_data`.
    pub(in crate::relay) fn to_extra(&self) -> (String, Value) {
        let mut value = Map::new();
        value.insert("prompt_id".to_owned(), self.prompt_id.clone().into());
        if let Some(client_id) = &self.client_id {
            value.insert("client_id".to_owned(), client_id.clone().into());
        }
        (Self::KEY.to_owned(), Value::Object(value))
    }

    /// Takes it out of `extra_data`, and puts the caller's client id in the place of the relay's `own`, which is shown to nobody: a
    /// socket with that id would take the relay's events.
    pub(super) fn take_from(extra_data: &mut Map<String, Value>, own: &str) -> Option<Self> {
        if extra_data.get(CLIENT_ID).is_some_and(|id| id == own) {
            extra_data.shift_remove(CLIENT_ID);
        }
        let kept = extra_data.shift_remove(Self::KEY)?;
        let text = |name: &str| kept.get(name)?.as_str().map(str::to_owned);
        let caller = Self {
            prompt_id: text("prompt_id")?,
            client_id: text("client_id"),
        };
        extra_data.shift_remove("client_id");
        if let Some(client_id) = &caller.client_id {
            extra_data.insert("client_id".to_owned(), client_id.clone().into());
        }
        Some(caller)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_comfyui_keeps_shows_the_callers_own_ids() {
        let tags = comfy_tags(Some("editor")).unwrap();
        let job = JobId::parse("prompt").unwrap();
        let (key, value) = PromptCaller::of(&job, &tags).unwrap().to_extra();
        let mut extra = json!({"client_id": "relay", "other": 1, key: value});
        let extra = extra.as_object_mut().unwrap();
        let caller = PromptCaller::take_from(extra, "relay").unwrap();
        assert_eq!(caller.prompt_id, "prompt");
        assert_eq!(
            Value::Object(extra.clone()),
            json!({"client_id": "editor", "other": 1})
        );
        assert_eq!(PromptCaller::take_from(extra, "relay"), None);
        assert_eq!(extra["client_id"], "editor");
        // Of a job of the relay's own API.
        assert_eq!(PromptCaller::take_from(extra, "editor"), None);
        assert_eq!(extra.get("client_id"), None);
    }

    #[test]
    fn a_job_of_another_api_has_no_caller() {
        let job = JobId::parse("job").unwrap();
        assert_eq!(PromptCaller::of(&job, &Tags::default()), None);
        let without_client = comfy_tags(Some("")).unwrap();
        assert_eq!(client_of(&without_client), None);
        assert!(comfy_tags(Some(&"x".repeat(300))).is_err());
    }
}
