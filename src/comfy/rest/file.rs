//! A file on the server, as it is being read.

use std::time::Duration;

use hyper::Response;
use reqwest::header::{
    CONTENT_LENGTH, HeaderMap, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
    RANGE,
};
use reqwest::{Body, StatusCode};
use tokio::time::timeout;

use super::{Rest, RestError};
use crate::job::ImageFile;

/// The headers of a request that ask for a part of a file, or for a newer one only.
const CONDITIONS: [reqwest::header::HeaderName; 5] = [
    RANGE,
    IF_RANGE,
    IF_NONE_MATCH,
    IF_MODIFIED_SINCE,
    IF_UNMODIFIED_SINCE,
];

/// How long reading a file may take: a client with a slow connection reads a long video.
const READ_TIMEOUT: Duration = Duration::from_secs(3_600);

impl Rest {
    /// Begins to read a file in one of the server's folders; `None` if there is no such file. `headers` are those of
    /// the request for it: what they say of ranges and conditions is passed on.
    pub async fn file(
        &self,
        file: &ImageFile,
        headers: &HeaderMap,
    ) -> Result<Option<Response<Body>>, RestError> {
        let call = "GET /view";
        let mut request = self.client.get(self.view_of(file)).timeout(READ_TIMEOUT);
        for name in CONDITIONS {
            if let Some(value) = headers.get(&name) {
                request = request.header(name, value);
            }
        }
        let response = match timeout(self.response_timeout, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(source)) => {
                let call = call.to_owned();
                return Err(RestError::Unreachable { call, source });
            }
            Err(_) => {
                return Err(RestError::Slow {
                    call: call.to_owned(),
                });
            }
        };
        match response.status() {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::OK
            | StatusCode::PARTIAL_CONTENT
            | StatusCode::NOT_MODIFIED
            | StatusCode::PRECONDITION_FAILED
            | StatusCode::RANGE_NOT_SATISFIABLE => Ok(Some(response.into())),
            status => Err(RestError::Refused {
                call: call.to_owned(),
                status,
            }),
        }
    }

    /// How large a file in one of the server's folders is, in bytes; `None` if there is no such file, or the server does not say.
    pub async fn file_size(&self, file: &ImageFile) -> Result<Option<u64>, RestError> {
        let request = self.client.head(self.view_of(file));
        let response = request.timeout(self.response_timeout).send().await;
        let response = response.map_err(|source| RestError::Unreachable {
            call: "HEAD /view".to_owned(),
            source,
        })?;
        if response.status() != StatusCode::OK {
            return Ok(None);
        }
        let length = response.headers().get(CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok());
        Ok(length.and_then(|length| length.parse().ok()))
    }
}
