//! `GET …/outputs/{n}`: a file, streamed; or a thumbnail of it.

use hyper::header::{
    self, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED,
};
use hyper::{Request, Response};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::media_type::{file_name, media_type};
use super::thumbnail::thumbnail;
use crate::auth::{Scope, SignedLink};
use crate::job::{JobId, Output};
use crate::server::contract::endpoint::Endpoint;
use crate::server::contract::parameter::Parameter;
use crate::server::error::ApiError;
use crate::server::request::{Query, bad_query};
use crate::server::response::Body;
use crate::server::state::ServerState;
use crate::server::thumbnails::MAX_WIDTH;

/// The parameters of a file.
pub(in crate::server) const FILE_PARAMETERS: [&str; 3] = ["w", "exp", "sig"];

/// What is passed on of a file as ComfyUI or the disk has it.
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

pub(super) fn endpoint() -> Endpoint {
    let path = "/api/anime/jobs/{job_id}/outputs/{n}";
    let [width, expiry, signature] = FILE_PARAMETERS;
    Endpoint::get(
        "output",
        path,
        "A file that a job has made, or a smaller picture of it",
    )
    .needs(&[Scope::Subscribe])
    .finds_job()
    .takes(Parameter::number(
        width,
        "A picture of this width, in pixels.",
        1,
        MAX_WIDTH as usize,
    ))
    .takes(Parameter::text(
        expiry,
        "Of a signed link: until when it is valid.",
    ))
    .takes(Parameter::text(
        signature,
        "Of a signed link, which stands for a token.",
    ))
    .answers_media(200, "The file.", "*/*")
    .answers_media(206, "The part that `Range` asks for.", "*/*")
    .answers_nothing(304, "The client has it.")
    .answers_nothing(416, "It has no such part.")
    .fails(400, &["bad_output", "bad_query"])
    .fails(403, &["bad_link", "link_expired"])
    .fails(404, &["output_not_found"])
    .fails(410, &["output_unavailable"])
    .fails(415, &["no_thumbnail"])
    .fails(502, &["output_unreadable"])
}

/// Which file is asked for, and how.
pub(in crate::server) struct FileRequest {
    pub(in crate::server) number: usize,
    /// The width of the thumbnail; `None` for the file itself.
    width: Option<u32>,
    pub(in crate::server) link: Option<SignedLink>,
}

impl FileRequest {
    pub(in crate::server) fn parse<B>(
        request: &Request<B>,
        number: &str,
    ) -> Result<Self, ApiError> {
        let query = Query::parse(request, &FILE_PARAMETERS)?;
        let number = number.parse().map_err(|_| {
            ApiError::bad_request(
                "bad_output",
                "an output is named by its place in the list, from 0",
            )
        })?;
        let width = query.value("w").map(|text| match text.parse() {
            Ok(width @ 1..=MAX_WIDTH) => Ok(width),
            _ => Err(bad_query(format!(
                "w is a number of pixels from 1 to {MAX_WIDTH}"
            ))),
        });
        // A broken link is refused like one that is not signed for the file.
        let link = query.value("sig").map(|signature| SignedLink {
            expires_at: query
                .value("exp")
                .and_then(|text| text.parse().ok())
                .unwrap_or_default(),
            signature: signature.to_owned(),
        });
        Ok(Self {
            number,
            width: width.transpose()?,
            link,
        })
    }
}

pub(in crate::server) async fn file(
    state: &ServerState,
    job: &JobId,
    asked: &FileRequest,
    headers: &HeaderMap,
) -> Result<Response<Body>, ApiError> {
    state.relay.lookup(job).await?;
    let mut response = match asked.width {
        Some(width) => thumbnail(state, job, asked.number, width, headers).await?,
        None => whole(state, job, asked.number, headers).await?,
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, CACHED);
    contain(headers);
    Ok(response)
}

/// Has a browser run nothing in a file.
pub(in crate::server) fn contain(headers: &mut HeaderMap) {
    headers.insert(CONTENT_SECURITY_POLICY, SANDBOX);
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
}

async fn whole(
    state: &ServerState,
    job: &JobId,
    number: usize,
    headers: &HeaderMap,
) -> Result<Response<Body>, ApiError> {
    let (output, read) = state.relay.output(job, number, headers).await?;
    let (head, body) = read.into_parts();
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
    let media_type = media_type(output);
    let shown = if media_type.is_some() {
        "inline"
    } else {
        "attachment"
    };
    let name = file_name(output);
    let name = utf8_percent_encode(&name, NAME);
    let disposition = HeaderValue::from_str(&format!("{shown}; filename*=UTF-8''{name}"));
    if let Ok(disposition) = disposition {
        headers.insert(CONTENT_DISPOSITION, disposition);
    }
    let media_type = media_type.unwrap_or("application/octet-stream");
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
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
            text: None,
            truncated: false,
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
