//! The field `backend` of a body: which ComfyUI servers are meant.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value};

use crate::config::BackendLabels;
use crate::job::excerpt;
use crate::relay::BackendChoice;
use crate::server::error::ApiError;

/// How many servers a body names at most.
const MAX_BACKENDS: usize = 1_000;

/// What the field takes.
const EXPECTED: &str = "backend is the name of a backend, or labels such as \"gpu=a100\" or {\"gpu\": \"a100\"}, or a list of \
                        such";

/// The field, as its schema describes it.
pub(super) enum BackendField {}

impl JsonSchema for BackendField {
    fn schema_name() -> Cow<'static, str> {
        "BackendField".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let labels = generator.subschema_for::<BackendLabels>();
        let one = json_schema!({"anyOf": [{"type": "string"}, labels]});
        json_schema!({
            "description": EXPECTED,
            "anyOf": [
                one,
                {"type": "array", "items": one, "minItems": 1, "maxItems": MAX_BACKENDS},
            ],
        })
    }
}

/// The servers that a body asks for; none for all of them. A name, labels as a text or as an object, or a list of such.
pub(super) fn backend_choices(field: Option<&Value>) -> Result<Vec<BackendChoice>, ApiError> {
    match field {
        None => Ok(Vec::new()),
        Some(Value::Array(choices)) if (1..=MAX_BACKENDS).contains(&choices.len()) => {
            choices.iter().map(choice).collect()
        }
        Some(value) => Ok(vec![choice(value)?]),
    }
}

fn choice(value: &Value) -> Result<BackendChoice, ApiError> {
    match value {
        Value::String(text) => BackendChoice::parse(text).map_err(bad_backend),
        Value::Object(labels) if !labels.is_empty() => {
            let labels = labels_of(labels).map_err(bad_backend)?;
            Ok(BackendChoice::Labelled(labels))
        }
        _ => Err(bad_backend(EXPECTED)),
    }
}

/// The labels that an object has; or what is wrong with them.
pub(super) fn labels_of(labels: &Map<String, Value>) -> Result<BackendLabels, String> {
    let texts = labels.iter().map(|(key, value)| {
        let text = value.as_str();
        let text = text.ok_or_else(|| format!("the label {:?} is not a text", excerpt(key)))?;
        Ok((key.clone(), text.to_owned()))
    });
    let texts: Vec<(String, String)> = texts.collect::<Result<_, String>>()?;
    BackendLabels::check(texts).map_err(|why| why.to_string())
}

fn bad_backend(why: impl ToString) -> ApiError {
    ApiError::bad_request("bad_backend", why.to_string())
}
