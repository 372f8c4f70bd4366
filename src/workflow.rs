//! Workflows that can be submitted by name, and the check that a graph is one that ComfyUI runs.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

/// The folder with API-format graphs, one `NAME.json` each.
#[derive(Debug, Clone)]
pub struct Workflows {
    folder: PathBuf,
}

/// Why there is no graph to submit.
#[derive(Debug, thiserror::Error)]
pub enum WorkflowError {
    /// The name could lead out of the folder.
    #[error(
        "{0:?} is no name of a workflow; a name is that of a file in the folder, such as \"txt2img\" or \"txt2img.json\""
    )]
    Name(String),
    /// No such file.
    #[error("there is no workflow {name:?} in the folder of workflows{}", listing(.known))]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The file cannot be read.
    #[error("the workflow {name:?} could not be read: {why}")]
    Unreadable {
        /// What was asked for.
        name: String,
        /// Why not.
        why: std::io::Error,
    },
    /// The text is no JSON.
    #[error("the workflow is no JSON: {0}")]
    NotJson(serde_json::Error),
    /// It is what the editor saves, which the server cannot run.
    #[error(
        "this is the editor's format; in ComfyUI use \"Export (API)\" (older versions: enable the dev mode options, then \"Save (API Format)\") and submit that file"
    )]
    EditorFormat,
    /// It is no graph.
    #[error(
        "the workflow is not in API format: {0}; expected {{\"3\": {{\"class_type\": ..., \"inputs\": {{...}}}}, ...}}"
    )]
    NotApiFormat(String),
    /// A parameter does not fit.
    #[error("parameter {name:?}: {why}")]
    Parameter {
        /// The parameter.
        name: String,
        /// What is wrong with it.
        why: String,
    },
}

impl WorkflowError {
    /// The stable word for programs.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Name(_) => "bad_workflow_name",
            Self::Unknown { .. } => "workflow_not_found",
            Self::Unreadable { .. } => "workflow_unreadable",
            Self::NotJson(_) => "bad_json",
            Self::EditorFormat => "editor_format",
            Self::NotApiFormat(_) => "not_api_format",
            Self::Parameter { .. } => "bad_parameter",
        }
    }
}

fn listing(names: &[String]) -> String {
    match names {
        [] => ", which is empty or missing".to_owned(),
        names => format!("; there are: {}", names.join(", ")),
    }
}

impl Workflows {
    /// The workflows in a folder, which need not exist.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Reads the workflow with this name, with or without `.json`.
    pub async fn read(&self, name: &str) -> Result<Map<String, Value>, WorkflowError> {
        let stem = name.strip_suffix(".json").unwrap_or(name);
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ' ');
        if stem.is_empty() || stem.starts_with('.') || !stem.chars().all(plain) {
            return Err(WorkflowError::Name(name.to_owned()));
        }
        let file = self.folder.join(format!("{stem}.json"));
        let text = match tokio::fs::read_to_string(file).await {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(WorkflowError::Unknown {
                    name: name.to_owned(),
                    known: self.names().await,
                });
            }
            Err(why) => {
                return Err(WorkflowError::Unreadable {
                    name: name.to_owned(),
                    why,
                });
            }
        };
        parse(&text)
    }

    /// The names of all workflows, in order.
    pub async fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        if let Ok(mut folder) = tokio::fs::read_dir(&self.folder).await {
            while let Ok(Some(entry)) = folder.next_entry().await {
                let name = entry.file_name();
                if let Some(stem) = name.to_str().and_then(|name| name.strip_suffix(".json")) {
                    names.push(stem.to_owned());
                }
            }
        }
        names.sort_unstable();
        names
    }
}

/// Reads a graph in API format from the text of a file: the bare graph, or the body of a
/// `POST /prompt`, whose `prompt` is the graph.
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

/// Checks that a value is a graph in API format.
pub fn check(graph: Value) -> Result<Map<String, Value>, WorkflowError> {
    let wrong = |why: String| Err(WorkflowError::NotApiFormat(why));
    let Value::Object(graph) = graph else {
        return wrong("it is no object".to_owned());
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
            return wrong(format!("the inputs of node {id:?} are no object"));
        }
    }
    Ok(graph)
}

/// Fills in parameters: `{"NODE.INPUT": value}`, where `NODE` is a node's id or its title.
///
/// Only inputs that the graph has can be filled in, with values of the same kind, and none that is
/// linked to another node. Nothing is changed where one of them does not fit.
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
            "several nodes are called {node:?}; use the node's id"
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

    /// The program prints an error with its sources, the API without them.
    #[test]
    fn why_a_text_is_no_json_is_said_once() {
        let error = anyhow::Error::from(parse("{").unwrap_err());
        let (alone, whole) = (error.to_string(), format!("{error:#}"));
        assert!(alone.contains("EOF while parsing"), "{alone}");
        assert_eq!(alone, whole);
    }

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
    fn the_editors_format_is_told_from_the_servers() {
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

    #[test]
    fn parameters_go_where_they_fit() {
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

    #[tokio::test]
    async fn names_cannot_leave_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("a.json"),
            r#"{"1": {"class_type": "A"}}"#,
        )
        .unwrap();
        let workflows = Workflows::new(folder.path());
        assert!(workflows.read("a").await.is_ok());
        assert!(workflows.read("a.json").await.is_ok());
        for name in ["../a", "/etc/passwd", "", ".a", "x/../a"] {
            assert!(
                matches!(workflows.read(name).await, Err(WorkflowError::Name(_))),
                "{name}"
            );
        }
        let missing = workflows.read("b").await.unwrap_err().to_string();
        assert!(missing.ends_with("there are: a"), "{missing}");
    }
}
