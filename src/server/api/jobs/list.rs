//! `GET /api/anime/jobs?status=&backend=&label=&group=&workflow=&q=&since=&until=&limit=&cursor=`: jobs by page, the newest first.

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use jiff::Timestamp;

use crate::auth::{Permissions, Scope};
use crate::job::JobId;
use crate::relay::JobPage;
use crate::server::contract::endpoint::Endpoint;
use crate::server::contract::parameter::Parameter;
use crate::server::error::ApiError;
use crate::server::request::{Query, bad_query};
use crate::server::response::{self, Body};
use crate::server::selection::{self, LIST_PARAMETERS};
use crate::server::state::ServerState;
use crate::store::{Cursor, JobFilter};

/// How many jobs a page holds by default.
pub(in crate::server) const DEFAULT_LIMIT: usize = 50;

/// How many jobs a page holds at most.
const MAX_LIMIT: usize = 500;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::get(
        "list_jobs",
        "/api/anime/jobs",
        "A page of jobs, the newest first",
    )
    .needs(&[Scope::Subscribe])
    .takes_all(selection::parameters())
    .takes(Parameter::moment(
        "since",
        "Registered at this moment or later.",
    ))
    .takes(Parameter::moment("until", "Registered before this moment."))
    .takes(Parameter::number(
        "limit",
        "How many a page has; 50 by default.",
        1,
        MAX_LIMIT,
    ))
    .takes(Parameter::text(
        "cursor",
        "`next_cursor` of the page before.",
    ))
    .answers::<JobPage>(200, "The jobs.")
    .fails(400, &["bad_query", "bad_status"])
    .needs_database()
}

pub(in crate::server) async fn list(
    state: &ServerState,
    request: &Request<Incoming>,
    permissions: &Permissions,
) -> Result<Response<Body>, ApiError> {
    let query = Query::parse(request, &LIST_PARAMETERS)?;
    let moment = |name| {
        let text = query.value(name);
        text.map(|text| parse_moment(name, text)).transpose()
    };
    let filter = JobFilter {
        selection: selection::parse(&query, permissions)?,
        since: moment("since")?,
        until: moment("until")?,
        after: query.value("cursor").map(parse_cursor).transpose()?,
        ended_since: None,
    };
    let limit = query
        .value("limit")
        .map_or(Ok(DEFAULT_LIMIT), parse_limit)?;
    let page = state.relay.list(&filter, limit).await?;
    Ok(response::json(StatusCode::OK, &page))
}

fn parse_moment(name: &str, text: &str) -> Result<Timestamp, ApiError> {
    text.parse()
        .map_err(|_| bad_query(format!("{name} is a moment such as 2025-12-10T15:30:45Z")))
}

/// How many jobs a page is to hold.
pub(in crate::server) fn parse_limit(text: &str) -> Result<usize, ApiError> {
    match text.parse() {
        Ok(limit @ 1..=MAX_LIMIT) => Ok(limit),
        _ => Err(bad_query(format!(
            "limit is a number from 1 to {MAX_LIMIT}"
        ))),
    }
}

/// A cursor is the `next_cursor` of the page before.
pub(in crate::server) fn parse_cursor(text: &str) -> Result<Cursor, ApiError> {
    let cursor = text.split_once('.').and_then(|(moment, job_id)| {
        Some(Cursor {
            created_at: Timestamp::from_millisecond(moment.parse().ok()?).ok()?,
            job_id: JobId::parse(job_id).ok()?,
        })
    });
    cursor.ok_or_else(|| bad_query("cursor is the next_cursor of the page before"))
}
