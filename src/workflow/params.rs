//! Fills values into the inputs of a graph.

use serde_json::{Map, Value};

use super::parameter_problem::{MAX_PROBLEMS, ParameterProblem};
use crate::job::excerpt;

/// The longest `NODE.INPUT`, in bytes, and how many of its dots are tried: each is looked up in the whole graph.
const MAX_NAME: usize = 300;
const MAX_DOTS: usize = 10;

/// Fills in inputs: `{"NODE.INPUT": value}`, where `NODE` is a node's id or its title. Returns what does not fit, of very much the first.
///
/// Only inputs that the graph has can be filled in, with values of the same JSON type, and none that is linked to
/// another node. A placeholder, `null` or a text such as `"%seed%"`, takes any plain value unless `expected` knows better:
/// it gets the node's class, the input and the value, and returns what the input takes where the value is not that.
pub(super) fn fill_inputs(
    graph: &mut Map<String, Value>,
    inputs: &Map<String, Value>,
    expected: impl Fn(&str, &str, &Value) -> Option<String>,
) -> Vec<ParameterProblem> {
    let mut problems = Vec::new();
    for (name, value) in inputs {
        if let Err((code, why)) = fill_input(graph, name, value, &expected) {
            problems.push(ParameterProblem::new(name, code, why));
            if problems.len() == MAX_PROBLEMS {
                break;
            }
        }
    }
    problems
}

fn fill_input(
    graph: &mut Map<String, Value>,
    name: &str,
    value: &Value,
    expected: impl Fn(&str, &str, &Value) -> Option<String>,
) -> Result<(), (&'static str, String)> {
    let found = target(graph, name).map_err(|why| (ParameterProblem::UNKNOWN, why))?;
    let (id, input) = found;
    let Some(node) = graph.get_mut(&id) else {
        return Ok(());
    };
    let class = node["class_type"].as_str().unwrap_or_default().to_owned();
    let Some(slot) = node["inputs"].get_mut(input) else {
        return Ok(());
    };
    if slot.is_array() {
        let why = "this input is linked to another node".to_owned();
        return Err((ParameterProblem::LINKED, why));
    }
    let is_plain = !(value.is_object() || value.is_array());
    let wanted = if is_placeholder(slot) && is_plain {
        expected(&class, input, value)
    } else {
        (kind_of(slot) != kind_of(value)).then(|| kind_of(slot).to_owned())
    };
    if let Some(wanted) = wanted {
        let why = format!("expected {wanted}, got {}", kind_of(value));
        return Err((ParameterProblem::TYPE, why));
    }
    *slot = value.clone();
    Ok(())
}

/// A parameter with the id of its node, which may be given by its title; as it is if the graph has no such input.
pub(super) fn by_id(graph: &Map<String, Value>, name: &str) -> String {
    match target(graph, name) {
        Ok((id, input)) => format!("{id}.{input}"),
        Err(_) => name.to_owned(),
    }
}

/// The id of the node and the name of the input that a parameter names. Both may contain dots, so the name is split at
/// the dot before which there is a node, and behind which there is one of its inputs.
fn target<'a>(graph: &Map<String, Value>, name: &'a str) -> Result<(String, &'a str), String> {
    let has_input = |id: &str, input: &str| {
        let inputs = graph.get(id).and_then(|node| node.get("inputs"));
        inputs.is_some_and(|inputs| inputs.get(input).is_some())
    };
    if name.len() > MAX_NAME {
        return Err(format!("it is longer than {MAX_NAME} bytes"));
    }
    let mut why = None;
    for (dot, _) in name.rmatch_indices('.').take(MAX_DOTS) {
        let (node, input) = (&name[..dot], &name[dot + 1..]);
        match find(graph, node) {
            Ok(id) if has_input(&id, input) => return Ok((id, input)),
            Ok(_) => {
                let (node, input) = (excerpt(node), excerpt(input));
                why = Some(format!("node {node:?} has no input {input:?}"));
            }
            Err(error) => {
                why.get_or_insert(error);
            }
        }
    }
    Err(why.unwrap_or_else(|| "expected NODE.INPUT, such as \"3.seed\"".to_owned()))
}

/// Whether a value stands for one that is to be filled in, as templates have it.
pub(super) fn is_placeholder(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => {
            let text = text.trim();
            let marks = [("%", "%"), ("{{", "}}"), ("${", "}")];
            let is_between = |(start, end): (&str, &str)| {
                let inner = text.strip_prefix(start);
                let inner = inner.and_then(|text| text.strip_suffix(end));
                inner.is_some_and(|name| !name.is_empty() && !name.contains('%'))
            };
            marks.into_iter().any(is_between)
        }
        _ => false,
    }
}

/// The id of a node, given its id or its title.
pub(super) fn find(graph: &Map<String, Value>, node: &str) -> Result<String, String> {
    if graph.contains_key(node) {
        return Ok(node.to_owned());
    }
    let titled =
        |value: &Value| value.pointer("/_meta/title").and_then(Value::as_str) == Some(node);
    let mut found = graph.iter().filter(|(_, value)| titled(value));
    match (found.next(), found.next()) {
        (Some((id, _)), None) => Ok(id.clone()),
        (None, _) => Err(format!("there is no node {:?}", excerpt(node))),
        (Some(_), Some(_)) => Err(format!(
            "several nodes have the title {:?}; use the node's id",
            excerpt(node)
        )),
    }
}

/// The type of a value, in words.
pub(super) fn kind_of(value: &Value) -> &'static str {
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
        match fill_inputs(&mut graph, &params, |_, _, _| None).first() {
            Some(problem) => Err(problem.message.clone()),
            None => Ok(graph),
        }
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
