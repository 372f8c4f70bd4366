//! [`ObjectInfo`]: the node classes of the simulated server, as far as recordings show them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use crate::recording::{Exchange, Recording};

/// The type of an input that takes values of all types.
const ANY: &str = "*";

/// The menu in which clients show the classes.
const CATEGORY: &str = "recorded";

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

/// The classes in the graphs that the recorded servers accepted, and what their refusals show of others.
#[derive(Debug, Default)]
pub(super) struct ObjectInfo(BTreeMap<String, SeenClass>);

/// What recordings show of a class.
#[derive(Debug, Default)]
struct SeenClass {
    /// How many accepted nodes are of this class.
    nodes: usize,
    inputs: BTreeMap<String, SeenInput>,
    /// How many of its outputs accepted graphs use, with those before them.
    outputs: usize,
    is_output: bool,
    /// Whether the server has refused a value by what the class says of the input.
    is_judged: bool,
}

/// What recordings show of an input.
#[derive(Debug)]
struct SeenInput {
    /// How many accepted nodes set it.
    nodes: usize,
    /// Its type, in a list of one; or its whole specification, where a refusal shows it.
    spec: Value,
    is_shown: bool,
}

/// What the server says of a class.
#[derive(Debug, Serialize)]
struct ClassInfo<'a> {
    input: ClassInputs<'a>,
    /// The types of its outputs.
    output: Vec<&'static str>,
    /// What the outputs are called: as their types, where the class does not say.
    output_name: Vec<&'static str>,
    /// Whether each output is a list.
    output_is_list: Vec<bool>,
    name: &'a str,
    display_name: &'a str,
    description: &'static str,
    category: &'static str,
    /// The module of ComfyUI's own classes, for those that ComfyUI judges by what they say.
    #[serde(skip_serializing_if = "Option::is_none")]
    python_module: Option<&'static str>,
    /// Whether the server executes a node of this class although no other node needs it.
    output_node: bool,
}

/// The inputs of a class.
#[derive(Debug, Serialize)]
struct ClassInputs<'a> {
    /// Those that every accepted graph sets.
    required: BTreeMap<&'a str, &'a Value>,
    /// The others.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    optional: BTreeMap<&'a str, &'a Value>,
}

impl ObjectInfo {
    /// The classes of these recordings.
    pub(super) fn of(recordings: &[Arc<Recording>]) -> ObjectInfo {
        let mut info = ObjectInfo::default();
        for exchange in recordings.iter().flat_map(|one| &one.exchanges) {
            if exchange.is("POST", "/prompt") {
                if exchange.status == Some(200) {
                    info.add_graph(&exchange.request_body["prompt"]);
                }
                info.add_refusals(&exchange.response["node_errors"]);
            }
            for prompt in listed_prompts(exchange) {
                info.add_outputs(&prompt[2], &prompt[4]);
            }
        }
        info
    }

    /// The response to `GET /object_info`.
    pub(super) fn all(&self) -> Value {
        let classes = self.0.iter().map(|(name, class)| (name, class.info(name)));
        json!(classes.collect::<BTreeMap<_, _>>())
    }

    /// The response to `GET /object_info/{class}`: an empty object if there is no such class.
    pub(super) fn one(&self, class: &str) -> Value {
        let known = self.0.get_key_value(class);
        let known = known.map(|(name, class)| (name, class.info(name)));
        json!(known.into_iter().collect::<BTreeMap<_, _>>())
    }

    fn add_graph(&mut self, graph: &Value) {
        for node in graph
            .as_object()
            .into_iter()
            .flat_map(|nodes| nodes.values())
        {
            let Some(class) = self.class(node) else {
                continue;
            };
            class.nodes += 1;
            let inputs = node["inputs"].as_object().into_iter().flatten();
            for (name, value) in inputs.clone() {
                class.input(name, json!([type_of(value)])).nodes += 1;
            }
            for (_, value) in inputs {
                self.add_link(graph, value);
            }
        }
    }

    /// Takes up the output that an input is linked to: `[node, output]`.
    fn add_link(&mut self, graph: &Value, value: &Value) {
        let source = value[0].as_str().and_then(|id| graph.get(id));
        let output = value[1].as_u64().and_then(|it| usize::try_from(it).ok());
        let class = source.and_then(|node| self.class(node));
        if let Some((class, output)) = class.zip(output) {
            class.outputs = class.outputs.max(output + 1);
        }
    }

    /// Takes up the specifications of inputs that refusals show: `extra_info.input_config`.
    fn add_refusals(&mut self, node_errors: &Value) {
        for node in node_errors
            .as_object()
            .into_iter()
            .flat_map(|it| it.values())
        {
            for error in node["errors"].as_array().into_iter().flatten() {
                let shown = &error["extra_info"];
                let spec = shown["input_config"].as_array();
                let (Some(spec), Some(name)) = (spec, shown["input_name"].as_str()) else {
                    continue;
                };
                // The input that an exception names is that of another node.
                let is_of_node = error["type"] != "exception_during_inner_validation";
                if let Some(class) = self.class(node).filter(|_| is_of_node) {
                    class.is_judged = true;
                    let input = class.input(name, Value::Null);
                    (input.spec, input.is_shown) = (json!(spec), true);
                }
            }
        }
    }

    fn add_outputs(&mut self, graph: &Value, ids: &Value) {
        for id in ids.as_array().into_iter().flatten() {
            let node = id.as_str().and_then(|id| graph.get(id));
            if let Some(info) = node.and_then(|node| self.class(node)) {
                info.is_output = true;
            }
        }
    }

    fn class(&mut self, node: &Value) -> Option<&mut SeenClass> {
        let class = node.get("class_type")?.as_str()?;
        let seen = self.0.entry(class.to_owned());
        Some(seen.or_insert_with(|| SeenClass {
            is_output: CORE_OUTPUTS.contains(&class),
            ..SeenClass::default()
        }))
    }
}

impl SeenClass {
    /// One of its inputs. It takes any type if graphs set it to values of several.
    fn input(&mut self, name: &str, spec: Value) -> &mut SeenInput {
        let input = self.inputs.entry(name.to_owned());
        let input = input.or_insert_with(|| SeenInput {
            nodes: 0,
            spec: spec.clone(),
            is_shown: false,
        });
        if !input.is_shown && input.spec != spec {
            input.spec = json!([ANY]);
        }
        input
    }

    fn info<'a>(&'a self, name: &'a str) -> ClassInfo<'a> {
        let inputs = |is_required: bool| {
            let inputs = self.inputs.iter();
            let is_always_set = |it: &SeenInput| it.nodes > 0 && it.nodes == self.nodes;
            let inputs = inputs.filter(|(_, it)| is_always_set(it) == is_required);
            inputs.map(|(name, it)| (name.as_str(), &it.spec)).collect()
        };
        ClassInfo {
            input: ClassInputs {
                required: inputs(true),
                optional: inputs(false),
            },
            output: vec![ANY; self.outputs],
            output_name: vec![ANY; self.outputs],
            output_is_list: vec![false; self.outputs],
            name,
            display_name: name,
            description: "",
            category: CATEGORY,
            python_module: self.is_judged.then_some("nodes"),
            output_node: self.is_output,
        }
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

/// The type of an input that is set to this value; any type for a link.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "BOOLEAN",
        Value::Number(number) if number.is_f64() => "FLOAT",
        Value::Number(_) => "INT",
        Value::String(_) => "STRING",
        Value::Null | Value::Array(_) | Value::Object(_) => ANY,
    }
}
