//! The fields of a submission that go to ComfyUI beside the graph.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::comfy::{PreviewMethod, PromptOptions, QueuePlace};
use crate::job::excerpt;
use crate::server::error::ApiError;

/// The fields as the body has them: read one by one, because an error in JSON could show the key in one of them.
#[derive(Default, JsonSchema, Deserialize)]
#[serde(default)]
pub(in crate::server::api) struct PromptFields {
    /// Passed on to ComfyUI as it is.
    #[schemars(with = "Option<Map<String, Value>>")]
    extra_data: Option<Value>,
    #[schemars(with = "Option<PreviewMethod>")]
    preview_method: Option<Value>,
    /// The output nodes that are to run alone.
    #[schemars(with = "Option<Vec<String>>", length(min = 1))]
    partial_execution_targets: Option<Value>,
    /// Before the others that wait with its priority.
    #[schemars(with = "Option<bool>")]
    front: Option<Value>,
    /// Its place in ComfyUI's queue: lower ones run first.
    #[schemars(with = "Option<f64>")]
    number: Option<Value>,
}

impl PromptFields {
    /// Their names.
    pub(in crate::server::api) const NAMES: [&str; 5] = [
        "extra_data",
        "preview_method",
        "partial_execution_targets",
        "front",
        "number",
    ];

    /// The name of one that the body has.
    pub(in crate::server::api) fn given(&self) -> Option<&'static str> {
        let fields = [
            &self.extra_data,
            &self.preview_method,
            &self.partial_execution_targets,
            &self.front,
            &self.number,
        ];
        let mut named = Self::NAMES.into_iter().zip(fields);
        named.find_map(|(name, field)| field.as_ref().map(|_| name))
    }

    /// What they say.
    pub(in crate::server::api) fn options(self) -> Result<PromptOptions, ApiError> {
        let extra_data = extra_data(self.extra_data)?;
        let targets = targets(self.partial_execution_targets)?;
        let place = place(self.front, self.number)?;
        let options = PromptOptions::new(extra_data, targets, place);
        match self.preview_method.as_ref().map(preview_method) {
            None => Ok(options),
            Some(method) if !options.has_preview_method() => Ok(options.with_previews(method?)),
            Some(_) => Err(ApiError::bad_request(
                "bad_preview_method",
                "extra_data has a preview_method, too; give it once",
            )),
        }
    }
}

fn extra_data(value: Option<Value>) -> Result<Map<String, Value>, ApiError> {
    match value {
        None => Ok(Map::new()),
        Some(Value::Object(extra_data)) => Ok(extra_data),
        Some(_) => Err(ApiError::bad_request(
            "bad_extra_data",
            "extra_data is an object",
        )),
    }
}

fn preview_method(value: &Value) -> Result<PreviewMethod, ApiError> {
    let method = value.as_str().and_then(PreviewMethod::from_word);
    method.ok_or_else(|| {
        let known = PreviewMethod::ALL.map(PreviewMethod::as_str).join(", ");
        let given = value.to_string();
        let given = excerpt(&given);
        ApiError::bad_request(
            "bad_preview_method",
            format!("preview_method is one of {known}, not {given}"),
        )
    })
}

fn targets(value: Option<Value>) -> Result<Vec<String>, ApiError> {
    let Some(value) = value else {
        return Ok(Vec::new());
    };
    let ids = value.as_array().into_iter().flatten();
    let ids: Option<Vec<String>> = ids.map(|id| id.as_str().map(str::to_owned)).collect();
    ids.filter(|ids| !ids.is_empty()).ok_or_else(|| {
        ApiError::bad_request(
            "bad_target",
            "partial_execution_targets is a list of ids of output nodes, such as [\"9\"]",
        )
    })
}

fn place(front: Option<Value>, number: Option<Value>) -> Result<QueuePlace, ApiError> {
    let is_front = match front {
        None => false,
        Some(Value::Bool(is_front)) => is_front,
        Some(_) => {
            return Err(ApiError::bad_request("bad_front", "front is true or false"));
        }
    };
    match number {
        None if is_front => Ok(QueuePlace::Front),
        None => Ok(QueuePlace::Back),
        Some(Value::Number(_)) if is_front => Err(ApiError::bad_request(
            "bad_number",
            "give either front or number: ComfyUI would ignore front",
        )),
        Some(Value::Number(number)) => Ok(QueuePlace::Number(number)),
        Some(_) => Err(ApiError::bad_request("bad_number", "number is a number")),
    }
}
