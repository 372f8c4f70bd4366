//! `POST /prompt`: a prompt becomes a job. `GET /prompt`: how many prompts run or wait.

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use serde::Serialize;
use serde_json::{Map, Number, Value};

use super::refusal::{NodeErrors, PromptRefusal, node_errors};
use crate::auth::Scope;
use crate::comfy::{PromptOptions, QueuePlace};
use crate::job::{JobId, Tags};
use crate::relay::{QueueLength, Submission, SubmitOptions, comfy_tags};
use crate::server::api::jobs::queue_fields::share;
use crate::server::error::ApiError;
use crate::server::request::{parse_job_id, read_json};
use crate::server::response::{self, Body};
use crate::server::security::Caller;
use crate::server::state::ServerState;
use crate::workflow::GivenParameters;

/// ComfyUI's answer to a prompt that it takes.
#[derive(Serialize)]
struct TakenPrompt {
    prompt_id: String,
    /// Lower ones run first.
    number: Number,
    /// The errors of outputs that will not run, although others will.
    node_errors: NodeErrors,
}

/// What a body says.
struct NewPrompt {
    graph: Map<String, Value>,
    /// The job of a prompt has its prompt id.
    job_id: Option<JobId>,
    tags: Tags,
    options: PromptOptions,
    number: Option<Number>,
}

/// Submits a prompt through the relay's queue.
pub(super) async fn submit(
    state: &ServerState,
    caller: &Caller,
    request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let permissions = caller.authorize_scopes(&[Scope::Submit])?;
    let body = read_json(request.into_body(), state.config.body_timeout).await?;
    let new = match NewPrompt::of(body) {
        Ok(new) => new,
        Err(refusal) => return Ok(refusal.response()),
    };
    permissions.check(Scope::Submit, new.job_id.as_ref())?;
    let relay = &state.relay;
    let is_first = new.options.goes_to_front();
    let options = SubmitOptions {
        share: share(&new.tags, &permissions),
        prompt: new.options,
        ..SubmitOptions::default()
    };
    let submission = Submission::Graph(new.graph);
    let no_params = GivenParameters::default();
    let submitted = relay.submit(new.job_id, submission, &no_params, new.tags, options);
    let accepted = match submitted.await {
        Ok(accepted) => accepted,
        Err(error) => return Ok(PromptRefusal::answer(error)),
    };
    let number = new.number.unwrap_or_else(|| {
        let number = relay.next_prompt_number();
        if is_first { -number } else { number }.into()
    });
    let taken = TakenPrompt {
        prompt_id: accepted.job_id.to_string(),
        number,
        node_errors: node_errors(accepted.ignored),
    };
    Ok(response::json(StatusCode::OK, &taken))
}

/// How many prompts run or wait, on all servers and in the relay's own queue.
pub(super) fn length(state: &ServerState) -> Response<Body> {
    let length = QueueLength::of(state.relay.prompts_remaining());
    response::json(StatusCode::OK, &length)
}

impl NewPrompt {
    /// Reads a body as ComfyUI does. Fields that it does not know are left out.
    fn of(mut body: Map<String, Value>) -> Result<Self, PromptRefusal> {
        let graph = match body.remove("prompt") {
            Some(Value::Object(graph)) => graph,
            Some(_) => {
                return Err(PromptRefusal::new(
                    "invalid_prompt",
                    "prompt is not an object",
                ));
            }
            None => return Err(PromptRefusal::new("no_prompt", "No prompt provided")),
        };
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        let prompt_id = text("prompt_id").filter(|id| !id.is_empty());
        let job_id = prompt_id.map(parse_job_id).transpose();
        let job_id =
            job_id.map_err(|error| PromptRefusal::new("invalid_prompt_id", error.message()))?;
        let extra_data = match body.get("extra_data") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(extra_data)) => extra_data.clone(),
            Some(_) => {
                return Err(PromptRefusal::new(
                    "invalid_extra_data",
                    "extra_data is not an object",
                ));
            }
        };
        // As ComfyUI does, which keeps it there.
        let client_id = text("client_id").or_else(|| extra_data.get("client_id")?.as_str());
        let tags = comfy_tags(client_id)
            .map_err(|error| PromptRefusal::new("invalid_client_id", error.to_string()))?;
        let number = number(body.get("number"))?;
        let place = match (&number, body.get("front")) {
            (Some(number), _) => QueuePlace::Number(number.clone()),
            (None, Some(Value::Bool(true))) => QueuePlace::Front,
            (None, _) => QueuePlace::Back,
        };
        let targets = targets(body.get("partial_execution_targets"));
        Ok(Self {
            graph,
            job_id,
            tags,
            options: PromptOptions::new(extra_data, targets, place),
            number,
        })
    }
}

/// A number, also as a text, which Python reads as one.
fn number(value: Option<&Value>) -> Result<Option<Number>, PromptRefusal> {
    let parsed = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(_) => None,
    };
    match parsed.and_then(Number::from_f64) {
        Some(number) => Ok(Some(number)),
        None => Err(PromptRefusal::new(
            "invalid_number",
            "number is not a number",
        )),
    }
}

/// The ids of the outputs that are to run; none for all of them.
fn targets(value: Option<&Value>) -> Vec<String> {
    let ids = value.and_then(Value::as_array).into_iter().flatten();
    ids.filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: Value) -> Result<NewPrompt, String> {
        let body = body.as_object().unwrap().clone();
        NewPrompt::of(body).map_err(|refusal| serde_json::to_string(&refusal).unwrap())
    }

    #[test]
    fn a_body_is_read_as_comfyui_reads_it() {
        let body = json!({"prompt": {"1": {}}, "client_id": "editor", "front": true, "number": "3",
            "extra_data": {"a": 1}, "partial_execution_targets": ["9"], "prompt_id": "p", "unknown": 1});
        let new = read(body).unwrap();
        assert_eq!(new.job_id.unwrap().as_str(), "p");
        assert_eq!(new.tags.labels["client_id"], "editor");
        assert_eq!(new.number, Number::from_f64(3.0));
        assert_eq!(new.options.targets(), ["9"]);
        assert!(!new.options.goes_to_front(), "ComfyUI prefers the number");
        let front = read(json!({"prompt": {}, "front": true, "extra_data": {"client_id": "x"}}));
        let front = front.unwrap();
        assert!(front.options.goes_to_front());
        assert_eq!(front.tags.labels["client_id"], "x");
    }

    #[test]
    fn a_wrong_body_is_refused_in_comfyuis_words() {
        for (body, kind) in [
            (json!({}), "no_prompt"),
            (json!({"prompt": []}), "invalid_prompt"),
            (
                json!({"prompt": {}, "prompt_id": "a/b"}),
                "invalid_prompt_id",
            ),
            (
                json!({"prompt": {}, "client_id": "a\nb"}),
                "invalid_client_id",
            ),
            (json!({"prompt": {}, "extra_data": 1}), "invalid_extra_data"),
            (json!({"prompt": {}, "number": "x"}), "invalid_number"),
        ] {
            let refused = read(body).err().unwrap();
            assert!(
                refused.contains(&format!("\"type\":\"{kind}\"")),
                "{refused}"
            );
            assert!(refused.contains("\"node_errors\":{}"), "{refused}");
        }
    }
}
