//! Loops: a node that closes one is expanded to copies of the nodes in it.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::graph::{Graph, inputs, link, links};
use super::numbers::GraphNumbers;

/// The inputs that link the end of a loop to its start.
const FLOWS: [&str; 3] = ["flow_control", "flow", "loop"];

/// The inputs of the start of a loop that say how often its nodes run.
const ROUNDS: [&str; 6] = [
    "remaining",
    "total",
    "count",
    "iterations",
    "loop_count",
    "max_iterations",
];

/// The most rounds that count.
const MAX_ROUNDS: f64 = 1e6;

/// A loop in a graph.
#[derive(Debug)]
pub(super) struct Repetition<'a> {
    /// The node that it starts with.
    pub(super) start: &'a str,
    /// The nodes between its start and its end, in topological order.
    pub(super) nodes: Vec<&'a str>,
    /// How often they run behind their first run; `None` if the graph does not show it.
    pub(super) repeats: Option<f64>,
}

impl<'a> Repetition<'a> {
    /// The loop that a node closes, if it closes one. `order` has the ids of the graph in topological order.
    pub(super) fn closed_by(
        id: &str,
        node: &'a Value,
        graph: Graph<'a>,
        numbers: &GraphNumbers<'a>,
        order: &[&'a str],
    ) -> Option<Self> {
        let mut flows = inputs(node).filter(|(name, _)| FLOWS.contains(name));
        let start = flows.find_map(|(_, value)| Some(link(value)?.0))?;
        let rounds = graph.node(start).and_then(|start| {
            let mut rounds = ROUNDS.iter().filter_map(|name| numbers.number(start, name));
            rounds.find(|rounds| *rounds >= 1.0)
        });
        let sources: HashMap<&str, Vec<&str>> = order
            .iter()
            .filter_map(|id| Some((*id, links(graph.node(id)?))))
            .collect();
        let of = |id: &str| sources.get(id).map(Vec::as_slice).unwrap_or_default();
        let (mut before, mut open) = (HashSet::new(), vec![id]);
        while let Some(id) = open.pop() {
            open.extend(of(id).iter().filter(|source| before.insert(**source)));
        }
        let mut behind = HashSet::from([start]);
        let mut nodes = Vec::new();
        for node in order.iter().filter(|node| before.contains(*node)) {
            if of(node).iter().any(|source| behind.contains(source)) && behind.insert(node) {
                nodes.push(*node);
            }
        }
        nodes.retain(|node| *node != id);
        Some(Self {
            start,
            nodes,
            repeats: rounds.map(|rounds| rounds.min(MAX_ROUNDS) - 1.0),
        })
    }
}
