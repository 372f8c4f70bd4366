//! What `POST /prompt` takes beside the graph.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

use crate::wire_schema::word_schema;

/// The key of `extra_data` that says how previews of the prompt are made. Servers before 0.5 ignore it.
const PREVIEW_METHOD: &str = "preview_method";

/// The key of `extra_data` under which partner nodes find the key for their services.
pub(super) const API_KEY: &str = "api_key_comfy_org";

/// The keys of `extra_data` with which partner nodes identify who pays.
const CREDENTIALS: [&str; 2] = [API_KEY, "auth_token_comfy_org"];

/// What a client passes on to ComfyUI with a graph.
///
/// It can hold keys of partner nodes: it is kept until the prompt is handed in, and `Debug` shows none of its values.
#[derive(Clone, Default)]
pub struct PromptOptions {
    extra_data: Map<String, Value>,
    targets: Vec<String>,
    place: QueuePlace,
}

/// Where a prompt goes in the server's queue.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum QueuePlace {
    /// Behind the others.
    #[default]
    Back,
    /// Before the others.
    Front,
    /// By this number: lower ones run first.
    Number(Number),
}

/// [`PromptOptions`] without keys, as they can be stored.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoredOptions {
    extra_data: Map<String, Value>,
    targets: Vec<String>,
    front: bool,
    number: Option<Number>,
}

/// How a server makes previews of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreviewMethod {
    /// As the server was started.
    Default,
    /// Not at all.
    None,
    /// As is best for the model.
    Auto,
    /// By a matrix.
    Latent2Rgb,
    /// By a small decoder.
    Taesd,
}

impl PromptOptions {
    /// Passes `extra_data` on, runs only the outputs `targets`, or all of them if there are none, and goes to `place` in
    /// the queue.
    pub fn new(extra_data: Map<String, Value>, targets: Vec<String>, place: QueuePlace) -> Self {
        Self {
            extra_data,
            targets,
            place,
        }
    }

    /// The same without the keys of partner nodes, to be stored; and these keys, if there are any.
    pub fn to_stored(&self) -> (StoredOptions, Map<String, Value>) {
        let is_key = |(key, _): &(String, Value)| CREDENTIALS.contains(&key.as_str());
        let extra_data = self.extra_data.clone().into_iter();
        let (keys, extra_data) = extra_data.partition(is_key);
        let stored = StoredOptions {
            extra_data,
            targets: self.targets.clone(),
            front: self.place == QueuePlace::Front,
            number: match &self.place {
                QueuePlace::Number(number) => Some(number.clone()),
                QueuePlace::Back | QueuePlace::Front => None,
            },
        };
        (stored, keys)
    }

    /// The same, with keys of partner nodes.
    pub fn with_keys(mut self, keys: Map<String, Value>) -> Self {
        self.extra_data.extend(keys);
        self
    }

    /// The ids of the outputs that are to run; none for all of them.
    pub fn targets(&self) -> &[String] {
        &self.targets
    }

    /// Whether it goes before the prompts that wait.
    pub fn goes_to_front(&self) -> bool {
        self.place == QueuePlace::Front
    }

    /// Whether it says how previews are made.
    pub fn has_preview_method(&self) -> bool {
        self.extra_data.contains_key(PREVIEW_METHOD)
    }

    /// The same, with previews made this way.
    pub fn with_previews(mut self, method: PreviewMethod) -> Self {
        let word = Value::from(method.as_str());
        self.extra_data.insert(PREVIEW_METHOD.to_owned(), word);
        self
    }

    /// The same, with something else in `extra_data`.
    pub fn with_extra(mut self, (key, value): (String, Value)) -> Self {
        self.extra_data.insert(key, value);
        self
    }

    /// Whether partner nodes have a key or a token of the client.
    pub(super) fn has_credentials(&self) -> bool {
        CREDENTIALS
            .iter()
            .any(|key| self.extra_data.contains_key(*key))
    }

    /// The same, with a key for partner nodes.
    pub(super) fn with_api_key(mut self, key: &str) -> Self {
        self.extra_data.insert(API_KEY.to_owned(), key.into());
        self
    }

    /// What is passed on beside the graph.
    pub fn extra_data(&self) -> &Map<String, Value> {
        &self.extra_data
    }

    pub(super) fn place(&self) -> &QueuePlace {
        &self.place
    }
}

impl From<StoredOptions> for PromptOptions {
    fn from(stored: StoredOptions) -> Self {
        let place = match stored.number {
            Some(number) => QueuePlace::Number(number),
            None if stored.front => QueuePlace::Front,
            None => QueuePlace::Back,
        };
        Self::new(stored.extra_data, stored.targets, place)
    }
}

impl fmt::Debug for PromptOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&String> = self.extra_data.keys().collect();
        f.debug_struct("PromptOptions")
            .field("extra_data", &keys)
            .field("targets", &self.targets)
            .field("place", &self.place)
            .finish()
    }
}

impl PreviewMethod {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Default,
        Self::None,
        Self::Auto,
        Self::Latent2Rgb,
        Self::Taesd,
    ];

    /// ComfyUI's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::None => "none",
            Self::Auto => "auto",
            Self::Latent2Rgb => "latent2rgb",
            Self::Taesd => "taesd",
        }
    }

    /// The one that a word of ComfyUI names.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str() == word)
    }
}

word_schema!(PreviewMethod, "How ComfyUI makes previews.");

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_value_of_extra_data_is_printed() {
        let extra_data =
            json!({"api_key_comfy_org": "comfyui-secret", "extra_pnginfo": {"a": "b"}});
        let extra_data = extra_data.as_object().unwrap().clone();
        let options = PromptOptions::new(extra_data, vec!["9".to_owned()], QueuePlace::Front);
        let printed = format!("{options:?}");
        assert!(printed.contains("api_key_comfy_org"), "{printed}");
        assert!(!printed.contains("secret"), "{printed}");
    }
}
