//! Why the relay did not do what it was asked.

use crate::comfy::{RestError, SubmitError, WrongInput};
use crate::job::JobId;
use crate::store::StoreError;
use crate::workflow::WorkflowError;

/// Why something asked of the relay was not done. Nothing is half done.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The job id is taken.
    #[error("there is a job \"{0}\" already; choose another job_id, or leave it out")]
    JobExists(JobId),
    /// No such job.
    #[error("there is no job \"{0}\"")]
    JobNotFound(JobId),
    /// The job has ended, or is none of ComfyUI's.
    #[error("the job \"{0}\" is not one that can be cancelled: {1}")]
    NotCancellable(JobId, &'static str),
    /// Somebody else reports on this job already.
    #[error("the job \"{0}\" is followed on ComfyUI; no other producer can report on it")]
    NotReportable(JobId),
    /// The configuration does not name this server.
    #[error("there is no backend {name:?}; there are: {}", known.join(", "))]
    BackendUnknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The server does not answer.
    #[error("ComfyUI at {0} does not answer; try again when it runs")]
    BackendUnreachable(String),
    /// Another relay on the same database follows the server.
    #[error("another relay follows ComfyUI at {0}; ask that one, or try again when it is gone")]
    HeldByPeer(String),
    /// The server answers, but in no useful way.
    #[error("ComfyUI at {backend} did not do it: {source}")]
    Backend {
        /// The server.
        backend: String,
        /// What it answered.
        source: RestError,
    },
    /// No server knows the prompt.
    #[error("no ComfyUI server knows the prompt {0:?}")]
    PromptNotFound(String),
    /// ComfyUI's validation says no.
    #[error("{0}")]
    Rejected(SubmitError, Vec<WrongInput>),
    /// The relay is being stopped.
    #[error("the relay is being stopped; try again in a moment")]
    Stopping,
    /// The database does not answer.
    #[error("the database does not answer; try again when it is back")]
    Store(#[from] StoreError),
    /// The workflow or its parameters are wrong.
    #[error(transparent)]
    Workflow(#[from] WorkflowError),
}

impl RelayError {
    /// The stable word for programs.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::JobExists(_) => "job_exists",
            Self::JobNotFound(_) => "job_not_found",
            Self::NotCancellable(..) => "not_cancellable",
            Self::NotReportable(_) => "not_reportable",
            Self::BackendUnknown { .. } => "backend_unknown",
            Self::BackendUnreachable(_) => "backend_unreachable",
            Self::HeldByPeer(_) => "backend_held_elsewhere",
            Self::Backend { .. } => "backend_error",
            Self::PromptNotFound(_) => "prompt_not_found",
            Self::Rejected(..) => "workflow_rejected",
            Self::Stopping => "going_away",
            Self::Workflow(error) => error.code(),
            Self::Store(_) => "database_unreachable",
        }
    }

    /// ComfyUI's validation says no.
    pub(super) fn rejected(error: SubmitError) -> Self {
        let inputs = match &error {
            SubmitError::Rejected(rejection) => rejection.inputs.clone(),
            SubmitError::Rest(_) => Vec::new(),
        };
        Self::Rejected(error, inputs)
    }

    /// A request to a backend that failed.
    pub(super) fn request_failed(backend: &str, source: RestError) -> Self {
        let backend = backend.to_owned();
        match source {
            RestError::Unreachable { .. } => Self::BackendUnreachable(backend),
            source => Self::Backend { backend, source },
        }
    }
}
