//! `GET /api/v2/jobs`: jobs by page, the newest first.

use std::collections::BTreeMap;

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use jiff::Timestamp;
use serde::Serialize;

use super::labels;
use super::state::V2Status;
use crate::auth::Permissions;
use crate::job::Selection;
use crate::relay::JobView;
use crate::server::api::jobs::{DEFAULT_LIMIT, parse_cursor, parse_limit};
use crate::server::error::ApiError;
use crate::server::proxy::parameters::Parameters;
use crate::server::request::bad_query;
use crate::server::response::{self, Body};
use crate::server::selection::is_label;
use crate::server::state::ServerState;
use crate::store::JobFilter;

/// How a parameter begins that names a label: `metadata[shot]=7`.
const METADATA: &str = "metadata[";

/// A page of jobs.
#[derive(Serialize)]
struct V2JobPage {
    jobs: Vec<V2JobSummary>,
    /// Absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// A job without what it has made.
#[derive(Serialize)]
struct V2JobSummary {
    id: String,
    status: V2Status,
    create_time: Timestamp,
    update_time: Timestamp,
    metadata: BTreeMap<String, String>,
}

/// Lists the jobs that have all labels that are asked for.
pub(super) async fn list(
    state: &ServerState,
    request: &Request<Incoming>,
    permissions: &Permissions,
) -> Result<Response<Body>, ApiError> {
    let parameters = Parameters::of(request);
    let limit = parameters
        .value("limit")
        .map_or(Ok(DEFAULT_LIMIT), parse_limit)?;
    let after = parameters.value("cursor").map(parse_cursor).transpose()?;
    let others = parameters.others(&[]).into_iter();
    let labels = others.filter_map(|(name, text)| {
        let key = name.strip_prefix(METADATA)?.strip_suffix(']')?;
        Some((key.to_owned(), text))
    });
    let labels: BTreeMap<String, String> = labels.collect();
    if !labels.iter().all(|(key, text)| is_label(key, text)) {
        let message = "metadata[KEY]=TEXT has a key without quotation marks and backslashes";
        return Err(bad_query(message));
    }
    let filter = JobFilter {
        selection: Selection {
            labels,
            only: permissions.restricted_to(),
            ..Selection::default()
        },
        after,
        ..JobFilter::default()
    };
    let page = state.relay.list(&filter, limit).await?;
    let page = V2JobPage {
        jobs: page.jobs.iter().map(V2JobSummary::of).collect(),
        next_cursor: page.next_cursor.map(|cursor| cursor.to_string()),
    };
    Ok(response::json(StatusCode::OK, &page))
}

impl V2JobSummary {
    fn of(view: &JobView) -> Self {
        let state = &view.progress;
        Self {
            id: state.job_id.to_string(),
            status: V2Status::of(state.status, state.cancelling == Some(true)),
            create_time: view.created_at,
            update_time: view
                .completed_at
                .or(view.started_at)
                .unwrap_or(view.created_at),
            metadata: labels::shown(state.tags.labels.clone()),
        }
    }
}
