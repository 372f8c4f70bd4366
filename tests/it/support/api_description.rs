//! The OpenAPI document, by which answers are checked.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::sync::{LazyLock, Mutex};

use jsonschema::Validator;
use reqwest::Method;
use serde_json::{Map, Value};

static KEPT: LazyLock<ApiDescription> = LazyLock::new(|| {
    let text = fs::read_to_string("docs/openapi.json").unwrap();
    ApiDescription::new(serde_json::from_str(&text).unwrap())
});

/// The OpenAPI document.
pub(crate) struct ApiDescription {
    document: Value,
    /// By the pointers of schemas in the document.
    validators: Mutex<HashMap<String, &'static Validator>>,
}

/// One answer of the relay.
pub(crate) struct GivenAnswer<'a> {
    pub(crate) method: &'a Method,
    /// The path, without a query.
    pub(crate) path: &'a str,
    pub(crate) status: u16,
    pub(crate) content_type: &'a str,
    pub(crate) body: &'a [u8],
}

impl ApiDescription {
    /// The one in `docs`, which is what the relay serves: another test compares them.
    pub(crate) fn kept() -> &'static Self {
        &KEPT
    }

    pub(crate) fn new(document: Value) -> Self {
        Self {
            document,
            validators: Mutex::default(),
        }
    }

    /// The name of every operation.
    pub(crate) fn operations(&self) -> BTreeSet<String> {
        let paths = self.document["paths"].as_object().unwrap();
        let operations = paths
            .values()
            .flat_map(|path| path.as_object().unwrap().values());
        let names = operations.map(|operation| operation["operationId"].as_str().unwrap());
        names.map(str::to_owned).collect()
    }

    /// Checks an answer. Returns the name of the operation, if the path belongs to one.
    pub(crate) fn check(&self, answer: &GivenAnswer<'_>) -> Result<Option<String>, String> {
        let Some((path, operations)) = self.path(answer.path) else {
            return Ok(None);
        };
        let method = answer.method.as_str().to_lowercase();
        let Some(operation) = operations.get(&method) else {
            return Ok(None);
        };
        let name = operation["operationId"].as_str().unwrap().to_owned();
        let status = answer.status.to_string();
        let response = operation["responses"].get(&status);
        let response = response.ok_or_else(|| format!("{name}: {status} is not documented"))?;
        let Some(content) = response.get("content").and_then(Value::as_object) else {
            let is_empty = answer.body.is_empty();
            return is_empty
                .then_some(Some(name.clone()))
                .ok_or_else(|| format!("{name}: {status} has a body"));
        };
        let media_type = answer.content_type.split(';').next().unwrap_or_default();
        let is_documented = |known: &str| {
            let known = known.split(';').next().unwrap_or_default();
            known == media_type || known == "*/*"
        };
        if !content.keys().any(|known| is_documented(known)) {
            let kind = answer.content_type;
            return Err(format!("{name}: {status} in {kind} is not documented"));
        }
        if media_type == "application/json" && content.contains_key(media_type) {
            let pointer = [
                "paths",
                path,
                &method,
                "responses",
                &status,
                "content",
                media_type,
                "schema",
            ];
            self.check_body(&pointer, answer.body)
                .map_err(|why| format!("{name}: {status}: {why}"))?;
        }
        Ok(Some(name))
    }

    /// The template of a path, and its operations. Names before what is in braces.
    fn path(&self, path: &str) -> Option<(&str, &Map<String, Value>)> {
        let paths = self.document["paths"].as_object().unwrap();
        let matching = paths.iter().filter(|(template, _)| is_at(template, path));
        let best = matching.min_by_key(|(template, _)| template.matches('{').count());
        best.map(|(template, operations)| (template.as_str(), operations.as_object().unwrap()))
    }

    fn check_body(&self, pointer: &[&str], body: &[u8]) -> Result<(), String> {
        let body: Value = serde_json::from_slice(body).map_err(|why| why.to_string())?;
        let validator = self.validator(pointer);
        let problems: Vec<String> = validator
            .iter_errors(&body)
            .map(|problem| format!("{problem} at {:?}", problem.instance_path().to_string()))
            .collect();
        if problems.is_empty() {
            return Ok(());
        }
        Err(format!("{} in {body}", problems.join("; ")))
    }

    /// The validator of a schema of the document. It is made once for all tests of a process.
    fn validator(&self, pointer: &[&str]) -> &'static Validator {
        let escaped = pointer
            .iter()
            .map(|part| part.replace('~', "~0").replace('/', "~1"));
        let pointer = escaped.fold(String::new(), |all, part| all + "/" + &part);
        let mut validators = self.validators.lock().unwrap();
        validators.entry(pointer.clone()).or_insert_with(|| {
            let mut schema = self.document.pointer(&pointer).unwrap().clone();
            schema["components"] = self.document["components"].clone();
            let options = jsonschema::draft202012::options().should_validate_formats(true);
            Box::leak(Box::new(options.build(&schema).unwrap()))
        })
    }
}

/// Whether a path is one of a template.
fn is_at(template: &str, path: &str) -> bool {
    let path = path.trim_end_matches('/');
    let (wanted, found): (Vec<&str>, Vec<&str>) =
        (template.split('/').collect(), path.split('/').collect());
    wanted.len() == found.len()
        && wanted
            .iter()
            .zip(&found)
            .all(|(wanted, found)| wanted == found || wanted.starts_with('{'))
}
