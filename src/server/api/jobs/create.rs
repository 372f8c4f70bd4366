//! `POST /api/anime/jobs`: submits a workflow, or follows a prompt that ComfyUI has already.

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::auth::{Permissions, Scope};
use crate::comfy::WrongInput;
use crate::job::JobId;
use crate::relay::{Accepted, Submission};
use crate::server::error::ApiError;
use crate::server::request::read_json;
use crate::server::response::{self, Body};
use crate::server::state::ServerState;

/// The longest prompt id that is followed, in bytes. ComfyUI's own have 36.
const MAX_PROMPT_ID: usize = 200;

/// The body of the request.
#[derive(Deserialize)]
struct NewJob {
    job_id: Option<String>,
    /// The prompt to follow.
    prompt_id: Option<String>,
    /// The workflow to submit: a graph in API format, or a name.
    workflow: Option<Value>,
    #[serde(default)]
    params: Map<String, Value>,
    backend: Option<String>,
}

#[derive(Debug, Serialize)]
struct CreateAnswer<'a> {
    job_id: &'a JobId,
    prompt_id: &'a str,
    backend: &'a str,
    ws_url: String,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    ignored: &'a [WrongInput],
}

pub(in crate::server) async fn create(
    state: &ServerState,
    request: Request<Incoming>,
    permissions: &Permissions,
) -> Result<Response<Body>, ApiError> {
    let base = socket_base(state, &request);
    let new: NewJob = read_json(request.into_body(), state.config.body_timeout).await?;
    let job_id = new.job_id.as_deref().map(JobId::parse).transpose()?;
    permissions.check(Scope::Submit, job_id.as_ref())?;
    let submission = submission(new.prompt_id, new.workflow)?;
    let accepted = state
        .relay
        .submit(job_id, submission, &new.params, new.backend.as_deref())
        .await?;
    let answer = CreateAnswer::new(&accepted, &base);
    Ok(response::json(StatusCode::CREATED, &answer))
}

/// The address below which the client finds sockets: the one that it has used itself.
fn socket_base<B>(state: &ServerState, request: &Request<B>) -> String {
    let host = request.headers().get(header::HOST);
    let host = host.and_then(|host| host.to_str().ok());
    let host = host.map_or_else(|| state.config.listen.to_string(), str::to_owned);
    let scheme = if state.config.tls.is_some() {
        "wss"
    } else {
        "ws"
    };
    format!("{scheme}://{host}")
}

fn submission(prompt_id: Option<String>, workflow: Option<Value>) -> Result<Submission, ApiError> {
    match (prompt_id, workflow) {
        (Some(prompt), None) if prompt.is_empty() || prompt.len() > MAX_PROMPT_ID => {
            Err(ApiError::bad_request(
                "bad_prompt_id",
                format!("a prompt_id has 1 to {MAX_PROMPT_ID} bytes"),
            ))
        }
        (Some(prompt), None) => Ok(Submission::Prompt(prompt)),
        (None, Some(Value::Object(graph))) => Ok(Submission::Graph(graph)),
        (None, Some(Value::String(name))) => Ok(Submission::Named(name)),
        (None, Some(_)) => Err(ApiError::bad_request(
            "bad_workflow",
            "workflow is a graph in API format, or the name of a workflow",
        )),
        _ => Err(ApiError::bad_request(
            "bad_job",
            "give either prompt_id, to follow a prompt, or workflow, to submit one",
        )),
    }
}

impl<'a> CreateAnswer<'a> {
    fn new(accepted: &'a Accepted, base: &str) -> Self {
        Self {
            job_id: &accepted.job_id,
            prompt_id: &accepted.prompt_id,
            backend: &accepted.backend,
            ws_url: format!("{base}/ws/{}", accepted.job_id),
            ignored: &accepted.ignored,
        }
    }
}
