//! The answer to `GET /object_info`: what the server's node classes are.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::choices::{Choices, SharedTexts};
use super::node_definition::{InputType, NodeDefinition};

/// What is known of a server's node classes: what they are, and what a graph is validated by. Descriptions and all else in
/// the answer, which can be many megabytes, is skipped, and texts that many classes have are kept once.
#[derive(Debug, Default, PartialEq)]
pub struct NodeClasses {
    outputs: HashSet<String>,
    partners: HashSet<String>,
    definitions: HashMap<Box<str>, NodeDefinition>,
}

/// The kind of value that an input takes. ComfyUI has more: those of links, of choices and of nodes' own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputKind {
    /// `INT`
    Integer,
    /// `FLOAT`
    Number,
    /// `STRING`
    Text,
    /// `BOOLEAN`
    Boolean,
}

impl NodeClasses {
    /// The classes of output nodes: those whose outputs ComfyUI executes a prompt for.
    pub fn outputs(&self) -> &HashSet<String> {
        &self.outputs
    }

    /// The classes of partner nodes, which have a service do their work.
    pub fn partners(&self) -> &HashSet<String> {
        &self.partners
    }

    /// How many classes there are.
    pub fn count(&self) -> usize {
        self.definitions.len()
    }

    /// How many texts an input of a class can be chosen from, where the server says so: the files of a folder of models.
    pub fn choices(&self, class: &str, input: &str) -> Option<usize> {
        self.choices_of(class, input)
            .map(|choices| choices.texts().count())
    }

    /// The texts that an input of a class can be chosen from; none where the server does not say so.
    pub fn choice_texts(&self, class: &str, input: &str) -> impl Iterator<Item = &str> {
        let choices = self.choices_of(class, input).into_iter();
        choices.flat_map(Choices::texts)
    }

    fn choices_of(&self, class: &str, input: &str) -> Option<&Choices> {
        let mut inputs = self.definitions.get(class)?.inputs.iter();
        match &inputs.find(|it| *it.name == *input)?.takes {
            InputType::Choice { choices, .. } => Some(choices),
            _ => None,
        }
    }

    /// The kind of value that an input of a class takes, where the server says so.
    pub fn input(&self, class: &str, input: &str) -> Option<InputKind> {
        let mut inputs = self.definitions.get(class)?.inputs.iter();
        let input = inputs.find(|it| *it.name == *input)?;
        InputKind::of(&input.takes)
    }

    /// What the server says of a class; `None` if it does not have it.
    pub(super) fn definition(&self, class: &str) -> Option<&NodeDefinition> {
        self.definitions.get(class)
    }

    fn add(&mut self, class: String, info: &Value, shared: &mut SharedTexts) {
        if info["output_node"] == true {
            self.outputs.insert(class.clone());
        }
        if info["api_node"] == true {
            self.partners.insert(class.clone());
        }
        let definition = NodeDefinition::read(&class, info, shared);
        self.definitions.insert(class.into(), definition);
    }
}

impl InputKind {
    fn of(takes: &InputType) -> Option<Self> {
        match takes {
            InputType::Integer(_) => Some(Self::Integer),
            InputType::Number(_) => Some(Self::Number),
            InputType::Text => Some(Self::Text),
            InputType::Boolean => Some(Self::Boolean),
            _ => None,
        }
    }

    /// Whether a value is of this kind.
    pub fn accepts(self, value: &Value) -> bool {
        match self {
            Self::Integer => value.as_f64().is_some_and(|number| number.fract() == 0.0),
            Self::Number => value.is_number(),
            Self::Text => value.is_string(),
            Self::Boolean => value.is_boolean(),
        }
    }
}

impl fmt::Display for InputKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Integer => "a whole number",
            Self::Number => "a number",
            Self::Text => "a text",
            Self::Boolean => "true or false",
        })
    }
}

impl<'de> Deserialize<'de> for NodeClasses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Classes)
    }
}

struct Classes;

impl<'de> Visitor<'de> for Classes {
    type Value = NodeClasses;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of node classes")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut answer: A) -> Result<NodeClasses, A::Error> {
        let mut classes = NodeClasses::default();
        let mut shared = SharedTexts::default();
        // One class at a time is in memory.
        while let Some((name, info)) = answer.next_entry::<String, Value>()? {
            classes.add(name, &info, &mut shared);
        }
        Ok(classes)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::python_json;

    use super::*;

    const ANSWER: &[u8] = br#"{
        "KSampler": {"input": {"required": {"cfg": ["FLOAT", {"max": Infinity}], "seed": ["INT", {}],
            "model": ["MODEL"], "sampler_name": [["euler", "lcm"], {}]}, "optional": {"label": ["STRING", {}]}},
            "output_node": false},
        "SaveImage": {"input": {}, "output_node": true, "category": "image", "api_node": false},
        "KlingTextToVideoNode": {"input": {}, "output_node": false, "api_node": true},
        "Old": {"input": {}},
        "Odd": {"input": {"required": [1], "optional": {"a": 7, "b": [], "on": ["BOOLEAN"]}}, "output_node": "yes",
            "api_node": "yes"},
        "Worse": 7
    }"#;

    #[test]
    fn output_and_partner_classes_and_kinds_of_inputs_are_kept() {
        let classes: NodeClasses = python_json::read(ANSWER).unwrap();
        let only = |class: &str| HashSet::from([class.to_owned()]);
        assert_eq!(*classes.outputs(), only("SaveImage"));
        assert_eq!(*classes.partners(), only("KlingTextToVideoNode"));
        let kinds = [
            ("KSampler", "cfg", Some(InputKind::Number)),
            ("KSampler", "seed", Some(InputKind::Integer)),
            ("KSampler", "label", Some(InputKind::Text)),
            ("KSampler", "model", None),
            ("KSampler", "sampler_name", None),
            // A field of the wrong type hides none beside it.
            ("Odd", "on", Some(InputKind::Boolean)),
            ("Odd", "a", None),
            ("Nobody", "a", None),
        ];
        for (class, input, kind) in kinds {
            assert_eq!(classes.input(class, input), kind, "{class}.{input}");
        }
    }

    #[test]
    fn values_are_accepted_by_their_kind() {
        let accepted = |kind: InputKind| {
            let values = [json!(7), json!(7.0), json!(7.5), json!("7"), json!(true)];
            values.map(|value| kind.accepts(&value))
        };
        assert_eq!(
            accepted(InputKind::Integer),
            [true, true, false, false, false]
        );
        assert_eq!(
            accepted(InputKind::Number),
            [true, true, true, false, false]
        );
        assert_eq!(
            accepted(InputKind::Text),
            [false, false, false, true, false]
        );
        assert_eq!(
            accepted(InputKind::Boolean),
            [false, false, false, false, true]
        );
    }

    #[test]
    fn an_answer_that_is_no_object_of_classes_is_an_error() {
        for text in ["[]", "null", r#"{"SaveImage": {"output_node": true}"#] {
            assert!(
                python_json::read::<NodeClasses>(text.as_bytes()).is_err(),
                "{text}"
            );
        }
    }
}
