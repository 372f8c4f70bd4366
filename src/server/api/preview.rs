//! `GET /api/anime/jobs/{job_id}/preview`: the newest preview image of a job.

use hyper::{Response, StatusCode};

use crate::auth::Scope;
use crate::job::JobId;
use crate::server::contract::endpoint::Endpoint;
use crate::server::error::ApiError;
use crate::server::response::{Body, full};
use crate::server::state::ServerState;

pub(in crate::server) fn endpoints() -> Vec<Endpoint> {
    let path = "/api/anime/jobs/{job_id}/preview";
    let preview = Endpoint::get("preview", path, "The newest preview image of a job")
        .needs(&[Scope::Subscribe])
        .answers_media(200, "The image as ComfyUI made it.", "image/jpeg")
        .answers_media(200, "The image as ComfyUI made it.", "image/png")
        .fails(400, &["bad_job_id"])
        .fails(404, &["no_preview"]);
    vec![preview]
}

/// Answers with the image as ComfyUI sent it.
pub(in crate::server) async fn preview(
    state: &ServerState,
    job: &JobId,
) -> Result<Response<Body>, ApiError> {
    let preview = state.relay.newest_preview(job).await;
    let preview = preview.ok_or_else(|| {
        ApiError::new(
            StatusCode::NOT_FOUND,
            "no_preview",
            format!(
                "there is no preview of the job {:?}; there are some while it runs, where a client asks for them \
                 (?previews=1) or ComfyUI runs with --preview-method auto",
                job.as_str()
            ),
        )
    })?;
    Ok(full(StatusCode::OK, preview.mime, preview.image.clone()))
}
