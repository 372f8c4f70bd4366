//! `POST /api/anime/jobs/{job_id}/progress`: another program reports the progress of a job.

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::job::{JobId, Report, Tags};
use crate::server::error::ApiError;
use crate::server::request::{parse_fields, parse_status, read_json};
use crate::server::response::{self, Body};
use crate::server::state::ServerState;

/// The longest remaining time that is accepted, in seconds: some 30 years.
const MAX_REMAINING: f64 = 1e9;

/// The fields of the body.
const FIELDS: [&str; 8] = [
    "progress",
    "status",
    "estimated_remaining",
    "message",
    "output_path",
    "error",
    "labels",
    "group",
];

/// The body of the request.
#[derive(Deserialize)]
struct NewReport {
    /// From 0 to 100.
    progress: f64,
    status: String,
    /// In seconds.
    estimated_remaining: Option<f64>,
    message: Option<String>,
    output_path: Option<String>,
    error: Option<String>,
    #[serde(default)]
    labels: Map<String, Value>,
    group: Option<String>,
}

#[derive(Debug, Serialize)]
struct ReportAnswer<'a> {
    job_id: &'a JobId,
}

pub(in crate::server) async fn report(
    state: &ServerState,
    job: &JobId,
    request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let body = read_json(request.into_body(), state.config.body_timeout).await?;
    let mut new: NewReport = parse_fields(body, &FIELDS)?;
    job.check_job()?;
    let tags = Tags::check(&new.labels, new.group.take())?;
    let report = new.check()?;
    state.relay.report(job, report, tags).await?;
    let answer = ReportAnswer { job_id: job };
    Ok(response::json(StatusCode::ACCEPTED, &answer))
}

impl NewReport {
    fn check(self) -> Result<Report, ApiError> {
        let bad_progress = |message| Err(ApiError::bad_request("bad_progress", message));
        if !(0.0..=100.0).contains(&self.progress) {
            return bad_progress("progress is a number from 0 to 100");
        }
        if self
            .estimated_remaining
            .is_some_and(|seconds| !(0.0..=MAX_REMAINING).contains(&seconds))
        {
            return bad_progress("estimated_remaining is a number of seconds, not negative");
        }
        Ok(Report {
            status: parse_status(&self.status)?,
            progress: self.progress as u8,
            estimated_remaining: self
                .estimated_remaining
                .map(|seconds| seconds.round() as u64),
            message: self.message,
            output_path: self.output_path,
            error: self.error,
        })
    }
}
