//! What a node's cost depends on, as far as the graph tells.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::{Map, Value};

/// What a node does, judged by the name of its class: custom nodes keep to these words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Reads a model from the disk.
    Loader,
    /// Denoises, step by step.
    Sampler,
    /// Encodes a text.
    Text,
    /// Turns pictures into latents or back.
    Vae,
    /// Enlarges pictures.
    Upscale,
    /// Writes files.
    Save,
    /// Anything else.
    Other,
}

/// The features of one node.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Work {
    pub(super) role: Role,
    pub(super) steps: Option<u32>,
    pub(super) units: f64,
    pub(super) loaders: Vec<String>,
    pub(super) signature: String,
}

/// The picture that one unit of work stands for, in pixels.
const UNIT_PIXELS: f64 = 512.0 * 512.0;

/// Twice the pixels cost somewhat less than twice the time: every step has a part that does not grow.
const PIXEL_POWER: f64 = 0.9;

/// The factor of an upscale model that does not tell its own.
const UPSCALE: f64 = 4.0;

/// The most that is believed of any feature, so that sums stay finite.
const MAX_FEATURE: f64 = 1e12;

/// Inputs that change a picture, but not the time that it takes.
const COSTLESS: [&str; 6] = [
    "seed",
    "noise_seed",
    "text",
    "filename_prefix",
    "image",
    "cfg",
];

/// Samplers that ask the model several times a step.
const CALLS: [(&str, f64); 8] = [
    ("heun", 2.0),
    ("heunpp2", 3.0),
    ("dpm_2", 2.0),
    ("dpm_2_ancestral", 2.0),
    ("dpmpp_2s_ancestral", 2.0),
    ("dpmpp_sde", 2.0),
    ("dpmpp_sde_gpu", 2.0),
    ("seeds_2", 2.0),
];

impl Role {
    /// The role of a class.
    pub fn of(class_type: &str) -> Self {
        let class = class_type.to_ascii_lowercase();
        let has = |word| class.contains(word);
        if has("sampler") && !has("select") {
            Self::Sampler
        } else if has("load") && !has("image") && !has("video") && !has("mask") {
            Self::Loader
        } else if has("vae") && (has("decode") || has("encode")) {
            Self::Vae
        } else if has("upscale") {
            Self::Upscale
        } else if has("save") || has("preview") || has("combine") {
            Self::Save
        } else if has("encode") {
            Self::Text
        } else {
            Self::Other
        }
    }

    /// The work of one pass over a picture. Some of it does not grow with the picture: so costs of
    /// tiny ones are not taken for a measure of large ones.
    fn pass(self, pixels: f64) -> f64 {
        let fixed = match self {
            Self::Loader | Self::Text => return 1.0,
            Self::Sampler | Self::Vae | Self::Upscale => 0.005,
            Self::Save | Self::Other => 0.25,
        };
        fixed + (pixels / UNIT_PIXELS).powf(PIXEL_POWER)
    }
}

/// Reads the nodes of one graph, each once.
pub(super) struct Reader<'a> {
    graph: &'a Map<String, Value>,
    pixels: HashMap<&'a str, Option<f64>>,
    loaders: HashMap<&'a str, BTreeSet<&'a str>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(graph: &'a Map<String, Value>) -> Self {
        let mut reader = Self {
            graph,
            pixels: HashMap::new(),
            loaders: HashMap::new(),
        };
        for id in sources_first(graph) {
            let node = &graph[id];
            let size = reader.size(node);
            let loaders = reader.upstream(id, node);
            reader.pixels.insert(id, size);
            reader.loaders.insert(id, loaders);
        }
        reader
    }

    /// The features of the node with this id.
    pub(super) fn work(&self, id: &str, class_type: &str) -> Work {
        let node = &self.graph[id];
        let role = Role::of(class_type);
        let steps = self.steps(node).filter(|_| role == Role::Sampler);
        let pixels = self.pixels.get(id).copied().flatten();
        let loaders = self.loaders.get(id);
        let loaders: Vec<&str> = loaders.into_iter().flatten().copied().collect();
        let mut units = steps.map_or(1.0, f64::from);
        if role == Role::Sampler {
            units *= self.calls(node);
        }
        if let Some(pixels) = pixels {
            units *= role.pass(pixels);
        }
        let models = loaders.iter().filter(|loader| **loader != id);
        let models = models.map(|loader| words(&self.graph[*loader]).join(","));
        let mut words = words(node);
        words.push(format!("{pixels:?} {steps:?} {:?}", self.sampler(node)));
        words.extend(models);
        Work {
            role,
            steps,
            units: units.min(MAX_FEATURE),
            loaders: loaders.iter().map(|&loader| loader.to_owned()).collect(),
            signature: hash(class_type, &words),
        }
    }

    /// Pixels times pictures that leave the node: its own, or the largest that come in, enlarged.
    fn size(&self, node: &Value) -> Option<f64> {
        let number = |name: &str| {
            input(node, name)
                .and_then(Value::as_f64)
                .filter(|x| *x > 0.0)
        };
        let count = |names: &[&str]| names.iter().find_map(|name| number(name)).unwrap_or(1.0);
        let pictures =
            count(&["batch_size", "amount"]) * count(&["length", "frames", "video_frames"]);
        let incoming = links(node)
            .into_iter()
            .filter_map(|id| *self.pixels.get(id)?);
        let incoming = incoming.fold(None, |most: Option<f64>, size| {
            Some(most.map_or(size, |most| most.max(size)))
        });
        let class = node
            .get("class_type")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let size = match (number("width"), number("height"), incoming) {
            (Some(width), Some(height), _) => width * height * pictures,
            (_, _, Some(size)) => {
                let scale = match number("scale_by") {
                    Some(scale) => scale,
                    None if class.contains("UpscaleWithModel") => UPSCALE,
                    None => 1.0,
                };
                size * scale * scale * count(&["amount"])
            }
            _ => return None,
        };
        Some(size.min(MAX_FEATURE))
    }

    /// The loaders that the node depends on, itself included.
    fn upstream(&self, id: &'a str, node: &'a Value) -> BTreeSet<&'a str> {
        let mut found: BTreeSet<&str> = BTreeSet::new();
        for source in links(node) {
            found.extend(self.loaders.get(source).into_iter().flatten());
        }
        let class = node
            .get("class_type")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if Role::of(class) == Role::Loader {
            found.insert(id);
        }
        found
    }

    /// The steps of its bar. With `denoise` below 1 the server still takes them all.
    fn steps(&self, node: &Value) -> Option<u32> {
        let whole = |node: &Value, name| input(node, name).and_then(Value::as_u64);
        let all = whole(node, "steps").or_else(|| whole(self.source(node, "sigmas")?, "steps"))?;
        let end = whole(node, "end_at_step").map_or(all, |end| end.min(all));
        let begin = whole(node, "start_at_step").unwrap_or(0);
        u32::try_from(end.saturating_sub(begin))
            .ok()
            .filter(|steps| *steps > 0)
    }

    fn sampler(&self, node: &'a Value) -> Option<&'a str> {
        let own = input(node, "sampler_name").and_then(Value::as_str);
        own.or_else(|| input(self.source(node, "sampler")?, "sampler_name")?.as_str())
    }

    fn calls(&self, node: &Value) -> f64 {
        let sampler = self.sampler(node);
        let known = CALLS.iter().find(|(name, _)| Some(*name) == sampler);
        known.map_or(1.0, |(_, calls)| *calls)
    }

    /// The node that an input is linked to.
    fn source(&self, node: &Value, name: &str) -> Option<&'a Value> {
        self.graph.get(link(input(node, name)?)?)
    }
}

/// The ids of the nodes that a node reads. A link is an input of the form `["4", 0]`.
pub(super) fn links(node: &Value) -> Vec<&str> {
    let inputs = node.get("inputs").and_then(Value::as_object);
    inputs
        .into_iter()
        .flat_map(Map::values)
        .filter_map(link)
        .collect()
}

fn link(input: &Value) -> Option<&str> {
    match input.as_array()?.as_slice() {
        [Value::String(id), Value::Number(_)] => Some(id.as_str()),
        _ => None,
    }
}

fn input<'a>(node: &'a Value, name: &str) -> Option<&'a Value> {
    node.get("inputs")?.get(name)
}

/// All ids, sources before those that read them; in a circle, in any order.
pub(super) fn sources_first(graph: &Map<String, Value>) -> Vec<&str> {
    let (mut order, mut seen) = (Vec::new(), HashSet::new());
    for start in graph.keys() {
        let mut open = vec![(start.as_str(), false)];
        while let Some((id, is_ready)) = open.pop() {
            if is_ready {
                order.push(id);
            } else if seen.insert(id) {
                open.push((id, true));
                let sources = graph.get(id).map(links).unwrap_or_default();
                let sources = sources.into_iter().filter_map(|id| graph.get_key_value(id));
                open.extend(sources.map(|(id, _)| (id.as_str(), false)));
            }
        }
    }
    order
}

/// The inputs that cost may depend on, in order.
fn words(node: &Value) -> Vec<String> {
    let inputs = node.get("inputs").and_then(Value::as_object);
    let mut words: Vec<String> = inputs
        .into_iter()
        .flatten()
        .filter(|(name, value)| !value.is_array() && !COSTLESS.contains(&name.as_str()))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    // At a scale of 1 the server leaves the negative half out.
    if input(node, "cfg").and_then(Value::as_f64) == Some(1.0) {
        words.push("cfg=1".to_owned());
    }
    words.sort_unstable();
    words
}

/// 64-bit FNV-1a.
fn hash(class_type: &str, words: &[String]) -> String {
    let words = std::iter::once(class_type).chain(words.iter().map(String::as_str));
    let bytes = words.flat_map(|word| word.bytes().chain([0]));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(graph: Value, id: &str) -> Work {
        let graph = graph.as_object().unwrap();
        let class = graph[id]["class_type"].as_str().unwrap();
        Reader::new(graph).work(id, class)
    }

    fn sampler(inputs: Value) -> Value {
        let mut graph = serde_json::json!({
            "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a"}},
            "2": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 1024, "batch_size": 2}},
            "3": {"class_type": "KSampler", "inputs": {"model": ["1", 0], "latent_image": ["2", 0], "steps": 20}},
            "4": {"class_type": "LatentUpscaleBy", "inputs": {"samples": ["3", 0], "scale_by": 2.0}}
        });
        for (name, value) in inputs.as_object().unwrap() {
            graph["3"]["inputs"][name] = value.clone();
        }
        graph
    }

    #[test]
    fn a_signature_tells_costs_apart_and_nothing_else() {
        let signature = |inputs| work(sampler(inputs), "3").signature;
        let plain = signature(serde_json::json!({"seed": 1, "cfg": 7.0}));
        assert_eq!(plain, signature(serde_json::json!({"seed": 2, "cfg": 8.0})));
        assert_ne!(plain, signature(serde_json::json!({"steps": 30})));
        assert_ne!(plain, signature(serde_json::json!({"cfg": 1.0})));
        let mut larger = sampler(serde_json::json!({}));
        larger["2"]["inputs"]["width"] = 1024.into();
        assert_ne!(plain, work(larger, "3").signature);
        let mut other = sampler(serde_json::json!({}));
        other["1"]["inputs"]["ckpt_name"] = "b".into();
        assert_ne!(plain, work(other, "3").signature);
    }

    #[test]
    fn sizes_and_loaders_are_followed_through_the_graph() {
        let graph = sampler(serde_json::json!({}));
        let reader = Reader::new(graph.as_object().unwrap());
        assert_eq!(reader.pixels["3"], Some(512.0 * 1024.0 * 2.0));
        assert_eq!(reader.pixels["4"], Some(1024.0 * 2048.0 * 2.0));
        assert_eq!(work(graph, "4").loaders, ["1"]);
    }

    #[test]
    fn steps_are_those_between_start_and_end() {
        let steps = |inputs| work(sampler(inputs), "3").steps;
        assert_eq!(
            steps(serde_json::json!({"start_at_step": 5, "end_at_step": 10_000})),
            Some(15)
        );
        assert_eq!(
            steps(serde_json::json!({"start_at_step": 0, "end_at_step": 12})),
            Some(12)
        );
        assert_eq!(steps(serde_json::json!({"denoise": 0.5})), Some(20));
        assert_eq!(steps(serde_json::json!({"start_at_step": 30})), None);
    }

    #[test]
    fn a_sampler_that_asks_twice_costs_twice() {
        let units =
            |name: &str| work(sampler(serde_json::json!({"sampler_name": name})), "3").units;
        assert_eq!(units("heun"), 2.0 * units("euler"));
    }
}
