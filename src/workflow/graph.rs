//! Parses and checks graphs in API format.

use serde_json::{Map, Value};

use super::error::WorkflowError;
use super::png;
use crate::job::excerpt;
use crate::python_json;

/// What ComfyUI's `POST /prompt` takes beside the graph, and the relay chooses itself.
const CHOSEN_BY_RELAY: [&str; 2] = ["client_id", "prompt_id"];

/// Parses a graph in API format from a file: the graph itself, the body of a `POST /prompt`, whose `prompt` is the
/// graph, or a PNG file that ComfyUI has saved.
pub fn parse(file: &[u8]) -> Result<Map<String, Value>, WorkflowError> {
    let text = if png::is_png(file) {
        png::text(file, "prompt")?.ok_or(WorkflowError::NoGraphInPng)?
    } else {
        file
    };
    check(python_json::read(text).map_err(WorkflowError::NotJson)?)
}

/// Checks that a value is a graph in API format, an object of nodes with `class_type` and `inputs`, or the body of a
/// `POST /prompt`, whose `prompt` is the graph.
pub fn check(graph: Value) -> Result<Map<String, Value>, WorkflowError> {
    let wrong = |why: String| Err(WorkflowError::NotApiFormat(why));
    let Value::Object(graph) = graph else {
        return wrong("not an object".to_owned());
    };
    let graph = unwrap(graph)?;
    if graph.get("nodes").is_some_and(Value::is_array) {
        return Err(WorkflowError::EditorFormat);
    }
    if graph.is_empty() {
        return wrong("it has no nodes".to_owned());
    }
    for (id, node) in &graph {
        if !node.get("class_type").is_some_and(Value::is_string) {
            return wrong(format!("node {:?} has no class_type", excerpt(id)));
        }
        if !node.get("inputs").is_none_or(Value::is_object) {
            return wrong(format!(
                "the inputs of node {:?} are not an object",
                excerpt(id)
            ));
        }
    }
    Ok(graph)
}

/// Checks that the outputs that are to run are nodes of a graph.
pub fn check_targets(graph: &Map<String, Value>, targets: &[String]) -> Result<(), WorkflowError> {
    match targets.iter().find(|id| !graph.contains_key(*id)) {
        Some(unknown) => Err(WorkflowError::Target(unknown.clone())),
        None => Ok(()),
    }
}

/// Whether an object is the body of a `POST /prompt`: its `prompt` is an object, and not a node of this id.
pub fn is_prompt_body(body: &Map<String, Value>) -> bool {
    let prompt = body.get("prompt").and_then(Value::as_object);
    prompt.is_some_and(|prompt| !prompt.get("class_type").is_some_and(Value::is_string))
}

/// The graph of the body of a `POST /prompt`, or the graph itself.
fn unwrap(mut body: Map<String, Value>) -> Result<Map<String, Value>, WorkflowError> {
    if !is_prompt_body(&body) {
        return Ok(body);
    }
    let graph = body.remove("prompt");
    let mut others = body.into_iter().map(|(name, _)| name);
    if let Some(unknown) = others.find(|name| !CHOSEN_BY_RELAY.contains(&name.as_str())) {
        return Err(WorkflowError::UnknownField(unknown));
    }
    match graph {
        Some(Value::Object(graph)) => Ok(graph),
        _ => Ok(Map::new()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The program prints an error with its sources, the API without them: the text must be the same.
    #[test]
    fn the_reason_why_a_text_is_not_json_is_printed_once() {
        let error = anyhow::Error::from(parse(b"{").unwrap_err());
        let (alone, whole) = (error.to_string(), format!("{error:#}"));
        assert!(alone.contains("EOF while parsing"), "{alone}");
        assert_eq!(alone, whole);
    }

    #[test]
    fn the_editors_format_is_recognised() {
        let editor = json!({"nodes": [], "links": [], "version": 0.4});
        assert!(matches!(check(editor), Err(WorkflowError::EditorFormat)));
        for wrong in [
            json!([]),
            json!({}),
            json!({"3": {}}),
            json!({"3": {"class_type": "A", "inputs": 1}}),
        ] {
            assert!(matches!(check(wrong), Err(WorkflowError::NotApiFormat(_))));
        }
    }

    #[test]
    fn the_body_of_a_prompt_is_taken_for_its_graph() {
        let text = br#"{"prompt": {"3": {"class_type": "A"}}, "client_id": "c"}"#;
        assert_eq!(parse(text).unwrap().len(), 1);
        let node = json!({"prompt": {"class_type": "A"}, "2": {"class_type": "B"}});
        assert_eq!(check(node).unwrap().len(), 2, "a node has this id");
    }
}
