//! `GET /api/anime/jobs/{job_id}/preview`: the newest preview image of a job.

use hyper::{Response, StatusCode};

use crate::job::JobId;
use crate::server::error::ApiError;
use crate::server::response::{Body, full};
use crate::server::state::ServerState;

/// Answers with the image as ComfyUI sent it.
pub(in crate::server) fn preview(
    state: &ServerState,
    job: &JobId,
) -> Result<Response<Body>, ApiError> {
    let preview = state.relay.preview(job).ok_or_else(|| {
        ApiError::new(
            StatusCode::NOT_FOUND,
            "no_preview",
            format!(
                "there is no preview of the job {:?}; ComfyUI makes them with --preview-method auto",
                job.as_str()
            ),
        )
    })?;
    Ok(full(StatusCode::OK, preview.mime, preview.image.clone()))
}
