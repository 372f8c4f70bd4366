use serde::Serialize;
use serde_json::{Map, Number, Value};

use crate::comfy::prompt_options::{PromptOptions, QueuePlace};

/// The body of `POST /prompt`. Servers take a key that is there and `null` for a value, so what is not asked for is left out.
#[derive(Serialize)]
pub(super) struct PromptBody<'a> {
    prompt: &'a Map<String, Value>,
    client_id: &'a str,
    prompt_id: &'a str,
    #[serde(skip_serializing_if = "Map::is_empty")]
    extra_data: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    partial_execution_targets: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    front: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<&'a Number>,
}

impl<'a> PromptBody<'a> {
    pub(super) fn new(
        graph: &'a Map<String, Value>,
        client_id: &'a str,
        prompt_id: &'a str,
        options: &'a PromptOptions,
    ) -> Self {
        let (front, number) = match options.place() {
            QueuePlace::Back => (None, None),
            QueuePlace::Front => (Some(true), None),
            QueuePlace::Number(number) => (None, Some(number)),
        };
        Self {
            prompt: graph,
            client_id,
            prompt_id,
            extra_data: options.extra_data(),
            partial_execution_targets: options.targets(),
            front,
            number,
        }
    }
}
