//! `/api/anime/workflows`: the workflows that have names, and which backends can run one.

mod catalog;

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::auth::Scope;
use crate::comfy::{Problem, WrongInput};
use crate::relay::{CheckedWorkflow, Suitability};
use crate::server::api::backend_field::{BackendField, backend_choices};
use crate::server::api::jobs::submission_failures::workflow_failures;
use crate::server::api::workflow_field::WorkflowChoice;
use crate::server::contract::endpoint::Endpoint;
use crate::server::error::ApiError;
use crate::server::request::{parse_fields, read_json};
use crate::server::response::{self, Body};
use crate::server::state::ServerState;
use crate::workflow::GivenParameters;

pub(in crate::server) use catalog::{list, show};

/// The fields of the body.
const NAMES: [&str; 4] = ["workflow", "parameters", "params", "backend"];

pub(in crate::server) fn endpoints() -> Vec<Endpoint> {
    let path = "/api/anime/workflows/check";
    let check = Endpoint::post("check_workflow", path, "Which servers can run a workflow")
        .needs(&[Scope::Submit])
        .reads::<WorkflowToCheck>()
        .answers::<CheckAnswer<'_>>(200, "What was found of each server.")
        .fails(
            400,
            &[
                "bad_workflow",
                "bad_backend",
                "backend_unknown",
                "label_unknown",
            ],
        )
        .asks_backends();
    let [list, show] = catalog::endpoints();
    vec![list, show, workflow_failures(check)]
}

/// The body of the request.
#[derive(Default, JsonSchema, Deserialize)]
#[serde(default)]
#[schemars(extend("required" = ["workflow"]))]
struct WorkflowToCheck {
    /// A graph in API format, or a name.
    #[schemars(with = "WorkflowChoice")]
    workflow: Option<Value>,
    /// Parameters of a named workflow.
    parameters: Map<String, Value>,
    /// Inputs to set in the graph, by `NODE.INPUT`; or parameters of a named workflow.
    params: Map<String, Value>,
    /// The servers that are asked alone.
    #[schemars(with = "Option<BackendField>")]
    backend: Option<Value>,
}

/// The answer.
#[derive(Debug, JsonSchema, Serialize)]
struct CheckAnswer<'a> {
    /// Whether at least one backend can.
    can_run: bool,
    backends: Vec<BackendCheck<'a>>,
}

/// What was found of one backend.
#[derive(Debug, JsonSchema, Serialize)]
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
    let params = GivenParameters::new(asked.parameters, asked.params);
    let relay = &state.relay;
    let found = relay.check_workflow(workflow, &params, &choices).await?;
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
