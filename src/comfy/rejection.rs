//! Why ComfyUI did not accept a prompt.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::known_types::text;
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
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct WrongInput {
    /// The node's id.
    pub node: String,
    /// Its class.
    pub class_type: String,
    /// The input's name; empty if the error is about the whole node.
    pub input: String,
    /// ComfyUI's word for what is wrong, such as `value_not_in_list`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub code: String,
    /// What is wrong.
    pub message: String,
}

impl Rejection {
    /// Reads the body of ComfyUI's answer 400 to a graph: `{error: {type, message, details, extra_info}, node_errors}`. What
    /// concerns one node can be in either of them.
    pub fn read(body: &Value, graph: &Map<String, Value>) -> Self {
        let error = &body["error"];
        let word = |key| error[key].as_str().unwrap_or_default().trim();
        let nodes = nodes_of(error);
        // The node is named with its class beside the message.
        let details = Some(word("details")).filter(|text| node_in(text).is_none());
        let message = match (word("message"), details.unwrap_or_default()) {
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
        let message = excerpt(&redact(&message)).into_owned();
        let mut inputs = wrong_inputs(&body["node_errors"]);
        let mut inputs_total = count(&body["node_errors"]);
        if inputs.is_empty() {
            let of_prompt = nodes.iter().map(|id| wrong_node(id, error, &message));
            inputs = of_prompt.take(MAX_INPUTS).collect();
            inputs_total = nodes.len();
        }
        for wrong in inputs.iter_mut().filter(|it| it.class_type.is_empty()) {
            let class = graph.get(&wrong.node).map(|node| &node["class_type"]);
            wrong.class_type = quoted(class.unwrap_or(&Value::Null));
        }
        Self {
            kind: error["type"].as_str().unwrap_or("rejected").to_owned(),
            message,
            inputs,
            inputs_total,
        }
    }
}

/// The nodes that an error of a whole prompt is about: by its `extra_info`, in older versions by its text.
fn nodes_of(error: &Value) -> Vec<String> {
    let info = &error["extra_info"];
    let cycle = info["cycle_nodes"].as_array().into_iter().flatten();
    let cycle: Vec<String> = cycle.filter_map(text).collect();
    if !cycle.is_empty() {
        return cycle;
    }
    let by_text = || node_in(error["details"].as_str()?).map(str::to_owned);
    text(&info["node_id"])
        .or_else(by_text)
        .into_iter()
        .collect()
}

/// The node's id in a text that names no more: `Node ID '#3'`.
fn node_in(details: &str) -> Option<&str> {
    details
        .trim()
        .strip_prefix("Node ID '#")?
        .strip_suffix('\'')
}

/// What an error of a whole prompt says of one node.
fn wrong_node(id: &str, error: &Value, message: &str) -> WrongInput {
    let info = &error["extra_info"];
    let is_its_class = text(&info["node_id"]).is_none_or(|of| of == id);
    WrongInput {
        node: excerpt(id).into_owned(),
        class_type: quoted(if is_its_class {
            &info["class_type"]
        } else {
            &Value::Null
        }),
        input: quoted(&info["input_name"]),
        code: quoted(&error["type"]),
        message: message.to_owned(),
    }
}

fn quoted(text: &Value) -> String {
    excerpt(text.as_str().unwrap_or_default()).into_owned()
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
                WrongInput {
                    node: excerpt(id).into_owned(),
                    class_type: quoted(&node["class_type"]),
                    input: quoted(&error["extra_info"]["input_name"]),
                    code: quoted(&error["type"]),
                    message: excerpt(&redact(&message.join(": "))).into_owned(),
                }
            })
        })
        .take(MAX_INPUTS)
        .collect()
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.inputs.is_empty() {
            &self.message
        } else {
            self.message.trim_end_matches('.')
        })?;
        for wrong in self.inputs.iter().take(NAMED_INPUTS) {
            match wrong.class_type.as_str() {
                "" => write!(f, "; node {}", wrong.node)?,
                class => write!(f, "; {class} (node {})", wrong.node)?,
            }
            if !wrong.input.is_empty() {
                write!(f, ", input {}", wrong.input)?;
            }
            if wrong.message != self.message {
                write!(f, ": {}", wrong.message)?;
            }
        }
        match self.inputs_total.saturating_sub(NAMED_INPUTS) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn graph() -> Map<String, Value> {
        let graph = json!({"3": {"class_type": "NoSuchNode"}, "57:12": {"class_type": "StartLoop"}, "57:12.0": {"class_type": "EndLoop"}});
        graph.as_object().unwrap().clone()
    }

    fn refused(error: &Value, node_errors: &Value) -> Rejection {
        let body = json!({"error": error, "node_errors": node_errors});
        Rejection::read(&body, &graph())
    }

    /// As 0.33.0 sends it: the title says KSampler, the class is the one that is missing.
    #[test]
    fn a_missing_class_is_named_with_its_node() {
        let error = json!({"type": "missing_node_type", "message": "Node 'KSampler' not found. The custom node may not be installed.",
            "details": "Node ID '#3'", "extra_info": {"node_id": "3", "class_type": "NoSuchNode", "node_title": "KSampler"}});
        let refused = refused(&error, &json!({}));
        assert_eq!(
            refused.to_string(),
            "Node 'KSampler' not found. The custom node may not be installed; NoSuchNode (node 3)"
        );
        let wrong = &refused.inputs[0];
        assert_eq!(
            (wrong.node.as_str(), wrong.class_type.as_str()),
            ("3", "NoSuchNode")
        );
        assert_eq!(refused.inputs_total, 1);
    }

    /// Servers before 0.9 name the node in a text alone.
    #[test]
    fn the_node_in_a_text_is_found_in_the_graph() {
        let error = json!({"type": "invalid_prompt", "message": "Cannot execute because node NoSuchNode does not exist.",
            "details": "Node ID '#3'", "extra_info": {}});
        let refused = refused(&error, &json!([]));
        assert_eq!(
            refused.to_string(),
            "Cannot execute because node NoSuchNode does not exist; NoSuchNode (node 3)"
        );
    }

    #[test]
    fn each_node_of_a_cycle_is_named() {
        let cycle = ["57:12", "57:12.0"];
        let error = json!({"type": "dependency_cycle", "message": "Dependency cycle detected", "details": "57:12 -> 57:12.0 -> 57:12",
            "extra_info": {"node_id": "57:12", "cycle_nodes": cycle}});
        let of_prompt = refused(&error, &json!({}));
        assert_eq!(
            of_prompt.to_string(),
            "Dependency cycle detected: 57:12 -> 57:12.0 -> 57:12; StartLoop (node 57:12); EndLoop (node 57:12.0)"
        );
        let of_nodes = json!({"57:12": {"errors": [error], "dependent_outputs": [], "class_type": "StartLoop"}});
        let failed = json!({"type": "prompt_outputs_failed_validation", "message": "Prompt outputs failed validation", "details": ""});
        assert_eq!(
            refused(&failed, &of_nodes).to_string(),
            "Prompt outputs failed validation; StartLoop (node 57:12): Dependency cycle detected: 57:12 -> 57:12.0 -> 57:12"
        );
    }

    #[test]
    fn a_wrong_dynamic_input_is_named_with_its_node() {
        let error = json!({"type": "invalid_dynamic_input", "message": "Dynamic input is invalid", "details": "count",
            "extra_info": {"node_id": "57:12", "input_name": "count"}});
        assert_eq!(
            refused(&error, &json!({})).to_string(),
            "Dynamic input is invalid: count; StartLoop (node 57:12), input count"
        );
        let of_nodes = json!({"57:12": {"errors": [error]}});
        let failed =
            json!({"type": "prompt_outputs_failed_validation", "message": "Failed", "details": ""});
        let refused = refused(&failed, &of_nodes);
        assert_eq!(
            refused.to_string(),
            "Failed; StartLoop (node 57:12), input count: Dynamic input is invalid: count"
        );
    }

    #[test]
    fn a_refusal_that_is_about_no_node_names_none() {
        let error = json!({"type": "invalid_prompt_id", "message": "Invalid prompt ID", "details": "prompt_id must be a lower-case UUID", "extra_info": {}});
        let refused = refused(&error, &json!({}));
        assert_eq!(refused.kind, "invalid_prompt_id");
        assert_eq!(
            refused.to_string(),
            "Invalid prompt ID: prompt_id must be a lower-case UUID"
        );
        assert_eq!((refused.inputs.len(), refused.inputs_total), (0, 0));
    }
}
