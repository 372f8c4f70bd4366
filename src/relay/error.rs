//! Why the relay refused a request.

use std::sync::Arc;

use crate::comfy::{Rejection, RestError};
use crate::connector::PlaceError;
use crate::job::{JobId, excerpt};
use crate::relay::batch_problem::{self, BatchProblem};
use crate::relay::unsuitable::{self, UnsuitableBackend};
use crate::store::StoreError;
use crate::workflow::WorkflowError;

/// Why a request was refused or failed. Nothing of it was done.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The job id is taken.
    #[error("there is already a job \"{0}\"; choose another job_id, or leave it out")]
    JobExists(JobId),
    /// No such job.
    #[error("there is no job \"{0}\"")]
    JobNotFound(JobId),
    /// The job has ended, or is not on a backend.
    #[error("the job \"{0}\" cannot be cancelled: {1}")]
    NotCancellable(JobId, &'static str),
    /// The job follows a prompt of ComfyUI.
    #[error("the job \"{0}\" follows a prompt of ComfyUI; no other producer can report on it")]
    NotReportable(JobId),
    /// The job has ended.
    #[error("the job \"{0}\" has ended ({1}); start another one under a new id")]
    JobEnded(JobId, &'static str),
    /// The job has not ended.
    #[error("the job \"{0}\" has not ended; cancel it first, or wait until it has")]
    JobOpen(JobId),
    /// The keys with which the job was submitted were not kept.
    #[error(
        "the job \"{0}\" came with keys of partner nodes, which are not kept; submit its workflow again with its keys, or set COMFY_API_KEY"
    )]
    KeysGone(JobId),
    /// No backend of this name is configured.
    #[error("there is no backend {:?}; the backends are: {}", excerpt(.name), known.join(", "))]
    BackendUnknown {
        /// The name that was asked for.
        name: String,
        /// The names of all backends.
        known: Vec<String>,
    },
    /// No networks are configured in which servers that are added may be.
    #[error(
        "no server can be added: BACKEND_NETWORKS (--backend-networks) names the networks in which servers may be, and is not set"
    )]
    AddingOff,
    /// The server that is to be added is not where it may be.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// A backend has this name, or is this server.
    #[error(
        "there is already a backend {name:?}, which is {url}; choose another name, or remove that one first"
    )]
    BackendExists {
        /// Its name.
        name: String,
        /// Its address.
        url: String,
    },
    /// The backend with this name is in the settings.
    #[error(
        "the backend {0:?} is in the settings (COMFYUI_URL); take it out there and restart the relay, or drain it"
    )]
    BackendConfigured(String),
    /// So many backends were added since the start that no more is taken.
    #[error("too many servers were added and removed since the relay was started; restart it")]
    TooManyBackends,
    /// No backend has all of these labels.
    #[error("no backend has the labels {asked}; {}", known_labels(known))]
    LabelUnknown {
        /// The labels that were asked for.
        asked: String,
        /// The labels of each backend that has any.
        known: Vec<String>,
    },
    /// The backend with this name does not answer.
    #[error("ComfyUI at {0} does not answer; try again when it runs")]
    BackendUnreachable(String),
    /// No socket to the backend can be opened, though something answers in its place.
    #[error("ComfyUI at {backend} cannot be followed: {reason}")]
    NoSocket {
        /// The name of the backend.
        backend: String,
        /// What came instead of a socket.
        reason: String,
    },
    /// Another relay on the same database follows the backend with this name.
    #[error(
        "another relay follows ComfyUI at {0}; ask that relay, or try again when it has stopped"
    )]
    HeldByPeer(String),
    /// The database does not answer, so another relay may follow the backend with this name by now.
    #[error(
        "the database does not answer, so another relay may follow ComfyUI at {0} by now; try again when it is back"
    )]
    LeaseLapsed(String),
    /// The database refuses the row of the job, for this reason.
    #[error("the database refuses the row of the job \"{0}\": {1}")]
    RowRefused(JobId, String),
    /// The backend answers with an error, or with something that cannot be read.
    #[error("the request to ComfyUI at {backend} failed: {source}")]
    Backend {
        /// The name of the backend.
        backend: String,
        /// Its answer.
        source: Arc<RestError>,
    },
    /// The job has made no such file.
    #[error(
        "the job \"{0}\" has no output {1}; GET /api/anime/jobs/{0}/outputs lists those it has"
    )]
    OutputNotFound(JobId, usize),
    /// The file is not on its ComfyUI server any more, or that server is not configured.
    #[error("ComfyUI has the output {1:?} of the job \"{0}\" no longer")]
    OutputUnavailable(JobId, String),
    /// Its ComfyUI server has the graph no longer, or no ComfyUI server runs the job.
    #[error("ComfyUI does not have the workflow of the job \"{0}\" any more")]
    WorkflowUnavailable(JobId),
    /// The file cannot be read to its end, or is too large for what is asked of it.
    #[error("the output {1:?} of the job \"{0}\" cannot be read, or is too large")]
    OutputUnreadable(JobId, String),
    /// What was sent is not a picture that ComfyUI loads.
    #[error(
        "this is not a picture that ComfyUI loads: send a PNG, JPEG, WebP, GIF, BMP or TIFF file as it is"
    )]
    NotAPicture,
    /// There is no room for another picture.
    #[error(
        "the pictures that were sent take all the room that they may take; try again when older ones are deleted"
    )]
    InputsFull,
    /// A workflow loads a picture that is not kept.
    #[error("the picture {0:?} is not here any more; send it again with POST /api/anime/inputs")]
    InputNotFound(String),
    /// A workflow loads too many pictures.
    #[error("the workflow loads {count} pictures that were sent; at most {limit} are allowed")]
    TooManyInputs {
        /// How many it loads.
        count: usize,
        /// How many it may load.
        limit: usize,
    },
    /// No backend has the prompt.
    #[error("no ComfyUI server has the prompt {0:?}")]
    PromptNotFound(String),
    /// So many jobs wait that no more is taken.
    #[error("{waiting} jobs wait already, and the limit is {limit}; try again in {retry_after} s")]
    QueueFull {
        /// How many wait.
        waiting: usize,
        /// How many may.
        limit: usize,
        /// When one of them is predicted to begin, in seconds.
        retry_after: u64,
    },
    /// An operator has stopped the backends that can run the graph, or the whole queue, for this reason.
    #[error("nothing is handed in: {0}; try again when that is over")]
    Paused(String),
    /// ComfyUI's validation has rejected the graph.
    #[error("ComfyUI refuses the workflow: {0}")]
    Rejected(Rejection),
    /// No backend that was asked can run the graph.
    #[error(
        "no ComfyUI server can run the workflow: {}",
        unsuitable::sentence(backends)
    )]
    NoBackendCanRun {
        /// Every backend that was asked.
        backends: Vec<UnsuitableBackend>,
        /// What ComfyUI would answer there, at each whose node classes are known.
        rejections: Vec<Rejection>,
    },
    /// Another request has the same Idempotency-Key.
    #[error(
        "this Idempotency-Key belongs to a request with another body; use a new key for each new request"
    )]
    IdempotencyConflict,
    /// Another relay does the same request.
    #[error("another relay is doing this very request; try again in a moment")]
    RequestUnderWay,
    /// Some jobs of a batch cannot be submitted.
    #[error("{}", batch_problem::sentence(problems))]
    BadBatch {
        /// Which, and why.
        problems: Vec<BatchProblem>,
    },
    /// All jobs of a batch together would take too much memory.
    #[error(
        "the workflow and the parameters that all {count} jobs of the batch have are {size} bytes of JSON; at most {limit} such jobs are allowed in one batch"
    )]
    BatchTooLarge {
        /// What each of them has, in bytes.
        size: usize,
        /// How many there are.
        count: usize,
        /// How many of this size there may be.
        limit: usize,
    },
    /// There is no queue for a batch to wait in.
    #[error("batches wait in the relay's own queue, which is off; set DISPATCH=queue")]
    QueueOff,
    /// No hosts are configured to which the webhooks of jobs may be sent.
    #[error(
        "jobs have no webhooks of their own: WEBHOOK_HOSTS (--webhook-hosts) names the hosts to which they may be sent, and is not set"
    )]
    WebhooksOff,
    /// The webhook of a job may not be sent to this host.
    #[error(
        "webhooks may not be sent to {:?}: it is not in WEBHOOK_HOSTS (--webhook-hosts), or at no public address", excerpt(.0)
    )]
    WebhookNotAllowed(String),
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
    /// Whether nothing has come, or will come, of a request that has failed so.
    pub(in crate::relay) fn is_certain(&self) -> bool {
        !matches!(
            self,
            Self::JobExists(_)
                | Self::RowRefused(..)
                | Self::RequestUnderWay
                | Self::Stopping
                | Self::Store(_)
        )
    }

    /// The stable code, for programs.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::JobExists(_) => "job_exists",
            Self::JobNotFound(_) => "job_not_found",
            Self::NotCancellable(..) => "not_cancellable",
            Self::NotReportable(_) => "not_reportable",
            Self::JobEnded(..) => "job_ended",
            Self::JobOpen(_) => "job_open",
            Self::KeysGone(_) => "keys_gone",
            Self::BackendUnknown { .. } => "backend_unknown",
            Self::LabelUnknown { .. } => "label_unknown",
            Self::AddingOff => "adding_off",
            Self::Place(PlaceError::Outside(..) | PlaceError::NotPublic(..)) => {
                "address_not_allowed"
            }
            Self::Place(PlaceError::Unresolved(..)) => "bad_url",
            Self::BackendExists { .. } => "backend_exists",
            Self::BackendConfigured(_) => "backend_configured",
            Self::TooManyBackends => "too_many_backends",
            Self::BackendUnreachable(_) | Self::NoSocket { .. } => "backend_unreachable",
            Self::HeldByPeer(_) => "backend_held_elsewhere",
            Self::Backend { .. } => "backend_error",
            Self::PromptNotFound(_) => "prompt_not_found",
            Self::NotAPicture => "not_a_picture",
            Self::InputsFull => "inputs_full",
            Self::InputNotFound(_) => "input_not_found",
            Self::TooManyInputs { .. } => "too_many_inputs",
            Self::OutputNotFound(..) => "output_not_found",
            Self::OutputUnavailable(..) => "output_unavailable",
            Self::WorkflowUnavailable(_) => "workflow_unavailable",
            Self::OutputUnreadable(..) => "output_unreadable",
            Self::QueueFull { .. } => "queue_full",
            Self::Paused(_) => "paused",
            Self::Rejected(..) => "workflow_rejected",
            Self::NoBackendCanRun { .. } => "no_backend_can_run",
            Self::IdempotencyConflict => "idempotency_conflict",
            Self::RequestUnderWay => "request_under_way",
            Self::BadBatch { .. } | Self::BatchTooLarge { .. } => "bad_batch",
            Self::QueueOff => "queue_off",
            Self::WebhooksOff => "webhooks_off",
            Self::WebhookNotAllowed(_) => "webhook_not_allowed",
            Self::Stopping => "going_away",
            Self::Workflow(error) => error.code(),
            Self::Store(_) | Self::LeaseLapsed(_) => "database_unreachable",
            Self::RowRefused(..) => "row_refused",
        }
    }

    /// A request to a backend that failed.
    pub(super) fn request_failed(backend: &str, source: impl Into<Arc<RestError>>) -> Self {
        let (backend, source) = (backend.to_owned(), source.into());
        if source.is_unreachable() {
            return Self::BackendUnreachable(backend);
        }
        Self::Backend { backend, source }
    }
}

/// Which labels there are, as a part of a sentence.
fn known_labels(known: &[String]) -> String {
    if known.is_empty() {
        return "none has any (--backend-labels, BACKEND_LABELS)".to_owned();
    }
    format!("the labels are: {}", known.join("; "))
}
