//! The data of an error in the middle of a prompt.

use serde::Deserialize;

use crate::job::JobError;

/// The data of an `execution_error`, on the socket and in the history.
///
/// Traceback and inputs are not read, so that they cannot reach subscribers.
#[derive(Debug, Deserialize)]
pub(super) struct ExecutionError {
    pub(super) prompt_id: Option<String>,
    node_id: Option<String>,
    node_type: Option<String>,
    #[serde(default)]
    exception_message: Option<String>,
    #[serde(default)]
    exception_type: Option<String>,
}

impl ExecutionError {
    /// Whether the prompt has ended. A blocked execution skips one output, and the prompt goes on.
    pub(super) fn is_final(&self) -> bool {
        self.exception_type.as_deref() != Some("ExecutionBlocked")
    }
}

impl From<ExecutionError> for JobError {
    fn from(error: ExecutionError) -> Self {
        let node = error.node_type.as_deref().zip(error.node_id.as_deref());
        let raised = error.exception_message.unwrap_or_default();
        let exception = error.exception_type.unwrap_or_default();
        Self::execution(node, &raised, &exception)
    }
}
