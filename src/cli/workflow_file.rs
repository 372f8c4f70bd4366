//! The workflow that a command is given: a file, or the name of one in the relay's folder.

use std::path::Path;

use anyhow::Context;
use serde_json::Value;

use super::api_client::ApiRefusal;
use crate::workflow;

/// The graph in a file, or the name of a workflow in the relay's folder. `verb` is what is to be done with it.
pub(super) async fn read(workflow: &str, verb: &str) -> anyhow::Result<Value> {
    let looks_like_a_path =
        workflow.contains(std::path::is_separator) || Path::new(workflow).exists();
    if !looks_like_a_path {
        return Ok(Value::String(workflow.to_owned()));
    }
    let file = tokio::fs::read(workflow)
        .await
        .with_context(|| format!("cannot read {workflow}"))?;
    let graph = workflow::parse(&file).with_context(|| format!("cannot {verb} {workflow}"))?;
    Ok(Value::Object(graph))
}

/// Whether a name that the relay refuses may have been meant as that of a file.
pub(super) fn may_be_file(name: &str, error: &anyhow::Error) -> bool {
    let refusal = error.downcast_ref::<ApiRefusal>();
    name.ends_with(".json")
        || name.ends_with(".png")
        || refusal.is_some_and(|refusal| refusal.code == "workflow_not_found")
}

/// Reads `NODE.INPUT=VALUE`; a value that is not JSON is a string.
pub(super) fn parse_param(text: &str) -> Result<(String, Value), String> {
    parse_pair(text).ok_or_else(|| "expected NODE.INPUT=VALUE, such as 3.seed=7".to_owned())
}

/// Reads `KEY=VALUE`; a value that is not JSON is a string.
pub(super) fn parse_pair(text: &str) -> Option<(String, Value)> {
    let (name, value) = text.split_once('=')?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
    Some((name.to_owned(), value))
}
