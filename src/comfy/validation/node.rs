//! The nodes of a graph, each with the definition of its class.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use crate::comfy::node_definition::NodeDefinition;
use crate::comfy::object_info::NodeClasses;
use crate::comfy::validation::problem::{FoundProblems, Missing, Problem, ProblemKind};

/// A node of a graph.
#[derive(Debug)]
pub(super) struct GraphNode<'a> {
    pub(super) index: usize,
    pub(super) id: &'a str,
    pub(super) class: &'a str,
    title: Option<&'a str>,
    pub(super) is_output: bool,
    /// `None` if the server does not have its class.
    pub(super) definition: Option<&'a NodeDefinition>,
    pub(super) inputs: Option<&'a Map<String, Value>>,
}

/// All nodes of a graph.
#[derive(Debug)]
pub(super) struct GraphNodes<'a> {
    nodes: Vec<GraphNode<'a>>,
    indices: HashMap<&'a str, usize>,
}

impl<'a> GraphNodes<'a> {
    pub(super) fn new(graph: &'a Map<String, Value>, classes: &'a NodeClasses) -> Self {
        let nodes = graph.iter().enumerate().map(|(index, (id, node))| {
            let class = node["class_type"].as_str().unwrap_or_default();
            GraphNode {
                index,
                id,
                class,
                title: node["_meta"]["title"].as_str(),
                is_output: classes.outputs().contains(class),
                definition: classes.definition(class),
                inputs: node["inputs"].as_object(),
            }
        });
        let ids = graph.keys().enumerate();
        Self {
            nodes: nodes.collect(),
            indices: ids.map(|(index, id)| (id.as_str(), index)).collect(),
        }
    }

    pub(super) fn all(&self) -> &[GraphNode<'a>] {
        &self.nodes
    }

    /// The node with this id.
    pub(super) fn find(&self, id: &str) -> Option<&GraphNode<'a>> {
        self.indices.get(id).map(|&index| &self.nodes[index])
    }

    /// The classes that the server does not have, each with its first node.
    pub(super) fn missing_classes(&self) -> FoundProblems {
        let mut seen = HashSet::new();
        let missing = self.nodes.iter().filter(|node| node.definition.is_none());
        let mut found = FoundProblems::default();
        for node in missing.filter(|node| seen.insert(node.class)) {
            found.add(|| {
                let title = node.title.unwrap_or(node.class);
                let message =
                    format!("Node '{title}' not found. The custom node may not be installed.");
                node.problem(ProblemKind::MissingClass)
                    .with_message(message)
                    .with_lack(Some(Missing::Class(node.class.to_owned())))
            });
        }
        found
    }
}

impl GraphNode<'_> {
    /// A problem of this node.
    pub(super) fn problem(&self, kind: ProblemKind) -> Problem {
        Problem::of_node(kind, self.id, self.class, self.is_output)
    }
}
