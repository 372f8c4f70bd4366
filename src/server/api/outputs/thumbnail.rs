//! `GET …/outputs/{n}?w=320`: a picture in a smaller size.

use hyper::header::{CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};
use hyper::{Response, StatusCode};

use crate::job::JobId;
use crate::server::error::ApiError;
use crate::server::response::{self, Body};
use crate::server::state::ServerState;
use crate::server::thumbnails::{MAX_FILE, Thumbnail, ThumbnailError, ThumbnailKey};

pub(super) async fn thumbnail(
    state: &ServerState,
    job: &JobId,
    number: usize,
    width: u32,
    headers: &HeaderMap,
) -> Result<Response<Body>, ApiError> {
    let source = state.relay.output_source(job, number)?;
    let key = ThumbnailKey::of(&source, width);
    let etag = key.etag();
    if headers
        .get(IF_NONE_MATCH)
        .is_some_and(|known| *known == etag)
    {
        let mut response = response::empty(StatusCode::NOT_MODIFIED);
        response.headers_mut().insert(ETAG, etag);
        return Ok(response);
    }
    let thumbnails = &state.thumbnails;
    let Thumbnail { bytes, media_type } = match thumbnails.cached(&key).await {
        Some(thumbnail) => thumbnail,
        None => {
            // Before the file is read: the memory of all that are made at a time is bounded.
            let turn = thumbnails.turn(&source).await;
            match thumbnails.cached(&key).await {
                Some(thumbnail) => thumbnail,
                None => {
                    let file = state.relay.read_output(job, number, MAX_FILE).await?;
                    let made = thumbnails.make(key, file, width, turn).await;
                    made.map_err(refused)?
                }
            }
        }
    };
    let mut response = response::full(StatusCode::OK, media_type, bytes);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(ETAG, etag);
    Ok(response)
}

fn refused(error: ThumbnailError) -> ApiError {
    ApiError::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "no_thumbnail",
        format!("{error}; leave w out for the file itself"),
    )
}
