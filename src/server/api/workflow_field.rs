//! The field `workflow` of a body: a graph, or the name of one, as its schema describes it.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

/// A graph in API format.
pub(super) enum ApiGraph {}

/// What the field takes.
pub(super) enum WorkflowChoice {}

impl JsonSchema for ApiGraph {
    fn schema_name() -> Cow<'static, str> {
        "ApiGraph".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A graph as ComfyUI exports it with Export (API): nodes by their ids.",
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {
                "type": "object",
                "required": ["class_type"],
                "properties": {
                    "class_type": {"type": "string"},
                    "inputs": {"type": "object"},
                },
                "additionalProperties": true,
            },
        })
    }
}

impl JsonSchema for WorkflowChoice {
    fn schema_name() -> Cow<'static, str> {
        "WorkflowChoice".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let graph = generator.subschema_for::<ApiGraph>();
        json_schema!({
            "description": "A graph, the name of a workflow, or the body of ComfyUI's own `POST /prompt`.",
            "anyOf": [
                {"type": "string"},
                graph,
                {
                    "type": "object",
                    "required": ["prompt"],
                    "properties": {"prompt": graph, "client_id": {}},
                },
            ],
        })
    }
}
