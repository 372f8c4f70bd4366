//! `GET /api/anime/workflows`: the workflows of the folder, and what parameters they take.

use hyper::{Response, StatusCode};
use percent_encoding::percent_decode_str;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::auth::Scope;
use crate::server::contract::endpoint::Endpoint;
use crate::server::error::ApiError;
use crate::server::response::{self, Body};
use crate::server::state::ServerState;
use crate::workflow::{HeaderProblem, NamedWorkflow, WorkflowError, parameters_schema};

/// The answer to `GET /api/anime/workflows`.
#[derive(Debug, JsonSchema, Serialize)]
struct WorkflowList<'a> {
    /// Those that can be submitted, by their names.
    workflows: Vec<WorkflowView<'a>>,
    /// Those that cannot.
    broken: Vec<BrokenWorkflow<'a>>,
}

/// A workflow that can be submitted by its name.
#[derive(Debug, JsonSchema, Serialize)]
struct WorkflowView<'a> {
    name: &'a str,
    /// What it is called; its name if it has no header.
    title: &'a str,
    /// What it does; may be empty.
    description: &'a str,
    /// Whether it has a header, and so parameters with names.
    has_header: bool,
    /// The JSON Schema of `parameters` in a submission.
    schema: Value,
    /// The graph in API format, where a single workflow is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    workflow: Option<&'a Map<String, Value>>,
}

/// A workflow of the folder that cannot be submitted.
#[derive(Debug, JsonSchema, Serialize)]
struct BrokenWorkflow<'a> {
    name: &'a str,
    /// The code with which a submission fails.
    code: &'static str,
    /// What is wrong.
    message: String,
    /// What is wrong with its header, and where.
    header: &'a [HeaderProblem],
}

pub(super) fn endpoints() -> [Endpoint; 2] {
    let (all, one) = ("/api/anime/workflows", "/api/anime/workflows/{workflow}");
    let list = Endpoint::get("workflows", all, "The workflows that have names")
        .needs(&[Scope::Submit])
        .answers::<WorkflowList<'_>>(200, "All of them, with their parameters.");
    let show = Endpoint::get("named_workflow", one, "One workflow that has a name")
        .needs(&[Scope::Submit])
        .answers::<WorkflowView<'_>>(200, "The workflow, with its graph.")
        .fails(
            400,
            &[
                "bad_workflow_name",
                "bad_json",
                "editor_format",
                "not_api_format",
            ],
        )
        .fails(404, &["workflow_not_found"])
        .fails(500, &["workflow_unreadable", "bad_header"]);
    [list, show]
}

pub(in crate::server) async fn list(state: &ServerState) -> Response<Body> {
    let all = state.relay.workflows().await;
    let mut list = WorkflowList {
        workflows: Vec::new(),
        broken: Vec::new(),
    };
    for (name, workflow) in &all {
        match workflow {
            Ok(workflow) => list.workflows.push(WorkflowView::of(state, name, workflow)),
            Err(error) => list.broken.push(BrokenWorkflow {
                name,
                code: error.code(),
                message: error.to_string(),
                header: match error {
                    WorkflowError::Header { problems, .. } => problems,
                    _ => &[],
                },
            }),
        }
    }
    response::json(StatusCode::OK, &list)
}

/// `segment` is the name, percent-encoded.
pub(in crate::server) async fn show(
    state: &ServerState,
    segment: &str,
) -> Result<Response<Body>, ApiError> {
    let name = percent_decode_str(segment).decode_utf8_lossy();
    let workflow = state.relay.named_workflow(&name).await?;
    let short = name.strip_suffix(".json").unwrap_or(&name);
    let mut view = WorkflowView::of(state, short, &workflow);
    view.workflow = Some(&workflow.graph);
    Ok(response::json(StatusCode::OK, &view))
}

impl<'a> WorkflowView<'a> {
    fn of(state: &ServerState, name: &'a str, workflow: &'a NamedWorkflow) -> Self {
        let header = workflow.header.as_ref();
        Self {
            name,
            title: header.map_or(name, |header| &header.title),
            description: header.map_or("", |header| &header.description),
            has_header: header.is_some(),
            schema: parameters_schema(header, |target| state.relay.offered(target)),
            workflow: None,
        }
    }
}
