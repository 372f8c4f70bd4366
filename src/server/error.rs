//! Every failure's status, code and wording, and the codes with which sockets are closed.

use std::time::Duration;

use hyper::header::HeaderValue;
use hyper::{Response, StatusCode, header};
use serde_json::json;

use super::body::{self, Body};
use crate::comfy::WrongInput;
use crate::job::{JobId, JobIdError};
use crate::relay::RelayError;
use crate::workflow::WorkflowError;

/// How long a client waits that found no place, in seconds.
const FULL_PAUSE: u64 = 5;

/// A request that was not done, and why.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    /// A stable word for programs.
    pub(super) code: &'static str,
    /// A sentence for a person, which says what to do.
    pub(super) message: String,
    /// What ComfyUI has against single inputs.
    inputs: Vec<WrongInput>,
    /// What programs are told beside it.
    beside: Option<Beside>,
}

/// What programs are told beside a failure, in a header.
#[derive(Debug, Clone, Copy)]
enum Beside {
    /// The methods that are taken.
    Allow(&'static str),
    /// How to say who one is.
    Challenge(&'static str),
    /// When to try again, in seconds.
    RetryAfter(u64),
}

/// The codes with which sockets are closed, as documented.
pub(super) mod close {
    /// The job has ended, or the client has left.
    pub(crate) const NORMAL: u16 = 1000;
    /// The server goes away: reconnect.
    pub(crate) const GOING_AWAY: u16 = 1001;
    /// The client broke the WebSocket protocol.
    pub(crate) const PROTOCOL: u16 = 1002;
    /// The client sent a message that is not what it says to be.
    pub(crate) const INVALID: u16 = 1007;
    /// The client sent what it may not send.
    pub(crate) const POLICY: u16 = 1008;
    /// The client sent too much.
    pub(crate) const TOO_BIG: u16 = 1009;
    /// What cannot be done now may be possible later.
    pub(crate) const TRY_LATER: u16 = 1013;
    /// Nobody knows who the client is, or no longer.
    pub(crate) const UNAUTHENTICATED: u16 = 4401;
    /// It is known who the client is, and that it may not do this.
    pub(crate) const FORBIDDEN: u16 = 4403;
    /// There is no such job, and none came.
    pub(crate) const JOB_NOT_FOUND: u16 = 4404;
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            inputs: Vec::new(),
            beside: None,
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
            beside: Some(Beside::Allow(allow)),
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

    /// Nobody knows who asks.
    pub(super) fn no_token() -> Self {
        Self {
            beside: Some(Beside::Challenge("Bearer realm=\"comfy-relay\"")),
            ..Self::new(
                StatusCode::UNAUTHORIZED,
                "unauthenticated",
                "a token is needed: send it as \"Authorization: Bearer TOKEN\"",
            )
        }
    }

    /// The token is not believed.
    pub(super) fn bad_token(why: &'static str) -> Self {
        Self {
            beside: Some(Beside::Challenge(
                "Bearer realm=\"comfy-relay\", error=\"invalid_token\"",
            )),
            ..Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", why)
        }
    }

    /// The token was believed, but its time is over.
    pub(super) fn expired() -> Self {
        Self::bad_token("the token has expired; connect again with a new one")
    }

    /// It is known who asks, and that this is not allowed.
    pub(super) fn forbidden(why: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", why)
    }

    /// Too much at once, from one client.
    pub(super) fn too_many_requests(wait: Duration) -> Self {
        let seconds = wait.as_secs_f64().ceil().max(1.0) as u64;
        Self {
            beside: Some(Beside::RetryAfter(seconds)),
            ..Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_requests",
                format!("too many requests; try again in {seconds} s"),
            )
        }
    }

    /// No place is left.
    pub(super) fn too_many_connections(why: &'static str) -> Self {
        Self {
            beside: Some(Beside::RetryAfter(FULL_PAUSE)),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_connections", why)
        }
    }

    /// The code with which a socket is closed for it.
    pub(super) fn close_code(&self) -> u16 {
        match self.status {
            StatusCode::UNAUTHORIZED => close::UNAUTHENTICATED,
            StatusCode::FORBIDDEN => close::FORBIDDEN,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => close::TRY_LATER,
            _ => close::POLICY,
        }
    }

    pub(super) fn answer(&self) -> Response<Body> {
        let mut error = json!({"code": self.code, "message": self.message});
        if !self.inputs.is_empty() {
            error["inputs"] = self.inputs.iter().map(wrong_input).collect();
        }
        let mut response = body::json(self.status, &json!({"error": error}));
        if let Some(beside) = self.beside {
            let (name, value) = match beside {
                Beside::Allow(methods) => (header::ALLOW, HeaderValue::from_static(methods)),
                Beside::Challenge(text) => {
                    (header::WWW_AUTHENTICATE, HeaderValue::from_static(text))
                }
                Beside::RetryAfter(seconds) => (header::RETRY_AFTER, seconds.into()),
            };
            response.headers_mut().insert(name, value);
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

impl From<JobIdError> for ApiError {
    fn from(error: JobIdError) -> Self {
        Self::bad_request("bad_job_id", error.to_string())
    }
}

impl From<RelayError> for ApiError {
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
            RelayError::HeldByPeer(_) => {
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
