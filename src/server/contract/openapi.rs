//! The OpenAPI document: what can be requested over HTTP.

use serde_json::{Map, Value, json};

use super::endpoint::Endpoint;
use super::schemas::Schemas;
use super::webhook_events;
use crate::server::api::{
    backends, batches, events, health, inputs, jobs, metrics, outputs, preview, probes, queue,
    totals, webhooks, workflows,
};

const DESCRIPTION: &str = "Submit workflows to ComfyUI, and follow each job to its end. The messages on WebSockets and event streams, \
    on Redis and to webhooks are in `/asyncapi.json`.\n\n\
    The schemas are those of this version, exactly. A later one may add fields to what it sends: ignore those that you do not know. \
    Every `GET` is taken as `HEAD` as well, every path takes `OPTIONS`, and a slash at its end makes no difference. The body of an error \
    is the same everywhere; its `code` is stable. Each answer has an `X-Request-Id`.";

/// Every endpoint, below the heading of its part of the document.
pub(in crate::server) fn endpoints() -> Vec<(&'static str, Vec<Endpoint>)> {
    vec![
        ("Jobs", jobs::endpoints()),
        ("Jobs", batches::endpoints()),
        ("Jobs", events::endpoints()),
        ("Files", outputs::endpoints()),
        ("Files", preview::endpoints()),
        ("Workflows", workflows::endpoints()),
        ("Workflows", inputs::endpoints()),
        ("Servers and the queue", backends::endpoints()),
        ("Servers and the queue", queue::endpoints()),
        ("Webhooks", webhooks::endpoints()),
        ("Health", health::endpoints()),
        ("Health", probes::endpoints()),
        ("Health", totals::endpoints()),
        ("Health", metrics::endpoints()),
        ("Documents", own_endpoints()),
    ]
}

/// The documents themselves.
fn own_endpoints() -> Vec<Endpoint> {
    let unchanged = "The client has this one.";
    vec![
        Endpoint::get("openapi", "/openapi.json", "This document")
            .answers::<Map<String, Value>>(200, "An OpenAPI document.")
            .answers_nothing(304, unchanged),
        Endpoint::get(
            "asyncapi",
            "/asyncapi.json",
            "The messages on sockets and streams",
        )
        .answers::<Map<String, Value>>(200, "An AsyncAPI document.")
        .answers_nothing(304, unchanged),
    ]
}

/// The document.
pub(in crate::server) fn document() -> Value {
    let mut schemas = Schemas::of_draft_2020();
    let mut paths: Map<String, Value> = Map::new();
    let mut tags: Vec<Value> = Vec::new();
    for (tag, endpoints) in endpoints() {
        let heading = json!({"name": tag});
        if !tags.contains(&heading) {
            tags.push(heading);
        }
        for endpoint in endpoints {
            let described = endpoint.describe(tag, &mut schemas);
            let path = paths.entry(endpoint.path()).or_insert_with(|| json!({}));
            path[endpoint.method()] = described;
        }
    }
    let webhooks = webhooks_sent(&mut schemas);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": env!("CARGO_PKG_NAME"),
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "tags": tags,
        "paths": paths,
        "webhooks": webhooks,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "query": {"type": "apiKey", "in": "query", "name": "token"},
            },
            "schemas": schemas.into_components(),
        },
    })
}

/// What is sent to webhooks, by the types of events.
fn webhooks_sent(schemas: &mut Schemas) -> Map<String, Value> {
    let bodies = webhook_events::bodies(schemas).into_iter();
    let described = bodies.map(|(event, summary, body)| {
        let described = json!({
            "post": {
                "summary": summary,
                "tags": ["Webhooks"],
                "requestBody": {
                    "required": true,
                    "content": {"application/json": {"schema": body}},
                },
                "responses": {
                    "2XX": {"description": "It is not sent again."},
                    "410": {"description": "Nothing more is sent to this target."},
                },
            },
        });
        (event.to_owned(), described)
    });
    described.collect()
}
