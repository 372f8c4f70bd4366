//! `GET /api/anime/jobs/{job_id}/outputs`: the files that a job has made, listed and one by one.

use std::io;

use http_body_util::BodyExt;
use hyper::header::{
    self, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED,
};
use hyper::{Response, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use crate::job::{JobId, Output};
use crate::server::error::ApiError;
use crate::server::response::{self, Body};
use crate::server::security::PublicAddress;
use crate::server::state::ServerState;

/// What ComfyUI says of a file, and is passed on.
const PASSED_ON: [HeaderName; 5] = [
    ACCEPT_RANGES,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    ETAG,
    LAST_MODIFIED,
];

/// The characters of a file name that stay as they are in a header (RFC 8187).
const NAME: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// No script in a file runs as one of the relay's pages.
const SANDBOX: HeaderValue = HeaderValue::from_static("sandbox; default-src 'none'");

/// A file that does not change. It belongs to who may see the job.
const CACHED: HeaderValue = HeaderValue::from_static("private, max-age=3600, no-transform");

#[derive(Debug, Serialize)]
struct OutputList<'a> {
    job_id: &'a JobId,
    outputs: Vec<OutputView>,
    outputs_total: usize,
}

#[derive(Debug, Serialize)]
struct OutputView {
    /// Its place, from 0.
    n: usize,
    node: String,
    kind: String,
    filename: String,
    subfolder: String,
    r#type: String,
    /// The media type by its name; `null` for one that is only downloaded.
    media_type: Option<&'static str>,
    /// Where it can be read, at the relay.
    url: String,
}

/// `GET …/outputs`.
pub(in crate::server) async fn list(
    state: &ServerState,
    job: &JobId,
    address: &PublicAddress,
) -> Result<Response<Body>, ApiError> {
    state.relay.lookup(job).await?;
    let outputs = state.relay.outputs(job);
    let outputs = outputs.ok_or_else(|| ApiError::job_not_found(job))?;
    let views = outputs
        .into_iter()
        .enumerate()
        .map(|(n, output)| OutputView {
            n,
            media_type: media_type(&output.filename),
            url: address.url(&format!("/api/anime/jobs/{job}/outputs/{n}")),
            node: output.node,
            kind: output.kind,
            filename: output.filename,
            subfolder: output.subfolder,
            r#type: output.r#type,
        });
    let outputs: Vec<OutputView> = views.collect();
    let list = OutputList {
        job_id: job,
        outputs_total: outputs.len(),
        outputs,
    };
    Ok(response::json(StatusCode::OK, &list))
}

/// `GET …/outputs/{n}`: the file as ComfyUI has it, streamed.
pub(in crate::server) async fn file(
    state: &ServerState,
    job: &JobId,
    number: &str,
    headers: &HeaderMap,
) -> Result<Response<Body>, ApiError> {
    let number = number.parse();
    let number = number.map_err(|_| {
        ApiError::bad_request(
            "bad_output",
            "an output is named by its place in the list, from 0",
        )
    })?;
    state.relay.lookup(job).await?;
    let (output, read) = state.relay.output(job, number, headers).await?;
    let (head, body) = read.into_parts();
    let body = body.map_err(io::Error::other).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    let headers = response.headers_mut();
    for name in PASSED_ON {
        if let Some(value) = head.headers.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    describe(headers, &output);
    Ok(response)
}

/// Says what a file is. One that browsers could run is only downloaded, whatever ComfyUI calls it.
fn describe(headers: &mut HeaderMap, output: &Output) {
    let media_type = media_type(&output.filename);
    let shown = if media_type.is_some() {
        "inline"
    } else {
        "attachment"
    };
    let name = utf8_percent_encode(&output.filename, NAME);
    let disposition = HeaderValue::from_str(&format!("{shown}; filename*=UTF-8''{name}"));
    if let Ok(disposition) = disposition {
        headers.insert(CONTENT_DISPOSITION, disposition);
    }
    let media_type = media_type.unwrap_or("application/octet-stream");
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, CACHED);
    headers.insert(CONTENT_SECURITY_POLICY, SANDBOX);
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
}

/// The media type of a file that browsers show without running anything in it, by its name.
fn media_type(name: &str) -> Option<&'static str> {
    let (_, extension) = name.rsplit_once('.')?;
    Some(match extension.to_ascii_lowercase().as_str() {
        "png" | "apng" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "gif" => "image/gif",
        "avif" => "image/avif",
        "mp4" | "m4v" => "video/mp4",
        "webm" => "video/webm",
        "mov" => "video/quicktime",
        "mkv" => "video/x-matroska",
        "flac" => "audio/flac",
        "mp3" => "audio/mpeg",
        "wav" => "audio/wav",
        "opus" | "ogg" => "audio/ogg",
        "txt" => "text/plain; charset=utf-8",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(filename: &str) -> Output {
        Output {
            node: "9".to_owned(),
            kind: "images".to_owned(),
            filename: filename.to_owned(),
            subfolder: String::new(),
            r#type: "output".to_owned(),
            url: String::new(),
        }
    }

    #[test]
    fn a_file_that_could_run_is_downloaded_under_a_name_that_is_a_header() {
        for (name, media_type, disposition) in [
            ("a.PNG", "image/png", "inline; filename*=UTF-8''a.PNG"),
            (
                "x.svg",
                "application/octet-stream",
                "attachment; filename*=UTF-8''x.svg",
            ),
            (
                "x.html",
                "application/octet-stream",
                "attachment; filename*=UTF-8''x.html",
            ),
            (
                "noextension",
                "application/octet-stream",
                "attachment; filename*=UTF-8''noextension",
            ),
            (
                "a\r\nb\"é.mp4",
                "video/mp4",
                "inline; filename*=UTF-8''a%0D%0Ab%22%C3%A9.mp4",
            ),
        ] {
            let mut headers = HeaderMap::new();
            describe(&mut headers, &output(name));
            assert_eq!(headers[CONTENT_TYPE], media_type, "{name}");
            assert_eq!(headers[CONTENT_DISPOSITION], disposition, "{name}");
        }
    }
}
