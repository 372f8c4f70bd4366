//! The WebSocket upgrade: accepts the handshake and hands the socket to [`crate::session`].

use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_tungstenite::tungstenite::protocol::WebSocketConfig;
use hyper_tungstenite::{HyperWebsocket, is_upgrade_request, upgrade};

use super::error::ApiError;
use super::request::{Query, bad_query};
use super::response::{self, Body};
use super::security::{self, Caller};
use super::selection;
use super::state::ServerState;
use crate::auth::Scope;
use crate::job::JobId;
use crate::session::{self, MAX_CLIENT_MESSAGE, NewSubscriber, negotiation};

/// How many bytes are read from a socket at once. Tungstenite's default of 128 KiB is per socket, and
/// clients send short messages only.
const READ_BUFFER: usize = 4 << 10;

/// How many bytes of many jobs' states are written at once.
const FEED_WRITE_BUFFER: usize = 64 << 10;

/// What clients without a socket can use.
const EVENTS_INSTEAD: &str = "; over plain HTTP use /api/anime/jobs/{job_id}/events";

/// The parameters of a job's socket.
const JOB_PARAMETERS: &[&str] = &["previews", "close"];

/// What a client asks for when it opens a job's socket.
struct SocketOptions {
    wants_previews: bool,
    closes_at_end: bool,
}

impl SocketOptions {
    fn parse<B>(request: &Request<B>) -> Result<Self, ApiError> {
        let query = Query::parse(request, JOB_PARAMETERS)?;
        let closes_at_end = match query.value("close") {
            None => false,
            Some("end") => true,
            Some(_) => return Err(bad_query("close is end, or left out")),
        };
        Ok(Self {
            wants_previews: query.flag("previews")?,
            closes_at_end,
        })
    }
}

/// `GET /ws/{job_id}`: opens a socket that follows a job.
pub(super) fn job(
    state: &ServerState,
    caller: Caller,
    mut request: Request<Incoming>,
    job: JobId,
) -> Result<Response<Body>, ApiError> {
    let options = SocketOptions::parse(&request);
    let deflates = negotiation::is_offered(request.headers());
    let (mut response, socket) = accept_from(state, &caller, &mut request, 0)?;
    let opening = options.and_then(|options| {
        let admission = caller.authorize_session(Scope::Subscribe, Some(&job))?;
        Ok((options, admission))
    });
    let (options, admission) = match opening {
        Ok(opening) => opening,
        Err(error) => {
            refuse(state, socket, job.as_str(), error, caller);
            return Ok(response);
        }
    };
    if deflates {
        let headers = response.headers_mut();
        headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, negotiation::ACCEPTED);
    }
    let subscriber = NewSubscriber {
        job,
        wants_previews: options.wants_previews,
        closes_at_end: options.closes_at_end,
        deflates,
        address: caller.address,
        admission,
    };
    let shards = state.shards.clone();
    state.tasks.spawn(shards.adopt(socket, subscriber));
    Ok(response)
}

/// `GET /ws/monitor`: opens a socket that follows the relay as a whole.
pub(super) fn monitor(
    state: &ServerState,
    caller: Caller,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let parameters = Query::parse(&request, &[]);
    let (response, socket) = accept_from(state, &caller, &mut request, 0)?;
    let admission = parameters.and_then(|_| caller.authorize_session(Scope::Monitor, None));
    match admission {
        Ok(admission) => {
            tracing::debug!(peer = %caller.address, "monitor connected");
            let monitor = state.monitor.clone();
            state.tasks.spawn(monitor.serve(socket, admission));
        }
        Err(error) => refuse(state, socket, "monitor", error, caller),
    }
    Ok(response)
}

/// `GET /ws/jobs`: opens a socket that follows all jobs that match.
pub(super) fn feed(
    state: &ServerState,
    caller: Caller,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let query = Query::parse(&request, &selection::FEED_PARAMETERS);
    let (response, socket) = accept_from(state, &caller, &mut request, FEED_WRITE_BUFFER)?;
    let opening = query.and_then(|query| {
        let admission = caller.authorize_feed()?;
        let feed = selection::feed(state, &query, &admission.permissions)?;
        Ok((feed, admission))
    });
    match opening {
        Ok((feed, admission)) => {
            tracing::debug!(peer = %caller.address, "feed connected");
            let context = state.session.clone();
            state
                .tasks
                .spawn(session::serve_feed(context, socket, admission, feed));
        }
        Err(error) => refuse(state, socket, "jobs", error, caller),
    }
    Ok(response)
}

/// Accepts the handshake of a client that was admitted, which could use the events of one job instead.
fn accept_from(
    state: &ServerState,
    caller: &Caller,
    request: &mut Request<Incoming>,
    write_buffer: usize,
) -> Result<(Response<Body>, HyperWebsocket), ApiError> {
    check_handshake(caller, request, EVENTS_INSTEAD)?;
    accept(state, request, write_buffer)
}

/// Refuses what is no handshake, and one without `Upgrade`, which it has lost on its way. `instead` is what else its sender can do,
/// as the end of a sentence.
pub(super) fn check_handshake(
    caller: &Caller,
    request: &Request<Incoming>,
    instead: &str,
) -> Result<(), ApiError> {
    let is_handshake = request.headers().contains_key(header::SEC_WEBSOCKET_KEY);
    if is_handshake && !is_requested(request) && *request.method() == Method::GET {
        let error = websocket_required(format!(
            "a proxy on the way has removed the header Upgrade or Connection of this WebSocket handshake: \
             have it pass them on (docs/install.md){instead}"
        ));
        caller.handshake_broken(&error);
        return Err(error);
    }
    if !is_requested(request) {
        let message = format!("this address is for WebSockets{instead}");
        return Err(websocket_required(message));
    }
    Ok(())
}

fn websocket_required(message: impl Into<String>) -> ApiError {
    let status = StatusCode::UPGRADE_REQUIRED;
    ApiError::new(status, "websocket_required", message)
}

/// Sends an error on a socket and closes it. Keeps the caller, and with it its connection permit, until
/// the socket is closed.
pub(super) fn refuse(
    state: &ServerState,
    socket: HyperWebsocket,
    job: &str,
    error: ApiError,
    caller: Caller,
) {
    let refusing = session::refuse(
        socket,
        job.to_owned(),
        error.close_code(),
        error.into_client_error(),
        caller,
    );
    state.tasks.spawn(refusing);
}

/// Whether a request asks for an upgrade to a WebSocket.
pub(super) fn is_requested<B>(request: &Request<B>) -> bool {
    is_upgrade_request(request)
}

/// Accepts the handshake. The socket is open once the response has been sent. What is sent is written as soon as it is
/// more than `write_buffer` bytes.
pub(super) fn accept(
    state: &ServerState,
    request: &mut Request<Incoming>,
    write_buffer: usize,
) -> Result<(Response<Body>, HyperWebsocket), ApiError> {
    if !is_requested(request) {
        return Err(websocket_required("this address is for WebSockets"));
    }
    if state.stop.is_cancelled() {
        return Err(ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "going_away",
            "the relay is being stopped; connect again in a moment",
        ));
    }
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(write_buffer)
        .max_message_size(Some(MAX_CLIENT_MESSAGE))
        .max_frame_size(Some(MAX_CLIENT_MESSAGE));
    let (mut response, socket) = upgrade(&mut *request, Some(config))
        .map_err(|error| ApiError::bad_request("bad_handshake", error.to_string()))?;
    if security::is_offered(request.headers()) {
        let chosen = HeaderValue::from_static(security::SCHEME);
        let headers = response.headers_mut();
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, chosen);
    }
    Ok((response.map(response::body), socket))
}
