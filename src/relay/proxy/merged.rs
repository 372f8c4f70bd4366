//! What servers say of themselves, as though they were one.

use std::collections::HashSet;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};

use crate::relay::{Relay, RelayError};

/// The parts of a class's `input` that hold inputs.
const INPUTS: [&str; 2] = ["required", "optional"];

impl Relay {
    /// The node classes that at least one server has, with the choices that at least one has; of one class alone, if one is named.
    ///
    /// # Errors
    ///
    /// If no server answers.
    pub async fn object_info(&self, class: Option<&str>) -> Result<Map<String, Value>, RelayError> {
        let path = match class {
            Some(class) => {
                let encoded = utf8_percent_encode(class, NON_ALPHANUMERIC);
                format!("/object_info/{encoded}")
            }
            None => "/object_info".to_owned(),
        };
        let mut merged = Map::new();
        for answer in self.ask_all(&path, None).await? {
            let Value::Object(classes) = answer.json else {
                continue;
            };
            for (name, class) in classes {
                match merged.get_mut(&name) {
                    Some(known) => add_choices(known, &class),
                    None => drop(merged.insert(name, class)),
                }
            }
        }
        Ok(merged)
    }

    /// What the first server says of its system, with the devices of all.
    ///
    /// # Errors
    ///
    /// If no server answers.
    pub async fn system_stats(&self) -> Result<Value, RelayError> {
        let mut answers = self.ask_all("/system_stats", None).await?.into_iter();
        let mut stats = answers.next().map(|answer| answer.json).unwrap_or_default();
        for mut other in answers {
            let devices = other.json.get_mut("devices").map(Value::take);
            let known = stats.get_mut("devices").and_then(Value::as_array_mut);
            if let (Some(known), Some(Value::Array(mut devices))) = (known, devices) {
                known.append(&mut devices);
            }
        }
        Ok(stats)
    }
}

/// Adds the choices of another server's class to those of the same class.
fn add_choices(class: &mut Value, other: &Value) {
    for part in INPUTS {
        let known = class.get_mut("input").and_then(|input| input.get_mut(part));
        let Some(known) = known.and_then(Value::as_object_mut) else {
            continue;
        };
        for (name, input) in known {
            if let Some(other) = other["input"][part].get(name)
                && let Some((choices, others)) = choices(input).zip(choices_of(other))
            {
                add_missing(choices, others);
            }
        }
    }
}

/// Adds the choices that are not there yet. Lists of models have thousands, which are mostly the same on all servers.
fn add_missing(choices: &mut Vec<Value>, others: &[Value]) {
    if choices == others {
        return;
    }
    let mut known: HashSet<Value> = choices.iter().cloned().collect();
    for choice in others {
        if known.insert(choice.clone()) {
            choices.push(choice.clone());
        }
    }
}

/// The choices of an input: `[[…], {…}]`, and since 2025 also `["COMBO", {"options": […]}]`.
fn choices(input: &mut Value) -> Option<&mut Vec<Value>> {
    if input.get(0)?.is_array() {
        return input.get_mut(0)?.as_array_mut();
    }
    input.get_mut(1)?.get_mut("options")?.as_array_mut()
}

fn choices_of(input: &Value) -> Option<&Vec<Value>> {
    let first = input.get(0)?.as_array();
    first.or_else(|| input.get(1)?.get("options")?.as_array())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn choices_of_both_forms_are_added() {
        let class = |old: &[&str], new: &[&str]| {
            json!({"input": {"required": {
                "ckpt_name": [old, {"tooltip": "x"}],
                "lora": ["COMBO", {"options": new}],
                "steps": ["INT", {"min": 1}],
            }}})
        };
        let mut known = class(&["a", "b"], &["x"]);
        add_choices(&mut known, &class(&["b", "c"], &["y", "x"]));
        assert_eq!(known, class(&["a", "b", "c"], &["x", "y"]));
        let before = known.clone();
        add_choices(&mut known, &json!({"input": null}));
        assert_eq!(known, before);
    }
}
