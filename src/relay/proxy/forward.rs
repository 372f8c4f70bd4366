//! Passes requests on to ComfyUI servers.

use std::io;
use std::sync::Arc;

use http_body_util::BodyExt;
use hyper::{HeaderMap, Method, Response};
use reqwest::Body;
use tokio::time::timeout;

use crate::comfy::RestError;
use crate::relay::backend::Backend;
use crate::relay::requests::output::OutputBody;
use crate::relay::{Relay, RelayError};

/// A request for ComfyUI's API, without what is meant for the relay alone: host, credentials and the headers of its
/// connection.
#[derive(Debug)]
pub struct ForwardedRequest {
    /// Its method.
    pub method: Method,
    /// Its path, percent-encoded, from its slash.
    pub path: String,
    /// Its query, percent-encoded, without the question mark.
    pub query: Option<String>,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, which is read as it is sent on; `None` if it has none.
    pub body: Option<Body>,
}

impl Relay {
    /// Passes a request on to the first server that takes a connection. What has reached a server is not repeated on another one:
    /// it may have been carried out.
    ///
    /// # Errors
    ///
    /// If no server answers, or the path leads out of the server's own folder.
    pub async fn forward(
        &self,
        request: ForwardedRequest,
    ) -> Result<Response<OutputBody>, RelayError> {
        let mut request = request;
        let mut failure = RelayError::BackendUnreachable(super::NO_SERVER.to_owned());
        for backend in self.answering_backends() {
            let body = request.body.take();
            let has_body = body.is_some();
            let sent = match body {
                Some(body) => forward_to(&backend, &request, Some(body)).await,
                None => self.forward_bodiless(&backend, &request).await,
            };
            let error = match sent {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            let is_last = has_body || error.may_be_done();
            failure = RelayError::request_failed(backend.name(), error);
            if is_last {
                break;
            }
        }
        Err(failure)
    }

    /// Passes a request without a body on to one server, which is to begin its answer in time. The rest of the answer may take
    /// long.
    pub(super) async fn forward_bodiless(
        &self,
        backend: &Backend,
        request: &ForwardedRequest,
    ) -> Result<Response<OutputBody>, RestError> {
        let forwarding = forward_to(backend, request, None);
        let answered = timeout(self.0.comfy.response_timeout, forwarding).await;
        answered.unwrap_or_else(|_| {
            let call = format!("{} {}", request.method, request.path);
            Err(RestError::Slow { call })
        })
    }

    /// The servers that requests are passed on to: those that answer, in the order of the settings; or else those that another
    /// relay follows, of which it is not known.
    pub(super) fn answering_backends(&self) -> Vec<Arc<Backend>> {
        let backends = || self.0.tracker.backends.iter();
        let answering: Vec<Arc<Backend>> = backends().filter(|it| it.answers()).cloned().collect();
        if answering.is_empty() {
            return backends().filter(|it| it.stands_by()).cloned().collect();
        }
        answering
    }

    /// The servers that need what graphs load, because the shared queue may hand a graph to any of them: those that answer, and
    /// those that another relay follows, unless it has lost them for a while.
    pub(super) fn loading_backends(&self) -> Vec<Arc<Backend>> {
        let now = self.0.tracker.now();
        let backends = self.0.tracker.backends.iter();
        let loads =
            |it: &&Arc<Backend>| it.answers() || it.stands_by() && !it.is_lost_elsewhere(now);
        backends.filter(loads).cloned().collect()
    }
}

/// Passes a request on to one server.
pub(super) async fn forward_to(
    backend: &Backend,
    request: &ForwardedRequest,
    body: Option<Body>,
) -> Result<Response<OutputBody>, RestError> {
    let target = (request.path.as_str(), request.query.as_deref());
    let (method, headers) = (request.method.clone(), request.headers.clone());
    let forwarding = backend.comfy.rest().forward(method, target, headers, body);
    let response = forwarding.await?;
    Ok(response.map(|body| body.map_err(io::Error::other).boxed_unsync()))
}
