//! `POST /api/anime/jobs/{job_id}/progress`: another program reports the progress of a job.

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::auth::Scope;
use crate::job::{JobId, Report, Status, Tags, group_schema, labels_schema};
use crate::server::contract::endpoint::Endpoint;
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
#[derive(JsonSchema, Deserialize)]
struct NewReport {
    /// From 0 to 100.
    #[schemars(range(min = 0, max = 100))]
    progress: f64,
    #[schemars(with = "Status")]
    status: String,
    /// In seconds.
    #[schemars(range(min = 0.0, max = MAX_REMAINING))]
    estimated_remaining: Option<f64>,
    /// One sentence for a person.
    message: Option<String>,
    /// The file that it has made.
    output_path: Option<String>,
    /// What went wrong, on `failed`.
    error: Option<String>,
    #[serde(default)]
    #[schemars(schema_with = "labels_schema")]
    labels: Map<String, Value>,
    #[serde(default)]
    #[schemars(schema_with = "group_schema")]
    group: Option<String>,
}

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
    let body = read_json(request.into_body(), state.config.body_timeout).await?;
    let mut new: NewReport = parse_fields(body, &FIELDS)?;
    job.check_job()?;
    let tags = Tags::of_client(&new.labels, new.group.take())?;
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
