//! Every failure's status, code and wording, and the codes with which sockets are closed.

use hyper::{Response, StatusCode, header};
use serde_json::json;

use super::body::{self, Body};
use crate::comfy::WrongInput;
use crate::job::{JobId, JobIdError};
use crate::relay::RelayError;
use crate::workflow::WorkflowError;

/// A request that was not done, and why.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    /// A stable word for programs.
    pub(super) code: &'static str,
    /// A sentence for a person, which says what to do.
    pub(super) message: String,
    /// What ComfyUI has against single inputs.
    inputs: Vec<WrongInput>,
    allow: Option<&'static str>,
}

/// The codes with which sockets are closed, as documented.
pub(super) mod close {
    /// The job has ended, or the client has left.
    pub(crate) const NORMAL: u16 = 1000;
    /// The server goes away: reconnect.
    pub(crate) const GOING_AWAY: u16 = 1001;
    /// The client sent what it may not send.
    pub(crate) const POLICY: u16 = 1008;
    /// The client sent too much.
    pub(crate) const TOO_BIG: u16 = 1009;
    /// What cannot be done now may be possible later.
    pub(crate) const TRY_LATER: u16 = 1013;
    /// There is no such job, and none came.
    pub(crate) const JOB_NOT_FOUND: u16 = 4404;
}

impl Failure {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            inputs: Vec::new(),
            allow: None,
        }
    }

    pub(super) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(super) fn no_route(path: &str) -> Self {
        let shown: String = path.chars().take(100).collect();
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            format!("there is nothing at {shown:?}; the README lists every route"),
        )
    }

    pub(super) fn wrong_method(allow: &'static str) -> Self {
        Self {
            allow: Some(allow),
            ..Self::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                format!("this route takes {allow} only"),
            )
        }
    }

    pub(super) fn job_not_found(id: &JobId) -> Self {
        RelayError::JobNotFound(id.clone()).into()
    }

    pub(super) fn answer(&self) -> Response<Body> {
        let mut error = json!({"code": self.code, "message": self.message});
        if !self.inputs.is_empty() {
            error["inputs"] = self.inputs.iter().map(wrong_input).collect();
        }
        let mut response = body::json(self.status, &json!({"error": error}));
        if let Some(allow) = self.allow {
            let allow = header::HeaderValue::from_static(allow);
            response.headers_mut().insert(header::ALLOW, allow);
        }
        response
    }
}

/// One wrong input, for programs.
pub(super) fn wrong_input(wrong: &WrongInput) -> serde_json::Value {
    json!({
        "node": wrong.node,
        "class_type": wrong.class_type,
        "input": wrong.input,
        "message": wrong.message,
    })
}

impl From<JobIdError> for Failure {
    fn from(error: JobIdError) -> Self {
        Self::bad_request("bad_job_id", error.to_string())
    }
}

impl From<RelayError> for Failure {
    fn from(error: RelayError) -> Self {
        let (status, code) = match &error {
            RelayError::JobExists(_) => (StatusCode::CONFLICT, "job_exists"),
            RelayError::JobNotFound(_) => (StatusCode::NOT_FOUND, "job_not_found"),
            RelayError::NotCancellable(..) => (StatusCode::CONFLICT, "not_cancellable"),
            RelayError::NotReportable(_) => (StatusCode::CONFLICT, "not_reportable"),
            RelayError::BackendUnknown { .. } => (StatusCode::BAD_REQUEST, "backend_unknown"),
            RelayError::BackendUnreachable(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "backend_unreachable")
            }
            RelayError::HeldElsewhere(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "backend_held_elsewhere")
            }
            RelayError::Backend { .. } => (StatusCode::BAD_GATEWAY, "backend_error"),
            RelayError::PromptNotFound(_) => (StatusCode::NOT_FOUND, "prompt_not_found"),
            RelayError::Rejected(..) => (StatusCode::BAD_REQUEST, "workflow_rejected"),
            RelayError::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "going_away"),
            RelayError::Workflow(error) => workflow_status(error),
            RelayError::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, "database_unreachable"),
        };
        let message = error.to_string();
        let inputs = match error {
            RelayError::Rejected(_, inputs) => inputs,
            _ => Vec::new(),
        };
        Self {
            inputs,
            ..Self::new(status, code, message)
        }
    }
}

fn workflow_status(error: &WorkflowError) -> (StatusCode, &'static str) {
    match error {
        WorkflowError::Name(_) => (StatusCode::BAD_REQUEST, "bad_workflow_name"),
        WorkflowError::Unknown { .. } => (StatusCode::NOT_FOUND, "workflow_not_found"),
        WorkflowError::Unreadable { .. } => {
            (StatusCode::INTERNAL_SERVER_ERROR, "workflow_unreadable")
        }
        WorkflowError::NotJson(_) => (StatusCode::BAD_REQUEST, "bad_json"),
        WorkflowError::EditorFormat => (StatusCode::BAD_REQUEST, "editor_format"),
        WorkflowError::NotApiFormat(_) => (StatusCode::BAD_REQUEST, "not_api_format"),
        WorkflowError::Parameter { .. } => (StatusCode::BAD_REQUEST, "bad_parameter"),
    }
}
