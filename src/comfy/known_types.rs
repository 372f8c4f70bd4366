//! Fields of unexpected types in what ComfyUI sends: each is read on its own, so that one hides no other.

use serde_json::{Map, Number, Value};

/// The fields by which a message is applied. Without one of them, it would be applied to another prompt, or mean
/// something else.
const KEYS: [&str; 2] = ["prompt_id", "node"];

/// A field's text. Ids are numbers in some messages; texts of several lines are lists.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Array(lines) => {
            let lines: Option<Vec<String>> = lines.iter().map(text).collect();
            lines.map(|lines| lines.join(" "))
        }
        _ => None,
    }
}

/// The message with every field of its data as it is read, without those that cannot be read. `None` if that makes
/// another message of it.
pub(super) fn with_known_types(mut message: Value) -> Option<Value> {
    let data = message.get_mut("data")?.as_object_mut()?;
    let is_unreadable = |key: &str| match data.get(key) {
        None | Some(Value::Null) => false,
        Some(value) => !(value.is_string() || value.is_number()),
    };
    if KEYS.into_iter().any(is_unreadable) {
        return None;
    }
    *data = known_fields(std::mem::take(data));
    Some(message)
}

fn known_fields(fields: Map<String, Value>) -> Map<String, Value> {
    let known = fields.into_iter().filter_map(|(name, value)| {
        let value = known_type(&name, value)?;
        Some((name, value))
    });
    known.collect()
}

/// The value of a field in the type in which it is read; `None` if it has none.
fn known_type(name: &str, value: Value) -> Option<Value> {
    match (name, value) {
        (_, Value::Null) => None,
        ("value" | "max", value) => number(&value).map(Value::Number),
        ("queue_remaining", value) => value.is_u64().then_some(value),
        ("status" | "exec_info", Value::Object(fields)) => {
            Some(Value::Object(known_fields(fields)))
        }
        ("status" | "exec_info", _) => None,
        // The nodes of a `progress_state`.
        ("nodes", Value::Object(nodes)) => {
            let nodes = nodes.into_iter().filter_map(|(id, node)| match node {
                Value::Object(fields) => Some((id, Value::Object(known_fields(fields)))),
                _ => None,
            });
            Some(Value::Object(nodes.collect()))
        }
        // Those of an `execution_cached`.
        ("nodes", Value::Array(ids)) => {
            let ids = ids.iter().filter(|id| !id.is_array()).filter_map(text);
            Some(ids.map(Value::String).collect())
        }
        ("nodes", _) => None,
        ("output", value) => Some(value),
        (_, value) => text(&value).map(Value::String),
    }
}

fn number(value: &Value) -> Option<Number> {
    match value {
        Value::Number(number) => Some(number.clone()),
        Value::String(text) => Number::from_f64(text.trim().parse().ok()?),
        _ => None,
    }
}
