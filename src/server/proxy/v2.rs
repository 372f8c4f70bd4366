//! Comfy API v2: graphs are submitted as jobs, which are followed and cancelled by their ids, and what they make are assets. Clients
//! such as the SDKs of Comfy use it.

mod asset;
mod failure;
mod form_body;
mod input_file;
mod job;
mod labels;
mod list;
mod output;
mod reference;
mod route;
mod state;
mod submit;
mod upload;
mod viewer;

use hyper::body::Incoming;
use hyper::{Method, Request, Response};

use crate::auth::{Permissions, Scope};
use crate::job::JobId;
use crate::server::api::events;
use crate::server::error::ApiError;
use crate::server::response::Body;
use crate::server::security::Caller;
use crate::server::state::ServerState;

pub(super) use failure::failure;
pub(super) use route::V2Route;

/// Answers a request for Comfy API v2.
pub(super) async fn serve(
    state: &ServerState,
    caller: &Caller,
    route: V2Route<'_>,
    request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let address = &caller.public_address;
    match route {
        V2Route::Submit => submit::submit(state, caller, request).await,
        V2Route::List => {
            let permissions = caller.authorize_scopes(&[Scope::Subscribe])?;
            list::list(state, &request, &permissions).await
        }
        V2Route::Job(id) => {
            let (id, permissions) = authorized(caller, Scope::Subscribe, id)?;
            job::show(state, &id, address, &permissions).await
        }
        V2Route::Workflow(id) => {
            let (id, _) = authorized(caller, Scope::Subscribe, id)?;
            job::workflow(state, &id).await
        }
        V2Route::Events(id) if *request.method() == Method::HEAD => {
            authorized(caller, Scope::Subscribe, id)?;
            Ok(events::head())
        }
        V2Route::Events(id) => {
            let id = job::job_id(id)?;
            let admission = caller.authorize_session(Scope::Subscribe, Some(&id))?;
            viewer::open(state, caller, id, admission).await
        }
        V2Route::Cancel(id) => {
            let (id, permissions) = authorized(caller, Scope::Cancel, id)?;
            job::cancel(state, &id, address, &permissions).await
        }
        V2Route::Upload => upload::upload(state, caller, request).await,
        V2Route::FromHash => asset::from_hash(state, caller, request).await,
        V2Route::ByHash(hash) => asset::find(state, caller, hash).await,
        V2Route::DeleteAsset(id) => asset::delete(state, caller, id).await,
        V2Route::Asset(id) => asset::show(state, caller, id).await,
        V2Route::Content(id) => asset::content(state, caller, id, &request).await,
        V2Route::WrongMethod(methods) => {
            caller.authorize_scopes(&[])?;
            Err(ApiError::wrong_method(methods))
        }
        V2Route::Unknown => {
            caller.authorize_scopes(&[])?;
            Err(ApiError::no_route(request.uri().path()))
        }
    }
}

/// The job of a path, and the caller's permissions, if it has this scope for the job.
fn authorized(caller: &Caller, scope: Scope, id: &str) -> Result<(JobId, Permissions), ApiError> {
    let id = job::job_id(id)?;
    let permissions = caller.authorize(scope, Some(&id))?;
    Ok((id, permissions))
}
