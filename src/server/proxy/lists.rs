//! The queue and the histories of all servers, to read and to delete from.

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use serde::Deserialize;

use crate::server::error::ApiError;
use crate::server::proxy::parameters::Parameters;
use crate::server::request::{bad_query, read_json, read_json_or_nothing};
use crate::server::response::{self, Body};
use crate::server::state::ServerState;

/// What is to be deleted: the body of `POST /queue` and `POST /history`.
#[derive(Deserialize)]
struct Deletion {
    #[serde(default)]
    clear: bool,
    #[serde(default)]
    delete: Vec<String>,
}

/// What is to be interrupted; whatever runs, if no prompt is named.
#[derive(Default, Deserialize)]
struct Interruption {
    #[serde(default)]
    prompt_id: Option<String>,
}

/// `GET /queue`.
pub(super) async fn queue(state: &ServerState) -> Result<Response<Body>, ApiError> {
    let queue = state.relay.comfy_queue().await?;
    Ok(response::json(StatusCode::OK, &queue))
}

/// `POST /queue`.
pub(super) async fn delete_waiting(
    state: &ServerState,
    request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let deletion = deletion(state, request).await?;
    let mut cleared = Ok(());
    if deletion.clear {
        cleared = state.relay.clear_waiting().await;
    }
    let deleted = state.relay.delete_waiting(&deletion.delete).await;
    cleared.and(deleted)?;
    Ok(response::empty(StatusCode::OK))
}

/// `POST /interrupt`.
pub(super) async fn interrupt(
    state: &ServerState,
    request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let body = request.into_body();
    let named: Interruption = read_json_or_nothing(body, state.config.body_timeout).await?;
    let prompt_id = named.prompt_id.filter(|id| !id.is_empty());
    state.relay.interrupt(prompt_id.as_deref()).await?;
    Ok(response::empty(StatusCode::OK))
}

/// `GET /history`.
pub(super) async fn history(
    state: &ServerState,
    request: &Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let parameters = Parameters::of(request);
    let max_items = parameters.number("max_items")?;
    // ComfyUI takes -1 for none.
    let offset = parameters
        .value("offset")
        .filter(|text| !text.starts_with('-'));
    let offset = offset.map(|text| text.parse::<usize>());
    let offset = offset
        .transpose()
        .map_err(|_| bad_query("offset is a number"))?;
    let history = state.relay.comfy_history(max_items, offset).await?;
    Ok(response::json(StatusCode::OK, &history))
}

/// `GET /history/{prompt_id}`.
pub(super) async fn history_entry(
    state: &ServerState,
    prompt_id: &str,
) -> Result<Response<Body>, ApiError> {
    let entry = state.relay.comfy_history_entry(prompt_id).await?;
    Ok(response::json(StatusCode::OK, &entry))
}

/// `POST /history`.
pub(super) async fn delete_history(
    state: &ServerState,
    request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let deletion = deletion(state, request).await?;
    let (mut cleared, mut deleted) = (Ok(()), Ok(()));
    if deletion.clear {
        cleared = state.relay.delete_history(None).await;
    }
    if !deletion.delete.is_empty() {
        deleted = state.relay.delete_history(Some(&deletion.delete)).await;
    }
    cleared.and(deleted)?;
    Ok(response::empty(StatusCode::OK))
}

async fn deletion(state: &ServerState, request: Request<Incoming>) -> Result<Deletion, ApiError> {
    read_json(request.into_body(), state.config.body_timeout).await
}
