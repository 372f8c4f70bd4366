//! Why a request fails: status, code and message of the answer, and the close code of a socket.

use std::time::Duration;

use hyper::header::HeaderValue;
use hyper::{Response, StatusCode, header};
use schemars::JsonSchema;
use serde::Serialize;

use super::response::{self, Body};
use crate::auth::AuthError;
use crate::comfy::WrongInput;
use crate::connector::PlaceError;
use crate::job::{JobId, JobIdError, ReportError, TagError};
use crate::relay::{BatchProblem, NotReady, RelayError, UnsuitableBackend};
use crate::session::{ClientError, close_code as close};
use crate::workflow::{HeaderProblem, ParameterProblem, WorkflowError};

/// How long a client waits before it tries again, in seconds, where nothing better is known. Longer than a relay needs for its
/// restart, and shorter than a person waits.
const RETRY_AFTER: u64 = 5;

/// How many characters of an unknown path an error repeats.
const MAX_SHOWN_PATH: usize = 100;

/// A request that failed, and why.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    /// A stable word for programs.
    code: &'static str,
    /// A sentence for a person that says what to do.
    message: String,
    /// The inputs that ComfyUI refuses, of many the first.
    inputs: Box<[WrongInput]>,
    /// How many there are, if not all are listed.
    inputs_total: Option<usize>,
    details: Option<Box<ErrorDetails>>,
    header: Option<ErrorHeader>,
}

/// A header that explains an error to programs.
#[derive(Debug, Clone, Copy)]
enum ErrorHeader {
    /// The methods that the route takes.
    Allow(&'static str),
    /// How a client authenticates (RFC 6750).
    Challenge(&'static str),
    /// How long to wait before trying again, in seconds.
    RetryAfter(u64),
}

/// The body of every answer to a request that failed.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct ErrorBody<'a> {
    error: ErrorDetail<'a>,
}

#[derive(Debug, JsonSchema, Serialize)]
struct ErrorDetail<'a> {
    code: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    inputs: &'a [WrongInput],
    #[serde(skip_serializing_if = "Option::is_none")]
    inputs_total: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a ErrorDetails>,
}

/// What an error about several backends, jobs or parameters has to say of each.
#[derive(Debug, Default, JsonSchema, Serialize)]
struct ErrorDetails {
    /// The backends that were asked, if none can run the workflow.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    backends: Vec<UnsuitableBackend>,
    /// What is wrong with the jobs of a batch.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<BatchProblem>,
    /// What is wrong with the parameters of a workflow.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parameters: Vec<ParameterProblem>,
    /// What is wrong with the header of a workflow in the folder.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    header: Vec<HeaderProblem>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            inputs: Box::default(),
            inputs_total: None,
            details: None,
            header: None,
        }
    }

    pub(super) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(super) fn no_route(path: &str) -> Self {
        let shown: String = path.chars().take(MAX_SHOWN_PATH).collect();
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            format!("there is no route {shown:?}; docs/api.md lists them all"),
        )
    }

    pub(super) fn wrong_method(allow: &'static str) -> Self {
        Self {
            header: Some(ErrorHeader::Allow(allow)),
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

    /// One client sends too many requests.
    pub(super) fn too_many_requests(wait: Duration) -> Self {
        let seconds = wait.as_secs_f64().ceil().max(1.0) as u64;
        Self {
            header: Some(ErrorHeader::RetryAfter(seconds)),
            ..Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_requests",
                format!("too many requests; try again in {seconds} s"),
            )
        }
    }

    /// There are too many open connections.
    pub(super) fn too_many_connections(message: &'static str) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too_many_connections",
            message,
        )
    }

    /// The code with which a socket is closed because of this error.
    pub(super) fn close_code(&self) -> u16 {
        match self.status {
            StatusCode::UNAUTHORIZED => close::UNAUTHENTICATED,
            StatusCode::FORBIDDEN => close::FORBIDDEN,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => close::TRY_LATER,
            _ => close::POLICY,
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// The word for programs.
    pub(super) fn code(&self) -> &'static str {
        self.code
    }

    /// The sentence for a person.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// The inputs that ComfyUI refuses, of many the first.
    pub(super) fn inputs(&self) -> &[WrongInput] {
        &self.inputs
    }

    /// The same error, about these inputs.
    pub(super) fn with_inputs(mut self, inputs: Vec<WrongInput>) -> Self {
        self.inputs = inputs.into();
        self
    }

    /// The backends that were asked, if none can run the workflow.
    pub(super) fn backends(&self) -> &[UnsuitableBackend] {
        let details = self.details.as_deref();
        details.map_or(&[], |details| &details.backends)
    }

    /// The error as sockets send it.
    pub(super) fn into_client_error(self) -> ClientError {
        ClientError::new(self.code, self.message)
    }

    /// The JSON of the answer.
    pub(super) fn body(&self) -> ErrorBody<'_> {
        ErrorBody {
            error: ErrorDetail {
                code: self.code,
                message: &self.message,
                inputs: &self.inputs,
                inputs_total: self.inputs_total,
                details: self.details.as_deref(),
            },
        }
    }

    /// The answer. Where the same request can succeed later, it says when to try again.
    pub(super) fn response(&self) -> Response<Body> {
        let mut response = response::json(self.status, &self.body());
        let is_temporary = matches!(
            self.status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        );
        let retry_after = is_temporary.then_some(ErrorHeader::RetryAfter(RETRY_AFTER));
        if let Some(header) = self.header.or(retry_after) {
            let (name, value) = match header {
                ErrorHeader::Allow(methods) => (header::ALLOW, HeaderValue::from_static(methods)),
                ErrorHeader::Challenge(text) => {
                    (header::WWW_AUTHENTICATE, HeaderValue::from_static(text))
                }
                ErrorHeader::RetryAfter(seconds) => (header::RETRY_AFTER, seconds.into()),
            };
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        let challenge = match error {
            AuthError::Forbidden(_) | AuthError::BadLink | AuthError::LinkExpired => {
                return Self::new(StatusCode::FORBIDDEN, error.code(), error.to_string());
            }
            AuthError::MissingToken => "Bearer realm=\"comfy-relay\"",
            AuthError::InvalidToken(_) | AuthError::Expired => {
                "Bearer realm=\"comfy-relay\", error=\"invalid_token\""
            }
        };
        Self {
            header: Some(ErrorHeader::Challenge(challenge)),
            ..Self::new(StatusCode::UNAUTHORIZED, error.code(), error.to_string())
        }
    }
}

impl From<JobIdError> for ApiError {
    fn from(error: JobIdError) -> Self {
        Self::bad_request("bad_job_id", error.to_string())
    }
}

impl From<TagError> for ApiError {
    fn from(error: TagError) -> Self {
        Self::bad_request(error.code(), error.to_string())
    }
}

impl From<ReportError> for ApiError {
    fn from(error: ReportError) -> Self {
        Self::bad_request(error.code(), error.to_string())
    }
}

impl From<NotReady> for ApiError {
    fn from(reason: NotReady) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            reason.code(),
            reason.to_string(),
        )
    }
}

impl From<RelayError> for ApiError {
    fn from(error: RelayError) -> Self {
        let status = relay_status(&error);
        let (code, message) = (error.code(), error.to_string());
        let header = match &error {
            RelayError::QueueFull { retry_after, .. } => {
                Some(ErrorHeader::RetryAfter(*retry_after))
            }
            _ => None,
        };
        let mut answer = Self {
            header,
            ..Self::new(status, code, message)
        };
        match error {
            RelayError::Rejected(rejection) => {
                let total = rejection.inputs_total;
                answer.inputs_total = Some(total).filter(|&total| total > rejection.inputs.len());
                answer.inputs = rejection.inputs.into();
            }
            error => answer.details = ErrorDetails::of(error).map(Box::new),
        }
        answer
    }
}

impl ErrorDetails {
    /// What an error has to say of each of several things.
    fn of(error: RelayError) -> Option<Self> {
        let nothing = Self::default();
        match error {
            RelayError::NoBackendCanRun { backends, .. } => Some(Self {
                backends,
                ..nothing
            }),
            RelayError::BadBatch { problems } => Some(Self {
                problems,
                ..nothing
            }),
            RelayError::Workflow(WorkflowError::Parameters(parameters)) => Some(Self {
                parameters,
                ..nothing
            }),
            RelayError::Workflow(WorkflowError::Header { problems, .. }) => Some(Self {
                header: problems,
                ..nothing
            }),
            _ => None,
        }
    }
}

fn relay_status(error: &RelayError) -> StatusCode {
    match error {
        RelayError::JobExists(_)
        | RelayError::NotCancellable(..)
        | RelayError::NotReportable(_)
        | RelayError::IdempotencyConflict
        | RelayError::JobOpen(_)
        | RelayError::QueueOff
        | RelayError::BackendExists { .. }
        | RelayError::BackendConfigured(_)
        | RelayError::TooManyBackends
        | RelayError::KeysGone(_)
        | RelayError::JobEnded(..) => StatusCode::CONFLICT,
        RelayError::JobNotFound(_)
        | RelayError::PromptNotFound(_)
        | RelayError::OutputNotFound(..) => StatusCode::NOT_FOUND,
        RelayError::OutputUnavailable(..) | RelayError::WorkflowUnavailable(_) => StatusCode::GONE,
        RelayError::BackendUnknown { .. }
        | RelayError::LabelUnknown { .. }
        | RelayError::Place(PlaceError::Unresolved(..))
        | RelayError::Rejected(..)
        | RelayError::InputNotFound(_)
        | RelayError::TooManyInputs { .. }
        | RelayError::BatchTooLarge { .. }
        | RelayError::BadBatch { .. } => StatusCode::BAD_REQUEST,
        RelayError::BackendUnreachable(_)
        | RelayError::NoSocket { .. }
        | RelayError::HeldByPeer(_)
        | RelayError::LeaseLapsed(_)
        | RelayError::RequestUnderWay
        | RelayError::Paused(_)
        | RelayError::Stopping
        | RelayError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        RelayError::AddingOff
        | RelayError::WebhooksOff
        | RelayError::WebhookNotAllowed(_)
        | RelayError::Place(PlaceError::Outside(..) | PlaceError::NotPublic(..)) => {
            StatusCode::FORBIDDEN
        }
        RelayError::NotAPicture => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        RelayError::InputsFull => StatusCode::INSUFFICIENT_STORAGE,
        RelayError::QueueFull { .. } => StatusCode::TOO_MANY_REQUESTS,
        RelayError::RowRefused(..) | RelayError::NoBackendCanRun { .. } => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        RelayError::Backend { .. } | RelayError::OutputUnreadable(..) => StatusCode::BAD_GATEWAY,
        RelayError::Workflow(error) => workflow_status(error),
    }
}

fn workflow_status(error: &WorkflowError) -> StatusCode {
    match error {
        WorkflowError::Unknown { .. } => StatusCode::NOT_FOUND,
        WorkflowError::Unreadable { .. } | WorkflowError::Header { .. } => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
        WorkflowError::Name(_)
        | WorkflowError::Text
        | WorkflowError::NotJson(_)
        | WorkflowError::NoGraphInPng
        | WorkflowError::Png(_)
        | WorkflowError::UnknownField(_)
        | WorkflowError::EditorFormat
        | WorkflowError::NotApiFormat(_)
        | WorkflowError::Target(_)
        | WorkflowError::Parameters(_) => StatusCode::BAD_REQUEST,
    }
}

#[cfg(test)]
mod tests;
