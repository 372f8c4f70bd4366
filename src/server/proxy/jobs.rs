//! ComfyUI's list of jobs: `/api/jobs`.

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::lists::MAX_NAMED;
use super::parameters::Parameters;
use crate::comfy::RestError;
use crate::relay::{JobListQuery, RelayError};
use crate::server::error::ApiError;
use crate::server::request::read_json;
use crate::server::response::{self, Body};
use crate::server::state::ServerState;

/// The parameters that are about the list as a whole, and are not passed on as they are. Its order is passed on, because servers
/// leave out what comes after `limit`.
const OF_LIST: [&str; 3] = ["offset", "limit", "token"];

/// Which prompts are to be cancelled.
#[derive(Deserialize)]
struct CancelledIds {
    job_ids: Vec<String>,
}

/// Whether a prompt was cancelled; of several, whether at least one was.
#[derive(Serialize)]
struct CancelledPrompt {
    cancelled: bool,
}

/// ComfyUI's answer to a request for jobs that fails.
#[derive(Serialize)]
struct JobFailure<'a> {
    error: &'a str,
}

/// There is no such job.
const NOT_FOUND: JobFailure<'_> = JobFailure {
    error: "Job not found",
};

/// `GET /api/jobs`.
pub(super) async fn list<B>(
    state: &ServerState,
    request: &Request<B>,
) -> Result<Response<Body>, ApiError> {
    let parameters = Parameters::of(request);
    let statuses = parameters.value("status").unwrap_or_default();
    let statuses = statuses
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty());
    let (Ok(offset), Ok(limit)) = (
        parameters.number::<i64>("offset"),
        parameters.number::<i64>("limit"),
    ) else {
        return Ok(refused("offset and limit must be integers"));
    };
    let limit = limit.map(|limit| usize::try_from(limit).unwrap_or_default());
    if limit == Some(0) {
        return Ok(refused("limit must be a positive integer"));
    }
    let query = JobListQuery {
        statuses: statuses.map(str::to_owned).collect(),
        // As ComfyUI does, which reads a negative one as none.
        offset: usize::try_from(offset.unwrap_or_default()).unwrap_or_default(),
        limit,
        is_by_duration: parameters.value("sort_by") == Some("execution_duration"),
        is_ascending: parameters
            .value("sort_order")
            .is_some_and(|order| order.eq_ignore_ascii_case("asc")),
        filters: parameters.others(&OF_LIST),
    };
    Ok(match state.relay.comfy_jobs(&query).await {
        Ok(Some(jobs)) => response::json(StatusCode::OK, &jobs),
        Ok(None) => response::json(StatusCode::NOT_FOUND, &NOT_FOUND),
        Err(error) => match said_by_comfyui(&error) {
            Some(answer) => response::json(StatusCode::BAD_REQUEST, answer),
            None => return Err(error.into()),
        },
    })
}

/// What ComfyUI says of a request that is wrong.
fn said_by_comfyui(error: &RelayError) -> Option<&Value> {
    match error {
        RelayError::Backend { source, .. } => match &**source {
            RestError::BadRequest { answer, .. } => Some(answer),
            _ => None,
        },
        _ => None,
    }
}

/// The answer to a request for jobs that is wrong.
fn refused(error: &str) -> Response<Body> {
    response::json(StatusCode::BAD_REQUEST, &JobFailure { error })
}

/// `GET /api/jobs/{prompt_id}`.
pub(super) async fn show(state: &ServerState, prompt_id: &str) -> Result<Response<Body>, ApiError> {
    Ok(match state.relay.comfy_job(prompt_id).await? {
        Some(job) => response::json(StatusCode::OK, &job),
        None => response::json(StatusCode::NOT_FOUND, &NOT_FOUND),
    })
}

/// `POST /api/jobs/{prompt_id}/cancel`.
pub(super) async fn cancel(
    state: &ServerState,
    prompt_id: &str,
) -> Result<Response<Body>, ApiError> {
    let cancelled = state.relay.cancel_by_prompt_id(prompt_id).await?;
    Ok(response::json(
        StatusCode::OK,
        &CancelledPrompt { cancelled },
    ))
}

/// `POST /api/jobs/cancel`.
pub(super) async fn cancel_several(
    state: &ServerState,
    request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let body: CancelledIds = read_json(request.into_body(), state.config.body_timeout).await?;
    if body.job_ids.len() > MAX_NAMED {
        let error = format!("job_ids has at most {MAX_NAMED} ids; send several requests");
        return Ok(refused(&error));
    }
    let cancelled = state.relay.cancel_by_prompt_ids(&body.job_ids).await?;
    Ok(response::json(
        StatusCode::OK,
        &CancelledPrompt { cancelled },
    ))
}
