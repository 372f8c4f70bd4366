//! [`ObjectInfo`]: the node classes of the simulated server, as far as recordings show them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use crate::recording::{Exchange, Recording};

/// Classes of ComfyUI itself that are outputs, whether or not a recorded queue lists a node of theirs.
const CORE_OUTPUTS: [&str; 21] = [
    "CLIPSave",
    "CheckpointSave",
    "ImageCompare",
    "LoraSave",
    "MaskPreview",
    "ModelSave",
    "Preview3D",
    "PreviewAny",
    "PreviewAudio",
    "PreviewImage",
    "SaveAnimatedPNG",
    "SaveAnimatedWEBP",
    "SaveAudio",
    "SaveAudioMP3",
    "SaveAudioOpus",
    "SaveGLB",
    "SaveImage",
    "SaveImageWebsocket",
    "SaveLatent",
    "SaveVideo",
    "SaveWEBM",
];

/// The classes in the graphs that the recorded servers accepted.
#[derive(Debug, Default)]
pub(super) struct ObjectInfo(BTreeMap<String, ClassInfo>);

/// What the server says of a class.
#[derive(Debug, Default, Serialize)]
struct ClassInfo {
    input: ClassInputs,
    name: String,
    display_name: String,
    /// Whether the server executes a node of this class although no other node needs it.
    output_node: bool,
}

/// The inputs of a class.
#[derive(Debug, Default, Serialize)]
struct ClassInputs {
    /// The type of each input that a graph sets, in a list of one.
    required: BTreeMap<String, [&'static str; 1]>,
}

impl ObjectInfo {
    /// The classes of these recordings.
    pub(super) fn of(recordings: &[Arc<Recording>]) -> ObjectInfo {
        let mut info = ObjectInfo::default();
        for exchange in recordings.iter().flat_map(|one| &one.exchanges) {
            if exchange.is("POST", "/prompt") && exchange.status == Some(200) {
                info.add_graph(&exchange.request_body["prompt"]);
            }
            for prompt in listed_prompts(exchange) {
                info.add_outputs(&prompt[2], &prompt[4]);
            }
        }
        info
    }

    /// The response to `GET /object_info`.
    pub(super) fn all(&self) -> Value {
        json!(self.0)
    }

    /// The response to `GET /object_info/{class}`: an empty object if there is no such class.
    pub(super) fn one(&self, class: &str) -> Value {
        let known = self.0.get_key_value(class);
        json!(known.into_iter().collect::<BTreeMap<_, _>>())
    }

    fn add_graph(&mut self, graph: &Value) {
        for node in graph
            .as_object()
            .into_iter()
            .flat_map(|nodes| nodes.values())
        {
            let Some(info) = self.class(node) else {
                continue;
            };
            let inputs = node["inputs"].as_object().into_iter().flatten();
            for (name, value) in inputs {
                let types = [type_of(value)];
                info.input.required.entry(name.clone()).or_insert(types);
            }
        }
    }

    fn add_outputs(&mut self, graph: &Value, ids: &Value) {
        for id in ids.as_array().into_iter().flatten() {
            let node = id.as_str().and_then(|id| graph.get(id));
            if let Some(info) = node.and_then(|node| self.class(node)) {
                info.output_node = true;
            }
        }
    }

    fn class(&mut self, node: &Value) -> Option<&mut ClassInfo> {
        let class = node.get("class_type")?.as_str()?;
        let info = self.0.entry(class.to_owned());
        Some(info.or_insert_with(|| ClassInfo {
            name: class.to_owned(),
            display_name: class.to_owned(),
            output_node: CORE_OUTPUTS.contains(&class),
            ..ClassInfo::default()
        }))
    }
}

/// The prompts in a response of the queue or the history: each an array of its number, its id, its graph, further data,
/// and the ids of the outputs that are executed.
fn listed_prompts(exchange: &Exchange) -> Vec<&Value> {
    let response = exchange.response.as_object().into_iter().flatten();
    if exchange.is("GET", "/queue") {
        let lists = response.filter_map(|(_, list)| list.as_array());
        lists.flatten().collect()
    } else if exchange.method == "GET" && exchange.path.starts_with("/history") {
        response
            .filter_map(|(_, entry)| entry.get("prompt"))
            .collect()
    } else {
        Vec::new()
    }
}

/// The type of an input that is set to this value; `*`, any type, for a link.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "BOOLEAN",
        Value::Number(number) if number.is_f64() => "FLOAT",
        Value::Number(_) => "INT",
        Value::String(_) => "STRING",
        Value::Null | Value::Array(_) | Value::Object(_) => "*",
    }
}
