//! The nodes of a graph, and their links.

use std::collections::HashSet;

use serde_json::{Map, Value};

/// The longest text that counts as a setting or a class, in bytes. A text that many nodes are linked to
/// must not be read in full for each of them.
const MAX_TEXT: usize = 128;

/// The largest feature of a node that is read from a graph, so that sums stay finite.
pub(super) const MAX_FEATURE: f64 = 1e12;

/// A graph in ComfyUI's API format.
#[derive(Debug, Clone, Copy)]
pub(super) struct Graph<'a>(pub(super) &'a Map<String, Value>);

impl<'a> Graph<'a> {
    /// The node with this id.
    pub(super) fn node(self, id: &str) -> Option<&'a Value> {
        self.0.get(id)
    }

    /// All ids in topological order, sources before their consumers; within a cycle in any order.
    pub(super) fn topological(self) -> Vec<&'a str> {
        let (mut order, mut seen) = (Vec::new(), HashSet::new());
        for start in self.0.keys() {
            let mut open = vec![(start.as_str(), false)];
            while let Some((id, is_ready)) = open.pop() {
                if is_ready {
                    order.push(id);
                } else if seen.insert(id) {
                    open.push((id, true));
                    let sources = self.node(id).map(links).unwrap_or_default();
                    let sources = sources.into_iter();
                    let sources = sources.filter_map(|id| self.0.get_key_value(id));
                    open.extend(sources.map(|(id, _)| (id.as_str(), false)));
                }
            }
        }
        order
    }

    /// The node that an input is linked to, and the number of its output.
    pub(super) fn source(self, node: &'a Value, name: &str) -> Option<(&'a Value, u64)> {
        let (id, output) = self.link_of(node, name)?;
        Some((self.node(id)?, output))
    }

    /// The id of the node that an input is linked to, and the number of its output.
    pub(super) fn link_of(self, node: &'a Value, name: &str) -> Option<(&'a str, u64)> {
        link(input(node, name)?)
    }

    /// The value of an input, literal or linked to a node that only holds a value.
    fn value(self, node: &'a Value, name: &str) -> Option<&'a Value> {
        let value = input(node, name)?;
        match link(value) {
            Some((id, _)) => Some(self.held(id)?.1),
            None => Some(value),
        }
    }

    /// The short text that an input is set to.
    pub(super) fn text(self, node: &'a Value, name: &str) -> Option<&'a str> {
        let text = self.value(node, name)?.as_str()?;
        (text.len() <= MAX_TEXT).then_some(text)
    }

    /// The text that an input is set to, however long: as a literal, or by a node that makes texts. The
    /// one input of a node that loads an image is a text as well, but not what it makes.
    pub(super) fn long_text(self, node: &'a Value, name: &str) -> Option<&'a str> {
        match input(node, name)? {
            Value::String(text) => Some(text),
            linked => {
                let (id, _) = link(linked)?;
                let class = class(self.node(id)?).to_ascii_lowercase();
                let makes_text = ["primitive", "string", "text"];
                let makes_text = makes_text.iter().any(|word| class.contains(word));
                self.held(id).filter(|_| makes_text)?.1.as_str()
            }
        }
    }

    /// The only input of a node, with its name, if that is a literal.
    pub(super) fn held(self, id: &str) -> Option<(&'a str, &'a Value)> {
        let node = self.node(id)?;
        let inputs = node.get("inputs")?.as_object()?;
        let (name, value) = inputs.iter().next().filter(|_| inputs.len() == 1)?;
        let is_plain = match value {
            Value::Bool(_) | Value::Number(_) => true,
            Value::String(text) => text.len() <= MAX_TEXT,
            Value::Null | Value::Array(_) | Value::Object(_) => false,
        };
        (is_plain && class(node).len() <= MAX_TEXT).then_some((name.as_str(), value))
    }
}

/// The class of a node; empty if it has none.
pub(super) fn class(node: &Value) -> &str {
    let class = node.get("class_type").and_then(Value::as_str);
    class.unwrap_or_default()
}

/// The inputs of a node, with their names.
pub(super) fn inputs(node: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let inputs = node.get("inputs").and_then(Value::as_object);
    let inputs = inputs.into_iter().flatten();
    inputs.map(|(name, value)| (name.as_str(), value))
}

/// The ids of the nodes that a node is linked to.
pub(super) fn links(node: &Value) -> Vec<&str> {
    let links = inputs(node).filter_map(|(_, value)| link(value));
    links.map(|(id, _)| id).collect()
}

/// Reads a link: an input of the form `["4", 0]`, a node and the number of its output.
pub(super) fn link(input: &Value) -> Option<(&str, u64)> {
    match input.as_array()?.as_slice() {
        [Value::String(id), Value::Number(output)] => Some((id, output.as_u64().unwrap_or(0))),
        _ => None,
    }
}

fn input<'a>(node: &'a Value, name: &str) -> Option<&'a Value> {
    node.get("inputs")?.get(name)
}
