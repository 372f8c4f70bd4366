//! A request of a client that is passed on as it is.

use std::time::Duration;

use hyper::Response;
use reqwest::header::HeaderMap;
use reqwest::{Body, Method, StatusCode};
use serde_json::Value;
use url::Url;

use super::{LONG_ANSWER, MAX_ANSWER, Rest, RestError, parse_blocking, success};
use crate::python_json;

/// How long a request that is passed on may take, with its answer: an upload over a slow line takes hours.
const FORWARD_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

impl Rest {
    /// Passes a request on, with the server's credentials, and begins to read the answer, whatever its status is. `path`
    /// begins with a slash, and is that below the server's address, as it was encoded by the client.
    ///
    /// # Errors
    ///
    /// If there is no answer, and for a path that leads out of the server's own folder.
    pub async fn forward(
        &self,
        method: Method,
        (path, query): (&str, Option<&str>),
        headers: HeaderMap,
        body: Option<Body>,
    ) -> Result<Response<Body>, RestError> {
        let call = format!("{method} {path}");
        let Some(url) = self.target(path, query) else {
            let status = StatusCode::BAD_REQUEST;
            return Err(RestError::Refused { call, status });
        };
        let request = self.client.request(method, url).headers(headers);
        let mut request = request.timeout(FORWARD_TIMEOUT);
        if let Some(body) = body {
            request = request.body(body);
        }
        match request.send().await {
            Ok(response) => Ok(response.into()),
            Err(source) => Err(RestError::Unreachable { call, source }),
        }
    }

    /// The JSON at a path and a query, both percent-encoded; `None` from a server without this route.
    pub async fn read_json(
        &self,
        path: &str,
        query: Option<&str>,
    ) -> Result<Option<Value>, RestError> {
        let call = format!("GET {path}");
        let Some(url) = self.target(path, query) else {
            return Ok(None);
        };
        let (status, answer) = self.send(&call, self.client.get(url), MAX_ANSWER).await?;
        if [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED].contains(&status) {
            return Ok(None);
        }
        if status == StatusCode::BAD_REQUEST
            && let Ok(answer) = python_json::read(&answer)
        {
            return Err(RestError::BadRequest { call, answer });
        }
        success(&call, status)?;
        let read = move || python_json::read(&answer).map(Some);
        parse_blocking(LONG_ANSWER, &call, read).await
    }

    /// Where a path below the server's address is; `None` if its dots lead out of there.
    fn target(&self, path: &str, query: Option<&str>) -> Option<Url> {
        let mut url = self.base.clone();
        let folder = self.base.path().trim_end_matches('/');
        url.set_path(&format!("{folder}{path}"));
        url.set_query(query);
        let inside = url.path().strip_prefix(folder)?;
        inside.starts_with('/').then_some(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::Connector;

    #[test]
    fn a_path_stays_below_the_address_of_the_server() {
        let base = Url::parse("http://gpu.example/comfy/").unwrap();
        let connector = Connector::new(None, false).unwrap();
        let rest = Rest::new(base, &connector, FORWARD_TIMEOUT).unwrap();
        let target = |path| rest.target(path, Some("a=%2F&b")).map(String::from);
        let at = |path: &str| Some(format!("http://gpu.example{path}?a=%2F&b"));
        assert_eq!(target("/view"), at("/comfy/view"));
        assert_eq!(
            target("/userdata/a%2Fb.json"),
            at("/comfy/userdata/a%2Fb.json")
        );
        assert_eq!(target("/x/../view"), at("/comfy/view"));
        for outside in ["/../admin", "/%2e%2e/admin", "/x/../../comfyx", "/.."] {
            assert_eq!(target(outside), None, "{outside}");
        }
    }
}
