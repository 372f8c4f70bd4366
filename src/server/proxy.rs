//! ComfyUI's own API, on a listener of its own: what clients of one ComfyUI server ask for is answered for all servers.

mod challenge;
mod files;
mod headers;
mod jobs;
mod lists;
mod paced_body;
mod parameters;
mod pass_through;
mod path;
mod prompt;
mod refusal;

mod route;
mod socket;
mod v2;

use std::sync::Arc;
use std::time::Instant;

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};

use super::error::ApiError;
use super::response::{self, Body};
use super::security::{Caller, Peer, PublicAddress};
use super::state::ServerState;
use path::ComfyPath;
use route::ComfyRoute;
use v2::V2Route;

/// Answers one request for ComfyUI's API.
pub(super) async fn answer(
    state: Arc<ServerState>,
    peer: Peer,
    request: Request<Incoming>,
) -> Response<Body> {
    let began = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let address = state.security.public_address(&peer, &request);
    let cors = state.security.cors_headers(&request, &address);
    let client = state.security.client_ip(&peer, &request);
    let is_v2 = ComfyPath::parse(&path).is_ok_and(|path| V2Route::find(&method, &path).is_some());
    let mut response = match serve(&state, &peer, address, request).await {
        Ok(response) => response,
        Err(error) if is_v2 => v2::failure(&error),
        Err(error) => error.response(),
    };
    challenge::add_basic(&mut response);
    cors.add(response.headers_mut());
    // Without the query, which may hold a token.
    tracing::debug!(%method, path, status = response.status().as_u16(), %client, took = ?began.elapsed(), "request for ComfyUI's API");
    response
}

async fn serve(
    state: &ServerState,
    peer: &Peer,
    address: PublicAddress,
    request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let opens_socket = super::upgrade::is_requested(&request);
    let caller = state
        .security
        .admit(peer, &request, address, opens_socket)?;
    if let Some(response) = state.security.preflight(&request) {
        return Ok(response);
    }
    dispatch(state, &caller, request).await
}

async fn dispatch(
    state: &ServerState,
    caller: &Caller,
    request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let method = request.method().clone();
    let path = ComfyPath::parse(request.uri().path())?;
    if let Some(route) = V2Route::find(&method, &path) {
        return Box::pin(v2::serve(state, caller, route, request)).await;
    }
    let route = ComfyRoute::find(&method, &path);
    if let Some(scope) = route.scope(&method) {
        caller.authorize(scope, None)?;
    }
    match route {
        ComfyRoute::Socket => socket::open(state, caller, request),
        ComfyRoute::Prompt => prompt::submit(state, caller, request).await,
        ComfyRoute::Length => Ok(prompt::length(state)),
        ComfyRoute::Queue => lists::queue(state).await,
        ComfyRoute::DeleteWaiting => lists::delete_waiting(state, request).await,
        ComfyRoute::Interrupt => lists::interrupt(state, request).await,
        ComfyRoute::History => lists::history(state, &request).await,
        ComfyRoute::HistoryEntry(id) => lists::history_entry(state, id).await,
        ComfyRoute::DeleteHistory => lists::delete_history(state, request).await,
        ComfyRoute::Jobs => jobs::list(state, &request).await,
        ComfyRoute::Job(id) => jobs::show(state, id).await,
        ComfyRoute::CancelJobs => jobs::cancel_several(state, request).await,
        ComfyRoute::CancelJob(id) => jobs::cancel(state, id).await,
        ComfyRoute::View => files::view(state, request).await,
        ComfyRoute::Upload => files::upload(state, request).await,
        ComfyRoute::ObjectInfo(class) => {
            let classes = state.relay.object_info(class).await?;
            Ok(response::json(StatusCode::OK, &classes))
        }
        ComfyRoute::SystemStats => {
            let stats = state.relay.system_stats().await?;
            Ok(response::json(StatusCode::OK, &stats))
        }
        ComfyRoute::Other => {
            state.security.check_site(&request, caller)?;
            pass_through::pass_through(state, request).await
        }
    }
}
