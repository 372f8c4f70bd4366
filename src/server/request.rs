//! Reading a request: its query and its body.

use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::time::timeout;

use super::error::ApiError;
use crate::job::{JobId, Status, excerpt};
use crate::python_json;

/// The largest body that is read, in bytes. A workflow of thousands of nodes has a few megabytes.
pub(super) const MAX_BODY: usize = 16 << 20;

/// How many characters of an unknown parameter an error repeats.
const MAX_SHOWN: usize = 100;

/// The parameter that carries a token, which every route takes.
const TOKEN: &str = "token";

/// The parameters of a request's query.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Parses the query. Fails if it has a parameter that the route does not know: a misspelled filter would
    /// otherwise be no filter.
    pub(super) fn parse<B>(request: &Request<B>, known: &[&str]) -> Result<Self, ApiError> {
        let query = request.uri().query().unwrap_or_default();
        let pairs = url::form_urlencoded::parse(query.as_bytes());
        let pairs: Vec<(String, String)> = pairs.into_owned().collect();
        let is_known = |name: &str| name == TOKEN || name.is_empty() || known.contains(&name);
        let Some((unknown, _)) = pairs.iter().find(|(name, _)| !is_known(name)) else {
            // PostgreSQL refuses it in any text.
            if pairs.iter().any(|(_, value)| value.contains('\0')) {
                return Err(bad_query("a parameter has a zero byte"));
            }
            return Ok(Self(pairs));
        };
        let shown: String = unknown.chars().take(MAX_SHOWN).collect();
        let takes = match known {
            [] => "no parameters".to_owned(),
            known => known.join(", "),
        };
        Err(ApiError::bad_request(
            "unknown_parameter",
            format!("unknown parameter {shown:?}; this route takes {takes}"),
        ))
    }

    /// The first value of a parameter that is not empty.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.values(name).next()
    }

    /// The values of a parameter that are not empty.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self.0.iter().filter(move |(key, _)| key == name);
        named
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// Whether a parameter is switched on.
    pub(super) fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.value(name) {
            Some("1" | "true") => Ok(true),
            None | Some("0" | "false") => Ok(false),
            Some(_) => Err(bad_query(format!("{name} is 1 or 0"))),
        }
    }
}

/// A parameter has a value that it cannot have.
pub(super) fn bad_query(message: impl Into<String>) -> ApiError {
    ApiError::bad_request("bad_query", message)
}

/// Reads a request's body as JSON. All of it must come within `limit`.
pub(super) async fn read_json<T: DeserializeOwned>(
    body: Incoming,
    limit: Duration,
) -> Result<T, ApiError> {
    let bytes = read_bytes(body, limit, MAX_BODY).await?;
    python_json::read(&bytes).map_err(|error| bad_json(&error))
}

/// The same; the default if there is no body.
pub(super) async fn read_json_or_nothing<T: DeserializeOwned + Default>(
    body: Incoming,
    limit: Duration,
) -> Result<T, ApiError> {
    let bytes = read_bytes(body, limit, MAX_BODY).await?;
    if bytes.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    python_json::read(&bytes).map_err(|error| bad_json(&error))
}

/// Reads a request's body of at most `most` bytes. All of it must come within `limit`.
pub(super) async fn read_bytes(
    body: Incoming,
    limit: Duration,
    most: usize,
) -> Result<Bytes, ApiError> {
    let reading = timeout(limit, Limited::new(body, most).collect());
    let bytes = match reading.await {
        Ok(Ok(read)) => read.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return Err(ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                format!("the body is larger than {most} bytes"),
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
    Ok(bytes)
}

/// A body is not what the route takes.
pub(super) fn bad_json(error: &serde_json::Error) -> ApiError {
    let error = error.to_string();
    ApiError::bad_request(
        "bad_json",
        format!("the body is not the expected JSON: {}", excerpt(&error)),
    )
}

/// Reads a body of fields. Fails if it has one that the route does not know: what it asks for would be left out.
pub(super) fn parse_fields<T: DeserializeOwned>(
    body: Map<String, Value>,
    known: &[&str],
) -> Result<T, ApiError> {
    let mut fields = body.keys();
    if let Some(unknown) = fields.find(|name| !known.contains(&name.as_str())) {
        return Err(ApiError::bad_request(
            "unknown_field",
            format!(
                "unknown field {:?}; the body takes {}",
                excerpt(unknown),
                known.join(", ")
            ),
        ));
    }
    serde_json::from_value(Value::Object(body)).map_err(|error| bad_json(&error))
}

/// The status that a word names.
pub(super) fn parse_status(word: &str) -> Result<Status, ApiError> {
    Status::from_word(word).ok_or_else(|| {
        let known = Status::ALL.map(Status::as_str).join(", ");
        ApiError::bad_request(
            "bad_status",
            format!("status is one of {known}, not {:?}", excerpt(word)),
        )
    })
}

/// The id that a job is to have.
pub(super) fn parse_job_id(text: &str) -> Result<JobId, ApiError> {
    let id = JobId::parse(text)?;
    id.check_job()?;
    Ok(id)
}
