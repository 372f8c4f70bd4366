//! The table of routes: which request goes where, by which method, and with which scope.

use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response};
use percent_encoding::percent_decode_str;

use super::api::{events, health, jobs, metrics, preview};
use super::error::ApiError;
use super::pages::Asset;
use super::response::Body;
use super::security::{Caller, LimitExceeded, Peer};
use super::state::ServerState;
use super::upgrade;
use crate::auth::Scope;
use crate::job::JobId;

/// Every resource that has a path. A job id is not checked yet.
#[derive(Debug, Clone, Copy)]
enum Route<'a> {
    JobSocket(&'a str),
    MonitorSocket,
    WebsocketStatus,
    Health,
    Metrics,
    Jobs,
    Job(&'a str),
    Cancel(&'a str),
    Progress(&'a str),
    Events(&'a str),
    Preview(&'a str),
    Estimate(&'a str),
    Asset(Asset),
}

impl<'a> Route<'a> {
    fn find(path: &'a str) -> Option<Self> {
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        Some(match segments.as_slice() {
            ["ws", "monitor"] => Self::MonitorSocket,
            ["ws", id] => Self::JobSocket(id),
            ["api", "anime", "websocket", "status"] => Self::WebsocketStatus,
            ["api", "anime", "health"] => Self::Health,
            ["metrics"] => Self::Metrics,
            ["api", "anime", "jobs"] => Self::Jobs,
            ["api", "anime", "jobs", id] => Self::Job(id),
            ["api", "anime", "jobs", id, "cancel"] => Self::Cancel(id),
            ["api", "anime", "jobs", id, "progress"] => Self::Progress(id),
            ["api", "anime", "jobs", id, "events"] => Self::Events(id),
            ["api", "anime", "jobs", id, "preview"] => Self::Preview(id),
            ["api", "anime", "jobs", id, "estimate"] => Self::Estimate(id),
            _ => Self::Asset(Asset::find(path)?),
        })
    }

    /// The methods that it takes, as the header `Allow` lists them.
    fn methods(self) -> &'static str {
        match self {
            Self::Jobs => "GET, POST",
            Self::Cancel(_) | Self::Progress(_) => "POST",
            _ => "GET",
        }
    }
}

/// Answers one request.
pub(super) async fn answer(
    state: ServerState,
    peer: Peer,
    request: Request<Incoming>,
) -> Response<Body> {
    let cors = state.security.cors_headers(&request);
    let mut response = match serve(state, &peer, request).await {
        Ok(response) => response,
        Err(error) => error.response(),
    };
    cors.add(response.headers_mut());
    response
}

/// Answers a request on a connection that is over a limit. If the relay is full, a WebSocket is accepted
/// all the same and closed with the reason: a browser does not show its pages the status of a refused
/// upgrade.
pub(super) async fn reject(
    state: ServerState,
    peer: Peer,
    exceeded: LimitExceeded,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let error = ApiError::from(exceeded);
    let opens_socket = upgrade::is_requested(&request);
    let caller = state.security.admit(&peer, &request, opens_socket);
    if matches!(exceeded, LimitExceeded::Connections(_))
        && opens_socket
        && let Ok(caller) = caller
        && let Ok((response, socket)) = upgrade::accept(&state, &mut request)
    {
        let job = request.uri().path().rsplit('/').next().unwrap_or_default();
        upgrade::refuse(&state, socket, job, error, caller);
        return response;
    }
    let mut response = error.response();
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    response
}

async fn serve(
    state: ServerState,
    peer: &Peer,
    request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let opens_socket = upgrade::is_requested(&request);
    let caller = state.security.admit(peer, &request, opens_socket)?;
    match state.security.preflight(&request) {
        Some(response) => Ok(response),
        None => dispatch(&state, caller, request).await,
    }
}

async fn dispatch(
    state: &ServerState,
    caller: Caller,
    request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let path = request.uri().path().to_owned();
    let route = Route::find(&path).ok_or_else(|| ApiError::no_route(&path))?;
    let method = request.method().clone();
    let mut allowed = route.methods().split(", ");
    if !allowed.any(|allowed| allowed == method.as_str()) {
        return Err(ApiError::wrong_method(route.methods()));
    }
    match route {
        Route::JobSocket(id) => upgrade::job(state, caller, request, job_id(id)?),
        Route::MonitorSocket => upgrade::monitor(state, caller, request),
        Route::WebsocketStatus => {
            let is_trusted = caller.authorize(Scope::Monitor, None).is_ok();
            Ok(health::websocket_status(state, is_trusted))
        }
        Route::Health => {
            let is_trusted = caller.authorize(Scope::Monitor, None).is_ok();
            Ok(health::health(state, is_trusted))
        }
        Route::Metrics => {
            caller.authorize(Scope::Monitor, None)?;
            metrics::metrics(state)
        }
        Route::Jobs if method == Method::POST => {
            let permissions = caller.authorize_scope(Scope::Submit)?;
            jobs::create(state, request, &permissions).await
        }
        Route::Jobs => {
            let permissions = caller.authorize_scope(Scope::Subscribe)?;
            jobs::list(state, &request, &permissions).await
        }
        Route::Job(id) => jobs::show(state, &authorized(&caller, Scope::Subscribe, id)?).await,
        Route::Cancel(id) => jobs::cancel(state, &authorized(&caller, Scope::Cancel, id)?).await,
        Route::Progress(id) => {
            let job = authorized(&caller, Scope::Progress, id)?;
            jobs::report(state, &job, request).await
        }
        Route::Events(id) => {
            let job = job_id(id)?;
            let admission = caller.authorize_session(Scope::Subscribe, Some(&job))?;
            let address = caller.address;
            Ok(events::stream(state, job, &request, address, admission))
        }
        Route::Preview(id) => preview::preview(state, &authorized(&caller, Scope::Subscribe, id)?),
        Route::Estimate(id) => {
            jobs::explain(state, &authorized(&caller, Scope::Subscribe, id)?).await
        }
        Route::Asset(asset) => Ok(asset.response()),
    }
}

/// The job of a path, if the caller has this scope for it.
fn authorized(caller: &Caller, scope: Scope, segment: &str) -> Result<JobId, ApiError> {
    let job = job_id(segment)?;
    caller.authorize(scope, Some(&job))?;
    Ok(job)
}

fn job_id(segment: &str) -> Result<JobId, ApiError> {
    let text = percent_decode_str(segment).decode_utf8_lossy();
    Ok(JobId::parse(&text)?)
}
