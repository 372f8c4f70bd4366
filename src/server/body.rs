//! Bodies of requests and answers.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::{Response, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::error::ApiError;

/// The largest body that is taken: a workflow of thousands of nodes is a few megabytes.
const MAX_BODY: usize = 16 << 20;

/// The body of an answer.
pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// An answer with these bytes.
pub(super) fn full(
    status: StatusCode,
    kind: &'static str,
    bytes: impl Into<Bytes>,
) -> Response<Body> {
    let mut response = Response::new(Full::new(bytes.into()).boxed_unsync());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    headers.insert(
        header::CACHE_CONTROL,
        header::HeaderValue::from_static("no-store"),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        header::HeaderValue::from_static("nosniff"),
    );
    // Addresses may hold tokens.
    headers.insert(
        header::REFERRER_POLICY,
        header::HeaderValue::from_static("no-referrer"),
    );
    response
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Full::default().boxed_unsync());
    *response.status_mut() = status;
    response
}

/// An answer in JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(text) => full(status, "application/json", text),
        Err(error) => {
            tracing::error!(%error, "an answer cannot be encoded");
            full(StatusCode::INTERNAL_SERVER_ERROR, "application/json", "{}")
        }
    }
}

/// Reads a request's body as JSON. All of it must come in time.
pub(super) async fn read_json<T: DeserializeOwned>(
    body: Incoming,
    patience: Duration,
) -> Result<T, ApiError> {
    let reading = timeout(patience, Limited::new(body, MAX_BODY).collect());
    let bytes = match reading.await {
        Ok(Ok(read)) => read.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return Err(ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                format!("the body is larger than {MAX_BODY} bytes"),
            ));
        }
        Ok(Err(error)) => {
            return Err(ApiError::bad_request(
                "body_broken",
                format!("the body broke off: {error}"),
            ));
        }
        Err(_) => {
            return Err(ApiError::new(
                StatusCode::REQUEST_TIMEOUT,
                "body_timeout",
                format!("the body did not come within {patience:?}"),
            ));
        }
    };
    serde_json::from_slice(&bytes).map_err(|error| {
        ApiError::bad_request(
            "bad_json",
            format!("the body is not the expected JSON: {error}"),
        )
    })
}
