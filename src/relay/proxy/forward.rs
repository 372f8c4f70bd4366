//! Passes requests on to ComfyUI servers.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
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

/// A body that is read by the first server that takes a connection.
#[derive(Debug, Clone)]
struct SharedBody(Arc<Mutex<Body>>);

impl SharedBody {
    fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(body)))
    }

    /// What one server reads.
    fn for_server(&self) -> Body {
        Body::wrap(self.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Body> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl hyper::body::Body for SharedBody {
    type Data = Bytes;
    type Error = reqwest::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, reqwest::Error>>> {
        Pin::new(&mut *self.lock()).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.lock().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.lock().size_hint()
    }
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
        // It stays here until a server that takes a connection reads it.
        let body = request.body.take().map(SharedBody::new);
        let mut failure = RelayError::BackendUnreachable(super::NO_SERVER.to_owned());
        for backend in self.answering_backends() {
            let sent = match &body {
                Some(body) => forward_to(&backend, &request, Some(body.for_server())).await,
                None => self.forward_bodiless(&backend, &request).await,
            };
            let error = match sent {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            let is_last = error.may_be_done();
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

    /// The servers that requests are passed on to: those that answer, in the order of the settings; or else all that may answer.
    pub(super) fn answering_backends(&self) -> Vec<Arc<Backend>> {
        self.backends_or_any(Backend::answers)
    }

    /// The servers that need what graphs load, because the shared queue may hand a graph to any of them: those that answer, and
    /// those that another relay follows, unless it has lost them for a while.
    pub(super) fn loading_backends(&self) -> Vec<Arc<Backend>> {
        let now = self.0.tracker.now();
        self.backends_or_any(|it| it.answers() || it.stands_by() && !it.is_lost_elsewhere(now))
    }

    /// The servers whose queues and histories make up those of all: those that answer, and those that another relay follows and
    /// has not lost.
    pub(super) fn listing_backends(&self) -> Vec<Arc<Backend>> {
        self.backends_or_any(|it| it.answers() || it.stands_by() && !it.is_away_elsewhere())
    }

    /// The servers of which this holds. If there is none, those that another relay follows, of which it is not known whether they
    /// answer, and after them those that have not answered a request lately: that is no reason not to ask.
    fn backends_or_any(&self, is_wanted: impl Fn(&Backend) -> bool) -> Vec<Arc<Backend>> {
        let backends = || self.0.tracker.backends.iter();
        let wanted: Vec<Arc<Backend>> = backends().filter(|it| is_wanted(it)).cloned().collect();
        if !wanted.is_empty() {
            return wanted;
        }
        let (others, own): (Vec<_>, Vec<_>) = backends().cloned().partition(|it| it.stands_by());
        let own = own.into_iter().filter(|it| it.state().api.reachable);
        others.into_iter().chain(own).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    /// As if the first one took no connection.
    #[tokio::test]
    async fn the_second_server_reads_what_the_first_one_has_not() {
        let shared = SharedBody::new(Body::from("all of it"));
        drop(shared.for_server());
        let body = hyper::body::Body::size_hint(&shared).exact();
        assert_eq!(body, Some(9));
        let read = shared.for_server().collect().await.unwrap();
        assert_eq!(read.to_bytes(), "all of it");
    }
}
