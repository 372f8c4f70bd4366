//! What a graph asks for.

mod copies;
mod correction;
mod dimensions;
mod expression;
mod features;
mod graph;
mod image;
mod loaders;
mod numbers;
mod outputs;
mod partners;
mod prompt_graph;
mod repetition;
mod role;
mod rounds;
mod signature;
mod size;
mod size_rules;

use std::collections::{HashMap, HashSet};

use indexmap::IndexMap;
use serde_json::{Map, Value};

use copies::CopiedLoops;
pub use correction::{ImageSizes, ObservedSize, ObservedSizes, SavedImages, SizeFinding, SizeKey};
use features::GraphReader;
use graph::{Graph, links};
pub use image::{ImageFile, ImageSize};
pub use outputs::outputs;
pub use prompt_graph::PromptGraph;
pub use role::Role;

/// The nodes of a prompt, read from its graph in ComfyUI's API format
/// (`{"3": {"class_type", "inputs", "_meta": {"title"}}, …}`).
///
/// Reading never fails: entries that are not nodes are left out.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// In topological order: sources before their consumers.
    nodes: IndexMap<String, PlannedNode>,
    /// The files that needed nodes load, sorted.
    files: Vec<ImageFile>,
    /// The loops whose nodes are copied.
    copied: CopiedLoops,
}

/// One node of a [`Plan`].
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedNode {
    /// The node's class, such as `KSampler`.
    pub class_type: String,
    /// The title that the author gave it, if any.
    pub title: Option<String>,
    /// How many steps its bar will have, if the graph sets them.
    pub steps: Option<u32>,
    /// Whether an output depends on it.
    pub needed: bool,
    /// A hash of its class and everything else that its cost may depend on: 16 hexadecimal digits.
    pub signature: String,
    /// The same hash as it was before the size of its images was known, or was corrected; `None` if it is the
    /// same.
    pub former_signature: Option<String>,
    /// What it does.
    pub role: Role,
    /// How often it calls its model: its steps times the calls of a step; 1 without steps.
    pub calls: f64,
    /// Its units of work: about `calls` times images of 512 by 512 pixels; `None` if its cost depends
    /// on a size that is not known.
    pub units: Option<f64>,
    /// The ids of the nodes that load the models it works with, itself included.
    pub loaders: Vec<String>,
    /// A hash of these models, without the node's own.
    pub models: u64,
    /// The images that it saves; `None` if their files show nothing about the plan.
    pub saved: Option<SavedImages>,
    /// The ids of the needed nodes that read its outputs.
    pub consumers: Vec<String>,
    /// Whether it is a partner node: a service does its work, and its bar is a percentage without steps.
    pub is_partner: bool,
}

impl Plan {
    /// Reads a graph of which no image sizes are known; see [`Plan::read`].
    pub fn from_graph(graph: &Map<String, Value>, outputs: Option<&[String]>) -> Self {
        Self::read(graph, outputs, &ImageSizes::default())
    }

    /// Reads a graph.
    ///
    /// `outputs` are the ids of the output nodes that the server will execute. If they are not known,
    /// every node without a consumer counts as one. `images` are the sizes of files that are known.
    pub fn read(
        graph: &Map<String, Value>,
        outputs: Option<&[String]>,
        images: &ImageSizes,
    ) -> Self {
        let sources: HashMap<&str, Vec<&str>> = graph
            .iter()
            .map(|(id, node)| (id.as_str(), links(node)))
            .collect();
        let needed = needed(graph, &sources, outputs);
        let mut consumers: HashMap<&str, Vec<String>> = HashMap::new();
        for id in graph.keys().filter(|id| needed.contains(id.as_str())) {
            for source in sources.get(id.as_str()).into_iter().flatten() {
                consumers.entry(source).or_default().push(id.clone());
            }
        }
        let reader = GraphReader::new(graph, images);
        // What was learned before a size was observed still counts.
        let before = reader
            .is_corrected()
            .then(|| GraphReader::new(graph, &images.without_observed()));
        let nodes = Graph(graph).topological().into_iter().filter_map(|id| {
            let mut planned = PlannedNode::read(id, graph.get(id)?, &reader)?;
            if let Some(before) = &before {
                let former = before.features(id, graph.get(id)?).signature;
                if former != planned.signature {
                    planned.former_signature = Some(former);
                }
            }
            planned.needed = needed.contains(id);
            planned.consumers = consumers.remove(id).unwrap_or_default();
            Some((id.to_owned(), planned))
        });
        let nodes = nodes.collect();
        let copied = reader.copied_loops();
        let files = reader.into_files().into_iter();
        let mut files: Vec<ImageFile> = files
            .filter(|(id, _)| needed.contains(id))
            .map(|(_, file)| file)
            .collect();
        files.sort_unstable();
        files.dedup();
        Self {
            nodes,
            files,
            copied,
        }
    }

    /// The files that needed nodes load, sorted.
    pub fn files(&self) -> &[ImageFile] {
        &self.files
    }

    /// The node with this id.
    pub fn node(&self, id: &str) -> Option<&PlannedNode> {
        self.nodes.get(id)
    }

    /// Every node with its id, in topological order.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = (&str, &PlannedNode)> {
        self.nodes.iter().map(|(id, node)| (id.as_str(), node))
    }

    /// Where a node is in that order; one that is not in the graph comes last.
    pub(super) fn position(&self, id: &str) -> usize {
        self.nodes.get_index_of(id).unwrap_or(usize::MAX)
    }

    /// The nodes that outputs need, in the same order.
    pub fn needed(&self) -> impl Iterator<Item = (&str, &PlannedNode)> {
        self.nodes
            .iter()
            .filter(|(_, node)| node.needed)
            .map(|(id, node)| (id.as_str(), node))
    }

    /// Whether nothing is known of the graph.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

impl PlannedNode {
    /// Reads the node itself; `needed` and `consumers` depend on the others.
    fn read<'a>(id: &str, node: &'a Value, reader: &GraphReader<'a>) -> Option<Self> {
        let class_type = node.get("class_type")?.as_str()?.to_owned();
        let title = node
            .pointer("/_meta/title")
            .and_then(Value::as_str)
            .filter(|title| !title.trim().is_empty())
            .map(str::to_owned);
        let features = reader.features(id, node);
        Some(Self {
            class_type,
            title,
            steps: features.steps,
            needed: false,
            signature: features.signature,
            former_signature: features.former_signature,
            role: features.role,
            calls: features.calls,
            units: features.units,
            loaders: features.loaders,
            models: features.models,
            saved: features.saved,
            consumers: Vec::new(),
            is_partner: false,
        })
    }

    /// Its units of work; without a known size, as if all its images had 512 by 512 pixels.
    pub fn units_or_calls(&self) -> f64 {
        self.units.unwrap_or(self.calls)
    }

    /// Its title, or its class if it has none.
    pub fn name(&self) -> &str {
        self.title.as_deref().unwrap_or(&self.class_type)
    }
}

/// The ids of the nodes that the outputs depend on, these included.
fn needed<'a>(
    graph: &'a Map<String, Value>,
    sources: &HashMap<&'a str, Vec<&'a str>>,
    outputs: Option<&'a [String]>,
) -> HashSet<&'a str> {
    let read: HashSet<&str> = sources.values().flatten().copied().collect();
    let mut open: Vec<&str> = match outputs {
        Some(ids) if !ids.is_empty() => ids.iter().map(String::as_str).collect(),
        _ => graph
            .keys()
            .map(String::as_str)
            .filter(|id| !read.contains(id))
            .collect(),
    };
    let mut needed = HashSet::new();
    while let Some(id) = open.pop() {
        if needed.insert(id) {
            open.extend(sources.get(id).into_iter().flatten());
        }
    }
    needed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph() -> Map<String, Value> {
        let text = r#"{
            "1": {"class_type": "Loader", "inputs": {}},
            "2": {"class_type": "KSampler", "inputs": {"steps": 20, "model": ["1", 0]}, "_meta": {"title": "Second pass"}},
            "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0]}},
            "4": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
            "5": {"no": "node"}
        }"#;
        serde_json::from_str(text).unwrap()
    }

    fn needed(plan: &Plan) -> Vec<&str> {
        let mut ids: Vec<&str> = plan.needed().map(|(id, _)| id).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn without_named_outputs_every_node_without_a_consumer_is_one() {
        assert_eq!(
            needed(&Plan::from_graph(&graph(), None)),
            ["1", "2", "3", "4"]
        );
    }

    #[test]
    fn only_what_the_named_outputs_depend_on_is_needed() {
        let plan = Plan::from_graph(&graph(), Some(&["4".to_owned()]));
        assert_eq!(needed(&plan), ["1", "4"]);
        assert_eq!(plan.node("2").map(PlannedNode::name), Some("Second pass"));
        assert_eq!(plan.node("2").and_then(|n| n.steps), Some(20));
    }

    /// An equal plan is not published again.
    #[test]
    fn a_graph_is_always_read_to_the_same_plan() {
        let consumers = (2..20).map(|id| {
            let node = serde_json::json!({"class_type": "A", "inputs": {"x": ["1", 0]}});
            (id.to_string(), node)
        });
        let source = serde_json::json!({"class_type": "Loader"});
        let graph = Map::from_iter(consumers.chain([("1".to_owned(), source)]));
        let plan = Plan::from_graph(&graph, None);
        assert_eq!(plan, Plan::from_graph(&graph, None));
        let consumers = plan.node("1").map(|node| node.consumers.clone());
        let in_order: Vec<String> = (2..20).map(|id| id.to_string()).collect();
        assert_eq!(consumers, Some(in_order));
    }

    #[test]
    fn a_cycle_in_the_graph_ends() {
        let text = r#"{"1": {"class_type": "A", "inputs": {"x": ["2", 0]}},
                       "2": {"class_type": "B", "inputs": {"x": ["1", 0]}}}"#;
        let plan = Plan::from_graph(&serde_json::from_str(text).unwrap(), None);
        assert!(needed(&plan).is_empty());
    }
}
