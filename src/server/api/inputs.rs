//! `POST /api/anime/inputs`: keeps a picture that workflows load.

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;

use crate::auth::Scope;
use crate::server::contract::endpoint::Endpoint;
use crate::server::error::ApiError;
use crate::server::request::read_bytes;
use crate::server::response::{self, Body};
use crate::server::state::ServerState;

/// The largest picture, in bytes.
const MAX_PICTURE: usize = 32 << 20;

/// How many times as long as the body of another request a picture may take: it is larger.
const PATIENCE: u32 = 10;

/// The answer.
#[derive(Debug, JsonSchema, Serialize)]
struct InputAnswer {
    /// What a workflow calls the picture: the value of a parameter, or of the input `image` of `LoadImage`.
    name: String,
    /// In pixels.
    width: usize,
    /// In pixels.
    height: usize,
}

pub(in crate::server) fn endpoints() -> Vec<Endpoint> {
    let summary = "Send a picture that a workflow is to load";
    let add = Endpoint::post("add_input", "/api/anime/inputs", summary)
        .needs(&[Scope::Submit])
        .reads_media("application/octet-stream")
        .answers::<InputAnswer>(
            201,
            "The picture is kept, and sent to each server before a job that loads it.",
        )
        .fails(415, &["not_a_picture"])
        .fails(507, &["inputs_full"])
        .needs_database();
    vec![add]
}

pub(in crate::server) async fn add(
    state: &ServerState,
    request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let patience = state.config.body_timeout * PATIENCE;
    let content = read_bytes(request.into_body(), patience, MAX_PICTURE).await?;
    let added = state.relay.add_input(&content).await?;
    let answer = InputAnswer {
        name: added.name,
        width: added.width,
        height: added.height,
    };
    Ok(response::json(StatusCode::CREATED, &answer))
}
