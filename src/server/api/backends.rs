//! `/api/anime/backends`: the ComfyUI servers, and what operators have them do.

use hyper::{Response, StatusCode};
use percent_encoding::percent_decode_str;
use serde::Serialize;

use crate::auth::Scope;
use crate::relay::{OperatedBackend, Operation, RelayError};
use crate::server::error::ApiError;
use crate::server::response::{self, Body};
use crate::server::security::Caller;
use crate::server::state::ServerState;

/// The answer to `GET /api/anime/backends`.
#[derive(Debug, Serialize)]
struct BackendsAnswer {
    backends: Vec<OperatedBackend>,
}

/// `GET /api/anime/backends`.
pub(in crate::server) fn list(
    state: &ServerState,
    caller: &Caller,
) -> Result<Response<Body>, ApiError> {
    caller.authorize(Scope::Monitor, None)?;
    let backends = state.relay.operated_backends();
    Ok(response::json(StatusCode::OK, &BackendsAnswer { backends }))
}

/// `POST /api/anime/backends/{name}/pause`, `resume` and `drain`: answers with the server as it is then. The name is
/// percent-encoded.
pub(in crate::server) async fn operate(
    state: &ServerState,
    caller: &Caller,
    name: &str,
    operation: Operation,
) -> Result<Response<Body>, ApiError> {
    caller.authorize_scopes(&[Scope::Operate])?;
    let name = percent_decode_str(name).decode_utf8_lossy();
    let refused = |error: RelayError| match &error {
        RelayError::BackendUnknown { .. } => {
            ApiError::new(StatusCode::NOT_FOUND, error.code(), error.to_string())
        }
        _ => error.into(),
    };
    let operated = state.relay.operate(&name, operation).await;
    operated.map_err(refused)?;
    let backend = state.relay.operated_backend(&name).map_err(refused)?;
    Ok(response::json(StatusCode::OK, &backend))
}
