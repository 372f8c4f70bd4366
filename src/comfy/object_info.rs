//! The answer to `GET /object_info`: what the server's node classes are.

use std::collections::HashSet;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The classes of output nodes. Everything else in the answer, which can be many megabytes, is skipped.
#[derive(Debug)]
pub(super) struct OutputClasses(pub(super) HashSet<String>);

/// What is read of a class.
#[derive(Deserialize)]
struct Class {
    #[serde(default)]
    output_node: bool,
}

impl<'de> Deserialize<'de> for OutputClasses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Classes).map(Self)
    }
}

struct Classes;

impl<'de> Visitor<'de> for Classes {
    type Value = HashSet<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of node classes")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut classes: A) -> Result<Self::Value, A::Error> {
        let mut outputs = HashSet::new();
        while let Some(name) = classes.next_key::<String>()? {
            if classes.next_value::<Class>()?.output_node {
                outputs.insert(name);
            }
        }
        Ok(outputs)
    }
}

#[cfg(test)]
mod tests {
    use crate::python_json;

    use super::*;

    #[test]
    fn only_the_classes_of_output_nodes_are_kept() {
        let text = br#"{
            "KSampler": {"input": {"required": {"cfg": ["FLOAT", {"max": Infinity}]}}, "output_node": false},
            "SaveImage": {"input": {}, "output_node": true, "category": "image"},
            "Old": {"input": {}}
        }"#;
        let OutputClasses(classes) = python_json::read(text).unwrap();
        assert_eq!(classes, HashSet::from(["SaveImage".to_owned()]));
    }

    #[test]
    fn an_answer_that_is_no_object_of_classes_is_an_error() {
        for text in [
            "[]",
            "null",
            r#"{"error": "busy"}"#,
            r#"{"SaveImage": {"output_node": true}"#,
        ] {
            assert!(
                python_json::read::<OutputClasses>(text.as_bytes()).is_err(),
                "{text}"
            );
        }
    }
}
