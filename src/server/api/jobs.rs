//! Jobs over HTTP.

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode, header};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::auth::{Permissions, Scope};
use crate::job::{JobId, Report, Status};
use crate::relay::Submission;
use crate::server::ServerState;
use crate::server::error::{ApiError, wrong_input};
use crate::server::request::{query, read_json};
use crate::server::response::{self, Body, full};
use crate::store::{Cursor, JobFilter};

/// How many jobs a page of the list holds, unless the client asks otherwise.
const PAGE: usize = 50;

/// The most that it may ask for.
const MAX_PAGE: usize = 500;

/// The longest prompt id that is followed. ComfyUI's own have 36 characters.
const MAX_PROMPT_ID: usize = 200;

#[derive(Deserialize)]
struct NewJob {
    job_id: Option<String>,
    prompt_id: Option<String>,
    workflow: Option<Value>,
    #[serde(default)]
    params: Map<String, Value>,
    backend: Option<String>,
}

#[derive(Deserialize)]
struct NewReport {
    progress: f64,
    status: String,
    estimated_remaining: Option<f64>,
    message: Option<String>,
    output_path: Option<String>,
    error: Option<String>,
}

/// `POST /api/anime/jobs`: follows a prompt, or submits a workflow.
pub(in crate::server) async fn create(
    state: &ServerState,
    request: Request<Incoming>,
    access: &Permissions,
) -> Result<Response<Body>, ApiError> {
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let host = host.map_or_else(|| state.config.listen.to_string(), str::to_owned);
    let scheme = match state.config.tls {
        Some(_) => "wss",
        None => "ws",
    };
    let new: NewJob = read_json(request.into_body(), state.config.body_timeout).await?;
    let job_id = new.job_id.as_deref().map(JobId::parse).transpose()?;
    access.check(Scope::Submit, job_id.as_ref())?;
    let work = match (new.prompt_id, new.workflow) {
        (Some(prompt), None) if prompt.is_empty() || prompt.len() > MAX_PROMPT_ID => {
            return Err(ApiError::bad_request(
                "bad_prompt_id",
                format!("a prompt_id has 1 to {MAX_PROMPT_ID} bytes"),
            ));
        }
        (Some(prompt), None) => Submission::Prompt(prompt),
        (None, Some(Value::Object(graph))) => Submission::Graph(graph),
        (None, Some(Value::String(name))) => Submission::Named(name),
        (None, Some(_)) => {
            return Err(ApiError::bad_request(
                "bad_workflow",
                "workflow is a graph in API format, or the name of a workflow",
            ));
        }
        _ => {
            return Err(ApiError::bad_request(
                "bad_job",
                "give either prompt_id, to follow a prompt, or workflow, to submit one",
            ));
        }
    };
    let accepted = state
        .relay
        .submit(job_id, work, &new.params, new.backend.as_deref())
        .await?;
    let mut answer = json!({
        "job_id": accepted.job_id,
        "prompt_id": accepted.prompt_id,
        "backend": accepted.backend,
        "ws_url": format!("{scheme}://{host}/ws/{}", accepted.job_id),
    });
    if !accepted.ignored.is_empty() {
        answer["ignored"] = accepted.ignored.iter().map(wrong_input).collect();
    }
    Ok(response::json(StatusCode::CREATED, &answer))
}

/// `GET /api/anime/jobs?status=&backend=&since=&until=&limit=&cursor=`.
pub(in crate::server) async fn list(
    state: &ServerState,
    request: &Request<Incoming>,
    access: &Permissions,
) -> Result<Response<Body>, ApiError> {
    let asked = |name: &str| query(request, name).filter(|text| !text.is_empty());
    let moment = |name: &str| {
        let wrong = |_| {
            let expected = format!("{name} is a moment such as 2025-12-10T15:30:45Z");
            ApiError::bad_request("bad_query", expected)
        };
        asked(name)
            .map(|text| text.parse::<Timestamp>().map_err(wrong))
            .transpose()
    };
    let filter = JobFilter {
        status: asked("status").map(|word| status_of(&word)).transpose()?,
        backend: asked("backend"),
        since: moment("since")?,
        until: moment("until")?,
        only: access.only(),
        after: asked("cursor").map(|text| cursor(&text)).transpose()?,
    };
    let limit = match asked("limit").map(|text| text.parse()) {
        None => PAGE,
        Some(Ok(limit @ 1..=MAX_PAGE)) => limit,
        Some(_) => {
            let expected = format!("limit is a number from 1 to {MAX_PAGE}");
            return Err(ApiError::bad_request("bad_query", expected));
        }
    };
    let page = state.relay.list(&filter, limit).await?;
    Ok(response::json(StatusCode::OK, &page))
}

/// A cursor is what the page before called `next_cursor`.
fn cursor(text: &str) -> Result<Cursor, ApiError> {
    let read = text.split_once('.').and_then(|(moment, job_id)| {
        Some(Cursor {
            created_at: Timestamp::from_millisecond(moment.parse().ok()?).ok()?,
            job_id: JobId::parse(job_id).ok()?,
        })
    });
    read.ok_or_else(|| {
        ApiError::bad_request("bad_query", "cursor is the next_cursor of the page before")
    })
}

/// `GET /api/anime/jobs/{job_id}`.
pub(in crate::server) async fn show(
    state: &ServerState,
    job: &JobId,
) -> Result<Response<Body>, ApiError> {
    state.relay.lookup(job).await?;
    let view = state
        .relay
        .job(job)
        .ok_or_else(|| ApiError::job_not_found(job))?;
    Ok(response::json(StatusCode::OK, &view))
}

/// `POST /api/anime/jobs/{job_id}/cancel`.
pub(in crate::server) async fn cancel(
    state: &ServerState,
    job: &JobId,
) -> Result<Response<Body>, ApiError> {
    state.relay.lookup(job).await?;
    state.relay.cancel(job).await?;
    let answer = json!({"job_id": job, "message": "ComfyUI was asked to cancel it"});
    Ok(response::json(StatusCode::ACCEPTED, &answer))
}

/// `POST /api/anime/jobs/{job_id}/progress`.
pub(in crate::server) async fn report(
    state: &ServerState,
    job: &JobId,
    request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let new: NewReport = read_json(request.into_body(), state.config.body_timeout).await?;
    if !(0.0..=100.0).contains(&new.progress) {
        return Err(ApiError::bad_request(
            "bad_progress",
            "progress is a number from 0 to 100",
        ));
    }
    if new
        .estimated_remaining
        .is_some_and(|seconds| !(0.0..=1e9).contains(&seconds))
    {
        return Err(ApiError::bad_request(
            "bad_progress",
            "estimated_remaining is a number of seconds, not negative",
        ));
    }
    let report = Report {
        status: status_of(&new.status)?,
        progress: new.progress as u8,
        estimated_remaining: new
            .estimated_remaining
            .map(|seconds| seconds.round() as u64),
        message: new.message,
        output_path: new.output_path,
        error: new.error,
    };
    state.relay.report(job, report).await?;
    Ok(response::json(
        StatusCode::ACCEPTED,
        &json!({"job_id": job}),
    ))
}

/// `GET /api/anime/jobs/{job_id}/preview`.
pub(in crate::server) fn preview(
    state: &ServerState,
    job: &JobId,
) -> Result<Response<Body>, ApiError> {
    let preview = state.relay.preview(job).ok_or_else(|| {
        ApiError::new(
            StatusCode::NOT_FOUND,
            "no_preview",
            format!("there is no preview of the job {:?}; ComfyUI makes them with --preview-method auto", job.as_str()),
        )
    })?;
    Ok(full(StatusCode::OK, preview.mime, preview.image.clone()))
}

fn status_of(word: &str) -> Result<Status, ApiError> {
    Status::from_word(word).ok_or_else(|| {
        let known = Status::ALL.map(Status::as_str).join(", ");
        ApiError::bad_request(
            "bad_status",
            format!("status is one of {known}, not {word:?}"),
        )
    })
}
