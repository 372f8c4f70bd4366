//! Why ComfyUI did not accept a prompt.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::job::redact;

/// What ComfyUI's validation found wrong with a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// ComfyUI's error type, such as `prompt_outputs_failed_validation`.
    pub kind: String,
    /// The error message for the whole prompt.
    pub message: String,
    /// The errors of single inputs.
    pub inputs: Vec<WrongInput>,
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
            message: redact(&message),
            inputs: wrong_inputs(&body["node_errors"]),
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

/// Reads ComfyUI's `node_errors`: `{node: {class_type, errors: [{message, details, extra_info: {input_name}}]}}`.
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
                WrongInput {
                    node: id.clone(),
                    class_type: node["class_type"].as_str().unwrap_or_default().to_owned(),
                    input: error["extra_info"]["input_name"]
                        .as_str()
                        .unwrap_or_default()
                        .to_owned(),
                    message: redact(&message.join(": ")),
                }
            })
        })
        .collect()
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for wrong in &self.inputs {
            write!(f, "; {} (node {})", wrong.class_type, wrong.node)?;
            if !wrong.input.is_empty() {
                write!(f, ", input {}", wrong.input)?;
            }
            write!(f, ": {}", wrong.message)?;
        }
        Ok(())
    }
}
