//! [`V2Job`]: a job as Comfy API v2 shows it.

use std::collections::BTreeMap;

use hyper::{Response, StatusCode};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use super::labels;
use super::output::{OutputLinks, V2Output};
use super::state::{Eta, ShownState, V2Progress, V2Status};
use crate::auth::Permissions;
use crate::job::JobId;
use crate::relay::{JobView, RelayError};
use crate::server::error::ApiError;
use crate::server::response::{self, Body};
use crate::server::security::PublicAddress;
use crate::server::state::ServerState;

/// Until when a job is there that is kept for ever, in seconds since 1970: the end of the year 9999, the last that clients know.
const FOR_EVER: i64 = 253_402_300_799;

/// The relay's code of an error that a node raised, and that of Comfy API v2.
const NODE_ERROR: (&str, &str) = ("execution_error", "node_execution_error");

/// A job. The remaining time is not in Comfy API v2 itself.
#[derive(Debug, Serialize)]
pub(super) struct V2Job {
    id: String,
    status: V2Status,
    created_at: Timestamp,
    started_at: Option<Timestamp>,
    completed_at: Option<Timestamp>,
    expires_at: Timestamp,
    queue_position: Option<usize>,
    progress: Option<V2Progress>,
    outputs: Vec<V2Output>,
    error: Option<V2JobError>,
    metrics: V2Metrics,
    metadata: BTreeMap<String, String>,
    urls: V2Urls,
    #[serde(flatten)]
    eta: Eta,
}

/// Why a job failed.
#[derive(Debug, Serialize)]
struct V2JobError {
    code: String,
    message: String,
    node_id: Option<String>,
    class_type: Option<String>,
    /// The relay keeps none: they show folders of the server.
    traceback: Option<String>,
}

/// How long it has waited and run, in milliseconds.
#[derive(Debug, Serialize)]
struct V2Metrics {
    queue_ms: Option<i64>,
    execution_ms: Option<i64>,
}

/// Where more about a job is, below the address of the request.
#[derive(Debug, Serialize)]
struct V2Urls {
    #[serde(rename = "self")]
    own: String,
    events: String,
    cancel: String,
}

/// The graph of a job.
#[derive(Serialize)]
struct V2Workflow {
    workflow: Map<String, Value>,
    /// Graphs are kept as they are run.
    format: &'static str,
}

/// The job that a path names.
pub(super) fn job_id(text: &str) -> Result<JobId, ApiError> {
    let id = JobId::parse(text).ok().filter(|id| id.group().is_none());
    id.ok_or_else(|| {
        ApiError::new(
            StatusCode::NOT_FOUND,
            "job_not_found",
            "there is no such job",
        )
    })
}

/// Reads a job for a caller with these permissions.
pub(super) async fn read(
    state: &ServerState,
    id: &JobId,
    address: &PublicAddress,
    permissions: &Permissions,
) -> Result<V2Job, ApiError> {
    state.relay.lookup(id).await?;
    let view = state.relay.job(id).await;
    let view = view.ok_or_else(|| RelayError::JobNotFound(id.clone()))?;
    let shown = ShownState::of(&view.progress).map_err(|error| unreadable(&error))?;
    let links = OutputLinks::new(address, permissions);
    let numbered = shown.outputs.iter().enumerate();
    let outputs = links.outputs(state, id, numbered.collect()).await;
    Ok(V2Job::new(state, id, address, &view, shown, outputs))
}

/// `GET /api/v2/jobs/{id}`.
pub(super) async fn show(
    state: &ServerState,
    id: &JobId,
    address: &PublicAddress,
    permissions: &Permissions,
) -> Result<Response<Body>, ApiError> {
    let job = read(state, id, address, permissions).await?;
    Ok(response::json(StatusCode::OK, &job))
}

/// `POST /api/v2/jobs/{id}/cancel`. A job that has ended stays as it is.
pub(super) async fn cancel(
    state: &ServerState,
    id: &JobId,
    address: &PublicAddress,
    permissions: &Permissions,
) -> Result<Response<Body>, ApiError> {
    state.relay.lookup(id).await?;
    match state.relay.cancel(id).await {
        Ok(_) | Err(RelayError::NotCancellable(..)) => {}
        Err(error) => return Err(error.into()),
    }
    show(state, id, address, permissions).await
}

/// `GET /api/v2/jobs/{id}/workflow`.
pub(super) async fn workflow(state: &ServerState, id: &JobId) -> Result<Response<Body>, ApiError> {
    state.relay.lookup(id).await?;
    let workflow = V2Workflow {
        workflow: state.relay.workflow(id).await?,
        format: "api",
    };
    Ok(response::json(StatusCode::OK, &workflow))
}

impl V2Job {
    fn new(
        state: &ServerState,
        id: &JobId,
        address: &PublicAddress,
        view: &JobView,
        shown: ShownState,
        outputs: Vec<V2Output>,
    ) -> Self {
        let own = address.path(&format!("/api/v2/jobs/{id}"));
        let kept_from = view.completed_at.unwrap_or_else(Timestamp::now);
        let retention = state.relay.retention();
        let expires_at = retention.and_then(|it| kept_from.checked_add(it).ok());
        let for_ever = Timestamp::from_second(FOR_EVER).unwrap_or(Timestamp::MAX);
        Self {
            id: id.to_string(),
            status: shown.v2_status(),
            created_at: view.created_at,
            started_at: view.started_at,
            completed_at: view.completed_at,
            expires_at: expires_at.unwrap_or(for_ever).min(for_ever),
            queue_position: shown.queue_position(),
            progress: shown.v2_progress(),
            outputs,
            error: V2JobError::of(view, &shown),
            metrics: V2Metrics::of(view, &shown),
            urls: V2Urls {
                events: format!("{own}/events"),
                cancel: format!("{own}/cancel"),
                own,
            },
            eta: shown.eta,
            metadata: labels::shown(shown.labels),
        }
    }
}

impl V2JobError {
    fn of(view: &JobView, shown: &ShownState) -> Option<Self> {
        let message = shown.error.clone()?;
        let (own, published) = NODE_ERROR;
        let code = match view.error_code? {
            code if code == own => published,
            code => code,
        };
        let runs = view.timeline.iter().flatten().rev();
        let failed = runs.clone().find(|run| run.state == "failed");
        Some(Self {
            code: code.to_owned(),
            message,
            node_id: failed.map(|run| run.display_node.clone()),
            class_type: failed.and_then(|run| run.class_type.clone()),
            traceback: None,
        })
    }
}

impl V2Metrics {
    fn of(view: &JobView, shown: &ShownState) -> Self {
        let waited = view.started_at.map(|it| it.duration_since(view.created_at));
        Self {
            queue_ms: waited.and_then(|it| i64::try_from(it.as_millis()).ok()),
            execution_ms: shown.elapsed.map(|seconds| (seconds * 1_000.0) as i64),
        }
    }
}

/// What the relay has published itself can be read.
pub(super) fn unreadable(error: &serde_json::Error) -> ApiError {
    tracing::error!(%error, "cannot read a published state");
    ApiError::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "state_unreadable",
        "the state of the job cannot be read; see the log of the relay",
    )
}
