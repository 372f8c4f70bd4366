//! The data of an error in the middle of a prompt.

use serde_json::Value;

use super::known_types::text;
use crate::job::JobError;

/// The data of an `execution_error`, on the socket and in the history.
///
/// Traceback and inputs are not read, so that they cannot reach subscribers.
#[derive(Debug)]
pub(super) struct ExecutionError {
    pub(super) prompt_id: Option<String>,
    node_id: Option<String>,
    node_type: Option<String>,
    exception_message: Option<String>,
    exception_type: Option<String>,
}

impl ExecutionError {
    /// Reads each field on its own: one of an unexpected type hides no other.
    pub(super) fn of(data: &Value) -> Self {
        let text = |field: &str| text(data.get(field)?);
        Self {
            prompt_id: text("prompt_id"),
            node_id: text("node_id"),
            node_type: text("node_type"),
            exception_message: text("exception_message"),
            exception_type: text("exception_type"),
        }
    }

    /// Whether the prompt has ended. A blocked execution skips one output, and the prompt goes on.
    pub(super) fn is_final(&self) -> bool {
        self.exception_type.as_deref() != Some("ExecutionBlocked")
    }
}

impl From<ExecutionError> for JobError {
    fn from(error: ExecutionError) -> Self {
        let node_type = error.node_type.as_deref();
        let node = error.node_id.as_deref();
        let node = node.map(|id| (node_type.unwrap_or("Node"), id));
        let raised = error.exception_message.unwrap_or_default();
        let exception = error.exception_type.unwrap_or_default();
        Self::execution(node, &raised, &exception)
    }
}
