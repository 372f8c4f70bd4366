//! `GET /ws?clientId=…`: everything that ComfyUI sends the client of this id.

use hyper::body::Incoming;
use hyper::{Request, Response};
use uuid::Uuid;

use crate::auth::Scope;
use crate::server::error::ApiError;
use crate::server::response::Body;
use crate::server::security::Caller;
use crate::server::state::ServerState;
use crate::server::upgrade;
use crate::session;

/// The parameter of the query with the id of the client.
const CLIENT_ID: &str = "clientId";

/// A frame is written at once.
const WRITE_BUFFER: usize = 0;

pub(super) fn open(
    state: &ServerState,
    caller: &Caller,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let admission = caller.authorize_session(Scope::Subscribe, None)?;
    let client_id = client_id(request.uri().query().unwrap_or_default());
    upgrade::check_handshake(caller, &request, "")?;
    let (response, socket) = upgrade::accept(state, &mut request, WRITE_BUFFER)?;
    // Before the response is sent: a client that has it misses nothing, whatever it posts next.
    let events = state.relay.client_events(&client_id);
    tracing::debug!(peer = %caller.address, client_id, "a client of ComfyUI connected");
    let serving = session::serve_client(state.session.clone(), socket, admission, events);
    state.tasks.spawn(serving);
    Ok(response)
}

/// The id that a client gives, or a new one, as ComfyUI makes it.
fn client_id(query: &str) -> String {
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    let given = pairs.find(|(name, value)| name == CLIENT_ID && !value.is_empty());
    given.map_or_else(
        || Uuid::new_v4().simple().to_string(),
        |(_, value)| value.into_owned(),
    )
}
