//! Parses and checks graphs in API format.

use serde_json::{Map, Value};

use super::error::WorkflowError;

/// Parses a graph in API format from the text of a file: the graph itself, or the body of a `POST /prompt`, whose
/// `prompt` is the graph.
pub fn parse(text: &str) -> Result<Map<String, Value>, WorkflowError> {
    let value: Value = serde_json::from_str(text).map_err(WorkflowError::NotJson)?;
    let graph = match value {
        Value::Object(mut body) if body.get("prompt").is_some_and(Value::is_object) => {
            body.remove("prompt").unwrap_or_default()
        }
        other => other,
    };
    check(graph)
}

/// Checks that a value is a graph in API format: an object of nodes with `class_type` and `inputs`.
pub fn check(graph: Value) -> Result<Map<String, Value>, WorkflowError> {
    let wrong = |why: String| Err(WorkflowError::NotApiFormat(why));
    let Value::Object(graph) = graph else {
        return wrong("not an object".to_owned());
    };
    if graph.get("nodes").is_some_and(Value::is_array) {
        return Err(WorkflowError::EditorFormat);
    }
    if graph.is_empty() {
        return wrong("it has no nodes".to_owned());
    }
    for (id, node) in &graph {
        if !node.get("class_type").is_some_and(Value::is_string) {
            return wrong(format!("node {id:?} has no class_type"));
        }
        if !node.get("inputs").is_none_or(Value::is_object) {
            return wrong(format!("the inputs of node {id:?} are not an object"));
        }
    }
    Ok(graph)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The program prints an error with its sources, the API without them: the text must be the same.
    #[test]
    fn the_reason_why_a_text_is_not_json_is_printed_once() {
        let error = anyhow::Error::from(parse("{").unwrap_err());
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
        let text = r#"{"prompt": {"3": {"class_type": "A"}}, "client_id": "c"}"#;
        assert_eq!(parse(text).unwrap().len(), 1);
    }
}
