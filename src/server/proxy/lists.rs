//! The queue and the histories of all servers, to read and to delete from.

use std::io;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::relay::{ComfyQueue, Relay};
use crate::server::error::ApiError;
use crate::server::proxy::parameters::Parameters;
use crate::server::request::{bad_query, read_json, read_json_or_nothing};
use crate::server::response::{self, Body};
use crate::server::state::ServerState;

/// How many prompts one request names at most: each is looked up, in the database, too.
pub(super) const MAX_NAMED: usize = 1_000;

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
    let mut queue = state.relay.comfy_queue().await?;
    let running = json!(std::mem::take(&mut queue.running));
    let first = std::mem::take(&mut queue.pending);
    let head = format!(r#"{{"queue_running":{running},"queue_pending":["#);
    let relay = state.relay.clone();
    // Thousands may wait, each with its graph: a few of them are held at a time.
    let prompts =
        stream::once(async { Ok(first) }).chain(stream::try_unfold(queue, move |queue| {
            let relay = relay.clone();
            async move { next_waiting(&relay, queue).await }
        }));
    let mut is_first = true;
    let prompts = prompts.map_ok(move |prompts| {
        let mut text = String::new();
        for prompt in prompts {
            if !std::mem::replace(&mut is_first, false) {
                text.push(',');
            }
            text += &prompt.to_string();
        }
        text
    });
    let head = stream::once(async { Ok(head) });
    let end = stream::once(async { Ok("]}".to_owned()) });
    let texts = head.chain(prompts).chain(end);
    let frames = texts.map_ok(|text| Frame::data(Bytes::from(text)));
    let mut answer = response::full(StatusCode::OK, "application/json", "");
    *answer.body_mut() = StreamBody::new(frames).boxed_unsync();
    Ok(answer)
}

async fn next_waiting(
    relay: &Relay,
    mut queue: ComfyQueue,
) -> io::Result<Option<(Vec<Value>, ComfyQueue)>> {
    let next = relay.next_waiting(&mut queue).await;
    let next = next.map_err(io::Error::other)?;
    Ok((!next.is_empty()).then_some((next, queue)))
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
    let deletion: Deletion = read_json(request.into_body(), state.config.body_timeout).await?;
    if deletion.delete.len() > MAX_NAMED {
        return Err(ApiError::bad_request(
            "too_many_ids",
            format!("delete has at most {MAX_NAMED} ids; send several requests"),
        ));
    }
    Ok(deletion)
}
