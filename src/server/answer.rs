//! Answers a request: gives it its id, serves or refuses it, and logs it.

use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Request, Response};
use tracing::Instrument;

use super::api::probes::Probe;
use super::correlation_id::CorrelationId;
use super::error::ApiError;
use super::response::Body;
use super::security::{LimitExceeded, Peer};
use super::state::{Interface, ServerState};
use super::{gzip, proxy, router, upgrade};

/// Answers one request. `exceeded` is the limit that its connection is over.
pub(super) async fn answer(
    state: Arc<ServerState>,
    peer: Peer,
    exceeded: Option<LimitExceeded>,
    request: Request<Incoming>,
) -> Response<Body> {
    let id = CorrelationId::of(request.headers());
    let span = id.span();
    let mut response = match exceeded {
        // Boxed: a connection that waits for its next request must not hold the memory of one. Without their types: the compiler
        // looks only so deep for what futures hold.
        None => match state.interface {
            Interface::Relay => serve(state, peer, request).boxed().instrument(span).await,
            Interface::Comfy => {
                proxy::answer(state, peer, request)
                    .boxed()
                    .instrument(span)
                    .await
            }
        },
        Some(exceeded) => span.in_scope(|| reject(&state, peer, exceeded, request)),
    };
    id.add(response.headers_mut());
    response
}

async fn serve(state: Arc<ServerState>, peer: Peer, request: Request<Incoming>) -> Response<Body> {
    let began = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let address = state.security.public_address(&peer, &request);
    let cors = state.security.cors_headers(&request, &address);
    let accepts_gzip = gzip::is_accepted(request.headers());
    let client = state.security.client_ip(&peer, &request);
    let served = match Probe::asked(&method, address.strip_prefix(&path)) {
        Some(probe) => probe.answer(&state),
        None => router::serve(&state, &peer, address, request).await,
    };
    let response = served.unwrap_or_else(|error| error.response());
    let mut response = gzip::compress(response, accepts_gzip).await;
    cors.add(response.headers_mut());
    // Without the query, which may hold a token.
    tracing::debug!(%method, path, status = response.status().as_u16(), %client, took = ?began.elapsed(), "request");
    response
}

/// Answers a request on a connection that is over a limit. If the relay is full, a WebSocket is accepted
/// all the same and closed with the reason: a browser does not show its pages the status of a refused
/// upgrade.
fn reject(
    state: &ServerState,
    peer: Peer,
    exceeded: LimitExceeded,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let address = state.security.public_address(&peer, &request);
    let path = address.strip_prefix(request.uri().path());
    let mut response = match Probe::asked(request.method(), path) {
        Some(probe) => {
            let answer = probe.answer(state);
            answer.unwrap_or_else(|error| error.response())
        }
        None => {
            let error = ApiError::from(exceeded);
            let opens_socket = upgrade::is_requested(&request);
            let caller = (state.security).admit(&peer, &request, address, opens_socket);
            if matches!(exceeded, LimitExceeded::Connections(_))
                && opens_socket
                && let Ok(caller) = caller
                && let Ok((response, socket)) = upgrade::accept(state, &mut request, 0)
            {
                let job = request.uri().path().rsplit('/').next().unwrap_or_default();
                upgrade::refuse(state, socket, job, error, caller);
                return response;
            }
            error.response()
        }
    };
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    response
}
