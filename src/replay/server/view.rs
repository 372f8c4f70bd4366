//! `GET /view`: pictures of the recorded sizes, and what aiohttp does with a `Range`.

use std::ops::Range;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT_RANGES, CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};
use hyper::{Response, StatusCode};

use super::response::{response, text};
use super::state::SharedState;
use crate::job::ImageFile;
use crate::replay::png::solid_png;

/// The content of outputs, because recordings hold no images: a disc on a chequered ground.
const OUTPUT: &[u8] = include_bytes!("image.png");

/// The response to `GET /view` with these parameters of the query.
pub(super) fn view(
    state: &SharedState,
    parameter: impl Fn(&str) -> Option<String>,
    headers: &HeaderMap,
) -> Response<Full<Bytes>> {
    let Some(path) = parameter("filename") else {
        return text(StatusCode::NOT_FOUND, "");
    };
    let folder = parameter("type").unwrap_or_else(|| "output".to_owned());
    let is_folder = ["input", "output", "temp"].contains(&folder.as_str());
    if !is_folder || path.starts_with('/') || path.contains("..") {
        return text(StatusCode::BAD_REQUEST, "");
    }
    let file = ImageFile {
        // As ComfyUI does, which takes folders from `subfolder` only.
        name: path.rsplit('/').next().unwrap_or_default().to_owned(),
        subfolder: parameter("subfolder").unwrap_or_default(),
        folder,
    };
    if file.folder == "input"
        && let Some(uploaded) = state.uploads.get(&file.name)
    {
        return file_response(uploaded, headers.get(RANGE));
    }
    let picture = match state.input(&file) {
        Some(input) => solid_png(input.width, input.height, input.frames).ok(),
        None => (file.folder != "input").then(|| Bytes::from_static(OUTPUT)),
    };
    match picture {
        Some(picture) => file_response(picture, headers.get(RANGE)),
        None => text(StatusCode::NOT_FOUND, ""),
    }
}

/// A file, or the part of it that the header `Range` asks for.
fn file_response(file: Bytes, range: Option<&HeaderValue>) -> Response<Full<Bytes>> {
    let size = file.len();
    let (status, content_range, part) = match range.map(|range| requested(range, size)) {
        None => (StatusCode::OK, None, file),
        Some(Some(part)) => {
            let content_range = format!("bytes {}-{}/{size}", part.start, part.end - 1);
            let status = StatusCode::PARTIAL_CONTENT;
            (status, Some(content_range), file.slice(part))
        }
        Some(None) => {
            let content_range = format!("bytes */{size}");
            let status = StatusCode::RANGE_NOT_SATISFIABLE;
            (status, Some(content_range), Bytes::new())
        }
    };
    let mut response = response(status, "image/png", part);
    let headers = response.headers_mut();
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some(range) = content_range.and_then(|range| HeaderValue::try_from(range).ok()) {
        headers.insert(CONTENT_RANGE, range);
    }
    response
}

/// The bytes that a header `Range` asks for: `bytes=0-99`, `bytes=100-`, or `bytes=-100` for the last hundred. `None` if
/// the file has none of them, or the header has another form, such as several ranges: aiohttp refuses both.
fn requested(range: &HeaderValue, size: usize) -> Option<Range<usize>> {
    let range = range.to_str().ok()?.strip_prefix("bytes=")?;
    let (first, last) = range.split_once('-')?;
    let number = |text: &str| match text {
        "" => Some(None),
        text => text.parse::<usize>().ok().map(Some),
    };
    let range = match (number(first)?, number(last)?) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(size),
        (Some(first), None) => first..size,
        (None, Some(count)) => size.saturating_sub(count)..size,
        (Some(_), Some(_)) | (None, None) => return None,
    };
    (range.start < range.end).then_some(range)
}
