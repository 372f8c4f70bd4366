//! Reading a request: its query and its body.

use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::error::ApiError;
use crate::job::Status;

/// The largest body that is read, in bytes. A workflow of thousands of nodes has a few megabytes.
const MAX_BODY: usize = 16 << 20;

/// The value of a query parameter.
pub(super) fn query<B>(request: &Request<B>, name: &str) -> Option<String> {
    let query = request.uri().query().unwrap_or_default();
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

/// Reads a request's body as JSON. All of it must come within `limit`.
pub(super) async fn read_json<T: DeserializeOwned>(
    body: Incoming,
    limit: Duration,
) -> Result<T, ApiError> {
    let reading = timeout(limit, Limited::new(body, MAX_BODY).collect());
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
                format!("cannot read the body: {error}"),
            ));
        }
        Err(_) => {
            return Err(ApiError::new(
                StatusCode::REQUEST_TIMEOUT,
                "body_timeout",
                format!("the body did not come within {limit:?}"),
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

/// The status that a word names.
pub(super) fn parse_status(word: &str) -> Result<Status, ApiError> {
    Status::from_word(word).ok_or_else(|| {
        let known = Status::ALL.map(Status::as_str).join(", ");
        ApiError::bad_request(
            "bad_status",
            format!("status is one of {known}, not {word:?}"),
        )
    })
}
