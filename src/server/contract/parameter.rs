//! The parameters of an operation, as its document describes them.

use serde_json::{Value, json};

use super::schemas::Schemas;
use crate::job::JobId;

/// A parameter of a path, of a query, or a header.
pub(in crate::server) struct Parameter {
    name: &'static str,
    place: &'static str,
    description: &'static str,
    schema: Value,
    /// Whether several values have commas between them; if not, the parameter is repeated.
    is_list: bool,
}

impl Parameter {
    /// A parameter of a query.
    pub(in crate::server) fn query(
        name: &'static str,
        description: &'static str,
        schema: Value,
    ) -> Self {
        Self {
            name,
            place: "query",
            description,
            schema,
            is_list: false,
        }
    }

    /// A text in a query.
    pub(in crate::server) fn text(name: &'static str, description: &'static str) -> Self {
        Self::query(name, description, json!({"type": "string"}))
    }

    /// A switch in a query.
    pub(in crate::server) fn flag(name: &'static str, description: &'static str) -> Self {
        let words = json!({"type": "string", "enum": ["1", "true", "0", "false"]});
        Self::query(name, description, words)
    }

    /// A moment in a query.
    pub(in crate::server) fn moment(name: &'static str, description: &'static str) -> Self {
        let moment = json!({"type": "string", "format": "date-time"});
        Self::query(name, description, moment)
    }

    /// A whole number in a query, from `least` to `most`.
    pub(in crate::server) fn number(
        name: &'static str,
        description: &'static str,
        least: usize,
        most: usize,
    ) -> Self {
        let number = json!({"type": "integer", "minimum": least, "maximum": most});
        Self::query(name, description, number)
    }

    /// A header.
    pub(in crate::server) fn header(
        name: &'static str,
        description: &'static str,
        schema: Value,
    ) -> Self {
        Self {
            place: "header",
            ..Self::query(name, description, schema)
        }
    }

    /// The same, with commas between several values.
    pub(in crate::server) fn with_commas(self) -> Self {
        Self {
            is_list: true,
            ..self
        }
    }

    /// The parameters of a path: what stands in braces.
    pub(super) fn of_path(path: &'static str, schemas: &mut Schemas) -> Vec<Self> {
        let parts = path.split('/');
        let names = parts.filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let parameters = names.map(|name| {
            let (description, schema) = match name {
                "job_id" => (
                    "The id of a job, of a group as `group:NAME`, or of a prompt of ComfyUI.",
                    schemas.received::<JobId>(),
                ),
                "n" => (
                    "The place of the file or text in the list of the job's outputs, from 0.",
                    json!({"type": "integer", "minimum": 0}),
                ),
                "workflow" => (
                    "The name of a workflow in the folder, percent-encoded.",
                    json!({"type": "string", "minLength": 1}),
                ),
                _ => (
                    "The name of a ComfyUI server, percent-encoded.",
                    json!({"type": "string", "minLength": 1}),
                ),
            };
            Self {
                place: "path",
                ..Self::query(name, description, schema)
            }
        });
        parameters.collect()
    }

    /// Whether it belongs to the query, under which name.
    #[cfg(test)]
    pub(super) fn query_name(&self) -> Option<&'static str> {
        (self.place == "query").then_some(self.name)
    }

    /// Its name, and its schema as that of a property.
    pub(super) fn property(&self) -> (String, Value) {
        let mut schema = self.schema.clone();
        schema["description"] = self.description.into();
        (self.name.to_owned(), schema)
    }

    /// Its part of the document.
    pub(super) fn describe(&self) -> Value {
        let mut described = json!({
            "name": self.name,
            "in": self.place,
            "description": self.description,
            "schema": self.schema,
        });
        if self.place == "path" {
            described["required"] = true.into();
        }
        if self.place == "query" {
            // An empty one counts as left out.
            described["allowEmptyValue"] = true.into();
        }
        if self.is_list {
            described["explode"] = false.into();
        }
        described
    }
}
