//! A header for a graph, as a draft: the parameters that most workflows have.

use serde_json::{Map, Value, json};

use crate::workflow::header::WorkflowHeader;

/// The inputs of a sampler that become parameters: input, parameter, type, and further fields.
const OF_SAMPLER: [(&str, &str, &str); 5] = [
    ("steps", "steps", "integer"),
    ("cfg", "cfg", "number"),
    ("sampler_name", "sampler", "choice"),
    ("scheduler", "scheduler", "choice"),
    ("denoise", "denoise", "number"),
];

/// The inputs of other nodes that become parameters, where the graph has one such node.
const OF_OTHERS: [(&str, &str, &str); 6] = [
    ("width", "width", "integer"),
    ("height", "height", "integer"),
    ("batch_size", "images", "integer"),
    ("length", "frames", "integer"),
    ("ckpt_name", "checkpoint", "choice"),
    ("unet_name", "model", "choice"),
];

/// A header for a graph, to be completed by hand. Each of its parameters fits the graph.
pub fn draft_header(graph: &Map<String, Value>, title: &str) -> Value {
    let sampler = graph.iter().find(|(_, node)| {
        let has = |input: &str| node["inputs"].get(input).is_some();
        has("steps") && (has("positive") || has("guider"))
    });
    let of_sampler = sampler.into_iter().flat_map(|(id, node)| {
        let named = OF_SAMPLER.map(|(input, name, kind)| parameter(name, kind, &[(id, input)]));
        texts(graph, &node["inputs"]).into_iter().chain(named)
    });
    let of_others = OF_OTHERS.into_iter().filter_map(|(input, name, kind)| {
        let has_value = |value: &Value| !value.is_array();
        let mut having = graph
            .iter()
            .filter(|(_, node)| node["inputs"].get(input).is_some_and(has_value));
        match (having.next(), having.next()) {
            (Some((id, _)), None) => Some(parameter(name, kind, &[(id, input)])),
            _ => None,
        }
    });
    let all = pictures(graph)
        .into_iter()
        .chain(of_sampler)
        .chain(of_others)
        .chain(seed(graph));
    let fits = |parameter: &Value| {
        let header = json!({"title": "draft", "parameters": [parameter]});
        WorkflowHeader::read(header.to_string().as_bytes(), graph).is_ok()
    };
    let parameters: Vec<Value> = all.filter(fits).collect();
    json!({"title": title, "description": "", "parameters": parameters})
}

/// The prompts behind a sampler.
fn texts(graph: &Map<String, Value>, sampler: &Value) -> Vec<Value> {
    let named = [("positive", "prompt"), ("negative", "negative")];
    let found = named.into_iter().filter_map(|(input, name)| {
        let node = text_behind(graph, &sampler[input])?;
        let mut text = parameter(name, "string", &[(&node, "text")]);
        text["multiline"] = true.into();
        Some(text)
    });
    found.collect()
}

/// The pictures that are loaded.
fn pictures(graph: &Map<String, Value>) -> Vec<Value> {
    let loaders = graph
        .iter()
        .filter(|(_, node)| node["class_type"] == "LoadImage");
    let loaders: Vec<(&String, &Value)> = loaders.collect();
    let found = loaders.iter().map(|(id, node)| {
        let name = match loaders.len() {
            1 => "start".to_owned(),
            _ => format!("image_{}", id.to_lowercase()),
        };
        let mut picture = parameter(&name, "image", &[(id, "image")]);
        picture["description"] = node["_meta"]["title"].as_str().unwrap_or_default().into();
        picture["required"] = true.into();
        picture
    });
    found.collect()
}

/// One seed for all nodes that have one.
fn seed(graph: &Map<String, Value>) -> Option<Value> {
    let named = ["seed", "noise_seed"].into_iter().flat_map(|input| {
        let having = graph
            .iter()
            .filter(move |(_, node)| node["inputs"][input].is_number());
        having.map(move |(id, _)| (id, input))
    });
    let targets: Vec<(&String, &str)> = named.collect();
    if targets.is_empty() {
        return None;
    }
    let mut seed = parameter("seed", "integer", &targets);
    seed["minimum"] = 0.into();
    seed["default"] = "random".into();
    Some(seed)
}

fn parameter(name: &str, kind: &str, targets: &[(&String, &str)]) -> Value {
    let targets: Vec<Value> = targets
        .iter()
        .map(|(node, input)| json!({"node": node, "input": input}))
        .collect();
    json!({"name": name, "type": kind, "description": "", "targets": targets})
}

/// The node whose text becomes a conditioning, behind others that change it.
fn text_behind(graph: &Map<String, Value>, link: &Value) -> Option<String> {
    let mut link = link;
    for _ in 0..graph.len() {
        let id = link[0].as_str()?;
        let inputs = &graph.get(id)?["inputs"];
        if inputs["text"].is_string() {
            return Some(id.to_owned());
        }
        link = ["conditioning", "positive"]
            .iter()
            .find_map(|it| inputs.get(it))?;
    }
    None
}
