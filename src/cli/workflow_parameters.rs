//! The parameters that a command line gives a workflow, as the schema of the workflow reads them.

use anyhow::anyhow;
use serde_json::{Map, Value};

use super::api_client::ApiClient;
use super::exit_code::WrongSetting;
use super::workflow_file::{GivenWorkflow, json_or_text};
use crate::workflow::{DefaultValue, GivenParameters};

/// The parameter whose flag is that of a batch as well.
pub(super) const SEED: &str = "seed";

/// `NODE.INPUT=VALUE`, or `NAME=VALUE`.
#[derive(Debug, Clone)]
pub(super) struct GivenParam {
    pub(super) name: String,
    /// `None` for a flag alone.
    pub(super) text: Option<String>,
    /// It was given as a flag: an unknown one is a wrong command line.
    pub(super) is_flag: bool,
}

/// Reads `NODE.INPUT=VALUE`, or `NAME=VALUE`.
pub(super) fn parse_param(text: &str) -> Result<GivenParam, String> {
    let (name, text) = text.split_once('=').ok_or(
        "expected NODE.INPUT=VALUE, such as 3.seed=7, or NAME=VALUE for a parameter of the workflow",
    )?;
    Ok(GivenParam {
        name: name.to_owned(),
        text: Some(text.to_owned()),
        is_flag: false,
    })
}

impl GivenParam {
    /// Whether it is an input of a node, and no parameter of the workflow's header.
    pub(super) fn is_input(&self) -> bool {
        !self.is_flag && self.name.contains('.')
    }
}

/// The values of parameters. The relay is asked for the schema of a named workflow only if one of them has a name.
pub(super) async fn read(
    given: Vec<GivenParam>,
    workflow: &GivenWorkflow,
    relay: &ApiClient,
) -> anyhow::Result<GivenParameters> {
    let mut parameters = GivenParameters::default();
    let (inputs, named): (Vec<_>, Vec<_>) = given.into_iter().partition(GivenParam::is_input);
    for GivenParam { name, text, .. } in inputs {
        let value = text.as_deref().map_or(Value::Bool(true), json_or_text);
        parameters.inputs.insert(name, value);
    }
    if named.is_empty() {
        return Ok(parameters);
    }
    let description = workflow.description(relay).await?;
    let none = Map::new();
    let schemas = description["schema"]["properties"].as_object();
    let schemas = schemas.unwrap_or(&none);
    let unknown = named
        .iter()
        .find(|it| it.is_flag && !schemas.contains_key(&it.name));
    if let Some(unknown) = unknown {
        return Err(WrongSetting(unknown_flag(&unknown.name, schemas)).into());
    }
    for GivenParam { name, text, .. } in named {
        let schema = schemas.get(&name).unwrap_or(&Value::Null);
        let value = match text {
            Some(text) => value(text, schema),
            None if schema["type"] == "boolean" => Value::Bool(true),
            None => {
                let why = anyhow!("a value is required for '{}'", flag_of(&name));
                return Err(WrongSetting(why).into());
            }
        };
        parameters.named.insert(name, value);
    }
    Ok(parameters)
}

/// A flag that neither the program nor the workflow knows.
fn unknown_flag(name: &str, schemas: &Map<String, Value>) -> anyhow::Error {
    let known: Vec<String> = schemas.keys().map(|name| flag_of(name)).collect();
    let known = match known.as_slice() {
        [] => "the workflow has no parameters of its own".to_owned(),
        known => format!("the parameters of the workflow are {}", known.join(", ")),
    };
    let hint = if name == SEED {
        "; for seeds of many jobs, give --count as well"
    } else {
        ""
    };
    anyhow!(
        "unexpected argument '{}' found; {known}{hint}",
        flag_of(name)
    )
}

fn flag_of(name: &str) -> String {
    format!("--{}", name.replace('_', "-"))
}

/// The value that a text stands for. What is not of the parameter's type is a text, which the relay refuses with all else that is
/// wrong.
fn value(text: String, schema: &Value) -> Value {
    let is_text = match (&schema["type"], &schema["enum"], &schema["anyOf"]) {
        (Value::String(word), _, _) => word == "string",
        (_, Value::Array(choices), _) => choices.contains(&Value::from(text.as_str())),
        (_, _, Value::Array(_)) => text == DefaultValue::RANDOM,
        // The workflow has no such parameter.
        _ => false,
    };
    if is_text {
        return Value::String(text);
    }
    json_or_text(&text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_are_values_of_the_type_that_the_schema_has() {
        let seed = json!({"anyOf": [{"type": "integer"}, {"const": "random"}]});
        for (text, schema, wanted) in [
            ("7", json!({"type": "string"}), json!("7")),
            ("007", json!({"type": "integer"}), json!("007")),
            ("7", json!({"type": "integer"}), json!(7)),
            ("true", json!({"type": "boolean"}), json!(true)),
            ("2", json!({"enum": [2, 4]}), json!(2)),
            ("2", json!({"enum": ["2", "4"]}), json!("2")),
            ("random", seed.clone(), json!("random")),
            ("5", seed, json!(5)),
            ("x", Value::Null, json!("x")),
        ] {
            assert_eq!(value(text.to_owned(), &schema), wanted, "{text} {schema}");
        }
    }
}
