//! The AsyncAPI document: the messages on sockets and event streams, on Redis and to webhooks.

use serde_json::{Map, Value, json};

use super::channel::ChannelDescription;
use super::parameter::Parameter;
use super::schemas::Schemas;
use super::webhook_events;
use crate::job::{NewReport, Progress};
use crate::relay::SystemStatus;
use crate::server::selection;
use crate::session::{ClientMessage, PreviewHead, ServerMessage};
use crate::webhook::ApiEvent;

const DESCRIPTION: &str = "The messages by which jobs are followed. What is requested over HTTP is in `/openapi.json`.\n\n\
    Each message on a socket is one JSON object with a `type`. The schemas are those of this version, exactly: a later one may add fields \
    and types, so ignore those that you do not know. A client that reads slowly skips states, never the newest and never the final one.";

/// What a socket of one job sends.
const OF_A_JOB: &[&str] = &[
    "connection",
    "progress",
    "error",
    "ping",
    "pong",
    "auth",
    "preview",
];

/// What an event stream sends.
const OF_A_STREAM: &[&str] = &["connection", "progress", "error", "ping"];

/// What a client may send on each socket.
const OF_A_CLIENT: &[&str] = &["client_ping", "client_pong", "client_auth"];

/// What a client may also send on the socket of a job.
const OF_A_SUBSCRIBER: &[&str] = &[
    "client_ping",
    "client_pong",
    "client_auth",
    "client_subscribe",
    "client_unsubscribe",
    "client_cancel",
];

/// The document.
pub(in crate::server) fn document() -> Value {
    let mut schemas = Schemas::of_draft_7();
    let mut messages = Map::new();
    let progress = message("The state of a job", schemas.sent::<Progress>());
    messages.insert("progress".to_owned(), progress);
    let status = message("The relay as a whole", schemas.sent::<SystemStatus>());
    messages.insert("system_status".to_owned(), status);
    messages.insert("preview".to_owned(), preview(&mut schemas));
    let report = message(
        "A report on a job that ComfyUI does not run",
        schemas.received::<NewReport>(),
    );
    messages.insert("report".to_owned(), report);
    for (event, summary, body) in webhook_events::bodies(&mut schemas) {
        messages.insert(event.to_owned(), message(summary, body));
    }
    schemas.sent::<ServerMessage<'_>>();
    schemas.received::<ClientMessage>();
    let mut components = schemas.into_components();
    messages.extend(split(&mut components, "ServerMessage", ""));
    messages.extend(split(&mut components, "ClientMessage", "client_"));
    messages.sort_keys();
    let described = channels();
    let operations = described.iter().flat_map(ChannelDescription::operations);
    let operations: Map<String, Value> = operations.collect();
    let channels = described.iter().map(ChannelDescription::describe);
    let channels: Map<String, Value> = channels.collect();
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": env!("CARGO_PKG_NAME"),
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": servers(),
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": components},
    })
}

/// Where the channels are.
fn servers() -> Value {
    json!({
        "sockets": {
            "host": "127.0.0.1:8328",
            "protocol": "ws",
            "description": "The relay, over WebSockets.",
        },
        "streams": {
            "host": "127.0.0.1:8328",
            "protocol": "http",
            "description": "The relay, over Server-Sent Events: the same messages, each as `data`.",
        },
        "redis": {
            "host": "127.0.0.1:6379",
            "protocol": "redis",
            "description": "Redis, where the relay is set up with it.",
        },
        "target": {
            "host": "studio.example",
            "protocol": "https",
            "description": "The target of webhooks, which gets each message as a `POST`, signed by Standard Webhooks.",
        },
    })
}

fn channels() -> Vec<ChannelDescription> {
    let closing = json!({"type": "string", "enum": ["end"]});
    let of_a_job = || {
        vec![
            Parameter::flag("previews", "Preview images as well."),
            Parameter::query(
                "close",
                "Close the socket right after the end.",
                closing.clone(),
            ),
        ]
    };
    let mut of_a_feed = selection::parameters();
    of_a_feed.push(Parameter::flag("previews", "Preview images as well."));
    of_a_feed.push(selection::interval());
    vec![
        ChannelDescription::socket("job", "/ws/{job_id}", "One job")
            .takes(of_a_job())
            .sends(OF_A_JOB)
            .receives(OF_A_SUBSCRIBER),
        ChannelDescription::socket("group", "/ws/group:{name}", "All jobs of a group as one")
            .takes(of_a_job())
            .sends(OF_A_JOB)
            .receives(OF_A_SUBSCRIBER),
        ChannelDescription::socket("jobs", "/ws/jobs", "All jobs that match")
            .takes(of_a_feed)
            .sends(OF_A_JOB)
            .receives(OF_A_CLIENT),
        ChannelDescription::socket("monitor", "/ws/monitor", "The relay as a whole")
            .sends(&[
                "connection",
                "system_status",
                "error",
                "ping",
                "pong",
                "auth",
            ])
            .receives(OF_A_CLIENT),
        ChannelDescription::stream("job_events", "/api/anime/jobs/{job_id}/events", "One job")
            .sends(OF_A_STREAM),
        ChannelDescription::stream("events", "/api/anime/jobs/events", "All jobs that match")
            .sends(OF_A_STREAM),
        ChannelDescription::redis("redis", "anime_progress:{job_id}", "The states of a job")
            .sends(&["progress"]),
        ChannelDescription::redis(
            "redis_in",
            "anime_progress_in:{job_id}",
            "Reports on a job, where the relay is set up to take them",
        )
        .receives(&["report"]),
        ChannelDescription::webhooks("webhooks", "What happens to jobs, servers and the queue")
            .sends(&ApiEvent::ALL.map(ApiEvent::as_str)),
    ]
}

fn message(summary: &str, payload: Value) -> Value {
    json!({"summary": summary, "payload": payload})
}

/// The binary message, which has its head in front of the image.
fn preview(schemas: &mut Schemas) -> Value {
    json!({
        "summary": "A preview image",
        "description": "A binary message: the length of the head in bytes, as 4 bytes, big-endian; the head, which is JSON with the fields of \
            `headers`; the image.",
        "contentType": "application/octet-stream",
        "headers": schemas.sent::<PreviewHead<'_>>(),
        "payload": {"type": "string", "format": "binary"},
    })
}

/// Makes a schema of its own of each message of an enum, by the word in its `type`. Returns the messages.
fn split(components: &mut Map<String, Value>, name: &str, prefix: &str) -> Vec<(String, Value)> {
    let all = components.shift_remove(name).unwrap_or_default();
    let variants = all["oneOf"].as_array().cloned().unwrap_or_default();
    let messages = variants.into_iter().map(|schema| {
        let word = schema["properties"]["type"]["const"].as_str();
        let key = format!("{prefix}{}", word.unwrap_or_default());
        let summary = schema["description"].as_str().unwrap_or_default();
        let summary = summary
            .split(['.', ';', ':'])
            .next()
            .unwrap_or_default()
            .to_owned();
        let reference = json!({"$ref": format!("#/components/schemas/{key}")});
        components.insert(key.clone(), schema);
        (key, message(&summary, reference))
    });
    messages.collect()
}
