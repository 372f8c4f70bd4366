//! `POST /api/anime/batches`: submits many jobs of one workflow, all or none.

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::auth::{Permissions, Scope};
use crate::job::{JobId, Tags, group_schema, labels_schema};
use crate::relay::{
    AcceptedBatch, BatchProblem, NewBatch, RelayError, Submission, SubmitOptions, Variants,
};
use crate::server::api::idempotency;
use crate::server::api::jobs::prompt_options::PromptFields;
use crate::server::api::jobs::queue_fields::{DEFAULT_RETRIES, QueueFields, share};
use crate::server::api::jobs::submission_failures::submission_failures;
use crate::server::api::webhook_field::{WebhookChoice, webhook};
use crate::server::api::workflow_field::WorkflowChoice;
use crate::server::contract::endpoint::Endpoint;
use crate::server::error::ApiError;
use crate::server::request::{parse_fields, parse_job_id, read_json};
use crate::server::response::{self, Body};
use crate::server::security::PublicAddress;
use crate::server::state::ServerState;
use crate::workflow::GivenParameters;

/// How many jobs a batch has at most.
const MAX_JOBS: usize = 1_000;

/// What is asked for, in the digest of the request.
const KIND: &str = "batch";

/// The fields of the body.
const NAMES: [&str; 17] = [
    "workflow",
    "parameters",
    "params",
    "count",
    "seed",
    "job_ids",
    "group",
    "labels",
    "webhook",
    QueueFields::NAMES[0],
    QueueFields::NAMES[1],
    QueueFields::NAMES[2],
    PromptFields::NAMES[0],
    PromptFields::NAMES[1],
    PromptFields::NAMES[2],
    PromptFields::NAMES[3],
    PromptFields::NAMES[4],
];

/// The body of the request.
#[derive(Default, JsonSchema, Deserialize)]
#[serde(default)]
#[schemars(extend("required" = ["workflow"]))]
struct BatchBody {
    #[schemars(with = "WorkflowChoice")]
    workflow: Option<Value>,
    /// Parameters of a named workflow, for all jobs.
    parameters: Map<String, Value>,
    /// The parameters of each job; with `count`, those of all.
    #[schemars(schema_with = "params_schema")]
    params: Option<Value>,
    /// How many jobs it has, each with another seed.
    #[schemars(with = "Option<usize>", range(min = 1, max = MAX_JOBS))]
    count: Option<Value>,
    /// The seed of the first job, with `count`.
    #[schemars(with = "Option<u64>")]
    seed: Option<Value>,
    /// The ids that its jobs are to have.
    #[schemars(with = "Option<Vec<JobId>>", length(min = 1, max = MAX_JOBS))]
    job_ids: Option<Vec<Value>>,
    #[schemars(schema_with = "group_schema")]
    group: Option<String>,
    #[schemars(schema_with = "labels_schema")]
    labels: Map<String, Value>,
    #[schemars(with = "Option<WebhookChoice>")]
    webhook: Option<Value>,
    #[serde(flatten)]
    queue: QueueFields,
    #[serde(flatten)]
    prompt: PromptFields,
}

/// The parameters of each job, or those of all of them.
fn params_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "anyOf": [
            {"type": "array", "items": {"type": "object"}, "minItems": 1, "maxItems": MAX_JOBS},
            {"type": "object"},
            {"type": "null"},
        ],
    })
}

/// A batch that was accepted.
#[derive(Debug, JsonSchema, Serialize)]
struct BatchAnswer<'a> {
    /// The group of its jobs.
    group: &'a str,
    /// Where the messages of the group come on a WebSocket.
    ws_url: String,
    jobs: Vec<BatchJob<'a>>,
    /// It is the answer to an earlier request.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    replayed: bool,
}

/// A job of a batch.
#[derive(Debug, JsonSchema, Serialize)]
struct BatchJob<'a> {
    job_id: &'a JobId,
    /// ComfyUI's id of the prompt.
    prompt_id: &'a str,
    /// The name of the ComfyUI server.
    backend: &'a str,
    /// Where its messages come on a WebSocket.
    ws_url: String,
}

pub(in crate::server) fn endpoints() -> Vec<Endpoint> {
    let summary = "Submit many jobs of one workflow, all or none";
    let batch = Endpoint::post("submit_batch", "/api/anime/batches", summary)
        .needs(&[Scope::Submit])
        .reads::<BatchBody>()
        .takes(idempotency::parameter())
        .answers::<BatchAnswer<'_>>(201, "The jobs are accepted.")
        .answers::<BatchAnswer<'_>>(
            200,
            "They were, by an earlier request with this key or these ids.",
        )
        .fails(400, &["bad_batch"])
        .fails(409, &["queue_off"]);
    vec![submission_failures(batch)]
}

pub(in crate::server) async fn submit(
    state: &ServerState,
    request: Request<Incoming>,
    address: &PublicAddress,
    permissions: &Permissions,
) -> Result<Response<Body>, ApiError> {
    let key = idempotency::key(request.headers(), permissions)?;
    let body: Map<String, Value> =
        read_json(request.into_body(), state.config.body_timeout).await?;
    let is_named = body.contains_key("job_ids");
    let request = idempotency::request_id(key, KIND, &body, is_named);
    let body: BatchBody = parse_fields(body, &NAMES)?;
    let (count, seed) = (body.count.as_ref(), body.seed.as_ref());
    let variants = variants(body.parameters, body.params, count, seed)?;
    let job_ids = job_ids(body.job_ids, variants.count())?;
    match &job_ids {
        None => permissions.check(Scope::Submit, None)?,
        Some(ids) => {
            for id in ids {
                permissions.check(Scope::Submit, Some(id))?;
            }
        }
    }
    let tags = Tags::of_client(&body.labels, body.group)?;
    let batch = NewBatch {
        workflow: workflow(body.workflow)?,
        variants,
        job_ids,
        options: SubmitOptions {
            backends: body.queue.backends()?,
            priority: body.queue.priority()?,
            retries: body.queue.retries()?.unwrap_or(DEFAULT_RETRIES),
            share: share(&tags, permissions),
            request,
            retry_of: None,
            prompt: body.prompt.options()?,
            webhook: webhook(state, permissions, body.webhook)?,
        },
        tags,
    };
    let accepted = state.relay.submit_batch(batch).await?;
    let status = if accepted.is_replayed {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    Ok(response::json(
        status,
        &BatchAnswer::new(&accepted, address),
    ))
}

fn bad_batch(message: impl Into<String>) -> ApiError {
    ApiError::bad_request("bad_batch", message)
}

fn workflow(workflow: Option<Value>) -> Result<Submission, ApiError> {
    match workflow {
        Some(Value::Object(graph)) => Ok(Submission::Graph(graph)),
        Some(Value::String(name)) => Ok(Submission::Named(name)),
        _ => Err(ApiError::bad_request(
            "bad_workflow",
            "workflow is a graph in API format, or the name of a workflow",
        )),
    }
}

/// In what the jobs differ. All have the parameters `named`.
fn variants(
    named: Map<String, Value>,
    params: Option<Value>,
    count: Option<&Value>,
    seed: Option<&Value>,
) -> Result<Variants, ApiError> {
    let params = match (params, count) {
        (Some(Value::Object(params)), Some(_)) => params,
        (None, Some(_)) => Map::new(),
        (Some(Value::Array(params)), None) => return params_of_each(named, params, seed),
        _ => {
            return Err(bad_batch(
                "give either params, a list with the parameters of each job, or count, with an object of parameters for all",
            ));
        }
    };
    let count = count.and_then(Value::as_u64);
    let count = count.and_then(|count| usize::try_from(count).ok());
    let count = count.filter(|count| (1..=MAX_JOBS).contains(count));
    let count =
        count.ok_or_else(|| bad_batch(format!("count is a whole number from 1 to {MAX_JOBS}")))?;
    let number = |seed: &Value| {
        let seed = seed.as_u64();
        seed.ok_or_else(|| bad_batch(format!("seed is a whole number from 0 to {}", u64::MAX)))
    };
    let first = seed.map(number).transpose()?;
    Ok(Variants::Seeds {
        params: GivenParameters::new(named, params),
        count,
        first,
    })
}

fn params_of_each(
    named: Map<String, Value>,
    params: Vec<Value>,
    seed: Option<&Value>,
) -> Result<Variants, ApiError> {
    if seed.is_some() {
        return Err(bad_batch("seed goes with count, not with a list of params"));
    }
    if (1..=MAX_JOBS).contains(&params.len()) {
        return all_params(named, params);
    }
    Err(bad_batch(format!(
        "params is a list of 1 to {MAX_JOBS} objects, not of {}",
        params.len()
    )))
}

fn all_params(named: Map<String, Value>, params: Vec<Value>) -> Result<Variants, ApiError> {
    let mut problems = Vec::new();
    let mut objects = Vec::new();
    for (index, params) in params.into_iter().enumerate() {
        match params {
            Value::Object(own) => objects.push(own),
            _ => problems.push(BatchProblem {
                index,
                code: "bad_parameter",
                message: "the parameters of a job are an object, such as {\"3.seed\": 7}"
                    .to_owned(),
            }),
        }
    }
    if problems.is_empty() {
        return Ok(Variants::Params {
            shared: named,
            each: objects,
        });
    }
    Err(RelayError::BadBatch { problems }.into())
}

fn job_ids(ids: Option<Vec<Value>>, count: usize) -> Result<Option<Vec<JobId>>, ApiError> {
    let Some(ids) = ids else {
        return Ok(None);
    };
    if ids.len() != count {
        return Err(bad_batch(format!(
            "job_ids has {} ids, and the batch has {count} jobs",
            ids.len()
        )));
    }
    let mut problems = Vec::new();
    let mut parsed: Vec<JobId> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for (index, id) in ids.iter().enumerate() {
        let text = id.as_str().unwrap_or_default();
        let message = match parse_job_id(text) {
            Err(error) => error.message().to_owned(),
            Ok(id) if !seen.insert(id.clone()) => format!("the job id \"{id}\" is there twice"),
            Ok(id) => {
                parsed.push(id);
                continue;
            }
        };
        problems.push(BatchProblem {
            index,
            code: "bad_job_id",
            message,
        });
    }
    if problems.is_empty() {
        return Ok(Some(parsed));
    }
    Err(RelayError::BadBatch { problems }.into())
}

impl<'a> BatchAnswer<'a> {
    fn new(batch: &'a AcceptedBatch, address: &PublicAddress) -> Self {
        let jobs = batch.jobs.iter().map(|job| BatchJob {
            job_id: &job.job_id,
            prompt_id: &job.prompt_id,
            backend: &job.backend,
            ws_url: address.socket_url(&format!("/ws/{}", job.job_id)),
        });
        Self {
            group: &batch.group,
            ws_url: address.socket_url(&format!("/ws/group:{}", batch.group)),
            jobs: jobs.collect(),
            replayed: batch.is_replayed,
        }
    }
}
