//! One method of one path, as the OpenAPI document describes it. Each is described beside the code that serves it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use super::parameter::Parameter;
use super::schemas::Schemas;
use crate::auth::Scope;
use crate::server::error::ErrorBody;

/// The media type of what is described by a schema.
const JSON: &str = "application/json";

/// Makes a reference to a schema.
type Reference = fn(&mut Schemas) -> Value;

/// One method of one path.
pub(in crate::server) struct Endpoint {
    method: &'static str,
    path: &'static str,
    /// The name of the operation in generated clients.
    name: &'static str,
    summary: &'static str,
    /// One of them is needed, where tokens are on; none for what is public.
    scopes: &'static [Scope],
    parameters: Vec<Parameter>,
    body: Option<RequestBody>,
    answers: Vec<DescribedAnswer>,
    /// The codes of errors, by their status.
    errors: BTreeMap<u16, Vec<&'static str>>,
}

/// What a request sends.
struct RequestBody {
    content: BodyContent,
    is_required: bool,
}

/// What a request that succeeds is answered.
struct DescribedAnswer {
    status: u16,
    description: &'static str,
    content: BodyContent,
}

/// The body of a request or an answer.
enum BodyContent {
    Json(Reference),
    /// Anything in this media type.
    Media(&'static str),
    Nothing,
}

impl BodyContent {
    /// By its media type.
    fn describe(&self, schemas: &mut Schemas) -> Map<String, Value> {
        let (media_type, schema) = match self {
            Self::Json(schema) => (JSON, schema(schemas)),
            Self::Media(media_type) => (*media_type, json!({})),
            Self::Nothing => return Map::new(),
        };
        Map::from_iter([(media_type.to_owned(), json!({"schema": schema}))])
    }
}

impl Endpoint {
    /// `GET`, which every such route also takes as `HEAD`.
    pub(in crate::server) fn get(
        name: &'static str,
        path: &'static str,
        summary: &'static str,
    ) -> Self {
        Self::new("get", name, path, summary)
    }

    pub(in crate::server) fn post(
        name: &'static str,
        path: &'static str,
        summary: &'static str,
    ) -> Self {
        Self::new("post", name, path, summary)
    }

    pub(in crate::server) fn delete(
        name: &'static str,
        path: &'static str,
        summary: &'static str,
    ) -> Self {
        Self::new("delete", name, path, summary)
    }

    /// With the errors that every request can have.
    fn new(
        method: &'static str,
        name: &'static str,
        path: &'static str,
        summary: &'static str,
    ) -> Self {
        let endpoint = Self {
            method,
            path,
            name,
            summary,
            scopes: &[],
            parameters: Vec::new(),
            body: None,
            answers: Vec::new(),
            errors: BTreeMap::new(),
        };
        endpoint
            .fails(400, &["unknown_parameter"])
            .fails(403, &["host_not_allowed", "origin_not_allowed"])
            .fails(408, &["head_timeout"])
            .fails(429, &["too_many_requests"])
            .fails(503, &["too_many_connections"])
    }

    /// A token needs one of these scopes.
    pub(in crate::server) fn needs(mut self, scopes: &'static [Scope]) -> Self {
        self.scopes = scopes;
        self.fails(401, &["unauthenticated"])
            .fails(403, &["forbidden"])
    }

    /// It is about the job in the path, which is looked for.
    pub(in crate::server) fn finds_job(self) -> Self {
        self.fails(400, &["bad_job_id"])
            .fails(404, &["job_not_found"])
            .asks_backends()
            .needs_database()
    }

    /// ComfyUI servers are asked.
    pub(in crate::server) fn asks_backends(self) -> Self {
        self.fails(502, &["backend_error"])
            .fails(503, &["backend_unreachable", "backend_held_elsewhere"])
    }

    /// The database is asked.
    pub(in crate::server) fn needs_database(self) -> Self {
        self.fails(503, &["database_unreachable"])
    }

    /// It takes a parameter.
    pub(in crate::server) fn takes(mut self, parameter: Parameter) -> Self {
        self.parameters.push(parameter);
        self
    }

    /// It takes some parameters.
    pub(in crate::server) fn takes_all(mut self, parameters: Vec<Parameter>) -> Self {
        self.parameters.extend(parameters);
        self
    }

    /// It takes a body.
    pub(in crate::server) fn reads<T: JsonSchema>(self) -> Self {
        self.reads_content(BodyContent::Json(Schemas::received::<T>))
            .fails(400, &["bad_json", "unknown_field"])
    }

    /// It takes a body in another media type.
    pub(in crate::server) fn reads_media(self, media_type: &'static str) -> Self {
        self.reads_content(BodyContent::Media(media_type))
    }

    fn reads_content(mut self, content: BodyContent) -> Self {
        self.body = Some(RequestBody {
            content,
            is_required: true,
        });
        self.fails(400, &["body_broken"])
            .fails(408, &["body_timeout"])
            .fails(413, &["body_too_large"])
    }

    /// It takes a body, which may be left out.
    pub(in crate::server) fn may_read<T: JsonSchema>(self) -> Self {
        let mut endpoint = self.reads::<T>();
        if let Some(body) = &mut endpoint.body {
            body.is_required = false;
        }
        endpoint
    }

    /// It is answered with JSON.
    pub(in crate::server) fn answers<T: JsonSchema>(
        self,
        status: u16,
        description: &'static str,
    ) -> Self {
        let content = BodyContent::Json(Schemas::sent::<T>);
        self.answers_with(status, description, content)
    }

    /// It is answered in another media type.
    pub(in crate::server) fn answers_media(
        self,
        status: u16,
        description: &'static str,
        media_type: &'static str,
    ) -> Self {
        let content = BodyContent::Media(media_type);
        self.answers_with(status, description, content)
    }

    /// It is answered without a body.
    pub(in crate::server) fn answers_nothing(self, status: u16, description: &'static str) -> Self {
        self.answers_with(status, description, BodyContent::Nothing)
    }

    fn answers_with(
        mut self,
        status: u16,
        description: &'static str,
        content: BodyContent,
    ) -> Self {
        self.answers.push(DescribedAnswer {
            status,
            description,
            content,
        });
        self
    }

    /// It can fail with one of these codes.
    pub(in crate::server) fn fails(mut self, status: u16, codes: &[&'static str]) -> Self {
        let known = self.errors.entry(status).or_default();
        for code in codes {
            if !known.contains(code) {
                known.push(code);
            }
        }
        self
    }

    /// The path, with its parameters in braces.
    pub(in crate::server) fn path(&self) -> &'static str {
        self.path
    }

    /// The method, in lower case.
    pub(in crate::server) fn method(&self) -> &'static str {
        self.method
    }

    /// The names of the parameters of its query.
    #[cfg(test)]
    pub(in crate::server) fn query_parameters(&self) -> Vec<&'static str> {
        let parameters = self.parameters.iter();
        parameters.filter_map(Parameter::query_name).collect()
    }

    /// Its part of the document, below the heading `tag`.
    pub(super) fn describe(&self, tag: &str, schemas: &mut Schemas) -> Value {
        let parameters = Parameter::of_path(self.path, schemas);
        let parameters = parameters.iter().chain(&self.parameters);
        let parameters: Vec<Value> = parameters.map(Parameter::describe).collect();
        let mut described = json!({
            "operationId": self.name,
            "summary": self.summary,
            "tags": [tag],
            "security": self.security(),
        });
        if !parameters.is_empty() {
            described["parameters"] = parameters.into();
        }
        if let Some(body) = &self.body {
            described["requestBody"] = json!({
                "required": body.is_required,
                "content": body.content.describe(schemas),
            });
        }
        described["responses"] = self.responses(schemas).into();
        described
    }

    /// The credentials that it accepts: none where the relay has no tokens.
    fn security(&self) -> Vec<Value> {
        let mut all = vec![json!({})];
        for scope in self.scopes {
            let schemes = ["bearer", "api_key", "query"];
            all.extend(schemes.map(|scheme| json!({scheme: [scope.as_str()]})));
        }
        all
    }

    fn responses(&self, schemas: &mut Schemas) -> Map<String, Value> {
        let mut responses = Map::new();
        for answer in &self.answers {
            let described = responses
                .entry(answer.status.to_string())
                .or_insert_with(|| json!({"description": answer.description}));
            for (media_type, content) in answer.content.describe(schemas) {
                described["content"][media_type] = content;
            }
        }
        for (status, codes) in &self.errors {
            responses.insert(status.to_string(), error(*status, codes, schemas));
        }
        responses.sort_keys();
        responses
    }
}

/// An answer to a request that fails, with one of these codes.
fn error(status: u16, codes: &[&str], schemas: &mut Schemas) -> Value {
    let listed: Vec<String> = codes.iter().map(|code| format!("`{code}`")).collect();
    let body = schemas.sent::<ErrorBody<'_>>();
    let code = json!({"properties": {"error": {"properties": {"code": {"enum": codes}}}}});
    let mut described = json!({
        "description": listed.join(", "),
        "content": {JSON: {"schema": {"allOf": [body, code]}}},
    });
    if matches!(status, 429 | 503) {
        described["headers"] = json!({
            "Retry-After": {
                "description": "After how many seconds to try again.",
                "required": true,
                "schema": {"type": "integer", "minimum": 1},
            },
        });
    }
    described
}
