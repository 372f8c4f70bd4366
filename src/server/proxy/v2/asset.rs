//! Assets: what clients have uploaded, and what jobs have made.

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use url::form_urlencoded;
use uuid::Uuid;

use super::input_file::check_path;
use super::output::{OutputAsset, OutputLinks, V2Output};
use crate::auth::Scope;
use crate::relay::{ForwardedRequest, RelayError, ViewedFile};
use crate::server::api::outputs::{self, FileRequest};
use crate::server::error::ApiError;
use crate::server::proxy::headers;
use crate::server::proxy::pass_through::clean;
use crate::server::request::read_json;
use crate::server::response::{self, Body};
use crate::server::security::{Caller, PublicAddress};
use crate::server::state::ServerState;
use crate::store::StoredAsset;

/// How hashes begin, and how many digits follow.
const HASH: (&str, usize) = ("blake3:", 64);

/// The address of an uploaded file holds as long as the file: after a day, a client asks again whether that is there.
const URL_LIFETIME: SignedDuration = SignedDuration::from_hours(24);

/// An asset.
#[derive(Debug, Serialize)]
pub(super) struct V2Asset {
    id: String,
    hash: Option<String>,
    size_bytes: u64,
    content_type: String,
    file_path: String,
    /// In answers to uploads: whether there was no file with this content.
    #[serde(skip_serializing_if = "Option::is_none")]
    created_new: Option<bool>,
    created_at: Timestamp,
    url: String,
    url_expires_at: Timestamp,
    /// Absent if it is kept for ever, or with its job.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    /// The job that has made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    job_id: Option<String>,
}

/// The body of `POST /api/v2/assets/from-hash`. Tags and how long to keep a file change nothing here.
#[derive(Deserialize)]
struct HashedFile {
    hash: String,
    file_path: Option<String>,
}

/// `GET /api/v2/assets/{id}`.
pub(super) async fn show(
    state: &ServerState,
    caller: &Caller,
    id: &str,
) -> Result<Response<Body>, ApiError> {
    let Some(asset) = OutputAsset::parse(id) else {
        caller.authorize(Scope::Subscribe, None)?;
        let asset = state.relay.asset(id).await?.ok_or_else(not_found)?;
        let asset = V2Asset::uploaded(state, asset, &caller.public_address);
        return Ok(response::json(StatusCode::OK, &asset));
    };
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
        &V2Asset::made(output, made_at),
    ))
}

/// `GET /api/v2/assets/{id}/content`.
pub(super) async fn content(
    state: &ServerState,
    caller: &Caller,
    id: &str,
    request: &Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let Some(OutputAsset { job, number }) = OutputAsset::parse(id) else {
        caller.authorize(Scope::Subscribe, None)?;
        return uploaded_content(state, id, request).await;
    };
    let asked = FileRequest::parse(request, &number.to_string())?;
    caller.authorize_file(&job, number, asked.link.as_ref())?;
    outputs::file(state, &job, &asked, request.headers()).await
}

/// The file comes from the first server that has it.
async fn uploaded_content(
    state: &ServerState,
    id: &str,
    request: &Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let asset = state.relay.asset(id).await?.ok_or_else(not_found)?;
    let (file, request) = view_of(asset, request);
    let mut answer = clean(state, state.relay.view(&file, &request).await?)?;
    if answer.status() == StatusCode::NOT_FOUND {
        return Err(not_found());
    }
    outputs::contain(answer.headers_mut());
    Ok(answer)
}

/// The request with which ComfyUI shows an uploaded file.
fn view_of(asset: StoredAsset, request: &Request<Incoming>) -> (ViewedFile, ForwardedRequest) {
    let file = ViewedFile {
        filename: asset.filename,
        subfolder: String::new(),
        r#type: "input".to_owned(),
    };
    let mut query = form_urlencoded::Serializer::new(String::new());
    query
        .append_pair("filename", &file.filename)
        .append_pair("subfolder", &file.subfolder)
        .append_pair("type", &file.r#type);
    let request = ForwardedRequest {
        method: request.method().clone(),
        path: "/view".to_owned(),
        query: Some(query.finish()),
        headers: headers::passed_on(request.headers()),
        body: None,
    };
    (file, request)
}

/// `DELETE /api/v2/assets/{id}`. The file stays: ComfyUI deletes none.
pub(super) async fn delete(
    state: &ServerState,
    caller: &Caller,
    id: &str,
) -> Result<Response<Body>, ApiError> {
    caller.authorize(Scope::Submit, None)?;
    if OutputAsset::parse(id).is_some() {
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            "asset_in_use",
            "a job has made it; it goes with the job",
        ));
    }
    if !state.relay.remove_asset(id).await? {
        return Err(not_found());
    }
    Ok(response::empty(StatusCode::NO_CONTENT))
}

/// `HEAD /api/v2/assets/by-hash/{hash}`: whether all servers have a file with this content.
pub(super) async fn find(
    state: &ServerState,
    caller: &Caller,
    hash: &str,
) -> Result<Response<Body>, ApiError> {
    caller.authorize(Scope::Submit, None)?;
    let found = state.relay.asset_with_hash(&blake_hash(hash)?).await?;
    found.ok_or_else(no_blob)?;
    Ok(response::empty(StatusCode::OK))
}

/// `POST /api/v2/assets/from-hash`: another asset with the content of one that all servers have.
pub(super) async fn from_hash(
    state: &ServerState,
    caller: &Caller,
    request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    caller.authorize(Scope::Submit, None)?;
    let body = request.into_body();
    let wanted: HashedFile = read_json(body, state.config.body_timeout).await?;
    let hash = blake_hash(&wanted.hash)?;
    if let Some(file_path) = &wanted.file_path {
        check_path(file_path)?;
    }
    let found = state.relay.asset_with_hash(&hash).await?;
    let found = found.ok_or_else(no_blob)?;
    let asset = StoredAsset {
        id: Uuid::new_v4().to_string(),
        file_path: wanted.file_path.unwrap_or_else(|| found.file_path.clone()),
        created_at: Timestamp::now().as_millisecond(),
        ..found
    };
    state.relay.add_asset(&asset).await?;
    let asset = V2Asset::uploaded(state, asset, &caller.public_address).created(false);
    Ok(response::json(StatusCode::CREATED, &asset))
}

/// A hash as clients write it, in lower case.
pub(super) fn blake_hash(text: &str) -> Result<String, ApiError> {
    let (prefix, digits) = HASH;
    let hash = text.to_ascii_lowercase();
    let is_hash = hash.strip_prefix(prefix).is_some_and(|hex| {
        hex.len() == digits && hex.bytes().all(|digit| digit.is_ascii_hexdigit())
    });
    if is_hash {
        return Ok(hash);
    }
    let message = format!("a hash is {prefix} and {digits} hexadecimal digits");
    Err(ApiError::bad_request("bad_hash", message))
}

fn not_found() -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "asset_not_found",
        "there is no such asset",
    )
}

fn no_blob() -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "blob_not_found",
        "not all servers have a file with this content; upload it",
    )
}

impl V2Asset {
    /// What a job has made.
    fn made(output: V2Output, created_at: Timestamp) -> Self {
        Self {
            id: output.id,
            hash: output.hash,
            size_bytes: output.size_bytes,
            content_type: output.content_type.to_owned(),
            file_path: output.name,
            created_new: None,
            created_at,
            url: output.url,
            url_expires_at: output.url_expires_at,
            expires_at: None,
            job_id: Some(output.job_id),
        }
    }

    /// What a client has uploaded.
    pub(super) fn uploaded(
        state: &ServerState,
        asset: StoredAsset,
        address: &PublicAddress,
    ) -> Self {
        let now = Timestamp::now();
        let created_at = Timestamp::from_millisecond(asset.created_at).unwrap_or(now);
        let retention = state.relay.retention();
        Self {
            url: address.url(&format!("/api/v2/assets/{}/content", asset.id)),
            id: asset.id,
            hash: Some(asset.hash),
            size_bytes: u64::try_from(asset.size_bytes).unwrap_or_default(),
            content_type: asset.content_type,
            file_path: asset.file_path,
            created_new: None,
            created_at,
            expires_at: retention.and_then(|it| created_at.checked_add(it).ok()),
            url_expires_at: now.checked_add(URL_LIFETIME).unwrap_or(now),
            job_id: None,
        }
    }

    /// The same, in the answer to an upload.
    pub(super) fn created(self, is_new: bool) -> Self {
        Self {
            created_new: Some(is_new),
            ..self
        }
    }
}
