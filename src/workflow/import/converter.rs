//! [`Converter`]: the editor's nodes as a graph in API format.

use serde_json::{Map, Value, json};

use super::editor_graph::{EditorGraph, EditorNode, LinkOrigin, NodeMode};
use super::problem::ConversionProblem;
use super::widgets::{ListedInput, values};

/// Nodes of the editor itself: notes, and nodes that only pass on what is linked to them, or a value.
const NOTES: [&str; 2] = ["Note", "MarkdownNote"];
const REROUTE: &str = "Reroute";
const PRIMITIVE: &str = "PrimitiveNode";

/// What a link brings.
enum Brought {
    /// The output of a node that runs.
    Output(LinkOrigin),
    /// A value.
    Plain(Value),
    /// Nothing: it begins at a node that is left out.
    Nothing,
}

pub(super) struct Converter<'a> {
    graph: &'a EditorGraph<'a>,
    classes: &'a Value,
    problems: Vec<ConversionProblem>,
}

impl<'a> Converter<'a> {
    pub(super) fn new(graph: &'a EditorGraph<'a>, classes: &'a Value) -> Self {
        Self {
            graph,
            classes,
            problems: Vec::new(),
        }
    }

    pub(super) fn convert(mut self) -> Result<Map<String, Value>, Vec<ConversionProblem>> {
        let mut converted = Map::new();
        for node in &self.graph.nodes {
            let is_of_editor =
                NOTES.contains(&node.class) || [REROUTE, PRIMITIVE].contains(&node.class);
            if is_of_editor || node.mode != NodeMode::Active {
                continue;
            }
            let Some(class) = self.classes.get(node.class) else {
                self.add(node, self.unknown(node));
                continue;
            };
            let inputs = self.inputs(node, class);
            let converted_node = json!({
                "inputs": inputs,
                "class_type": node.class,
                "_meta": {"title": node.title()},
            });
            converted.insert(node.id.clone(), converted_node);
        }
        if self.problems.is_empty() {
            Ok(converted)
        } else {
            Err(self.problems)
        }
    }

    fn unknown(&self, node: &EditorNode<'_>) -> String {
        // The type of a subgraph is its id.
        let is_subgraph = node.class.len() == 36 && node.class.matches('-').count() == 4;
        if is_subgraph {
            return format!(
                "{:?} is a subgraph; unpack it in the editor, or use \"Export (API)\" there",
                node.title()
            );
        }
        format!(
            "the ComfyUI server has no node class {:?}; install the extension that has it, or use a server with it",
            node.class
        )
    }

    fn inputs(&mut self, node: &EditorNode<'_>, class: &Value) -> Map<String, Value> {
        let listed = ListedInput::all(class);
        if let Some(dynamic) = listed.iter().find(|input| input.is_dynamic()) {
            let message = format!(
                "the input {:?} of {} depends on others; use \"Export (API)\" in the editor",
                dynamic.name, node.class
            );
            self.add(node, message);
            return Map::new();
        }
        let values = values(&listed, &node.saved["widgets_values"]);
        let mut inputs = Map::new();
        for input in &listed {
            let saved = node.inputs().find(|saved| saved["name"] == input.name);
            let brought = saved.and_then(|saved| self.graph.origin(saved));
            match brought.map(|origin| self.follow(origin.clone())) {
                Some(Brought::Output(origin)) => {
                    inputs.insert(input.name.to_owned(), json!([origin.node, origin.output]));
                    continue;
                }
                Some(Brought::Plain(value)) => {
                    inputs.insert(input.name.to_owned(), value);
                    continue;
                }
                Some(Brought::Nothing) | None => {}
            }
            if !input.is_widget() {
                continue;
            }
            let Some(value) = values.get(input.name).or(input.default()) else {
                self.add(
                    node,
                    format!("there is no value for the input {:?}", input.name),
                );
                continue;
            };
            if !input.takes(value) {
                let message = format!(
                    "the input {:?} of {} does not take {value}: this version of the class has other inputs than the one that was saved; \
                     open the workflow in this ComfyUI and save it again",
                    input.name, node.class
                );
                self.add(node, message);
            }
            inputs.insert(input.name.to_owned(), value.clone());
        }
        inputs
    }

    /// What a link brings, behind all nodes that only pass it on.
    fn follow(&self, mut origin: LinkOrigin) -> Brought {
        // No path is longer than there are nodes, unless it is a circle.
        for _ in 0..=self.graph.nodes.len() {
            let Some(node) = self.graph.node(&origin.node) else {
                return Brought::Nothing;
            };
            let passed_on = match node.mode {
                NodeMode::Muted => None,
                _ if node.class == REROUTE => node.inputs().next(),
                NodeMode::Bypassed => self.passed_on(node, origin.output),
                NodeMode::Active if node.class == PRIMITIVE => {
                    let value = node.saved["widgets_values"].get(0);
                    return value.map_or(Brought::Nothing, |value| Brought::Plain(value.clone()));
                }
                NodeMode::Active => return Brought::Output(origin),
            };
            let Some(before) = passed_on.and_then(|input| self.graph.origin(input)) else {
                return Brought::Nothing;
            };
            origin = before.clone();
        }
        Brought::Nothing
    }

    /// The input that a bypassed node passes on as an output: that at the same place, if it has the type, or else the first that has.
    fn passed_on<'n>(&self, node: &'n EditorNode<'_>, output: usize) -> Option<&'n Value> {
        let kind = &node.saved["outputs"][output]["type"];
        let has_type = |input: &&Value| input["type"] == *kind || *kind == "*";
        let at_place = node.inputs().nth(output).filter(has_type);
        at_place.or_else(|| node.inputs().find(has_type))
    }

    fn add(&mut self, node: &EditorNode<'_>, message: String) {
        self.problems.push(ConversionProblem {
            node: node.id.clone(),
            message,
        });
    }
}
