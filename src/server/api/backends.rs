//! `/api/anime/backends`: the ComfyUI servers, and what operators have them do.

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use percent_encoding::percent_decode_str;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::auth::Scope;
use crate::config::{BackendLabels, ServerUrl};
use crate::relay::{NewBackend, OperatedBackend, Operation, RelayError};
use crate::server::api::backend_field::labels_of;
use crate::server::contract::endpoint::Endpoint;
use crate::server::contract::parameter::Parameter;
use crate::server::error::ApiError;
use crate::server::request::{Query, parse_fields, read_json};
use crate::server::response::{self, Body};
use crate::server::security::Caller;
use crate::server::state::ServerState;

/// The answer to `GET /api/anime/backends`.
#[derive(Debug, JsonSchema, Serialize)]
struct BackendsAnswer {
    backends: Vec<OperatedBackend>,
}

pub(in crate::server) fn endpoints() -> Vec<Endpoint> {
    let (all, one) = ("/api/anime/backends", "/api/anime/backends/{name}");
    let list = Endpoint::get("list_backends", all, "The ComfyUI servers")
        .needs(&[Scope::Monitor])
        .answers::<BackendsAnswer>(200, "The servers, in the order of the settings.");
    let add = Endpoint::post("add_backend", all, "Add a ComfyUI server")
        .needs(&[Scope::Operate])
        .reads::<BackendToAdd>()
        .answers::<OperatedBackend>(201, "The server.")
        .answers::<OperatedBackend>(200, "It is there already.")
        .fails(400, &["bad_name", "bad_url", "bad_labels"])
        .fails(403, &["adding_off", "address_not_allowed"])
        .fails(409, &["backend_exists", "too_many_backends"])
        .fails(503, &["request_under_way"])
        .needs_database();
    let remove = Endpoint::delete(
        "remove_backend",
        one,
        "Remove a ComfyUI server that was added",
    )
    .needs(&[Scope::Operate])
    .takes(Parameter::flag(
        REMOVAL_PARAMETERS[0],
        "Do not wait for its jobs.",
    ))
    .answers::<OperatedBackend>(202, "It is removed once it has no jobs any more.")
    .fails(404, &["backend_unknown"])
    .fails(400, &["bad_query"])
    .fails(409, &["backend_configured"])
    .needs_database();
    let operations = [
        (
            "pause_backend",
            "/api/anime/backends/{name}/pause",
            "Hand nothing in to a server",
        ),
        (
            "drain_backend",
            "/api/anime/backends/{name}/drain",
            "The same, and take back what waits there",
        ),
        (
            "resume_backend",
            "/api/anime/backends/{name}/resume",
            "Hand jobs in to a server again",
        ),
    ];
    let operations = operations.map(|(name, path, summary)| {
        Endpoint::post(name, path, summary)
            .needs(&[Scope::Operate])
            .answers::<OperatedBackend>(200, "The server as it is then.")
            .fails(404, &["backend_unknown"])
            .needs_database()
    });
    [list, add, remove].into_iter().chain(operations).collect()
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

/// The fields of a server that is to be added.
const NAMES: [&str; 3] = ["name", "url", "labels"];

/// The parameters of a removal.
pub(in crate::server) const REMOVAL_PARAMETERS: [&str; 1] = ["force"];

/// The longest name that an operator gives a server, in characters.
const MAX_NAME: usize = 64;

/// The body of `POST /api/anime/backends`.
#[derive(Default, JsonSchema, Deserialize)]
#[serde(default)]
#[schemars(extend("required" = ["name", "url"]))]
struct BackendToAdd {
    /// What it is to be called.
    #[schemars(with = "String", length(max = MAX_NAME), regex(pattern = "^[A-Za-z0-9][A-Za-z0-9._:-]*$"))]
    name: Value,
    /// ComfyUI's address.
    #[schemars(with = "String", extend("format" = "uri"))]
    url: Value,
    #[schemars(with = "Option<BackendLabels>")]
    labels: Option<Value>,
}

impl BackendToAdd {
    fn check(&self) -> Result<NewBackend, ApiError> {
        let name = self.name.as_str().filter(|name| is_name(name));
        let name = name.ok_or_else(|| {
            let why = format!(
                "name has 1 to {MAX_NAME} characters of A-Z a-z 0-9 . _ : -, and begins with a letter or a digit"
            );
            ApiError::bad_request("bad_name", why)
        })?;
        Ok(NewBackend {
            name: name.to_owned(),
            url: self.url()?,
            labels: self.labels()?,
        })
    }

    fn url(&self) -> Result<ServerUrl, ApiError> {
        let bad_url = |why: &str| {
            let expected = "url is ComfyUI's address, such as http://10.0.0.7:8188";
            ApiError::bad_request("bad_url", format!("{why}; {expected}"))
        };
        let text = self
            .url
            .as_str()
            .ok_or_else(|| bad_url("there is no text"))?;
        let url: ServerUrl = text
            .parse()
            .map_err(|why: crate::config::ServerUrlError| bad_url(&why.to_string()))?;
        if url.credentials().is_some() {
            return Err(bad_url("credentials are not kept: set COMFYUI_TOKEN"));
        }
        Ok(url)
    }

    fn labels(&self) -> Result<BackendLabels, ApiError> {
        let bad_labels = |why: String| ApiError::bad_request("bad_labels", why);
        match &self.labels {
            None => Ok(BackendLabels::default()),
            Some(Value::Object(labels)) => labels_of(labels).map_err(bad_labels),
            Some(_) => Err(bad_labels("labels is an object of texts".to_owned())),
        }
    }
}

fn is_name(name: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '-');
    name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(is_allowed)
}

/// `POST /api/anime/backends`: answers with the server; 200 if it is there already.
pub(in crate::server) async fn add(
    state: &ServerState,
    caller: &Caller,
    request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    caller.authorize_scopes(&[Scope::Operate])?;
    let body: Map<String, Value> =
        read_json(request.into_body(), state.config.body_timeout).await?;
    let new: BackendToAdd = parse_fields(body, &NAMES)?;
    let (backend, is_new) = state.relay.add_backend(new.check()?).await?;
    let status = if is_new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok(response::json(status, &backend))
}

/// `DELETE /api/anime/backends/{name}`: answers with the server as it is now; it is gone once it has no jobs any more.
pub(in crate::server) async fn remove(
    state: &ServerState,
    caller: &Caller,
    name: &str,
    request: &Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    caller.authorize_scopes(&[Scope::Operate])?;
    let name = percent_decode_str(name).decode_utf8_lossy();
    let is_at_once = Query::parse(request, &REMOVAL_PARAMETERS)?.flag("force")?;
    let removed = state.relay.remove_backend(&name, is_at_once).await;
    let backend = removed.map_err(not_found)?;
    Ok(response::json(StatusCode::ACCEPTED, &backend))
}

/// Of a path, an unknown backend is a resource that does not exist.
fn not_found(error: RelayError) -> ApiError {
    match &error {
        RelayError::BackendUnknown { .. } => {
            ApiError::new(StatusCode::NOT_FOUND, error.code(), error.to_string())
        }
        _ => error.into(),
    }
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
    let operated = state.relay.operate(&name, operation).await;
    operated.map_err(not_found)?;
    let backend = state.relay.operated_backend(&name).map_err(not_found)?;
    Ok(response::json(StatusCode::OK, &backend))
}
