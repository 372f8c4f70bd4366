//! Compresses long answers: a list of jobs shrinks to a tenth.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::{BodyExt, Collected, Full};
use hyper::body::Body as _;
use hyper::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap,
    HeaderValue, VARY,
};
use hyper::{Response, StatusCode};

use super::response::{self, Body};

/// Shorter answers are sent as they are, in bytes: they fit into one packet anyway.
const MIN_LENGTH: u64 = 1_024;

/// Longer answers are compressed on a thread that may block, in bytes.
const MAX_INLINE: u64 = 64 << 10;

/// The media types that shrink. Images are compressed already, and events must come at once.
const TYPES: [&str; 6] = [
    "application/json",
    "image/svg+xml",
    "text/css",
    "text/html",
    "text/javascript",
    "text/plain",
];

/// Whether a client accepts gzip (RFC 9110, section 12.5.3).
pub(super) fn is_accepted(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(ACCEPT_ENCODING).into_iter();
    let codings = lines.filter_map(|line| line.to_str().ok());
    codings.flat_map(|line| line.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip = parts
            .next()
            .is_some_and(|it| it.eq_ignore_ascii_case("gzip"));
        let weight = parts.find_map(|part| part.strip_prefix("q="));
        is_gzip && weight.is_none_or(|weight| weight.parse::<f32>().is_ok_and(|it| it > 0.0))
    })
}

/// The response, compressed if that makes it shorter for a client that accepts it.
pub(super) async fn compress(response: Response<Body>, is_accepted: bool) -> Response<Body> {
    let is_long = response.body().size_hint().exact() >= Some(MIN_LENGTH);
    // A file is streamed, and its parts can be asked for.
    let is_file = response.headers().contains_key(ACCEPT_RANGES);
    if !is_long || is_file || response.status() != StatusCode::OK || !shrinks(response.headers()) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let accept = HeaderValue::from_static("Accept-Encoding");
    head.headers.append(VARY, accept);
    if !is_accepted {
        return Response::from_parts(head, body);
    }
    // Only a file can fail, and files are not compressed.
    let Ok(plain) = body.collect().await.map(Collected::to_bytes) else {
        return response::empty(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let encoded = if plain.len() as u64 > MAX_INLINE {
        let plain = plain.clone();
        let encoding = tokio::task::spawn_blocking(move || encode(&plain));
        encoding.await.ok().flatten()
    } else {
        encode(&plain)
    };
    let body = match encoded {
        Some(encoded) => {
            head.headers.remove(CONTENT_LENGTH);
            let gzip = HeaderValue::from_static("gzip");
            head.headers.insert(CONTENT_ENCODING, gzip);
            encoded
        }
        None => plain,
    };
    Response::from_parts(head, response::body(Full::new(body)))
}

fn shrinks(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let kind = content_type.and_then(|it| it.split(';').next());
    kind.is_some_and(|kind| TYPES.contains(&kind.trim())) && !headers.contains_key(CONTENT_ENCODING)
}

/// `None` if it does not become shorter.
fn encode(plain: &[u8]) -> Option<Bytes> {
    // The time that a better level takes is more than the network would.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain).ok()?;
    let encoded = encoder.finish().ok()?;
    (encoded.len() < plain.len()).then(|| encoded.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_accepts_gzip_by_name_and_weight() {
        for (value, is_wanted) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5, br", true),
            ("gzip;q=0", false),
            ("gzip; q=0.0", false),
            ("br", false),
            ("identity", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(value));
            assert_eq!(is_accepted(&headers), is_wanted, "{value:?}");
        }
        assert!(!is_accepted(&HeaderMap::new()));
    }
}
