//! `GET /api/anime/jobs?status=&backend=&since=&until=&limit=&cursor=`: jobs by page, the newest first.

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use jiff::Timestamp;

use crate::auth::Permissions;
use crate::job::JobId;
use crate::server::error::ApiError;
use crate::server::request::{parse_status, query};
use crate::server::response::{self, Body};
use crate::server::state::ServerState;
use crate::store::{Cursor, JobFilter};

/// How many jobs a page holds by default.
const DEFAULT_LIMIT: usize = 50;

/// How many jobs a page holds at most.
const MAX_LIMIT: usize = 500;

pub(in crate::server) async fn list(
    state: &ServerState,
    request: &Request<Incoming>,
    permissions: &Permissions,
) -> Result<Response<Body>, ApiError> {
    let value = |name: &str| query(request, name).filter(|text| !text.is_empty());
    let moment = |name| {
        value(name)
            .map(|text| parse_moment(name, &text))
            .transpose()
    };
    let filter = JobFilter {
        status: value("status")
            .map(|word| parse_status(&word))
            .transpose()?,
        backend: value("backend"),
        since: moment("since")?,
        until: moment("until")?,
        only: permissions.restricted_to(),
        after: value("cursor")
            .map(|text| parse_cursor(&text))
            .transpose()?,
    };
    let limit = value("limit").map_or(Ok(DEFAULT_LIMIT), |text| parse_limit(&text))?;
    let page = state.relay.list(&filter, limit).await?;
    Ok(response::json(StatusCode::OK, &page))
}

fn parse_moment(name: &str, text: &str) -> Result<Timestamp, ApiError> {
    text.parse()
        .map_err(|_| bad_query(format!("{name} is a moment such as 2025-12-10T15:30:45Z")))
}

fn parse_limit(text: &str) -> Result<usize, ApiError> {
    match text.parse() {
        Ok(limit @ 1..=MAX_LIMIT) => Ok(limit),
        _ => Err(bad_query(format!(
            "limit is a number from 1 to {MAX_LIMIT}"
        ))),
    }
}

/// A cursor is the `next_cursor` of the page before.
fn parse_cursor(text: &str) -> Result<Cursor, ApiError> {
    let cursor = text.split_once('.').and_then(|(moment, job_id)| {
        Some(Cursor {
            created_at: Timestamp::from_millisecond(moment.parse().ok()?).ok()?,
            job_id: JobId::parse(job_id).ok()?,
        })
    });
    cursor.ok_or_else(|| bad_query("cursor is the next_cursor of the page before"))
}

fn bad_query(message: impl Into<String>) -> ApiError {
    ApiError::bad_request("bad_query", message)
}
