//! `POST /api/anime/jobs/{job_id}/retry`: runs an ended job again, under a new id.

use hyper::body::Incoming;
use hyper::{Request, Response};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::auth::{Permissions, Scope};
use crate::job::JobId;
use crate::relay::RetryOptions;
use crate::server::api::idempotency;
use crate::server::api::jobs::create_answer::CreateAnswer;
use crate::server::api::jobs::queue_fields::QueueFields;
use crate::server::api::jobs::submission_failures::queue_failures;
use crate::server::contract::endpoint::Endpoint;
use crate::server::error::ApiError;
use crate::server::request::{parse_fields, parse_job_id, read_json_or_nothing};
use crate::server::response::Body;
use crate::server::security::PublicAddress;
use crate::server::state::ServerState;

/// The fields of the body.
const NAMES: [&str; 4] = [
    "job_id",
    QueueFields::NAMES[0],
    QueueFields::NAMES[1],
    QueueFields::NAMES[2],
];

/// The body of the request, which may be left out.
#[derive(Default, JsonSchema, Deserialize)]
#[serde(default)]
struct Retry {
    /// The id that the new job is to have.
    #[schemars(with = "Option<JobId>")]
    job_id: Option<String>,
    #[serde(flatten)]
    queue: QueueFields,
}

pub(super) fn endpoint() -> Endpoint {
    let path = "/api/anime/jobs/{job_id}/retry";
    let retry = Endpoint::post("retry", path, "Run an ended job again, under a new id")
        .needs(&[Scope::Submit])
        .may_read::<Retry>()
        .takes(idempotency::parameter())
        .answers::<CreateAnswer<'_>>(201, "The new job.")
        .answers::<CreateAnswer<'_>>(202, "It is accepted, and not written yet.")
        .answers::<CreateAnswer<'_>>(200, "It was made by an earlier request.")
        .fails(404, &["job_not_found"])
        .fails(409, &["job_open", "keys_gone"])
        .fails(410, &["workflow_unavailable"]);
    queue_failures(retry)
}

pub(in crate::server) async fn retry(
    state: &ServerState,
    job: &JobId,
    request: Request<Incoming>,
    address: &PublicAddress,
    permissions: &Permissions,
) -> Result<Response<Body>, ApiError> {
    let key = idempotency::key(request.headers(), permissions)?;
    let body: Map<String, Value> =
        read_json_or_nothing(request.into_body(), state.config.body_timeout).await?;
    let kind = format!("retry {job}");
    let request = idempotency::request_id(key, &kind, &body, body.contains_key("job_id"));
    let new: Retry = parse_fields(body, &NAMES)?;
    let job_id = new.job_id.as_deref().map(parse_job_id).transpose()?;
    permissions.check(Scope::Submit, job_id.as_ref())?;
    let backends = new.queue.backends()?;
    let changes = RetryOptions {
        job_id,
        backends: Some(backends).filter(|backends| !backends.is_empty()),
        priority: new.queue.given_priority()?,
        retries: new.queue.retries()?,
        share: permissions.sub().map(|sub| sub.to_string()),
        request,
    };
    state.relay.lookup(job).await?;
    let accepted = state.relay.retry(job, changes).await?;
    let answer = CreateAnswer::new(&accepted, address).repeating(job);
    Ok(answer.response(&accepted))
}
