//! `GET /api/anime/webhooks/deliveries`: what was sent to webhooks, and what is to be.

use hyper::{Request, Response, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use crate::auth::{Permissions, Scope};
use crate::job::{JobId, excerpt};
use crate::relay::DeliveryView;
use crate::server::contract::endpoint::Endpoint;
use crate::server::contract::parameter::Parameter;
use crate::server::error::ApiError;
use crate::server::request::{Query, bad_query};
use crate::server::response::{self, Body};
use crate::server::state::ServerState;
use crate::store::{DeliveryFilter, DeliveryState};

/// The parameters of the list.
pub(in crate::server) const DELIVERY_PARAMETERS: [&str; 4] = ["job", "state", "limit", "cursor"];

/// How many deliveries a page has, if the request does not say.
const DEFAULT_LIMIT: usize = 50;

/// How many it has at most.
const MAX_LIMIT: usize = 500;

/// The longest id of a delivery in a cursor, in bytes.
const MAX_ID: usize = 64;

/// A page of what was sent to webhooks, the newest first.
#[derive(Debug, JsonSchema, Serialize)]
struct DeliveriesAnswer {
    deliveries: Vec<DeliveryView>,
    /// The cursor of the next page; `null` on the last one.
    next_cursor: Option<String>,
}

pub(in crate::server) fn endpoints() -> Vec<Endpoint> {
    let path = "/api/anime/webhooks/deliveries";
    let [job, state, limit, cursor] = DELIVERY_PARAMETERS;
    let states = json!({"type": "string", "enum": DeliveryState::ALL.map(DeliveryState::as_str)});
    let list = Endpoint::get(
        "list_deliveries",
        path,
        "What was sent to webhooks, and what is to be",
    )
    .needs(&[Scope::Webhook])
    .takes(Parameter::text(job, "Those about this job."))
    .takes(Parameter::query(state, "Those that are so.", states))
    .takes(Parameter::number(
        limit,
        "How many a page has; 50 by default.",
        1,
        MAX_LIMIT,
    ))
    .takes(Parameter::text(cursor, "`next_cursor` of the page before."))
    .answers::<DeliveriesAnswer>(200, "A page, the newest first.")
    .fails(400, &["bad_query", "bad_job_id"])
    .needs_database();
    vec![list]
}

pub(in crate::server) async fn deliveries<B>(
    state: &ServerState,
    request: &Request<B>,
    permissions: &Permissions,
) -> Result<Response<Body>, ApiError> {
    let query = Query::parse(request, &DELIVERY_PARAMETERS)?;
    let limit = match query.value("limit").map(str::parse) {
        None => DEFAULT_LIMIT,
        Some(Ok(limit @ 1..=MAX_LIMIT)) => limit,
        Some(_) => {
            return Err(bad_query(format!(
                "limit is a number from 1 to {MAX_LIMIT}"
            )));
        }
    };
    let filter = DeliveryFilter {
        jobs: jobs(&query, permissions)?,
        state: query.value("state").map(parse_state).transpose()?,
        after: query.value("cursor").map(parse_cursor).transpose()?,
    };
    let mut found = state.relay.deliveries(&filter, limit + 1).await?;
    let has_more = found.len() > limit;
    found.truncate(limit);
    let last = found.last().filter(|_| has_more);
    let answer = DeliveriesAnswer {
        next_cursor: last.map(|it| format!("{}.{}", it.created_at.as_millisecond(), it.id)),
        deliveries: found,
    };
    Ok(response::json(StatusCode::OK, &answer))
}

/// The jobs that are asked for, of those that the caller may see; `None` for everything.
fn jobs(query: &Query, permissions: &Permissions) -> Result<Option<Vec<JobId>>, ApiError> {
    let asked = query.value("job").map(JobId::parse).transpose()?;
    let allowed = permissions.restricted_to();
    Ok(match (asked, allowed) {
        (Some(job), None) => Some(vec![job]),
        (Some(job), Some(allowed)) => {
            Some(allowed.contains(&job).then_some(job).into_iter().collect())
        }
        (None, allowed) => allowed.map(|allowed| allowed.into_iter().collect()),
    })
}

fn parse_state(word: &str) -> Result<DeliveryState, ApiError> {
    let known = DeliveryState::ALL
        .into_iter()
        .find(|state| state.as_str() == word);
    known.ok_or_else(|| {
        let known = DeliveryState::ALL.map(DeliveryState::as_str).join(", ");
        bad_query(format!("state is one of {known}, not {:?}", excerpt(word)))
    })
}

fn parse_cursor(text: &str) -> Result<(i64, String), ApiError> {
    let parsed = text.split_once('.').and_then(|(created_at, id)| {
        let is_id = id.len() <= MAX_ID
            && id
                .bytes()
                .all(|it| it.is_ascii_alphanumeric() || it == b'_');
        is_id.then_some((created_at.parse().ok()?, id.to_owned()))
    });
    parsed.ok_or_else(|| bad_query("cursor is the next_cursor of the page before"))
}
