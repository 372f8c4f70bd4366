//! The responses of the simulated server.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::Value;

use crate::replay::python_json::dumps;

/// A response with a body of this media type.
pub(super) fn response(
    status: StatusCode,
    mime: &'static str,
    body: Bytes,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(mime));
    response
}

/// A response of plain text.
pub(super) fn text(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    response(status, "text/plain; charset=utf-8", text.into())
}

/// A response of JSON, written as Python does.
pub(super) fn json_response(status: u16, value: &Value) -> Response<Full<Bytes>> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    response(
        status,
        "application/json; charset=utf-8",
        dumps(value).into(),
    )
}
