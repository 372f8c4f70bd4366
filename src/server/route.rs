//! Which request goes where.

use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_tungstenite::tungstenite::protocol::WebSocketConfig;
use hyper_tungstenite::{HyperWebsocket, is_upgrade_request, upgrade};
use percent_encoding::percent_decode_str;

use super::ServerState;
use super::body::Body;
use super::error::ApiError;
use super::guard::{self, Crowd, Peer, Scope, Visitor};
use super::message::MAX_CLIENT_MESSAGE;
use super::shard::Arrival;
use super::{deflate, ending, events, health, jobs, metrics, monitor, web};
use crate::hub::Connection;
use crate::job::JobId;

/// What a socket reads at once. The library's own choice, 128 KiB, is for other loads than ours.
const READ_BUFFER: usize = 4 << 10;

/// Answers one request.
pub(super) async fn answer(
    edge: ServerState,
    peer: Peer,
    request: Request<Incoming>,
) -> Response<Body> {
    let page = edge.guard.page_answer(&request);
    let mut response = match receive(edge, &peer, request).await {
        Ok(response) => response,
        Err(failure) => failure.answer(),
    };
    page.add(response.headers_mut());
    response
}

/// Tells a client that it is not served.
pub(super) async fn turn_away(
    edge: ServerState,
    peer: Peer,
    crowd: Crowd,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let failure = ApiError::from(crowd);
    let is_full = !matches!(crowd, Crowd::Often(_));
    let visitor = edge.guard.receive(&peer, &request, opens_socket(&request));
    // Only what is worth the trouble: browsers show their pages no status.
    if is_full
        && opens_socket(&request)
        && let Ok(visitor) = visitor
        && let Ok((response, socket)) = open_socket(&edge, &mut request)
    {
        let named = request.uri().path().rsplit('/').next();
        let job = named.unwrap_or_default().to_owned();
        let refusing = ending::refuse(socket, job, failure, visitor);
        edge.tasks.spawn(refusing);
        return response;
    }
    let mut response = failure.answer();
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    response
}

async fn receive(
    edge: ServerState,
    peer: &Peer,
    request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let visitor = edge.guard.receive(peer, &request, opens_socket(&request))?;
    match edge.guard.preflight(&request) {
        Some(response) => Ok(response),
        None => dispatch(edge, visitor, request).await,
    }
}

async fn dispatch(
    edge: ServerState,
    visitor: Visitor,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let path = request.uri().path().to_owned();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match segments.as_slice() {
        ["ws", "monitor"] => {
            let (response, socket) = open_socket(&edge, &mut request)?;
            match visitor.may_stay(Scope::Monitor, None) {
                Ok(access) => edge
                    .tasks
                    .spawn(monitor::serve(edge.clone(), socket, access)),
                Err(failure) => {
                    let refusing = ending::refuse(socket, "monitor".to_owned(), failure, visitor);
                    edge.tasks.spawn(refusing)
                }
            };
            Ok(response)
        }
        ["ws", id] => {
            let job = job_id(id)?;
            let wants_previews = query(&request, "previews").is_some_and(|asked| asked == "1");
            let deflates = deflate::is_offered(request.headers());
            let (mut response, socket) = open_socket(&edge, &mut request)?;
            match visitor.may_stay(Scope::Subscribe, Some(&job)) {
                Ok(access) => {
                    let arrival = Arrival {
                        job,
                        wants_previews,
                        deflates,
                        address: visitor.address,
                        access,
                    };
                    if deflates {
                        let headers = response.headers_mut();
                        headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, deflate::AGREED);
                    }
                    edge.tasks.spawn(edge.shards.clone().adopt(socket, arrival))
                }
                Err(failure) => {
                    let refusing = ending::refuse(socket, job.to_string(), failure, visitor);
                    edge.tasks.spawn(refusing)
                }
            };
            Ok(response)
        }
        ["api", "anime", "websocket", "status"] => {
            only(&request, Method::GET)?;
            let is_trusted = visitor.may(Scope::Monitor, None).is_ok();
            Ok(health::websocket_status(&edge, is_trusted))
        }
        ["api", "anime", "health"] => {
            only(&request, Method::GET)?;
            let is_trusted = visitor.may(Scope::Monitor, None).is_ok();
            Ok(health::health(&edge, is_trusted))
        }
        ["metrics"] => {
            only(&request, Method::GET)?;
            visitor.may(Scope::Monitor, None)?;
            metrics::metrics(&edge)
        }
        ["api", "anime", "jobs"] => match *request.method() {
            Method::GET => {
                let access = visitor.enter(Scope::Subscribe)?;
                jobs::list(&edge, &request, &access).await
            }
            Method::POST => {
                let access = visitor.enter(Scope::Submit)?;
                jobs::create(&edge, request, &access).await
            }
            _ => Err(ApiError::wrong_method("GET, POST")),
        },
        ["api", "anime", "jobs", id] => {
            only(&request, Method::GET)?;
            let job = job_id(id)?;
            visitor.may(Scope::Subscribe, Some(&job))?;
            jobs::show(&edge, &job).await
        }
        ["api", "anime", "jobs", id, "cancel"] => {
            only(&request, Method::POST)?;
            let job = job_id(id)?;
            visitor.may(Scope::Cancel, Some(&job))?;
            jobs::cancel(&edge, &job).await
        }
        ["api", "anime", "jobs", id, "progress"] => {
            only(&request, Method::POST)?;
            let job = job_id(id)?;
            visitor.may(Scope::Progress, Some(&job))?;
            jobs::report(&edge, &job, request).await
        }
        ["api", "anime", "jobs", id, "events"] => {
            only(&request, Method::GET)?;
            let job = job_id(id)?;
            let access = visitor.may_stay(Scope::Subscribe, Some(&job))?;
            let connection = Connection::new(visitor.address);
            Ok(events::stream(&edge, job, &request, connection, access))
        }
        ["api", "anime", "jobs", id, "preview"] => {
            only(&request, Method::GET)?;
            let job = job_id(id)?;
            visitor.may(Scope::Subscribe, Some(&job))?;
            jobs::preview(&edge, &job)
        }
        _ => {
            let page = web::page(&path).ok_or_else(|| ApiError::no_route(&path))?;
            only(&request, Method::GET)?;
            Ok(page)
        }
    }
}

/// A parameter of the query.
pub(super) fn query<B>(request: &Request<B>, name: &str) -> Option<String> {
    let query = request.uri().query().unwrap_or_default();
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
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
    edge: &ServerState,
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
    if edge.stop.is_cancelled() {
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
    if guard::is_offered(request.headers()) {
        let chosen = HeaderValue::from_static(guard::PROTOCOL);
        let headers = response.headers_mut();
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, chosen);
    }
    Ok((response.map(http_body_util::BodyExt::boxed_unsync), socket))
}
