//! `POST /api/v2/jobs`: a graph becomes a job.

use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode};
use serde_json::{Map, Value};

use super::{job, labels, reference};
use crate::auth::Scope;
use crate::comfy::{PromptOptions, QueuePlace};
use crate::job::excerpt;
use crate::relay::{RelayError, Submission, SubmitOptions};
use crate::server::api::idempotency;
use crate::server::api::jobs::queue_fields::share;
use crate::server::error::ApiError;
use crate::server::proxy::refusal::first_rejection;
use crate::server::request::read_json;
use crate::server::response::{self, Body};
use crate::server::security::Caller;
use crate::server::state::ServerState;
use crate::workflow::GivenParameters;

/// The fields of the body.
const WORKFLOW: &str = "workflow";
const EXTRA_DATA: &str = "extra_data";
const METADATA: &str = "metadata";

/// What `extra_data` may hold: the key of the caller for partner nodes.
const API_KEY: &str = "api_key_comfy_org";

/// What is asked for, in the digest of the request.
const KIND: &str = "comfy v2 job";

/// Says that the answer is that to an earlier request with this key.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Submits a graph through the relay's queue. The same request with the same `Idempotency-Key` is answered with the job that it has
/// made.
pub(super) async fn submit(
    state: &ServerState,
    caller: &Caller,
    request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let permissions = caller.authorize(Scope::Submit, None)?;
    let key = idempotency::key(request.headers(), &permissions)?;
    let mut body: Map<String, Value> =
        read_json(request.into_body(), state.config.body_timeout).await?;
    // It may hold a key, and says nothing of what is asked for.
    let extra_data = extra_data(body.shift_remove(EXTRA_DATA))?;
    let request = idempotency::request_id(key, KIND, &body, false);
    let mut graph = match body.shift_remove(WORKFLOW) {
        Some(Value::Object(graph)) => graph,
        _ => {
            let message = "workflow is missing, or not a graph in API format";
            return Err(ApiError::bad_request("bad_workflow", message));
        }
    };
    let tags = labels::tags(body.shift_remove(METADATA))?;
    if let Some(unknown) = body.keys().next() {
        let message = format!(
            "unknown field {:?}; the body takes {WORKFLOW}, {EXTRA_DATA}, {METADATA}",
            excerpt(unknown)
        );
        return Err(ApiError::bad_request("unknown_field", message));
    }
    // First: the assets of a graph may be gone when its request is repeated.
    let accepted = match state.relay.repeated(&request).await? {
        Some(accepted) => accepted,
        None => {
            reference::resolve(state, &mut graph).await?;
            let options = SubmitOptions {
                share: share(&tags, &permissions),
                request,
                prompt: PromptOptions::new(extra_data, Vec::new(), QueuePlace::Back),
                ..SubmitOptions::default()
            };
            let (submission, no_params) = (Submission::Graph(graph), GivenParameters::default());
            let submitted = state
                .relay
                .submit(None, submission, &no_params, tags, options);
            submitted.await.map_err(refused)?
        }
    };
    let address = &caller.public_address;
    let made = job::read(state, &accepted.job_id, address, &permissions).await?;
    let mut answer = response::json(StatusCode::CREATED, &made);
    if accepted.is_replayed {
        let is_replayed = HeaderValue::from_static("true");
        answer.headers_mut().insert(REPLAYED, is_replayed);
    }
    Ok(answer)
}

/// Why a graph is not taken, with what is wrong with its nodes where no server can run it.
fn refused(error: RelayError) -> ApiError {
    match first_rejection(&error) {
        Some((rejection, _)) => ApiError::from(error).with_inputs(rejection.inputs),
        None => error.into(),
    }
}

/// What goes to ComfyUI beside the graph. An error shows no value of it.
fn extra_data(value: Option<Value>) -> Result<Map<String, Value>, ApiError> {
    let fields = match value {
        None | Some(Value::Null) => return Ok(Map::new()),
        Some(Value::Object(fields)) => fields,
        Some(_) => return Err(bad_extra_data()),
    };
    let is_key = |(name, value): (&String, &Value)| name == API_KEY && value.is_string();
    if !fields.iter().all(is_key) {
        return Err(bad_extra_data());
    }
    Ok(fields)
}

fn bad_extra_data() -> ApiError {
    let message = format!("extra_data is an object that has {API_KEY} alone, which is a text");
    ApiError::bad_request("bad_extra_data", message)
}
