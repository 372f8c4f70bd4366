//! The states of all nodes of a prompt: by far the most frequent message, and the longest.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::job::{NodeReport, NodeState};

/// The data of a `progress_state`.
#[derive(Deserialize)]
pub(super) struct ProgressState {
    pub(super) prompt_id: Option<String>,
    pub(super) nodes: NodeList,
}

/// The nodes of a `progress_state`, in the server's order.
pub(super) struct NodeList(pub(super) Vec<NodeReport>);

#[derive(Deserialize)]
struct NodeData<'a> {
    #[serde(default)]
    value: f64,
    #[serde(default)]
    max: f64,
    #[serde(borrow, default)]
    state: Cow<'a, str>,
    display_node_id: Option<String>,
    #[serde(borrow, default)]
    activity: Option<Cow<'a, str>>,
}

impl<'de> Deserialize<'de> for NodeList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NodeListVisitor;
        impl<'de> Visitor<'de> for NodeListVisitor {
            type Value = NodeList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the nodes of a progress_state")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<NodeList, A::Error> {
                let mut nodes = Vec::with_capacity(map.size_hint().unwrap_or(0));
                while let Some(id) = map.next_key::<String>()? {
                    let node: NodeData<'de> = map.next_value()?;
                    nodes.push(NodeReport {
                        node: id,
                        display: node.display_node_id,
                        value: node.value,
                        max: node.max,
                        state: match node.state.as_ref() {
                            "finished" => NodeState::Finished,
                            "error" => NodeState::Failed,
                            _ => NodeState::Running,
                        },
                        loading: node.activity.as_deref() == Some("loading"),
                    });
                }
                Ok(NodeList(nodes))
            }
        }
        deserializer.deserialize_map(NodeListVisitor)
    }
}
