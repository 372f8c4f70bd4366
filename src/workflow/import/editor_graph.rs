//! [`EditorGraph`]: nodes and links as ComfyUI's editor saves them.

use std::collections::HashMap;

use serde_json::Value;

use super::problem::ConversionProblem;
use crate::job::excerpt;

/// The most nodes that are converted: more than any editor shows.
const MAX_NODES: usize = 10_000;

/// Whether a node takes part, by the editor's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NodeMode {
    /// It runs.
    Active,
    /// It is left out.
    Muted,
    /// It is left out, and its inputs are passed on.
    Bypassed,
}

/// A node of the editor.
#[derive(Debug)]
pub(super) struct EditorNode<'a> {
    pub(super) id: String,
    pub(super) class: &'a str,
    pub(super) mode: NodeMode,
    pub(super) saved: &'a Value,
}

/// Where a link begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LinkOrigin {
    pub(super) node: String,
    pub(super) output: usize,
}

/// What the editor has saved.
#[derive(Debug)]
pub(super) struct EditorGraph<'a> {
    pub(super) nodes: Vec<EditorNode<'a>>,
    places: HashMap<String, usize>,
    links: HashMap<String, LinkOrigin>,
}

impl<'a> EditorGraph<'a> {
    pub(super) fn read(saved: &'a Value) -> Result<Self, Vec<ConversionProblem>> {
        let whole = |message: &str| ConversionProblem {
            node: "of the file".to_owned(),
            message: message.to_owned(),
        };
        let list = saved["nodes"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        if list.is_empty() || list.len() > MAX_NODES {
            let message = format!("expected 1 to {MAX_NODES} nodes, found {}", list.len());
            return Err(vec![whole(&message)]);
        }
        let (mut nodes, mut places, mut problems) = (Vec::new(), HashMap::new(), Vec::new());
        for saved in list {
            let (Some(id), Some(class)) = (id_of(&saved["id"]), saved["type"].as_str()) else {
                problems.push(whole("a node has no id or no type"));
                continue;
            };
            if places.insert(id.clone(), nodes.len()).is_some() {
                problems.push(whole(&format!("two nodes have the id {}", excerpt(&id))));
            }
            let mode = match saved["mode"].as_u64() {
                Some(2) => NodeMode::Muted,
                Some(4) => NodeMode::Bypassed,
                _ => NodeMode::Active,
            };
            nodes.push(EditorNode {
                id,
                class,
                mode,
                saved,
            });
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let links = saved["links"].as_array().into_iter().flatten();
        Ok(Self {
            nodes,
            places,
            links: links.filter_map(read_link).collect(),
        })
    }

    /// The node with this id.
    pub(super) fn node(&self, id: &str) -> Option<&EditorNode<'a>> {
        self.places.get(id).map(|place| &self.nodes[*place])
    }

    /// Where the link of an input begins, as a node has it saved.
    pub(super) fn origin(&self, input: &Value) -> Option<&LinkOrigin> {
        self.links.get(&id_of(&input["link"])?)
    }
}

impl EditorNode<'_> {
    /// Its inputs, as they are saved.
    pub(super) fn inputs(&self) -> impl Iterator<Item = &Value> {
        self.saved["inputs"].as_array().into_iter().flatten()
    }

    /// The title that its author has given it, or its class.
    pub(super) fn title(&self) -> &str {
        let title = self.saved["title"]
            .as_str()
            .filter(|title| !title.is_empty());
        title.unwrap_or(self.class)
    }
}

/// `[id, from, output, to, input, type]`, or an object in newer files.
fn read_link(link: &Value) -> Option<(String, LinkOrigin)> {
    let [id, node, output] = match link {
        Value::Array(_) => [&link[0], &link[1], &link[2]],
        _ => [&link["id"], &link["origin_id"], &link["origin_slot"]],
    };
    let origin = LinkOrigin {
        node: id_of(node)?,
        output: usize::try_from(output.as_u64()?).ok()?,
    };
    Some((id_of(id)?, origin))
}

/// Ids are numbers, and texts in newer files.
fn id_of(id: &Value) -> Option<String> {
    match id {
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        _ => None,
    }
}
