//! `GET /api/anime/totals?since=`: what has been done since a moment.

use hyper::{Request, Response, StatusCode};
use jiff::Timestamp;

use crate::auth::Scope;
use crate::relay::Totals;
use crate::server::contract::endpoint::Endpoint;
use crate::server::contract::parameter::Parameter;
use crate::server::error::ApiError;
use crate::server::request::{Query, bad_query};
use crate::server::response::{self, Body};
use crate::server::state::ServerState;

/// The parameters that it takes.
pub(in crate::server) const PARAMETERS: [&str; 1] = ["since"];

pub(in crate::server) fn endpoints() -> Vec<Endpoint> {
    let totals = Endpoint::get(
        "totals",
        "/api/anime/totals",
        "How many jobs have ended since a moment",
    )
    .needs(&[Scope::Monitor])
    .takes(Parameter::moment(
        PARAMETERS[0],
        "All that have ever ended without it.",
    ))
    .answers::<Totals>(200, "What the database knows.")
    .fails(400, &["bad_query"])
    .needs_database();
    vec![totals]
}

pub(in crate::server) async fn totals<B>(
    state: &ServerState,
    request: &Request<B>,
) -> Result<Response<Body>, ApiError> {
    let query = Query::parse(request, &PARAMETERS)?;
    let since = query
        .value("since")
        .map_or(Ok(Timestamp::UNIX_EPOCH), str::parse)
        .map_err(|_| bad_query("since is a moment such as 2025-12-10T15:30:45Z"))?;
    let totals = state.relay.totals(since).await?;
    Ok(response::json(StatusCode::OK, &totals))
}
