//! Fills parameters into a graph.

use serde_json::{Map, Value};

use super::error::WorkflowError;

/// Fills in parameters: `{"NODE.INPUT": value}`, where `NODE` is a node's id or its title.
///
/// Only inputs that the graph has can be filled in, with values of the same JSON type, and none that is linked to
/// another node. If one parameter does not fit, the graph stays as it was.
pub fn fill(
    graph: &mut Map<String, Value>,
    params: &Map<String, Value>,
) -> Result<(), WorkflowError> {
    let mut filled = graph.clone();
    for (name, value) in params {
        let wrong = |why: String| WorkflowError::Parameter {
            name: name.clone(),
            why,
        };
        let (node, input) = name
            .rsplit_once('.')
            .ok_or_else(|| wrong("expected NODE.INPUT, such as \"3.seed\"".to_owned()))?;
        let id = find(&filled, node).map_err(wrong)?;
        let slot = filled
            .get_mut(&id)
            .and_then(|node| node.get_mut("inputs")?.get_mut(input))
            .ok_or_else(|| wrong(format!("node {node:?} has no input {input:?}")))?;
        if slot.is_array() {
            return Err(wrong("this input is linked to another node".to_owned()));
        }
        if kind(slot) != kind(value) {
            return Err(wrong(format!(
                "expected {}, got {}",
                kind(slot),
                kind(value)
            )));
        }
        *slot = value.clone();
    }
    *graph = filled;
    Ok(())
}

/// The id of a node, given its id or its title.
fn find(graph: &Map<String, Value>, node: &str) -> Result<String, String> {
    if graph.contains_key(node) {
        return Ok(node.to_owned());
    }
    let titled =
        |value: &Value| value.pointer("/_meta/title").and_then(Value::as_str) == Some(node);
    let mut found = graph.iter().filter(|(_, value)| titled(value));
    match (found.next(), found.next()) {
        (Some((id, _)), None) => Ok(id.clone()),
        (None, _) => Err(format!("there is no node {node:?}")),
        (Some(_), Some(_)) => Err(format!(
            "several nodes have the title {node:?}; use the node's id"
        )),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::workflow::check;

    fn graph() -> Map<String, Value> {
        let graph = json!({
            "3": {"class_type": "KSampler", "inputs": {"seed": 1, "model": ["4", 0]}, "_meta": {"title": "Sampler"}},
            "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a"}, "_meta": {"title": "Text"}},
            "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "b"}, "_meta": {"title": "Text"}},
        });
        check(graph).unwrap()
    }

    fn filled(name: &str, value: Value) -> Result<Map<String, Value>, String> {
        let mut graph = graph();
        let params = Map::from_iter([(name.to_owned(), value)]);
        fill(&mut graph, &params).map_err(|error| error.to_string())?;
        Ok(graph)
    }

    #[test]
    fn parameters_are_filled_in_by_id_and_by_title() {
        assert_eq!(
            filled("3.seed", json!(7)).unwrap()["3"]["inputs"]["seed"],
            7
        );
        assert_eq!(
            filled("Sampler.seed", json!(7)).unwrap()["3"]["inputs"]["seed"],
            7
        );
    }

    #[test]
    fn parameters_that_do_not_fit_are_refused() {
        for (name, value, why) in [
            ("seed", json!(1), "expected NODE.INPUT"),
            ("9.seed", json!(1), "there is no node"),
            ("3.cfg", json!(1), "has no input"),
            ("3.seed", json!("x"), "expected a number, got a text"),
            ("3.model", json!("x"), "linked"),
            ("Text.text", json!("x"), "several nodes"),
        ] {
            let error = filled(name, value).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
