//! Jobs over HTTP.

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode, header};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Edge;
use super::body::{self, Body, full, read_json};
use super::error::{Failure, wrong_input};
use super::route::query;
use crate::job::{JobId, Report, Status};
use crate::relay::Work;

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
pub(super) async fn create(
    edge: &Edge,
    request: Request<Incoming>,
) -> Result<Response<Body>, Failure> {
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let host = host.map_or_else(|| edge.config.listen.to_string(), str::to_owned);
    let new: NewJob = read_json(request.into_body()).await?;
    let job_id = new.job_id.as_deref().map(JobId::parse).transpose()?;
    let work = match (new.prompt_id, new.workflow) {
        (Some(prompt), None) if prompt.is_empty() || prompt.len() > MAX_PROMPT_ID => {
            return Err(Failure::bad_request(
                "bad_prompt_id",
                format!("a prompt_id has 1 to {MAX_PROMPT_ID} bytes"),
            ));
        }
        (Some(prompt), None) => Work::Prompt(prompt),
        (None, Some(Value::Object(graph))) => Work::Graph(graph),
        (None, Some(Value::String(name))) => Work::Named(name),
        (None, Some(_)) => {
            return Err(Failure::bad_request(
                "bad_workflow",
                "workflow is a graph in API format, or the name of a workflow",
            ));
        }
        _ => {
            return Err(Failure::bad_request(
                "bad_job",
                "give either prompt_id, to follow a prompt, or workflow, to submit one",
            ));
        }
    };
    let accepted = edge
        .relay
        .submit(job_id, work, &new.params, new.backend.as_deref())
        .await?;
    let mut answer = json!({
        "job_id": accepted.job_id,
        "prompt_id": accepted.prompt_id,
        "backend": accepted.backend,
        "ws_url": format!("ws://{host}/ws/{}", accepted.job_id),
    });
    if !accepted.ignored.is_empty() {
        answer["ignored"] = accepted.ignored.iter().map(wrong_input).collect();
    }
    Ok(body::json(StatusCode::CREATED, &answer))
}

/// `GET /api/anime/jobs?status=&limit=&cursor=`.
pub(super) fn list(edge: &Edge, request: &Request<Incoming>) -> Result<Response<Body>, Failure> {
    let status = query(request, "status")
        .filter(|word| !word.is_empty())
        .map(|word| status_of(&word))
        .transpose()?;
    let number = |name: &'static str| {
        let wrong = |text: String| {
            Failure::bad_request("bad_query", format!("{name} is a number, not {text:?}"))
        };
        let text = query(request, name).filter(|text| !text.is_empty());
        text.map(|text| text.parse::<u64>().map_err(|_| wrong(text)))
            .transpose()
    };
    let limit = number("limit")?.map_or(PAGE, |limit| limit.clamp(1, MAX_PAGE as u64) as usize);
    let page = edge.relay.list(status, limit, number("cursor")?);
    Ok(body::json(StatusCode::OK, &page))
}

/// `GET /api/anime/jobs/{job_id}`.
pub(super) async fn show(edge: &Edge, job: &JobId) -> Result<Response<Body>, Failure> {
    edge.relay.discover(job).await?;
    let view = edge
        .relay
        .job(job)
        .ok_or_else(|| Failure::job_not_found(job))?;
    Ok(body::json(StatusCode::OK, &view))
}

/// `POST /api/anime/jobs/{job_id}/cancel`.
pub(super) async fn cancel(edge: &Edge, job: &JobId) -> Result<Response<Body>, Failure> {
    edge.relay.discover(job).await?;
    edge.relay.cancel(job).await?;
    let answer = json!({"job_id": job, "message": "ComfyUI was asked to cancel it"});
    Ok(body::json(StatusCode::ACCEPTED, &answer))
}

/// `POST /api/anime/jobs/{job_id}/progress`.
pub(super) async fn report(
    edge: &Edge,
    job: &JobId,
    request: Request<Incoming>,
) -> Result<Response<Body>, Failure> {
    let new: NewReport = read_json(request.into_body()).await?;
    if !(0.0..=100.0).contains(&new.progress) {
        return Err(Failure::bad_request(
            "bad_progress",
            "progress is a number from 0 to 100",
        ));
    }
    if new
        .estimated_remaining
        .is_some_and(|seconds| !(0.0..=1e9).contains(&seconds))
    {
        return Err(Failure::bad_request(
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
    edge.relay.report(job, report)?;
    Ok(body::json(StatusCode::ACCEPTED, &json!({"job_id": job})))
}

/// `GET /api/anime/jobs/{job_id}/preview`.
pub(super) fn preview(edge: &Edge, job: &JobId) -> Result<Response<Body>, Failure> {
    let preview = edge.relay.preview(job).ok_or_else(|| {
        Failure::new(
            StatusCode::NOT_FOUND,
            "no_preview",
            format!("there is no preview of the job {:?}; ComfyUI makes them with --preview-method auto", job.as_str()),
        )
    })?;
    Ok(full(StatusCode::OK, preview.mime, preview.image.clone()))
}

fn status_of(word: &str) -> Result<Status, Failure> {
    Status::from_word(word).ok_or_else(|| {
        let known = Status::ALL.map(Status::as_str).join(", ");
        Failure::bad_request(
            "bad_status",
            format!("status is one of {known}, not {word:?}"),
        )
    })
}
