use serde_json::{Map, Value};

use super::Plan;
use super::correction::ImageSizes;

/// The graph of a prompt, and which of its nodes a server executes as outputs.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptGraph {
    nodes: Map<String, Value>,
    outputs: Vec<String>,
}

impl PromptGraph {
    /// A graph in API format with the ids of its outputs; without any, they are not known. `None` for a
    /// graph without nodes.
    pub fn new(nodes: Map<String, Value>, outputs: Vec<String>) -> Option<Self> {
        (!nodes.is_empty()).then_some(Self { nodes, outputs })
    }

    /// Whether it is known which of its nodes are executed as outputs.
    pub fn has_outputs(&self) -> bool {
        !self.outputs.is_empty()
    }

    /// Its nodes by their ids, in API format.
    pub fn into_nodes(self) -> Map<String, Value> {
        self.nodes
    }

    /// Its plan, as far as the sizes of its images are known.
    pub fn plan(&self, images: &ImageSizes) -> Plan {
        Plan::read(&self.nodes, Some(&self.outputs), images)
    }
}
