//! Which request goes where.

use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_tungstenite::tungstenite::protocol::WebSocketConfig;
use hyper_tungstenite::{HyperWebsocket, is_upgrade_request, upgrade};
use percent_encoding::percent_decode_str;

use super::ServerState;
use super::api::{events, health, jobs, metrics};
use super::error::ApiError;
use super::pages;
use super::request::query;
use super::response::Body;
use super::security::{self, Caller, LimitExceeded, Peer};
use crate::auth::Scope;
use crate::hub::Connection;
use crate::job::JobId;
use crate::session::{self, MAX_CLIENT_MESSAGE, NewSubscriber, negotiation};

/// What a socket reads at once. The library's own choice, 128 KiB, is for other loads than ours.
const READ_BUFFER: usize = 4 << 10;

/// Answers one request.
pub(super) async fn answer(
    state: ServerState,
    peer: Peer,
    request: Request<Incoming>,
) -> Response<Body> {
    let cors = state.security.cors_headers(&request);
    let mut response = match receive(state, &peer, request).await {
        Ok(response) => response,
        Err(failure) => failure.answer(),
    };
    cors.add(response.headers_mut());
    response
}

/// Tells a client that it is not served.
pub(super) async fn reject(
    state: ServerState,
    peer: Peer,
    exceeded: LimitExceeded,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let failure = ApiError::from(exceeded);
    let is_full = matches!(exceeded, LimitExceeded::Connections(_));
    let caller = state
        .security
        .admit(&peer, &request, opens_socket(&request));
    // Only what is worth the trouble: browsers show their pages no status.
    if is_full
        && opens_socket(&request)
        && let Ok(caller) = caller
        && let Ok((response, socket)) = open_socket(&state, &mut request)
    {
        let named = request.uri().path().rsplit('/').next();
        let job = named.unwrap_or_default().to_owned();
        let refusing = session::refuse(
            socket,
            job,
            failure.close_code(),
            failure.into_client_error(),
            caller,
        );
        state.tasks.spawn(refusing);
        return response;
    }
    let mut response = failure.answer();
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    response
}

async fn receive(
    state: ServerState,
    peer: &Peer,
    request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let caller = state
        .security
        .admit(peer, &request, opens_socket(&request))?;
    match state.security.preflight(&request) {
        Some(response) => Ok(response),
        None => dispatch(state, caller, request).await,
    }
}

async fn dispatch(
    state: ServerState,
    caller: Caller,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let path = request.uri().path().to_owned();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match segments.as_slice() {
        ["ws", "monitor"] => {
            let (response, socket) = open_socket(&state, &mut request)?;
            match caller.authorize_session(Scope::Monitor, None) {
                Ok(admission) => state
                    .tasks
                    .spawn(state.monitor.clone().serve(socket, admission)),
                Err(failure) => {
                    let refusing = session::refuse(
                        socket,
                        "monitor".to_owned(),
                        failure.close_code(),
                        failure.into_client_error(),
                        caller,
                    );
                    state.tasks.spawn(refusing)
                }
            };
            Ok(response)
        }
        ["ws", id] => {
            let job = job_id(id)?;
            let wants_previews = query(&request, "previews").is_some_and(|asked| asked == "1");
            let deflates = negotiation::is_offered(request.headers());
            let (mut response, socket) = open_socket(&state, &mut request)?;
            match caller.authorize_session(Scope::Subscribe, Some(&job)) {
                Ok(admission) => {
                    let subscriber = NewSubscriber {
                        job,
                        wants_previews,
                        deflates,
                        address: caller.address,
                        admission,
                    };
                    if deflates {
                        let headers = response.headers_mut();
                        headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, negotiation::ACCEPTED);
                    }
                    state
                        .tasks
                        .spawn(state.shards.clone().adopt(socket, subscriber))
                }
                Err(failure) => {
                    let refusing = session::refuse(
                        socket,
                        job.to_string(),
                        failure.close_code(),
                        failure.into_client_error(),
                        caller,
                    );
                    state.tasks.spawn(refusing)
                }
            };
            Ok(response)
        }
        ["api", "anime", "websocket", "status"] => {
            only(&request, Method::GET)?;
            let is_trusted = caller.authorize(Scope::Monitor, None).is_ok();
            Ok(health::websocket_status(&state, is_trusted))
        }
        ["api", "anime", "health"] => {
            only(&request, Method::GET)?;
            let is_trusted = caller.authorize(Scope::Monitor, None).is_ok();
            Ok(health::health(&state, is_trusted))
        }
        ["metrics"] => {
            only(&request, Method::GET)?;
            caller.authorize(Scope::Monitor, None)?;
            metrics::metrics(&state)
        }
        ["api", "anime", "jobs"] => match *request.method() {
            Method::GET => {
                let permissions = caller.authorize_scope(Scope::Subscribe)?;
                jobs::list(&state, &request, &permissions).await
            }
            Method::POST => {
                let permissions = caller.authorize_scope(Scope::Submit)?;
                jobs::create(&state, request, &permissions).await
            }
            _ => Err(ApiError::wrong_method("GET, POST")),
        },
        ["api", "anime", "jobs", id] => {
            only(&request, Method::GET)?;
            let job = job_id(id)?;
            caller.authorize(Scope::Subscribe, Some(&job))?;
            jobs::show(&state, &job).await
        }
        ["api", "anime", "jobs", id, "cancel"] => {
            only(&request, Method::POST)?;
            let job = job_id(id)?;
            caller.authorize(Scope::Cancel, Some(&job))?;
            jobs::cancel(&state, &job).await
        }
        ["api", "anime", "jobs", id, "progress"] => {
            only(&request, Method::POST)?;
            let job = job_id(id)?;
            caller.authorize(Scope::Progress, Some(&job))?;
            jobs::report(&state, &job, request).await
        }
        ["api", "anime", "jobs", id, "events"] => {
            only(&request, Method::GET)?;
            let job = job_id(id)?;
            let admission = caller.authorize_session(Scope::Subscribe, Some(&job))?;
            let connection = Connection::new(caller.address);
            Ok(events::stream(&state, job, &request, connection, admission))
        }
        ["api", "anime", "jobs", id, "preview"] => {
            only(&request, Method::GET)?;
            let job = job_id(id)?;
            caller.authorize(Scope::Subscribe, Some(&job))?;
            jobs::preview(&state, &job)
        }
        _ => {
            let page = pages::page(&path).ok_or_else(|| ApiError::no_route(&path))?;
            only(&request, Method::GET)?;
            Ok(page)
        }
    }
}

fn job_id(segment: &str) -> Result<JobId, ApiError> {
    let text = percent_decode_str(segment).decode_utf8_lossy();
    Ok(JobId::parse(&text)?)
}

fn only<B>(request: &Request<B>, method: Method) -> Result<(), ApiError> {
    match *request.method() == method {
        true => Ok(()),
        false => Err(ApiError::wrong_method(if method == Method::GET {
            "GET"
        } else {
            "POST"
        })),
    }
}

/// Whether a request is for a socket.
fn opens_socket<B>(request: &Request<B>) -> bool {
    is_upgrade_request(request)
}

fn open_socket(
    state: &ServerState,
    request: &mut Request<Incoming>,
) -> Result<(Response<Body>, HyperWebsocket), ApiError> {
    only(request, Method::GET)?;
    if !opens_socket(request) {
        return Err(ApiError::new(
            StatusCode::UPGRADE_REQUIRED,
            "websocket_required",
            "this address is for WebSockets; over plain HTTP use /api/anime/jobs/{job_id}/events",
        ));
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
        .write_buffer_size(0)
        .max_message_size(Some(MAX_CLIENT_MESSAGE))
        .max_frame_size(Some(MAX_CLIENT_MESSAGE));
    let (mut response, socket) = upgrade(&mut *request, Some(config))
        .map_err(|error| ApiError::bad_request("bad_handshake", error.to_string()))?;
    if security::is_offered(request.headers()) {
        let chosen = HeaderValue::from_static(security::SCHEME);
        let headers = response.headers_mut();
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, chosen);
    }
    Ok((response.map(http_body_util::BodyExt::boxed_unsync), socket))
}
