//! `POST /api/anime/workflows/check`: which backends can run a workflow.

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::comfy::{Problem, WrongInput};
use crate::relay::{CheckedWorkflow, Suitability};
use crate::server::api::backend_field::backend_choices;
use crate::server::error::ApiError;
use crate::server::request::{parse_fields, read_json};
use crate::server::response::{self, Body};
use crate::server::state::ServerState;

/// The fields of the body.
const NAMES: [&str; 3] = ["workflow", "params", "backend"];

/// The body of the request.
#[derive(Default, Deserialize)]
#[serde(default)]
struct WorkflowToCheck {
    /// A graph in API format, or a name.
    workflow: Option<Value>,
    params: Map<String, Value>,
    backend: Option<Value>,
}

/// The answer.
#[derive(Debug, Serialize)]
struct CheckAnswer<'a> {
    /// Whether at least one backend can.
    can_run: bool,
    backends: Vec<BackendCheck<'a>>,
}

/// What was found of one backend.
#[derive(Debug, Serialize)]
struct BackendCheck<'a> {
    name: &'a str,
    /// `null` if that is not known.
    can_run: Option<bool>,
    /// Why that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'static str>,
    /// What is wrong with the workflow there, of many problems the first.
    problems: Vec<WrongInput>,
    /// How many there are, if not all are listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    problems_total: Option<usize>,
}

pub(in crate::server) async fn check(
    state: &ServerState,
    request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let body: Map<String, Value> =
        read_json(request.into_body(), state.config.body_timeout).await?;
    let asked: WorkflowToCheck = parse_fields(body, &NAMES)?;
    let workflow = match asked.workflow {
        Some(Value::Object(graph)) => CheckedWorkflow::Graph(graph),
        Some(Value::String(name)) => CheckedWorkflow::Named(name),
        _ => {
            return Err(ApiError::bad_request(
                "bad_workflow",
                "workflow is a graph in API format, or the name of a workflow",
            ));
        }
    };
    let choices = backend_choices(asked.backend.as_ref())?;
    let relay = &state.relay;
    let found = relay
        .check_workflow(workflow, &asked.params, &choices)
        .await?;
    let answer = CheckAnswer {
        can_run: found.iter().any(|it| it.can_run() == Some(true)),
        backends: found.iter().map(BackendCheck::of).collect(),
    };
    Ok(response::json(StatusCode::OK, &answer))
}

impl<'a> BackendCheck<'a> {
    fn of(found: &'a Suitability) -> Self {
        let problems = found.problems();
        let total = found.validation.as_ref().map(|it| it.problems_total);
        let message = match (found.can_run(), &found.validation) {
            (Some(_), _) => None,
            (None, Some(_)) => Some(
                "a node class may have a check of its own; ComfyUI decides when it is submitted",
            ),
            (None, None) => Some("its node classes are not known; ComfyUI does not answer"),
        };
        Self {
            name: &found.name,
            can_run: found.can_run(),
            message,
            problems: problems.iter().map(Problem::as_found).collect(),
            problems_total: total.filter(|&total| total > problems.len()),
        }
    }
}
