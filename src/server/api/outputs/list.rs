//! `GET …/outputs`.

use std::time::Duration;

use hyper::{Response, StatusCode};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::media_type::media_type;
use crate::auth::{Permissions, Scope};
use crate::job::{JobId, Output};
use crate::server::contract::endpoint::Endpoint;
use crate::server::error::ApiError;
use crate::server::response::{self, Body};
use crate::server::security::PublicAddress;
use crate::server::state::ServerState;

/// How long a link opens its file at most. It does not outlive the token that it was given for.
const LINK_LIFETIME: Duration = Duration::from_secs(24 * 3_600);

/// The files and texts that a job has made.
#[derive(Debug, JsonSchema, Serialize)]
struct OutputList<'a> {
    job_id: &'a JobId,
    outputs: Vec<OutputView>,
    outputs_total: usize,
}

/// One of them.
#[derive(Debug, JsonSchema, Serialize)]
struct OutputView {
    /// Its place, from 0.
    n: usize,
    /// The node that made it.
    node: String,
    /// The key under which ComfyUI lists it: `images`, `gifs`, `audio`, `text`, ….
    kind: String,
    /// The file's name; empty for a text.
    filename: String,
    /// The subfolder of the folder that `type` names.
    subfolder: String,
    /// ComfyUI's folder: `output`, `temp` or `input`; `text` for a text.
    r#type: String,
    /// The media type by its name; `null` for one that is only downloaded.
    media_type: Option<&'static str>,
    /// In bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    /// What is in a short text.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// Whether the text goes on.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
    /// Where it can be read, at the relay.
    url: String,
}

pub(super) fn endpoint() -> Endpoint {
    let path = "/api/anime/jobs/{job_id}/outputs";
    Endpoint::get(
        "list_outputs",
        path,
        "The files and texts that a job has made",
    )
    .needs(&[Scope::Subscribe])
    .finds_job()
    .answers::<OutputList<'_>>(200, "All of them.")
}

pub(in crate::server) async fn list(
    state: &ServerState,
    job: &JobId,
    address: &PublicAddress,
    permissions: &Permissions,
) -> Result<Response<Body>, ApiError> {
    state.relay.lookup(job).await?;
    let outputs = state.relay.outputs(job);
    let outputs = outputs.ok_or_else(|| ApiError::job_not_found(job))?;
    let mut details = state.relay.output_details(job).await.into_iter();
    let expires_at = link_end(permissions, Timestamp::now());
    let views = outputs.into_iter().enumerate().map(|(n, output)| {
        let details = details.next().unwrap_or_default();
        let link = state.verifier.link(job, n, expires_at);
        let query = link.map(|link| format!("?exp={}&sig={}", link.expires_at, link.signature));
        let path = Output::address(job, n) + query.as_deref().unwrap_or_default();
        OutputView {
            n,
            media_type: media_type(&output),
            size: details.size,
            text: details.text,
            truncated: output.truncated,
            url: address.url(&path),
            node: output.node,
            kind: output.kind,
            filename: output.filename,
            subfolder: output.subfolder,
            r#type: output.r#type,
        }
    });
    let outputs: Vec<OutputView> = views.collect();
    let list = OutputList {
        job_id: job,
        outputs_total: outputs.len(),
        outputs,
    };
    Ok(response::json(StatusCode::OK, &list))
}

/// Until when links open their files that are given to a caller with these permissions.
pub(in crate::server) fn link_end(permissions: &Permissions, now: Timestamp) -> Timestamp {
    let longest = now.checked_add(LINK_LIFETIME).unwrap_or(Timestamp::MAX);
    let token = permissions.expires_at();
    token.map_or(longest, |token| token.min(longest))
}
