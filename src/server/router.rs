//! The table of routes: which request goes where, by which method, and with which scope.

mod operated;
mod paths;

use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use percent_encoding::percent_decode_str;

use super::api::documents::ApiDocument;
use super::api::outputs::FileRequest;
use super::api::probes::Probe;
use super::api::{
    backends, batches, events, health, inputs, jobs, metrics, outputs, preview, queue, totals,
    webhooks, workflows,
};
use super::error::ApiError;
use super::pages::{Asset, Page};
use super::request::Query;
use super::response::{self, Body};
use super::security::{Caller, Peer, PublicAddress};
use super::state::ServerState;
use super::{selection, upgrade};
use crate::auth::Scope;
use crate::job::JobId;
use crate::relay::Operation;
use operated::operated_backend;
use paths::paths;

/// Every resource that has a path.
#[derive(Debug, Clone, Copy)]
enum Route<'a> {
    JobSocket(&'a str),
    MonitorSocket,
    /// The states of all jobs that match.
    FeedSocket,
    WebsocketStatus,
    Health,
    Metrics,
    Totals,
    Jobs,
    FeedEvents,
    Job(&'a str),
    Cancel(&'a str),
    Retry(&'a str),
    Progress(&'a str),
    Events(&'a str),
    Preview(&'a str),
    Estimate(&'a str),
    Workflow(&'a str),
    CheckWorkflow,
    Workflows,
    /// A workflow of the folder; its name is percent-encoded.
    NamedWorkflow(&'a str),
    Batches,
    Inputs,
    Backends,
    /// A backend; its name is percent-encoded.
    Backend(&'a str),
    /// What a backend is to do; its name is percent-encoded.
    Operate(&'a str, Operation),
    Queue,
    /// Whether the queue is to be paused.
    PauseQueue(bool),
    Deliveries,
    Outputs(&'a str),
    /// One of them, by its place in the list.
    Output(&'a str, &'a str),
    Document(ApiDocument),
    Probe(Probe),
    Page(Page),
    Asset(Asset),
}

// What stands in braces is a part of a path that is not checked yet. A backend that is operated is found by
// `operated_backend`, because its name can hold slashes.
paths! {
    "openapi.json" => Route::Document(ApiDocument::OpenApi),
    "asyncapi.json" => Route::Document(ApiDocument::AsyncApi),
    "healthz" => Route::Probe(Probe::Alive),
    "readyz" => Route::Probe(Probe::Ready),
    "ws" / "monitor" => Route::MonitorSocket,
    "ws" / "jobs" => Route::FeedSocket,
    "ws" / {job_id} => Route::JobSocket(job_id),
    "api" / "anime" / "websocket" / "status" => Route::WebsocketStatus,
    "api" / "anime" / "health" => Route::Health,
    "metrics" => Route::Metrics,
    "api" / "anime" / "totals" => Route::Totals,
    "api" / "anime" / "jobs" => Route::Jobs,
    "api" / "anime" / "jobs" / "events" => Route::FeedEvents,
    "api" / "anime" / "jobs" / {job_id} => Route::Job(job_id),
    "api" / "anime" / "jobs" / {job_id} / "cancel" => Route::Cancel(job_id),
    "api" / "anime" / "jobs" / {job_id} / "retry" => Route::Retry(job_id),
    "api" / "anime" / "jobs" / {job_id} / "progress" => Route::Progress(job_id),
    "api" / "anime" / "jobs" / {job_id} / "events" => Route::Events(job_id),
    "api" / "anime" / "jobs" / {job_id} / "preview" => Route::Preview(job_id),
    "api" / "anime" / "jobs" / {job_id} / "estimate" => Route::Estimate(job_id),
    "api" / "anime" / "jobs" / {job_id} / "workflow" => Route::Workflow(job_id),
    "api" / "anime" / "batches" => Route::Batches,
    "api" / "anime" / "inputs" => Route::Inputs,
    "api" / "anime" / "workflows" => Route::Workflows,
    "api" / "anime" / "workflows" / "check" => Route::CheckWorkflow,
    "api" / "anime" / "workflows" / {workflow} => Route::NamedWorkflow(workflow),
    "api" / "anime" / "backends" => Route::Backends,
    "api" / "anime" / "backends" / {name} => Route::Backend(name),
    "api" / "anime" / "webhooks" / "deliveries" => Route::Deliveries,
    "api" / "anime" / "queue" => Route::Queue,
    "api" / "anime" / "queue" / "pause" => Route::PauseQueue(true),
    "api" / "anime" / "queue" / "resume" => Route::PauseQueue(false),
    "api" / "anime" / "jobs" / {job_id} / "outputs" => Route::Outputs(job_id),
    "api" / "anime" / "jobs" / {job_id} / "outputs" / {n} => Route::Output(job_id, n),
}

impl<'a> Route<'a> {
    /// Slashes at the end make no difference.
    fn find(path: &'a str) -> Option<Self> {
        let path = match path.trim_end_matches('/') {
            "" => "/",
            trimmed => trimmed,
        };
        if let Some((name, operation)) = operated_backend(path) {
            return Some(Self::Operate(name, operation));
        }
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        if let Some(route) = Self::of_segments(&segments) {
            return Some(route);
        }
        let page = Page::find(path).map(Self::Page);
        page.or_else(|| Asset::find(path).map(Self::Asset))
    }

    /// Where a request for a page with a slash at its end belongs: the links of the page are relative to its path
    /// without.
    fn without_slash(self, path: &str) -> Option<String> {
        let page = path.trim_end_matches('/');
        let has_slash = page.len() < path.len() && !page.is_empty();
        let is_page = matches!(self, Self::Page(_) | Self::Asset(_));
        let name = page.rsplit('/').next().filter(|_| has_slash && is_page)?;
        Some(format!("../{name}"))
    }

    /// The methods that it takes, as the header `Allow` lists them.
    fn methods(self) -> &'static str {
        match self {
            Self::Jobs | Self::Backends => "GET, HEAD, POST, OPTIONS",
            Self::Backend(_) => "DELETE, OPTIONS",
            Self::Cancel(_)
            | Self::Retry(_)
            | Self::Progress(_)
            | Self::CheckWorkflow
            | Self::Batches
            | Self::Inputs
            | Self::Operate(..)
            | Self::PauseQueue(_) => "POST, OPTIONS",
            _ => "GET, HEAD, OPTIONS",
        }
    }

    /// The parameters that it takes by a method. `None` for sockets, which check theirs once they can answer a browser, and for
    /// pages, which leave theirs to their scripts.
    fn parameters(self, method: &Method) -> Option<&'static [&'static str]> {
        Some(match self {
            Self::JobSocket(_)
            | Self::MonitorSocket
            | Self::FeedSocket
            | Self::Page(_)
            | Self::Asset(_) => return None,
            Self::Jobs if method != Method::POST => &selection::LIST_PARAMETERS[..],
            Self::Output(..) => &outputs::FILE_PARAMETERS[..],
            Self::Events(_) => &[events::NAMES][..],
            Self::FeedEvents => &events::FEED_PARAMETERS[..],
            Self::Totals => &totals::PARAMETERS[..],
            Self::Deliveries => &webhooks::DELIVERY_PARAMETERS[..],
            Self::Backend(_) => &backends::REMOVAL_PARAMETERS[..],
            _ => &[],
        })
    }

    /// Refuses parameters that it does not know.
    fn check_parameters<B>(self, request: &Request<B>) -> Result<(), ApiError> {
        let known = self.parameters(request.method());
        known.map_or(Ok(()), |known| Query::parse(request, known).map(drop))
    }
}

/// Serves a request of a client that is within its limits.
pub(super) async fn serve(
    state: &ServerState,
    peer: &Peer,
    address: PublicAddress,
    request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let opens_socket = upgrade::is_requested(&request);
    let caller = state
        .security
        .admit(peer, &request, address, opens_socket)?;
    if let Some(response) = state.security.preflight(&request) {
        return Ok(response);
    }
    let path = request.uri().path().to_owned();
    if let Some(location) = caller.public_address.with_slash(&path) {
        return Ok(response::redirect(&location));
    }
    let path = caller.public_address.strip_prefix(&path).to_owned();
    let route = Route::find(&path).ok_or_else(|| ApiError::no_route(&path))?;
    if let Some(location) = route.without_slash(&path) {
        return Ok(response::redirect(&location));
    }
    if *request.method() == Method::OPTIONS {
        let mut response = response::empty(StatusCode::NO_CONTENT);
        let methods = HeaderValue::from_static(route.methods());
        response.headers_mut().insert(header::ALLOW, methods);
        return Ok(response);
    }
    dispatch(state, caller, route, request).await
}

async fn dispatch(
    state: &ServerState,
    caller: Caller,
    route: Route<'_>,
    request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let method = request.method().clone();
    let mut allowed = route.methods().split(", ");
    if !allowed.any(|allowed| allowed == method.as_str()) {
        return Err(ApiError::wrong_method(route.methods()));
    }
    route.check_parameters(&request)?;
    match route {
        Route::JobSocket(id) => upgrade::job(state, caller, request, job_id(id)?),
        Route::FeedSocket => upgrade::feed(state, caller, request),
        Route::MonitorSocket => upgrade::monitor(state, caller, request),
        Route::WebsocketStatus => Ok(health::websocket_status(state, caller.may_monitor())),
        Route::Health => Ok(health::health(state, caller.may_monitor())),
        Route::Metrics => {
            caller.authorize(Scope::Monitor, None)?;
            metrics::metrics(state)
        }
        Route::Totals => {
            caller.authorize(Scope::Monitor, None)?;
            totals::totals(state, &request).await
        }
        Route::Jobs if method == Method::POST => make_jobs(state, &caller, route, request).await,
        Route::Retry(_) | Route::Batches => make_jobs(state, &caller, route, request).await,
        Route::Jobs => {
            let permissions = caller.authorize_scopes(&[Scope::Subscribe])?;
            jobs::list(state, &request, &permissions).await
        }
        Route::Job(id) => jobs::show(state, &authorized(&caller, Scope::Subscribe, id)?).await,
        Route::Cancel(id) => jobs::cancel(state, &authorized(&caller, Scope::Cancel, id)?).await,
        Route::Progress(id) => {
            jobs::report(state, &authorized(&caller, Scope::Progress, id)?, request).await
        }
        Route::FeedEvents => feed_events(state, &caller, &request),
        Route::Events(id) => job_events(state, &caller, &request, id).await,
        Route::Preview(id) => {
            preview::preview(state, &authorized(&caller, Scope::Subscribe, id)?).await
        }
        Route::Estimate(id) => {
            jobs::explain(state, &authorized(&caller, Scope::Subscribe, id)?).await
        }
        Route::Workflow(id) => {
            jobs::workflow(state, &authorized(&caller, Scope::Subscribe, id)?).await
        }
        Route::CheckWorkflow | Route::Workflows | Route::NamedWorkflow(_) | Route::Inputs => {
            prepare_jobs(state, &caller, route, request).await
        }
        Route::Backends if method == Method::POST => backends::add(state, &caller, request).await,
        Route::Backends => backends::list(state, &caller),
        Route::Backend(name) => backends::remove(state, &caller, name, &request).await,
        Route::Operate(name, operation) => backends::operate(state, &caller, name, operation).await,
        Route::Queue => queue::show(state, &caller).await,
        Route::PauseQueue(is_paused) => queue::pause(state, &caller, is_paused).await,
        Route::Deliveries => {
            let permissions = caller.authorize_scopes(&[Scope::Webhook])?;
            webhooks::deliveries(state, &request, &permissions).await
        }
        Route::Outputs(id) => list_outputs(state, &caller, id).await,
        Route::Output(id, number) => output(state, &caller, &request, id, number).await,
        Route::Document(document) => Ok(document.response(request.headers())),
        Route::Probe(probe) => probe.answer(state),
        Route::Page(page) => Ok(page.response(state.relay.backend_count())),
        Route::Asset(asset) => Ok(asset.response(request.headers())),
    }
}

async fn list_outputs(
    state: &ServerState,
    caller: &Caller,
    id: &str,
) -> Result<Response<Body>, ApiError> {
    let job = job_id(id)?;
    let permissions = caller.authorize(Scope::Subscribe, Some(&job))?;
    outputs::list(state, &job, &caller.public_address, &permissions).await
}

async fn output(
    state: &ServerState,
    caller: &Caller,
    request: &Request<Incoming>,
    id: &str,
    number: &str,
) -> Result<Response<Body>, ApiError> {
    let (job, asked) = (job_id(id)?, FileRequest::parse(request, number)?);
    caller.authorize_file(&job, asked.number, asked.link.as_ref())?;
    outputs::file(state, &job, &asked, request.headers()).await
}

/// The routes that show and check what jobs are made of, and take what they load.
async fn prepare_jobs(
    state: &ServerState,
    caller: &Caller,
    route: Route<'_>,
    request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    caller.authorize_scopes(&[Scope::Submit])?;
    match route {
        Route::CheckWorkflow => workflows::check(state, request).await,
        Route::NamedWorkflow(name) => workflows::show(state, name).await,
        Route::Inputs => inputs::add(state, request).await,
        _ => Ok(workflows::list(state).await),
    }
}

/// The routes that make jobs.
async fn make_jobs(
    state: &ServerState,
    caller: &Caller,
    route: Route<'_>,
    request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let address = &caller.public_address;
    match route {
        Route::Retry(id) => {
            let job = job_id(id)?;
            let permissions = caller.authorize(Scope::Submit, Some(&job))?;
            jobs::retry(state, &job, request, address, &permissions).await
        }
        Route::Batches => {
            let permissions = caller.authorize_scopes(&[Scope::Submit])?;
            batches::submit(state, request, address, &permissions).await
        }
        _ => {
            let permissions = caller.authorize_scopes(&[Scope::Submit, Scope::Register])?;
            jobs::create(state, request, address, &permissions).await
        }
    }
}

fn feed_events(
    state: &ServerState,
    caller: &Caller,
    request: &Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    if *request.method() == Method::HEAD {
        caller.authorize_scopes(&[Scope::Subscribe])?;
        return Ok(events::head());
    }
    let query = Query::parse(request, &events::FEED_PARAMETERS)?;
    let has_names = query.flag(events::NAMES)?;
    let admission = caller.authorize_feed()?;
    let feed = selection::feed(state, &query, &admission.permissions)?;
    Ok(events::all(state, feed, admission, has_names))
}

async fn job_events(
    state: &ServerState,
    caller: &Caller,
    request: &Request<Incoming>,
    id: &str,
) -> Result<Response<Body>, ApiError> {
    let has_names = Query::parse(request, &[events::NAMES])?.flag(events::NAMES)?;
    if *request.method() == Method::HEAD {
        authorized(caller, Scope::Subscribe, id)?;
        return Ok(events::head());
    }
    let job = job_id(id)?;
    let admission = caller.authorize_session(Scope::Subscribe, Some(&job))?;
    let address = caller.address;
    let headers = request.headers();
    Ok(events::job(state, job, headers, address, admission, has_names).await)
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

#[cfg(test)]
mod tests;
