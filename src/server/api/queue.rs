//! `/api/anime/queue`: the relay's own queue.

use hyper::{Response, StatusCode};

use crate::auth::Scope;
use crate::relay::QueueOverview;
use crate::server::contract::endpoint::Endpoint;
use crate::server::error::ApiError;
use crate::server::response::{self, Body};
use crate::server::security::Caller;
use crate::server::state::ServerState;

pub(in crate::server) fn endpoints() -> Vec<Endpoint> {
    let (pause, resume) = ("/api/anime/queue/pause", "/api/anime/queue/resume");
    let all = [
        Endpoint::get("queue", "/api/anime/queue", "The relay's own queue")
            .needs(&[Scope::Monitor]),
        Endpoint::post("pause_queue", pause, "Hand nothing in").needs(&[Scope::Operate]),
        Endpoint::post("resume_queue", resume, "Hand jobs in again").needs(&[Scope::Operate]),
    ];
    let all = all.into_iter().map(Endpoint::needs_database);
    let all = all.map(|it| it.answers::<QueueOverview>(200, "The queue as it is then."));
    all.collect()
}

/// `GET /api/anime/queue`.
pub(in crate::server) async fn show(
    state: &ServerState,
    caller: &Caller,
) -> Result<Response<Body>, ApiError> {
    caller.authorize(Scope::Monitor, None)?;
    answer(state).await
}

/// `POST /api/anime/queue/pause` and `resume`: answers with the queue as it is then.
pub(in crate::server) async fn pause(
    state: &ServerState,
    caller: &Caller,
    is_paused: bool,
) -> Result<Response<Body>, ApiError> {
    caller.authorize_scopes(&[Scope::Operate])?;
    state.relay.pause_queue(is_paused).await?;
    answer(state).await
}

async fn answer(state: &ServerState) -> Result<Response<Body>, ApiError> {
    let queue = state.relay.queue_status().await?;
    Ok(response::json(StatusCode::OK, &queue))
}
