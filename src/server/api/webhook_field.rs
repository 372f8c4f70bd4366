//! The field `webhook` of a submission: where the events of its job are sent.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use crate::auth::{Permissions, Scope};
use crate::config::{parse_threshold, parse_webhook_url};
use crate::job::excerpt;
use crate::relay::JobWebhook;
use crate::server::error::ApiError;
use crate::server::state::ServerState;
use crate::webhook::ApiEvent;

/// How many percentages there are: the multiples of 5 between 0 and 100.
const MAX_PERCENTAGES: usize = 19;

/// The field as clients send it: a URL, or an object.
pub(in crate::server::api) enum WebhookChoice {}

impl JsonSchema for WebhookChoice {
    fn schema_name() -> Cow<'static, str> {
        "WebhookChoice".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let object = generator.subschema_for::<WebhookObject>();
        json_schema!({
            "description": "Where the events of the job are sent: a URL for all but its progress, or an object.",
            "anyOf": [{"type": "string", "format": "uri"}, object],
        })
    }
}

/// The events of a job that a webhook can be sent.
fn event_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["array", "null"],
        "items": {"type": "string", "enum": ApiEvent::OF_JOBS.map(ApiEvent::as_str)},
    })
}

/// The percentages at which a webhook can be sent progress.
fn progress_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": {"type": "integer", "multipleOf": 5, "minimum": 5, "maximum": 95},
        "maxItems": MAX_PERCENTAGES,
    })
}

/// The field as an object.
#[derive(Debug, JsonSchema, Deserialize)]
#[serde(deny_unknown_fields)]
struct WebhookObject {
    /// The target.
    #[schemars(extend("format" = "uri"))]
    url: String,
    /// The events that are sent; all but progress without it.
    #[serde(default)]
    #[schemars(schema_with = "event_schema")]
    events: Option<Vec<String>>,
    /// The percentages at which progress is sent.
    #[serde(default)]
    #[schemars(schema_with = "progress_schema")]
    progress: Vec<u8>,
}

/// The webhook that a submission asks for. Fails if the caller may have none, or it may not be sent there.
pub(in crate::server::api) fn webhook(
    state: &ServerState,
    permissions: &Permissions,
    field: Option<Value>,
) -> Result<Option<JobWebhook>, ApiError> {
    let Some(field) = field else {
        return Ok(None);
    };
    permissions.check_scope(Scope::Webhook)?;
    let object = match field {
        Value::String(url) => WebhookObject {
            url,
            events: None,
            progress: Vec::new(),
        },
        field => serde_json::from_value(field)
            .map_err(|error| bad_webhook(excerpt(&error.to_string()).into_owned()))?,
    };
    if object.progress.len() > MAX_PERCENTAGES {
        let why = format!("progress has more than {MAX_PERCENTAGES} percentages");
        return Err(bad_webhook(why));
    }
    let url: Url = parse_webhook_url(&object.url).map_err(bad_webhook)?;
    let events = object
        .events
        .map(|events| events.iter().map(|it| event(it)).collect());
    let events: Option<Vec<ApiEvent>> = events.transpose()?;
    for percent in &object.progress {
        parse_threshold(&percent.to_string()).map_err(bad_webhook)?;
    }
    if events.as_ref().is_some_and(Vec::is_empty) && object.progress.is_empty() {
        return Err(bad_webhook("it asks for no event"));
    }
    state.relay.check_webhook(&url)?;
    Ok(Some(JobWebhook::new(&url, events, &object.progress)))
}

fn event(word: &str) -> Result<ApiEvent, ApiError> {
    let known = ApiEvent::OF_JOBS
        .into_iter()
        .find(|event| event.as_str() == word);
    known.ok_or_else(|| {
        let known = ApiEvent::OF_JOBS.map(ApiEvent::as_str).join(", ");
        bad_webhook(format!(
            "there is no event {:?}; the events of a job are {known}, and progress is asked for by its percentages",
            excerpt(word)
        ))
    })
}

fn bad_webhook(why: impl Into<String>) -> ApiError {
    let why: String = why.into();
    ApiError::bad_request("bad_webhook", format!("webhook: {why}"))
}
