//! [`WorkflowError`]: why a workflow cannot be submitted.

use super::header::HeaderProblem;
use super::parameter_problem::{ParameterProblem, sentence};
use crate::job::excerpt;

/// Why a workflow cannot be submitted.
#[derive(Debug, thiserror::Error)]
pub enum WorkflowError {
    /// The name is not a plain file name: it could lead out of the folder.
    #[error(
        "{:?} is not the name of a workflow; expected the name of a file in the folder, such as \"txt2img\" or \"txt2img.json\"",
        excerpt(.0)
    )]
    Name(String),
    /// The name is the text of a workflow.
    #[error("workflow is a text that holds JSON; send the graph itself, as an object")]
    Text,
    /// There is no such file.
    #[error("there is no workflow {:?} in the folder of workflows{}", excerpt(.name), listing(.known))]
    Unknown {
        /// The requested name.
        name: String,
        /// The names of the workflows in the folder.
        known: Vec<String>,
    },
    /// The file cannot be read.
    #[error("the workflow {:?} cannot be read: {why}", excerpt(.name))]
    Unreadable {
        /// The requested name.
        name: String,
        /// What went wrong.
        why: std::io::Error,
    },
    /// The text is not JSON.
    #[error("the workflow is not JSON: {}", excerpt(&.0.to_string()))]
    NotJson(serde_json::Error),
    /// The PNG file holds no graph.
    #[error(
        "this PNG file holds no workflow in API format: ComfyUI writes it into the pictures that it saves, unless it was started with --disable-metadata"
    )]
    NoGraphInPng,
    /// The PNG file has a text that cannot be read.
    #[error("no workflow can be read from this PNG file: {0}")]
    Png(&'static str),
    /// A field beside `prompt` that would be lost, as in the body of ComfyUI's `POST /prompt`.
    #[error(
        "unknown field {:?} beside \"prompt\"; a workflow is a graph alone: give extra_data, partial_execution_targets, front and number as fields of the job",
        excerpt(.0)
    )]
    UnknownField(String),
    /// The graph is in the format that the editor saves, which the server cannot run.
    #[error(
        "this is the editor's format; in ComfyUI use \"Export (API)\" (older versions: enable the dev mode options, then \"Save (API Format)\") and submit that file"
    )]
    EditorFormat,
    /// The value is not a graph in API format.
    #[error(
        "the workflow is not in API format: {0}; expected {{\"3\": {{\"class_type\": ..., \"inputs\": {{...}}}}, ...}}"
    )]
    NotApiFormat(String),
    /// An output that is to run is not in the graph.
    #[error("partial_execution_targets: the graph has no node {:?}", excerpt(.0))]
    Target(String),
    /// Parameters do not fit the workflow.
    #[error("{}", sentence(.0))]
    Parameters(Vec<ParameterProblem>),
    /// The header of a workflow in the folder is wrong.
    #[error("the header of the workflow {:?} is wrong: {}", excerpt(.name), sentence(.problems))]
    Header {
        /// The workflow.
        name: String,
        /// Everything that is wrong.
        problems: Vec<HeaderProblem>,
    },
}

impl WorkflowError {
    /// The error code of the API, which stays stable.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Name(_) | Self::Text => "bad_workflow_name",
            Self::Unknown { .. } => "workflow_not_found",
            Self::Unreadable { .. } => "workflow_unreadable",
            Self::NotJson(_) => "bad_json",
            Self::EditorFormat => "editor_format",
            Self::UnknownField(_) => "unknown_field",
            Self::NoGraphInPng | Self::Png(_) | Self::NotApiFormat(_) => "not_api_format",
            Self::Target(_) => "bad_target",
            Self::Parameters(_) => "bad_parameter",
            Self::Header { .. } => "bad_header",
        }
    }
}

fn listing(names: &[String]) -> String {
    match names {
        [] => ", which is empty or missing".to_owned(),
        names => format!("; there are: {}", names.join(", ")),
    }
}
