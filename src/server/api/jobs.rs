//! `/api/anime/jobs`: create, list, show, explain, cancel and report on jobs.

mod create;
pub(super) mod create_answer;
mod list;
pub(super) mod prompt_options;
pub(in crate::server) mod queue_fields;
mod report;
mod retry;
pub(super) mod submission_failures;

use std::borrow::Cow;

use hyper::{Response, StatusCode};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::auth::Scope;
use crate::job::{JobId, Progress};
use crate::relay::{Cancelled, EstimateView, JobView};
use crate::server::contract::endpoint::Endpoint;
use crate::server::error::ApiError;
use crate::server::response::{self, Body};
use crate::server::state::ServerState;

pub(in crate::server) use create::create;
pub(in crate::server) use list::{DEFAULT_LIMIT, list, parse_cursor, parse_limit};
pub(in crate::server) use report::report;
pub(in crate::server) use retry::retry;

/// The answer to `POST /api/anime/jobs/{job_id}/cancel`.
#[derive(Debug, JsonSchema, Serialize)]
struct CancelAnswer<'a> {
    job_id: &'a JobId,
    /// Whether it is cancelled, or ComfyUI was asked to cancel it.
    message: &'static str,
}

/// The answer to `GET /api/anime/jobs/{job_id}`, as its schema describes it.
enum JobOrGroup {}

impl JsonSchema for JobOrGroup {
    fn schema_name() -> Cow<'static, str> {
        "JobOrGroup".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let job = generator.subschema_for::<JobView>();
        let group = generator.subschema_for::<Progress>();
        json_schema!({"description": "A job, or the state of a group.", "anyOf": [job, group]})
    }
}

/// The answer to `GET /api/anime/jobs/{job_id}/workflow`.
#[derive(Debug, JsonSchema, Serialize)]
struct WorkflowAnswer<'a> {
    job_id: &'a JobId,
    /// The graph in API format.
    workflow: Map<String, Value>,
}

pub(in crate::server) fn endpoints() -> Vec<Endpoint> {
    let cancel = "/api/anime/jobs/{job_id}/cancel";
    let estimate = "/api/anime/jobs/{job_id}/estimate";
    let workflow = "/api/anime/jobs/{job_id}/workflow";
    vec![
        create::endpoint(),
        list::endpoint(),
        Endpoint::get(
            "job",
            "/api/anime/jobs/{job_id}",
            "One job, with its node timeline",
        )
        .needs(&[Scope::Subscribe])
        .finds_job()
        .answers::<JobOrGroup>(200, "The job; of a group its newest state."),
        Endpoint::post(
            "cancel",
            cancel,
            "Interrupt a job, or remove it from the queue",
        )
        .needs(&[Scope::Cancel])
        .finds_job()
        .answers::<CancelAnswer<'_>>(202, "It is cancelled, or ComfyUI was asked to cancel it.")
        .fails(409, &["not_cancellable"]),
        report::endpoint(),
        retry::endpoint(),
        Endpoint::get(
            "estimate",
            estimate,
            "Why the estimate of a job is what it is",
        )
        .needs(&[Scope::Subscribe])
        .finds_job()
        .answers::<EstimateView>(200, "The estimate, and what it is made of."),
        Endpoint::get("workflow", workflow, "The graph of a job")
            .needs(&[Scope::Subscribe])
            .finds_job()
            .answers::<WorkflowAnswer<'_>>(200, "The graph in API format.")
            .fails(410, &["workflow_unavailable"]),
    ]
}

/// `GET /api/anime/jobs/{job_id}`.
pub(in crate::server) async fn show(
    state: &ServerState,
    job: &JobId,
) -> Result<Response<Body>, ApiError> {
    state.relay.lookup(job).await?;
    if job.group().is_some() {
        let newest = state.relay.newest_state(job);
        let newest = newest.ok_or_else(|| ApiError::job_not_found(job))?;
        let payload = newest.payload.clone();
        return Ok(response::full(StatusCode::OK, "application/json", payload));
    }
    let view = state.relay.job(job).await;
    let mut view = view.ok_or_else(|| ApiError::job_not_found(job))?;
    view.place_kept().await;
    view.links = state.relay.links(job).await;
    view.webhooks = state.relay.job_deliveries(job).await;
    Ok(response::json(StatusCode::OK, &view))
}

/// `GET /api/anime/jobs/{job_id}/estimate`.
pub(in crate::server) async fn explain(
    state: &ServerState,
    job: &JobId,
) -> Result<Response<Body>, ApiError> {
    let view = state.relay.explain(job).await?;
    Ok(response::json(StatusCode::OK, &view))
}

/// `GET /api/anime/jobs/{job_id}/workflow`.
pub(in crate::server) async fn workflow(
    state: &ServerState,
    job: &JobId,
) -> Result<Response<Body>, ApiError> {
    state.relay.lookup(job).await?;
    let workflow = state.relay.workflow(job).await?;
    let answer = WorkflowAnswer {
        job_id: job,
        workflow,
    };
    Ok(response::json(StatusCode::OK, &answer))
}

/// `POST /api/anime/jobs/{job_id}/cancel`. A job that ComfyUI runs has ended only when ComfyUI reports it.
pub(in crate::server) async fn cancel(
    state: &ServerState,
    job: &JobId,
) -> Result<Response<Body>, ApiError> {
    state.relay.lookup(job).await?;
    let message = match state.relay.cancel(job).await? {
        Cancelled::Requested => "ComfyUI was asked to cancel it",
        Cancelled::Ended => "it is cancelled",
    };
    let answer = CancelAnswer {
        job_id: job,
        message,
    };
    Ok(response::json(StatusCode::ACCEPTED, &answer))
}
