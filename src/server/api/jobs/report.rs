//! `POST /api/anime/jobs/{job_id}/progress`: another program reports the progress of a job.

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;

use crate::auth::Scope;
use crate::job::{JobId, NewReport};
use crate::server::contract::endpoint::Endpoint;
use crate::server::error::ApiError;
use crate::server::request::{MAX_BODY, read_bytes};
use crate::server::response::{self, Body};
use crate::server::state::ServerState;

/// The answer to a report.
#[derive(Debug, JsonSchema, Serialize)]
struct ReportAnswer<'a> {
    job_id: &'a JobId,
}

pub(super) fn endpoint() -> Endpoint {
    let path = "/api/anime/jobs/{job_id}/progress";
    Endpoint::post(
        "report",
        path,
        "Report the progress of a job that ComfyUI does not run",
    )
    .needs(&[Scope::Progress])
    .reads::<NewReport>()
    .answers::<ReportAnswer<'_>>(202, "The report is taken.")
    .fails(
        400,
        &[
            "bad_job_id",
            "bad_progress",
            "bad_status",
            "bad_labels",
            "bad_group",
        ],
    )
    .fails(409, &["job_ended", "job_exists", "not_reportable"])
    .fails(422, &["row_refused"])
    .needs_database()
}

pub(in crate::server) async fn report(
    state: &ServerState,
    job: &JobId,
    request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let body = read_bytes(request.into_body(), state.config.body_timeout, MAX_BODY).await?;
    let new = NewReport::read(&body)?;
    job.check_job()?;
    let (report, tags) = new.check()?;
    state.relay.report(job, report, tags).await?;
    let answer = ReportAnswer { job_id: job };
    Ok(response::json(StatusCode::ACCEPTED, &answer))
}
