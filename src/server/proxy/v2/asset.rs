//! Assets: `/api/v2/assets/{id}`, and what is in them.

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use jiff::Timestamp;
use serde::Serialize;

use super::output::{OutputAsset, OutputLinks, V2Output};
use crate::auth::Scope;
use crate::relay::RelayError;
use crate::server::api::outputs::{self, FileRequest};
use crate::server::error::ApiError;
use crate::server::response::{self, Body};
use crate::server::security::Caller;
use crate::server::state::ServerState;

/// An asset.
#[derive(Debug, Serialize)]
pub(super) struct V2Asset {
    id: String,
    hash: Option<String>,
    size_bytes: u64,
    content_type: String,
    file_path: String,
    created_at: Timestamp,
    url: String,
    url_expires_at: Timestamp,
    /// The job that has made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    job_id: Option<String>,
}

/// `GET /api/v2/assets/{id}`.
pub(super) async fn show(
    state: &ServerState,
    caller: &Caller,
    id: &str,
) -> Result<Response<Body>, ApiError> {
    let asset = OutputAsset::parse(id).ok_or_else(not_found)?;
    let permissions = caller.authorize(Scope::Subscribe, Some(&asset.job))?;
    state.relay.lookup(&asset.job).await?;
    let view = state.relay.job(&asset.job).await;
    let view = view.ok_or_else(|| RelayError::JobNotFound(asset.job.clone()))?;
    let output = view.progress.outputs.get(asset.number);
    let output = output.ok_or_else(not_found)?;
    let links = OutputLinks::new(&caller.public_address, &permissions);
    let output = links.output(state, &asset.job, asset.number, output).await;
    let made_at = view.completed_at.unwrap_or(view.created_at);
    Ok(response::json(
        StatusCode::OK,
        &V2Asset::of(output, made_at),
    ))
}

/// `GET /api/v2/assets/{id}/content`.
pub(super) async fn content(
    state: &ServerState,
    caller: &Caller,
    id: &str,
    request: &Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let OutputAsset { job, number } = OutputAsset::parse(id).ok_or_else(not_found)?;
    let asked = FileRequest::parse(request, &number.to_string())?;
    caller.authorize_file(&job, number, asked.link.as_ref())?;
    outputs::file(state, &job, &asked, request.headers()).await
}

fn not_found() -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "asset_not_found",
        "there is no such asset",
    )
}

impl V2Asset {
    fn of(output: V2Output, created_at: Timestamp) -> Self {
        Self {
            id: output.id,
            hash: output.hash,
            size_bytes: output.size_bytes,
            content_type: output.content_type.to_owned(),
            file_path: output.name,
            created_at,
            url: output.url,
            url_expires_at: output.url_expires_at,
            job_id: Some(output.job_id),
        }
    }
}
