//! [`WorkflowError`]: why a workflow cannot be submitted.

/// Why a workflow cannot be submitted.
#[derive(Debug, thiserror::Error)]
pub enum WorkflowError {
    /// The name is not a plain file name: it could lead out of the folder.
    #[error(
        "{0:?} is not the name of a workflow; expected the name of a file in the folder, such as \"txt2img\" or \"txt2img.json\""
    )]
    Name(String),
    /// There is no such file.
    #[error("there is no workflow {name:?} in the folder of workflows{}", listing(.known))]
    Unknown {
        /// The requested name.
        name: String,
        /// The names of the workflows in the folder.
        known: Vec<String>,
    },
    /// The file cannot be read.
    #[error("the workflow {name:?} cannot be read: {why}")]
    Unreadable {
        /// The requested name.
        name: String,
        /// What went wrong.
        why: std::io::Error,
    },
    /// The text is not JSON.
    #[error("the workflow is not JSON: {0}")]
    NotJson(serde_json::Error),
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
    /// A parameter does not fit the graph.
    #[error("parameter {name:?}: {why}")]
    Parameter {
        /// The parameter.
        name: String,
        /// What is wrong with it.
        why: String,
    },
}

impl WorkflowError {
    /// The error code of the API, which stays stable.
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
