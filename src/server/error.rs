//! Every failure's status, code and wording, and the codes with which sockets are closed.

use std::time::Duration;

use hyper::header::HeaderValue;
use hyper::{Response, StatusCode, header};
use serde_json::json;

use super::response::{self, Body};
use crate::auth::AuthError;
use crate::comfy::WrongInput;
use crate::job::{JobId, JobIdError};
use crate::relay::RelayError;
use crate::session::{ClientError, close_code as close};
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

    /// What an `error` message says of it.
    pub(super) fn into_client_error(self) -> ClientError {
        ClientError::new(self.code, self.message)
    }

    pub(super) fn answer(&self) -> Response<Body> {
        let mut error = json!({"code": self.code, "message": self.message});
        if !self.inputs.is_empty() {
            error["inputs"] = self.inputs.iter().map(wrong_input).collect();
        }
        let mut response = response::json(self.status, &json!({"error": error}));
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

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        let challenge = match error {
            AuthError::Forbidden(_) => {
                return Self::new(StatusCode::FORBIDDEN, error.code(), error.to_string());
            }
            AuthError::MissingToken => "Bearer realm=\"comfy-relay\"",
            AuthError::InvalidToken(_) | AuthError::Expired => {
                "Bearer realm=\"comfy-relay\", error=\"invalid_token\""
            }
        };
        Self {
            beside: Some(Beside::Challenge(challenge)),
            ..Self::new(StatusCode::UNAUTHORIZED, error.code(), error.to_string())
        }
    }
}

impl From<JobIdError> for ApiError {
    fn from(error: JobIdError) -> Self {
        Self::bad_request("bad_job_id", error.to_string())
    }
}

impl From<RelayError> for ApiError {
    fn from(error: RelayError) -> Self {
        let status = match &error {
            RelayError::JobExists(_)
            | RelayError::NotCancellable(..)
            | RelayError::NotReportable(_) => StatusCode::CONFLICT,
            RelayError::JobNotFound(_) | RelayError::PromptNotFound(_) => StatusCode::NOT_FOUND,
            RelayError::BackendUnknown { .. } | RelayError::Rejected(..) => StatusCode::BAD_REQUEST,
            RelayError::BackendUnreachable(_)
            | RelayError::HeldByPeer(_)
            | RelayError::Stopping
            | RelayError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
            RelayError::Backend { .. } => StatusCode::BAD_GATEWAY,
            RelayError::Workflow(error) => workflow_status(error),
        };
        let code = error.code();
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

fn workflow_status(error: &WorkflowError) -> StatusCode {
    match error {
        WorkflowError::Unknown { .. } => StatusCode::NOT_FOUND,
        WorkflowError::Unreadable { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        WorkflowError::Name(_)
        | WorkflowError::NotJson(_)
        | WorkflowError::EditorFormat
        | WorkflowError::NotApiFormat(_)
        | WorkflowError::Parameter { .. } => StatusCode::BAD_REQUEST,
    }
}
