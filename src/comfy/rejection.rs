//! Why ComfyUI did not accept a prompt.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::job::{excerpt, redact};

/// How many wrong inputs are listed.
const MAX_INPUTS: usize = 50;

/// How many of them the sentence for people names.
const NAMED_INPUTS: usize = 3;

/// What ComfyUI's validation found wrong with a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// ComfyUI's error type, such as `prompt_outputs_failed_validation`.
    pub kind: String,
    /// The error message for the whole prompt.
    pub message: String,
    /// The errors of single inputs, of many the first.
    pub inputs: Vec<WrongInput>,
    /// How many there are.
    pub inputs_total: usize,
}

/// What is wrong with one input of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WrongInput {
    /// The node's id.
    pub node: String,
    /// Its class.
    pub class_type: String,
    /// The input's name; empty if the error is about the whole node.
    pub input: String,
    /// What is wrong.
    pub message: String,
}

impl Rejection {
    /// Reads the body of ComfyUI's answer 400: `{error: {type, message, details}, node_errors}`.
    pub fn read(body: &Value) -> Self {
        let error = &body["error"];
        let text = |key| error[key].as_str().unwrap_or_default().trim();
        let message = match (text("message"), text("details")) {
            ("", "") => error.as_str().unwrap_or("no reason given").to_owned(),
            (message, "") => message.to_owned(),
            (message, details) if message == details => message.to_owned(),
            (message, details) => {
                format!(
                    "{}: {}",
                    message.trim_end_matches('.'),
                    details.replace('\n', " ")
                )
            }
        };
        Self {
            kind: error["type"].as_str().unwrap_or("rejected").to_owned(),
            message: excerpt(&redact(&message)).into_owned(),
            inputs: wrong_inputs(&body["node_errors"]),
            inputs_total: count(&body["node_errors"]),
        }
    }
}

/// The ids of the outputs that do not run because of wrong inputs: `dependent_outputs` of each node in
/// ComfyUI's `node_errors`.
pub fn refused_outputs(node_errors: &Value) -> Vec<String> {
    let nodes = node_errors.as_object().into_iter().flatten();
    let outputs = nodes.filter_map(|(_, node)| node["dependent_outputs"].as_array());
    let ids = outputs.flatten().filter_map(Value::as_str);
    ids.map(str::to_owned).collect()
}

/// How many errors there are in ComfyUI's `node_errors`.
fn count(node_errors: &Value) -> usize {
    let nodes = node_errors.as_object().into_iter().flatten();
    let errors = nodes.filter_map(|(_, node)| node["errors"].as_array());
    errors.map(Vec::len).sum()
}

/// Reads the first of ComfyUI's `node_errors`: `{node: {class_type, errors: [{message, details, extra_info: {input_name}}]}}`.
pub(super) fn wrong_inputs(node_errors: &Value) -> Vec<WrongInput> {
    let nodes = node_errors.as_object().into_iter().flatten();
    nodes
        .flat_map(|(id, node)| {
            let errors = node["errors"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default();
            errors.iter().map(move |error| {
                let text = |key| error[key].as_str().unwrap_or_default();
                let mut message = vec![text("message"), text("details")];
                message.retain(|part| !part.is_empty());
                let quote = |text: &Value| excerpt(text.as_str().unwrap_or_default()).into_owned();
                WrongInput {
                    node: excerpt(id).into_owned(),
                    class_type: quote(&node["class_type"]),
                    input: quote(&error["extra_info"]["input_name"]),
                    message: excerpt(&redact(&message.join(": "))).into_owned(),
                }
            })
        })
        .take(MAX_INPUTS)
        .collect()
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for wrong in self.inputs.iter().take(NAMED_INPUTS) {
            write!(f, "; {} (node {})", wrong.class_type, wrong.node)?;
            if !wrong.input.is_empty() {
                write!(f, ", input {}", wrong.input)?;
            }
            write!(f, ": {}", wrong.message)?;
        }
        match self.inputs_total.saturating_sub(NAMED_INPUTS) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}
