//! What a client has said of a job: labels, and the group that it belongs to.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::{Map, Value};

use super::JobId;

/// How many labels a job has at most.
const MAX_LABELS: usize = 16;

/// Its text for a job of a prompt that was found in the queue of a server.
const DISCOVERY: &str = "discovery";

/// The longest key of a label, in characters.
const MAX_KEY: usize = 64;

/// The longest text of a label, in characters.
const MAX_TEXT: usize = 200;

/// What a client has said of a job when it registered it.
#[derive(Debug, Clone, Default, PartialEq, Eq, JsonSchema, Serialize)]
pub struct Tags {
    /// Short texts by their keys.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The group that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The name of the workflow that was submitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
}

/// Why labels or a group are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    /// There are too many labels.
    #[error("a job has at most {MAX_LABELS} labels, not {0}")]
    TooManyLabels(usize),
    /// A key cannot be one.
    #[error("the key of a label has 1 to {MAX_KEY} characters of A-Z a-z 0-9 . _ -, unlike {0:?}")]
    Key(String),
    /// A label is not a short text.
    #[error(
        "the label {0:?} is not a text of 1 to {MAX_TEXT} characters without control characters"
    )]
    Text(String),
    /// A label has a text that the relay gives itself.
    #[error("the label {via:?} cannot be {DISCOVERY:?}: the relay calls jobs so that it has found", via = Tags::VIA)]
    Reserved,
    /// A name cannot be that of a group.
    #[error("a group has a name of 1 to {max} characters of A-Z a-z 0-9 . _ : -", max = JobId::MAX_GROUP_CHARS)]
    Group,
}

impl TagError {
    /// The stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooManyLabels(_) | Self::Key(_) | Self::Text(_) | Self::Reserved => "bad_labels",
            Self::Group => "bad_group",
        }
    }
}

/// The schema of the labels that a client gives a job.
pub fn labels_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "description": "Short texts by their keys: what the job is to the client.",
        "type": "object",
        "maxProperties": MAX_LABELS,
        "propertyNames": {"pattern": format!("^[A-Za-z0-9._-]{{1,{MAX_KEY}}}$")},
        "additionalProperties": {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_TEXT,
            "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]+$",
        },
    })
}

/// The schema of the group that a client puts a job into.
pub fn group_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "description": "The group that the job belongs to.",
        "type": ["string", "null"],
        "pattern": format!("^[A-Za-z0-9._:-]{{1,{}}}$", JobId::MAX_GROUP_CHARS),
    })
}

impl Tags {
    /// The label that says how a job has come, other than over the relay's own API.
    pub const VIA: &str = "via";

    /// Checks what a client has sent.
    ///
    /// # Errors
    ///
    /// If there are too many labels, or one is not a short text, or the group's name cannot stand in a URL.
    pub fn check(labels: &Map<String, Value>, group: Option<String>) -> Result<Self, TagError> {
        if labels.len() > MAX_LABELS {
            return Err(TagError::TooManyLabels(labels.len()));
        }
        let labels = labels.iter().map(|(key, value)| {
            if !is_key(key) {
                return Err(TagError::Key(super::excerpt(key).into_owned()));
            }
            let text = value.as_str().filter(|text| is_text(text));
            let text = text.ok_or_else(|| TagError::Text(key.clone()))?;
            Ok((key.clone(), text.to_owned()))
        });
        if let Some(group) = &group {
            JobId::of_group(group).ok_or(TagError::Group)?;
        }
        Ok(Self {
            labels: labels.collect::<Result<_, _>>()?,
            group,
            workflow: None,
        })
    }

    /// The same, and refuses what the relay alone says of a job.
    ///
    /// # Errors
    ///
    /// As [`Tags::check`], and if they are those of a job that the relay has found.
    pub fn of_client(labels: &Map<String, Value>, group: Option<String>) -> Result<Self, TagError> {
        let tags = Self::check(labels, group)?;
        if tags.are_discovered() {
            return Err(TagError::Reserved);
        }
        Ok(tags)
    }

    /// Without the mark of a job that the relay has found.
    pub fn undiscovered(mut self) -> Self {
        if self.are_discovered() {
            self.labels.remove(Self::VIA);
        }
        self
    }

    /// Those of a job of a prompt that nobody has registered: it was found in the queue of a server.
    pub fn discovered() -> Self {
        Self {
            labels: BTreeMap::from([(Self::VIA.to_owned(), DISCOVERY.to_owned())]),
            ..Self::default()
        }
    }

    /// Whether they are those of such a job.
    pub fn are_discovered(&self) -> bool {
        self.labels
            .get(Self::VIA)
            .is_some_and(|via| via == DISCOVERY)
    }

    /// Whether a text, in lower case, occurs in one of them.
    pub(super) fn contain(&self, text: &str) -> bool {
        let labels = self.labels.iter().flat_map(|(key, text)| [key, text]);
        let mut texts = labels.chain(&self.group).chain(&self.workflow);
        texts.any(|tag| tag.to_lowercase().contains(text))
    }
}

fn is_key(key: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=MAX_KEY).contains(&key.len()) && key.chars().all(is_allowed)
}

fn is_text(text: &str) -> bool {
    (1..=MAX_TEXT).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(labels: &Value) -> Result<Tags, TagError> {
        Tags::check(labels.as_object().unwrap(), None)
    }

    #[test]
    fn what_the_relay_says_of_a_job_is_no_label_of_a_client() {
        let labels = json!({"via": "discovery", "shot": "7"});
        let of_client = Tags::of_client(labels.as_object().unwrap(), None);
        assert_eq!(of_client, Err(TagError::Reserved));
        let tags = check(&labels).unwrap().undiscovered();
        assert_eq!(tags, check(&json!({"shot": "7"})).unwrap());
    }

    #[test]
    fn labels_are_few_short_texts() {
        let tags = check(&json!({"episode": "3", "shot.take_1-a": "Zoé läuft"})).unwrap();
        assert_eq!(tags.labels["episode"], "3");
        let many: Map<String, Value> = (0..17).map(|n| (n.to_string(), json!("x"))).collect();
        assert_eq!(Tags::check(&many, None), Err(TagError::TooManyLabels(17)));
        for key in ["", "a=b", "ä", "a b", &"x".repeat(65)] {
            assert_eq!(
                check(&json!({key: "x"})).unwrap_err().code(),
                "bad_labels",
                "{key}"
            );
        }
        for text in [
            json!(3),
            json!(null),
            json!(""),
            json!("a\nb"),
            json!("x".repeat(201)),
        ] {
            let refused = Err(TagError::Text("a".to_owned()));
            assert_eq!(check(&json!({"a": text})), refused, "{text}");
        }
    }

    #[test]
    fn a_group_has_a_name_for_a_url() {
        let check = |name: &str| Tags::check(&Map::new(), Some(name.to_owned()));
        assert!(check("ep3.a:b_c-d").is_ok());
        for name in ["", "a/b", "a b", &"x".repeat(123)] {
            assert_eq!(check(name), Err(TagError::Group), "{name}");
        }
    }
}
