//! Which request goes where.

use std::net::SocketAddr;

use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_tungstenite::tungstenite::protocol::WebSocketConfig;
use hyper_tungstenite::{HyperWebsocket, is_upgrade_request, upgrade};
use percent_encoding::percent_decode_str;

use super::Edge;
use super::body::Body;
use super::error::Failure;
use super::shard::Arrival;
use super::{deflate, events, health, jobs, metrics, monitor, web};
use crate::hub::Connection;
use crate::job::JobId;

/// The largest message that a client may send: they are all short.
const MAX_CLIENT_MESSAGE: usize = 64 << 10;

/// What a socket reads at once. The library's own choice, 128 KiB, is for other loads than ours.
const READ_BUFFER: usize = 4 << 10;

/// Answers one request.
pub(super) async fn answer(
    edge: Edge,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Response<Body> {
    match dispatch(edge, peer, request).await {
        Ok(response) => response,
        Err(failure) => failure.answer(),
    }
}

async fn dispatch(
    edge: Edge,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<Body>, Failure> {
    let path = request.uri().path().to_owned();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match segments.as_slice() {
        ["ws", "monitor"] => {
            let (response, socket) = open_socket(&edge, request)?;
            edge.tasks.spawn(monitor::serve(edge.clone(), socket));
            Ok(response)
        }
        ["ws", id] => {
            let job = job_id(id)?;
            let arrival = Arrival {
                job,
                wants_previews: query(&request, "previews").is_some_and(|asked| asked == "1"),
                deflates: deflate::is_offered(request.headers()),
                address: peer.ip(),
            };
            let (mut response, socket) = open_socket(&edge, request)?;
            if arrival.deflates {
                let headers = response.headers_mut();
                headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, deflate::AGREED);
            }
            edge.tasks.spawn(edge.shards.clone().adopt(socket, arrival));
            Ok(response)
        }
        ["api", "anime", "websocket", "status"] => {
            only(&request, Method::GET)?;
            Ok(health::websocket_status(&edge))
        }
        ["api", "anime", "health"] => {
            only(&request, Method::GET)?;
            Ok(health::health(&edge))
        }
        ["metrics"] => {
            only(&request, Method::GET)?;
            metrics::metrics(&edge)
        }
        ["api", "anime", "jobs"] => match *request.method() {
            Method::GET => jobs::list(&edge, &request).await,
            Method::POST => jobs::create(&edge, request).await,
            _ => Err(Failure::wrong_method("GET, POST")),
        },
        ["api", "anime", "jobs", id] => {
            only(&request, Method::GET)?;
            jobs::show(&edge, &job_id(id)?).await
        }
        ["api", "anime", "jobs", id, "cancel"] => {
            only(&request, Method::POST)?;
            jobs::cancel(&edge, &job_id(id)?).await
        }
        ["api", "anime", "jobs", id, "progress"] => {
            only(&request, Method::POST)?;
            jobs::report(&edge, &job_id(id)?, request).await
        }
        ["api", "anime", "jobs", id, "events"] => {
            only(&request, Method::GET)?;
            let connection = Connection::new(peer.ip());
            Ok(events::stream(&edge, job_id(id)?, &request, connection))
        }
        ["api", "anime", "jobs", id, "preview"] => {
            only(&request, Method::GET)?;
            jobs::preview(&edge, &job_id(id)?)
        }
        _ => {
            let page = web::page(&path).ok_or_else(|| Failure::no_route(&path))?;
            only(&request, Method::GET)?;
            Ok(page)
        }
    }
}

/// A parameter of the query.
pub(super) fn query<B>(request: &Request<B>, name: &str) -> Option<String> {
    let query = request.uri().query().unwrap_or_default();
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

fn job_id(segment: &str) -> Result<JobId, Failure> {
    let text = percent_decode_str(segment).decode_utf8_lossy();
    Ok(JobId::parse(&text)?)
}

fn only<B>(request: &Request<B>, method: Method) -> Result<(), Failure> {
    match *request.method() == method {
        true => Ok(()),
        false => Err(Failure::wrong_method(if method == Method::GET {
            "GET"
        } else {
            "POST"
        })),
    }
}

fn open_socket(
    edge: &Edge,
    mut request: Request<Incoming>,
) -> Result<(Response<Body>, HyperWebsocket), Failure> {
    only(&request, Method::GET)?;
    if !is_upgrade_request(&request) {
        return Err(Failure::new(
            StatusCode::UPGRADE_REQUIRED,
            "websocket_required",
            "this address is for WebSockets; over plain HTTP use /api/anime/jobs/{job_id}/events",
        ));
    }
    if edge.stop.is_cancelled() {
        return Err(Failure::new(
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
    let (response, socket) = upgrade(&mut request, Some(config))
        .map_err(|error| Failure::bad_request("bad_handshake", error.to_string()))?;
    Ok((response.map(http_body_util::BodyExt::boxed_unsync), socket))
}
