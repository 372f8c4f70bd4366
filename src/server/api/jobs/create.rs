//! `POST /api/anime/jobs`: submits a workflow, or follows a prompt that ComfyUI has already.

use std::borrow::Cow;

use hyper::body::Incoming;
use hyper::{Request, Response};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::auth::{Permissions, Scope};
use crate::job::{JobId, Tags, group_schema, labels_schema};
use crate::relay::{RelayError, Submission, SubmitOptions};
use crate::server::api::idempotency;
use crate::server::api::jobs::create_answer::CreateAnswer;
use crate::server::api::jobs::prompt_options::PromptFields;
use crate::server::api::jobs::queue_fields::{DEFAULT_RETRIES, QueueFields, share};
use crate::server::api::jobs::submission_failures::submission_failures;
use crate::server::api::webhook_field::{WebhookChoice, webhook};
use crate::server::api::workflow_field::{ApiGraph, WorkflowChoice};
use crate::server::contract::endpoint::Endpoint;
use crate::server::error::ApiError;
use crate::server::request::{parse_fields, parse_job_id, read_json};
use crate::server::response::Body;
use crate::server::security::PublicAddress;
use crate::server::state::ServerState;
use crate::workflow::{self, GivenParameters};

/// The longest prompt id that is followed, in bytes. ComfyUI's own have 36.
const MAX_PROMPT_ID: usize = 200;

/// The fields of the body.
const NAMES: [&str; 16] = [
    "job_id",
    "prompt_id",
    "workflow",
    "parameters",
    "params",
    QueueFields::NAMES[0],
    QueueFields::NAMES[1],
    QueueFields::NAMES[2],
    "labels",
    "group",
    "webhook",
    PromptFields::NAMES[0],
    PromptFields::NAMES[1],
    PromptFields::NAMES[2],
    PromptFields::NAMES[3],
    PromptFields::NAMES[4],
];

/// What is asked for, in the digest of the request.
const KIND: &str = "job";

/// The fields of which a body has one.
const SAYS_WHAT: [&str; 2] = ["prompt_id", "workflow"];

/// The fields of the body of ComfyUI's `POST /prompt` that say what is submitted.
const OF_PROMPT_BODY: [&str; 2] = ["prompt", "client_id"];

/// The answer to a body that is something else.
const WHAT_TO_SEND: &str = "the body is not a job: send {\"workflow\": GRAPH}, where GRAPH is what ComfyUI exports with \
                            Export (API), or {\"prompt_id\": ID} to follow a prompt";

/// The body of the request.
#[derive(Default, JsonSchema, Deserialize)]
#[serde(default)]
#[schemars(extend("anyOf" = [{"required": ["workflow"]}, {"required": ["prompt_id"]}]))]
struct NewJob {
    /// The id that it is to have.
    #[schemars(with = "Option<JobId>")]
    job_id: Option<String>,
    /// The prompt to follow.
    #[schemars(length(min = 1, max = MAX_PROMPT_ID))]
    prompt_id: Option<String>,
    /// The workflow to submit: a graph in API format, or a name.
    #[schemars(with = "Option<WorkflowChoice>")]
    workflow: Option<Value>,
    /// Parameters of a named workflow; `GET /api/anime/workflows` has their schema.
    parameters: Map<String, Value>,
    /// Inputs to set in the graph, by `NODE.INPUT`; or parameters of a named workflow.
    params: Map<String, Value>,
    #[serde(flatten)]
    queue: QueueFields,
    #[schemars(schema_with = "labels_schema")]
    labels: Map<String, Value>,
    #[schemars(schema_with = "group_schema")]
    group: Option<String>,
    #[schemars(with = "Option<WebhookChoice>")]
    webhook: Option<Value>,
    #[serde(flatten)]
    prompt: PromptFields,
}

/// The body, as its schema describes it.
enum JobToCreate {}

impl JsonSchema for JobToCreate {
    fn schema_name() -> Cow<'static, str> {
        "JobToCreate".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let job = generator.subschema_for::<NewJob>();
        let graph = generator.subschema_for::<ApiGraph>();
        json_schema!({
            "description": "A job; or a graph alone, which is submitted as it is; or the body of ComfyUI's own `POST /prompt`.",
            "anyOf": [
                job,
                graph,
                {
                    "type": "object",
                    "required": ["prompt"],
                    "properties": {
                        "prompt": graph,
                        "client_id": {},
                        "extra_data": {"type": "object"},
                        "partial_execution_targets": {"type": "array", "items": {"type": "string"}},
                        "front": {"type": "boolean"},
                        "number": {"type": "number"},
                    },
                },
            ],
        })
    }
}

pub(super) fn endpoint() -> Endpoint {
    let summary = "Submit a workflow, or follow a prompt that ComfyUI has already";
    let create = Endpoint::post("create_job", "/api/anime/jobs", summary)
        .needs(&[Scope::Submit, Scope::Register])
        .reads::<JobToCreate>()
        .takes(idempotency::parameter())
        .answers::<CreateAnswer<'_>>(201, "The job is accepted.")
        .answers::<CreateAnswer<'_>>(
            202,
            "It is accepted, and ComfyUI or the database does not answer yet.",
        )
        .answers::<CreateAnswer<'_>>(
            200,
            "It was made by an earlier request with this key or this id.",
        )
        .fails(400, &["bad_job", "bad_prompt_id"])
        .fails(404, &["prompt_not_found"]);
    submission_failures(create)
}

pub(in crate::server) async fn create(
    state: &ServerState,
    request: Request<Incoming>,
    address: &PublicAddress,
    permissions: &Permissions,
) -> Result<Response<Body>, ApiError> {
    let key = idempotency::key(request.headers(), permissions)?;
    let body: Map<String, Value> =
        read_json(request.into_body(), state.config.body_timeout).await?;
    let is_named = body.contains_key("job_id");
    let request = idempotency::request_id(key, KIND, &body, is_named);
    let new = NewJob::of(body)?;
    let job_id = new.job_id.as_deref().map(parse_job_id).transpose()?;
    let tags = Tags::of_client(&new.labels, new.group)?;
    let submission = submission(new.prompt_id, new.workflow)?;
    let given = new.prompt.given().or(new.queue.given());
    let options = SubmitOptions {
        backends: new.queue.backends()?,
        priority: new.queue.priority()?,
        retries: new.queue.retries()?.unwrap_or(DEFAULT_RETRIES),
        share: share(&tags, permissions),
        request,
        retry_of: None,
        prompt: new.prompt.options()?,
        webhook: webhook(state, permissions, new.webhook)?,
    };
    let params = GivenParameters::new(new.parameters, new.params);
    match &submission {
        Submission::Prompt(prompt_id) => {
            permissions.check_register(job_id.as_ref())?;
            if let Some(name) = given {
                let why = format!("{name} is for a workflow: ComfyUI has this prompt already");
                return Err(ApiError::bad_request("bad_job", why));
            }
            // The same answer as for a prompt that does not exist.
            let jobs = state.relay.jobs_of_prompt(prompt_id);
            if !jobs.iter().all(|job| permissions.is_for(job)) {
                return Err(RelayError::PromptNotFound(prompt_id.clone()).into());
            }
        }
        Submission::Graph(_) | Submission::Named(_) => {
            permissions.check(Scope::Submit, job_id.as_ref())?;
        }
    }
    let accepted = state
        .relay
        .submit(job_id, submission, &params, tags, options)
        .await?;
    Ok(CreateAnswer::new(&accepted, address).response(&accepted))
}

impl NewJob {
    /// A body that is itself a graph, as ComfyUI exports it, or that of ComfyUI's own request, is submitted as one.
    fn of(mut body: Map<String, Value>) -> Result<Self, ApiError> {
        if is_graph(&body) {
            return Ok(Self {
                workflow: Some(Value::Object(body)),
                ..Self::default()
            });
        }
        if workflow::is_prompt_body(&body) && !body.contains_key("workflow") {
            let own = OF_PROMPT_BODY.into_iter();
            let own = own.filter_map(|name| body.remove_entry(name)).collect();
            body.insert("workflow".to_owned(), Value::Object(own));
        }
        let is_known = |name: &String| NAMES.contains(&name.as_str());
        if !SAYS_WHAT.iter().any(|name| body.contains_key(*name)) && !body.keys().all(is_known) {
            return Err(ApiError::bad_request("bad_job", WHAT_TO_SEND));
        }
        parse_fields(body, &NAMES)
    }
}

/// Whether a body is a graph, in API format or in that of ComfyUI's editor.
fn is_graph(body: &Map<String, Value>) -> bool {
    let is_node = |node: &Value| node.get("class_type").is_some();
    let is_api_format = !body.is_empty() && body.values().all(is_node);
    is_api_format || (body.contains_key("nodes") && body.contains_key("links"))
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
