//! Responses and their bodies.

use std::convert::Infallible;
use std::io;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::{Response, StatusCode, header};
use serde::Serialize;

/// The body of a response: bytes, a stream of events, or a file that is read from elsewhere, which can fail in the
/// middle.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A body that cannot fail.
pub(super) fn body<B>(body: B) -> Body
where
    B: hyper::body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    body.map_err(|never| match never {}).boxed_unsync()
}

/// A response with these bytes, which are not to be cached.
pub(super) fn full(
    status: StatusCode,
    content_type: &'static str,
    bytes: impl Into<Bytes>,
) -> Response<Body> {
    let mut response = Response::new(body(Full::new(bytes.into())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(content_type),
    );
    headers.insert(
        header::CACHE_CONTROL,
        header::HeaderValue::from_static("no-store"),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        header::HeaderValue::from_static("nosniff"),
    );
    // The address of a page may hold a token (`?token=`), which other sites must not get.
    headers.insert(
        header::REFERRER_POLICY,
        header::HeaderValue::from_static("no-referrer"),
    );
    response
}

/// A response without a body.
pub(super) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(body(Full::<Bytes>::default()));
    *response.status_mut() = status;
    response
}

/// A response that sends a client to another path for good.
pub(super) fn redirect(path: &str) -> Response<Body> {
    let mut response = empty(StatusCode::PERMANENT_REDIRECT);
    // A path of a request is a valid header.
    if let Ok(location) = header::HeaderValue::from_str(path) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// A response in JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(text) => full(status, "application/json", text),
        Err(error) => {
            tracing::error!(%error, "cannot encode a response as JSON");
            full(StatusCode::INTERNAL_SERVER_ERROR, "application/json", "{}")
        }
    }
}
