//! The values of a node's widgets, which the editor saves in the order in which it shows them.

use serde_json::{Map, Value};

/// What the editor shows behind a seed: whether it changes after each run. The server does not get it.
const AFTER_RUN: [&str; 4] = ["fixed", "increment", "decrement", "randomize"];

/// The types of inputs for which the editor shows a widget.
const WIDGETS: [&str; 5] = ["INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"];

/// How the types of inputs begin whose shape depends on others.
const DYNAMIC: &str = "COMFY_";

/// An input of a class, as the server lists it.
#[derive(Debug, Clone, Copy)]
pub(super) struct ListedInput<'a> {
    pub(super) name: &'a str,
    specification: &'a Value,
}

impl<'a> ListedInput<'a> {
    /// The inputs of a class in their order: those that are required come first.
    pub(super) fn all(class: &'a Value) -> Vec<Self> {
        let mut all = Vec::new();
        for group in ["required", "optional"] {
            let listed = class["input"][group].as_object();
            let order = class["input_order"][group].as_array();
            let ordered = order.into_iter().flatten().filter_map(Value::as_str);
            let names: Vec<&str> = match order {
                Some(_) => ordered.collect(),
                None => listed
                    .into_iter()
                    .flatten()
                    .map(|(name, _)| name.as_str())
                    .collect(),
            };
            let found = names.into_iter().filter_map(|name| {
                let specification = listed?.get(name)?;
                Some(Self {
                    name,
                    specification,
                })
            });
            all.extend(found);
        }
        all
    }

    /// Whether the editor shows a widget for it.
    pub(super) fn is_widget(&self) -> bool {
        let is_forced = self.specification[1]["forceInput"] == true;
        let has_widget = match &self.specification[0] {
            Value::Array(_) => true,
            Value::String(kind) => WIDGETS.contains(&kind.as_str()),
            _ => false,
        };
        has_widget && !is_forced
    }

    /// Whether its shape depends on other inputs.
    pub(super) fn is_dynamic(&self) -> bool {
        self.specification[0]
            .as_str()
            .is_some_and(|kind| kind.starts_with(DYNAMIC))
    }

    /// Whether a value behind it says how it changes after each run.
    fn is_followed(&self) -> bool {
        let option = &self.specification[1]["control_after_generate"];
        let is_seed = self.specification[0] == "INT" && ["seed", "noise_seed"].contains(&self.name);
        is_seed || !(option.is_null() || *option == false)
    }

    /// What the server takes where nothing is given.
    pub(super) fn default(&self) -> Option<&'a Value> {
        let default = self.specification[1].get("default");
        let first = || self.specification[0].as_array()?.first();
        default.or_else(first)
    }

    /// Whether a value can be that of the widget.
    pub(super) fn takes(&self, value: &Value) -> bool {
        match self.specification[0].as_str() {
            Some("INT" | "FLOAT") => value.is_number(),
            Some("STRING") => value.is_string(),
            Some("BOOLEAN") => value.is_boolean(),
            _ => !(value.is_array() || value.is_object()),
        }
    }
}

/// The values of the widgets of a node, by the names of their inputs.
pub(super) fn values(inputs: &[ListedInput<'_>], saved: &Value) -> Map<String, Value> {
    let mut values = Map::new();
    let widgets = inputs.iter().filter(|input| input.is_widget());
    if let Some(named) = saved.as_object() {
        for input in widgets {
            let value = named.get(input.name).cloned();
            values.extend(value.map(|value| (input.name.to_owned(), value)));
        }
        return values;
    }
    let mut rest = saved.as_array().map(Vec::as_slice).unwrap_or_default();
    for input in widgets {
        let Some((value, others)) = rest.split_first() else {
            break;
        };
        values.insert(input.name.to_owned(), value.clone());
        rest = others;
        let is_word = |value: &Value| value.as_str().is_some_and(|word| AFTER_RUN.contains(&word));
        if input.is_followed() && rest.first().is_some_and(is_word) {
            rest = &rest[1..];
        }
    }
    values
}
