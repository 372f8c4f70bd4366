//! The parameters by which callers select jobs.

use super::error::ApiError;
use super::request::{Query, parse_status};
use super::state::ServerState;
use crate::auth::Permissions;
use crate::job::{Selection, Status};
use crate::relay::JobFeed;

/// The parameters of the list of jobs.
pub(super) const LIST_PARAMETERS: [&str; 6] =
    ["status", "backend", "since", "until", "limit", "cursor"];

/// The parameters of the stream of jobs.
pub(super) const FEED_PARAMETERS: [&str; 4] = ["status", "backend", "q", "previews"];

/// The jobs that the parameters select among those that the caller may see.
pub(super) fn parse(query: &Query, permissions: &Permissions) -> Result<Selection, ApiError> {
    Ok(Selection {
        statuses: parse_statuses(query)?,
        backend: query.value("backend").map(str::to_owned),
        text: query.value("q").map(str::to_owned),
        only: permissions.restricted_to(),
    })
}

/// A feed of the jobs that the parameters select.
pub(super) fn feed(
    state: &ServerState,
    query: &Query,
    permissions: &Permissions,
) -> Result<JobFeed, ApiError> {
    let selection = parse(query, permissions)?;
    Ok(state.relay.feed(selection, query.flag("previews")?))
}

/// Several statuses have commas between them, or the parameter is repeated. None of them means all.
fn parse_statuses(query: &Query) -> Result<Vec<Status>, ApiError> {
    let lists = query.values("status");
    let words = lists.flat_map(|list| list.split(',')).map(str::trim);
    let words = words.filter(|word| !word.is_empty());
    words.map(parse_status).collect()
}
