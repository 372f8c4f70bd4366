//! What the schema of a workflow's parameter says, in words.

use serde_json::Value;

/// How many of many choices are named.
const NAMED_CHOICES: usize = 12;

/// Within which limits a value is, or what it is chosen from.
pub(super) fn limits(schema: &Value) -> Option<String> {
    let schema = schema["anyOf"].get(0).unwrap_or(schema);
    let choices = schema["enum"].as_array().or(schema["examples"].as_array());
    if let Some(choices) = choices {
        let word = |choice: &Value| match choice {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let mut named: Vec<String> = choices.iter().take(NAMED_CHOICES).map(word).collect();
        if choices.len() > NAMED_CHOICES {
            named.push(format!("and {} more", choices.len() - NAMED_CHOICES));
        }
        return Some(named.join(", "));
    }
    match (schema.get("minimum"), schema.get("maximum")) {
        (Some(minimum), Some(maximum)) => Some(format!("{minimum} to {maximum}")),
        (Some(minimum), None) => Some(format!("at least {minimum}")),
        (None, Some(maximum)) => Some(format!("at most {maximum}")),
        (None, None) => None,
    }
}

/// What a parameter takes, in one word.
pub(super) fn type_of(schema: &Value) -> &str {
    let own = schema["anyOf"].get(0).unwrap_or(schema);
    match own["type"].as_str() {
        _ if own["format"] == "image" => "image",
        _ if schema.get("examples").is_some() => "choice",
        Some(word) => word,
        None => "choice",
    }
}

/// What stands for its value in a help.
pub(super) fn value_name(schema: &Value) -> &'static str {
    match type_of(schema) {
        "integer" | "number" => "NUMBER",
        "boolean" => "true|false",
        "image" => "NAME",
        "choice" => "CHOICE",
        _ => "TEXT",
    }
}
