//! What is sent to webhooks, by the types of events.

use serde_json::{Value, json};

use super::schemas::Schemas;
use crate::job::Progress;
use crate::relay::{BackendData, QueueData};
use crate::webhook::{ApiEvent, WebhookBody};

/// The type of each event, when it is sent, and the schema of its body.
pub(super) fn bodies(schemas: &mut Schemas) -> Vec<(&'static str, &'static str, Value)> {
    let job = schemas.sent::<WebhookBody<'_, Progress>>();
    let backend = schemas.sent::<WebhookBody<'_, BackendData<'_>>>();
    let queue = schemas.sent::<WebhookBody<'_, QueueData>>();
    let bodies = ApiEvent::ALL.map(|event| {
        let (summary, body) = match event {
            ApiEvent::JobQueued => ("A job was accepted", &job),
            ApiEvent::JobStarted => ("A job has begun to run", &job),
            ApiEvent::JobProgress => ("A job has passed a percentage that was asked for", &job),
            ApiEvent::JobCompleted => ("A job has completed", &job),
            ApiEvent::JobFailed => ("A job has failed", &job),
            ApiEvent::JobCancelled => ("A job was cancelled", &job),
            ApiEvent::BackendSick => ("A ComfyUI server runs nothing any more", &backend),
            ApiEvent::BackendRecovered => ("A ComfyUI server runs jobs again", &backend),
            ApiEvent::QueueEmpty => ("No job waits any more", &queue),
        };
        let word = json!({"properties": {"type": {"const": event.as_str()}}});
        (event.as_str(), summary, json!({"allOf": [body, word]}))
    });
    bodies.into()
}
