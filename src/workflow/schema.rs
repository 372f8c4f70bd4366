//! The parameters of a workflow as a JSON Schema.

use serde_json::{Map, Value, json};

use super::header::{DefaultValue, HeaderParameter, InputTarget, ParameterKind, WorkflowHeader};

/// The dialect.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// The `format` of a text with several lines, and of the name of a picture.
const MULTILINE: &str = "multiline";
const IMAGE: &str = "image";

/// The JSON Schema of the parameters that a workflow takes; one without a header takes none. It accepts what a submission
/// accepts, and nothing else. `offered` says what ComfyUI servers offer for an input: these are examples, because the servers
/// judge them.
pub fn parameters_schema(
    header: Option<&WorkflowHeader>,
    offered: impl Fn(&InputTarget) -> Vec<String>,
) -> Value {
    let parameters = header.map_or(&[][..], |header| &header.parameters);
    let properties: Map<String, Value> = parameters
        .iter()
        .map(|parameter| (parameter.name.clone(), property(parameter, &offered)))
        .collect();
    let required = parameters
        .iter()
        .filter(|parameter| parameter.default == DefaultValue::Required);
    let required: Vec<&str> = required.map(|it| it.name.as_str()).collect();
    json!({
        "$schema": DIALECT,
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn property(parameter: &HeaderParameter, offered: impl Fn(&InputTarget) -> Vec<String>) -> Value {
    let mut schema = Map::new();
    if !parameter.description.is_empty() {
        schema.insert(
            "description".to_owned(),
            parameter.description.clone().into(),
        );
    }
    let own = of_kind(&parameter.kind);
    if parameter.default == DefaultValue::Random {
        let choices = json!([own, {"const": DefaultValue::RANDOM}]);
        schema.insert("anyOf".to_owned(), choices);
    } else {
        schema.extend(own);
    }
    if parameter.kind == ParameterKind::ServerChoice {
        let offered = parameter.targets.first().map(offered).unwrap_or_default();
        if !offered.is_empty() {
            schema.insert("examples".to_owned(), offered.into());
        }
    }
    let default = match &parameter.default {
        DefaultValue::Required | DefaultValue::Absent => None,
        DefaultValue::OfGraph(value) | DefaultValue::Given(value) => Some(value.clone()),
        DefaultValue::Random => Some(DefaultValue::RANDOM.into()),
    };
    schema.extend(default.map(|default| ("default".to_owned(), default)));
    Value::Object(schema)
}

fn of_kind(kind: &ParameterKind) -> Map<String, Value> {
    let mut schema = Map::new();
    let mut add = |key: &str, value: Value| {
        if !value.is_null() {
            schema.insert(key.to_owned(), value);
        }
    };
    match kind {
        ParameterKind::Integer(limits) => {
            let (minimum, maximum, step) = limits.to_json();
            add("type", "integer".into());
            add("minimum", minimum);
            add("maximum", maximum);
            add("multipleOf", step);
        }
        ParameterKind::Number(limits) => {
            add("type", "number".into());
            add("minimum", limits.minimum.into());
            add("maximum", limits.maximum.into());
            add("x-step", limits.step.into());
        }
        ParameterKind::Text {
            max_length,
            is_multiline,
        } => {
            add("type", "string".into());
            add("maxLength", (*max_length).into());
            add("format", is_multiline.then_some(MULTILINE).into());
        }
        ParameterKind::Boolean => add("type", "boolean".into()),
        ParameterKind::Choice(choices) => add("enum", choices.clone().into()),
        ParameterKind::ServerChoice | ParameterKind::Image => {
            add("type", "string".into());
            add("minLength", 1.into());
            let is_image = *kind == ParameterKind::Image;
            add("format", is_image.then_some(IMAGE).into());
        }
    }
    schema
}
