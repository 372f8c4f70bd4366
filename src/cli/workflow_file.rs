//! The workflow that a command is given: a file, or the name of one in the relay's folder.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;

use super::api_client::{ApiClient, ApiRefusal};
use crate::workflow::{self, HEADER, NamedWorkflow, WorkflowError, WorkflowHeader};

/// The path of the workflows that have names.
pub(super) const WORKFLOWS: &str = "api/anime/workflows";

/// The characters of a name that stand for something else in a path.
const RESERVED: &percent_encoding::AsciiSet = percent_encoding::NON_ALPHANUMERIC;

/// The workflow that a command is given.
#[derive(Debug)]
pub(super) enum GivenWorkflow {
    /// The name of one in the relay's folder.
    Named(String),
    /// That of a file, with the header beside it.
    File(NamedWorkflow),
}

impl GivenWorkflow {
    /// Reads a file, or takes a name. `verb` is what is to be done with it.
    pub(super) async fn read(workflow: &str, verb: &str) -> anyhow::Result<Self> {
        let looks_like_a_path =
            workflow.contains(std::path::is_separator) || Path::new(workflow).exists();
        if !looks_like_a_path {
            return Ok(Self::Named(workflow.to_owned()));
        }
        let file = tokio::fs::read(workflow)
            .await
            .with_context(|| format!("cannot read {workflow}"))?;
        let graph = workflow::parse(&file).with_context(|| format!("cannot {verb} {workflow}"))?;
        let path = header_path(Path::new(workflow));
        let header = match tokio::fs::read(&path).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            text => {
                let text = text.with_context(|| format!("cannot read {}", path.display()))?;
                let header = WorkflowHeader::read(&text, &graph);
                let header = header.map_err(|problems| WorkflowError::Header {
                    name: workflow.to_owned(),
                    problems,
                });
                Some(header.with_context(|| format!("cannot {verb} {workflow}"))?)
            }
        };
        Ok(Self::File(NamedWorkflow { graph, header }))
    }

    /// As the body of a request has it.
    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::Named(name) => name.as_str().into(),
            Self::File(workflow) => Value::Object(workflow.graph.clone()),
        }
    }

    /// What it says of itself, as the relay shows it.
    pub(super) async fn description(&self, relay: &ApiClient) -> anyhow::Result<Value> {
        match self {
            Self::Named(name) => relay.get(&path_of(name), &[]).await,
            Self::File(workflow) => {
                let header = workflow.header.as_ref();
                Ok(serde_json::json!({
                    "title": header.map(|header| &header.title),
                    "description": header.map(|header| &header.description),
                    "schema": workflow::parameters_schema(header, |_| Vec::new()),
                }))
            }
        }
    }
}

/// The path of a workflow in the relay's folder.
pub(super) fn path_of(name: &str) -> String {
    let name = percent_encoding::utf8_percent_encode(name, RESERVED);
    format!("{WORKFLOWS}/{name}")
}

/// The header of the workflow in a file.
pub(super) fn header_path(file: &Path) -> PathBuf {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let short = name.strip_suffix(".json").unwrap_or(&name);
    file.with_file_name(format!("{short}{HEADER}"))
}

/// Whether a name that the relay refuses may have been meant as that of a file.
pub(super) fn may_be_file(name: &str, error: &anyhow::Error) -> bool {
    let refusal = error.downcast_ref::<ApiRefusal>();
    name.ends_with(".json")
        || name.ends_with(".png")
        || refusal.is_some_and(|refusal| refusal.code == "workflow_not_found")
}

/// Reads `KEY=VALUE`; a value that is not JSON is a string.
pub(super) fn parse_pair(text: &str) -> Option<(String, Value)> {
    let (name, value) = text.split_once('=')?;
    Some((name.to_owned(), json_or_text(value)))
}

/// A value; one that is not JSON is a string.
pub(super) fn json_or_text(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}
