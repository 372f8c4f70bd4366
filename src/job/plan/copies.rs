//! Loops whose nodes are copied: the nodes between `StartLoop` and `EndLoop` never run themselves. For each round, the opening
//! node makes a copy of each, which counts as the node.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use super::graph::{Graph, class, links};
use super::numbers::GraphNumbers;

/// The classes that open and close such a loop.
const START: &str = "StartLoop";
const END: &str = "EndLoop";

/// The most rounds that count.
pub(super) const MAX_ROUNDS: f64 = 1e6;

/// The loops of a graph whose nodes are copied.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct CopiedLoops {
    /// By the ids of the nodes that open them.
    pub(super) loops: BTreeMap<String, CopiedLoop>,
    /// By the ids of the copied nodes: those that open the loops around them, the innermost first.
    pub(super) around: HashMap<String, Vec<String>>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CopiedLoop {
    /// The id of the node that closes it.
    pub(super) end: String,
    /// `None` if they are not known.
    pub(super) rounds: Option<f64>,
}

impl CopiedLoops {
    /// Reads the loops of a graph. `order` has its ids, sources before their consumers.
    pub(super) fn read<'a>(
        graph: Graph<'a>,
        numbers: &GraphNumbers<'a>,
        order: &[&'a str],
    ) -> Self {
        let has_class =
            |id: &str, wanted: &str| graph.node(id).is_some_and(|node| class(node) == wanted);
        let mut read = Self::default();
        for end in order.iter().filter(|id| has_class(id, END)) {
            let before = sources_of(end, graph);
            // An inner loop is closed before the one around it.
            let mut starts = order.iter().rev().filter(|id| {
                before.contains(*id) && has_class(id, START) && !read.loops.contains_key(**id)
            });
            let Some(start) = starts.next() else {
                continue;
            };
            let mut behind = HashSet::from([*start]);
            for id in order.iter().filter(|id| before.contains(*id)) {
                let sources = graph.node(id).map(links).unwrap_or_default();
                if sources.iter().any(|source| behind.contains(source)) && behind.insert(id) {
                    let around = read.around.entry((*id).to_owned()).or_default();
                    around.push((*start).to_owned());
                }
            }
            let rounds = graph.node(start).and_then(|start| rounds(start, numbers));
            let rounds = rounds.filter(|rounds| !rounds.is_nan());
            let closed = CopiedLoop {
                end: (*end).to_owned(),
                rounds: rounds.map(|rounds| rounds.clamp(0.0, MAX_ROUNDS)),
            };
            read.loops.insert((*start).to_owned(), closed);
        }
        read
    }
}

/// The ids of all nodes that a node depends on.
fn sources_of<'a>(id: &'a str, graph: Graph<'a>) -> HashSet<&'a str> {
    let (mut before, mut open) = (HashSet::new(), vec![id]);
    while let Some(id) = open.pop() {
        let sources = graph.node(id).map(links).unwrap_or_default();
        open.extend(sources.into_iter().filter(|source| before.insert(*source)));
    }
    before
}

/// How often a loop runs, as the inputs of the node that opens it say in its mode.
fn rounds(start: &Value, numbers: &GraphNumbers<'_>) -> Option<f64> {
    let number = |name: &str| {
        let nested = numbers.number(start, &format!("mode.{name}"));
        nested.or_else(|| numbers.number(start, name))
    };
    match start.pointer("/inputs/mode")?.as_str()? {
        "simple" => number("num_iterations"),
        "For" => {
            let step = number("step").unwrap_or(1.0);
            let from = number("start_iteration_index").unwrap_or(0.0);
            let span = number("max_iteration")? - from;
            (step >= 1.0).then(|| (span / step).ceil())
        }
        _ => None,
    }
}
