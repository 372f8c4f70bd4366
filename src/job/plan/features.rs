//! What the cost of a node depends on, as far as the graph shows it.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::copies::CopiedLoops;
use super::correction::{ImageSizes, SavedImages, SizeKey};
use super::dimensions::Dimensions;
use super::graph::{Graph, MAX_FEATURE, class, inputs, link};
use super::image::{self, ImageFile};
use super::loaders::Loaders;
use super::numbers::GraphNumbers;
use super::repetition::Repetition;
use super::role::Role;
use super::signature::{Signature, words};
use super::size::{Size, SizeContext};

/// The features of one node, as described at [`PlannedNode`](super::PlannedNode).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Features {
    pub(super) role: Role,
    pub(super) steps: Option<u32>,
    pub(super) calls: f64,
    pub(super) units: Option<f64>,
    pub(super) loaders: Vec<String>,
    pub(super) models: u64,
    pub(super) signature: String,
    pub(super) former_signature: Option<String>,
    pub(super) saved: Option<SavedImages>,
}

/// The classes that save the images that they take, and nothing else.
const SAVING: [&str; 8] = [
    "SaveImage",
    "PreviewImage",
    "SaveAnimatedPNG",
    "SaveAnimatedWEBP",
    "SaveWEBM",
    "SaveVideo",
    "VHS_VideoCombine",
    "easy saveImage",
];

/// How many nodes that change sigmas are followed, one after the other: in a cycle they never end.
const MAX_SCHEDULERS: usize = 16;

/// How many loops of a graph are read: each takes time in proportion to the graph.
const MAX_LOOPS: usize = 16;

/// Samplers that evaluate the model more than once a step, and how many times they do.
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

/// Reads the nodes of one graph. What one node takes over from its sources is computed once.
pub(super) struct GraphReader<'a> {
    graph: Graph<'a>,
    numbers: GraphNumbers<'a>,
    sizes: HashMap<&'a str, Size<'a>>,
    /// What the size of a node's images depends on, as a hash.
    keys: HashMap<&'a str, SizeKey>,
    /// Whether the size of a node is not the one in the graph, but the one that was observed.
    is_corrected: bool,
    /// The files that nodes load, by node.
    files: Vec<(&'a str, ImageFile)>,
    loaders: HashMap<&'a str, Loaders<'a>>,
    /// The model of each loader, as a hash of its inputs.
    models: HashMap<&'a str, Signature>,
    /// What the nodes that close loops repeat.
    repeated: HashMap<&'a str, RepeatedWork>,
}

/// The work that the end of a loop repeats.
struct RepeatedWork {
    /// That of most of it.
    role: Role,
    calls: f64,
    units: Option<f64>,
    /// A hash of everything that it depends on.
    signature: Signature,
}

impl<'a> GraphReader<'a> {
    /// Reads a graph. `images` are the files whose sizes are known.
    pub(super) fn new(graph: &'a Map<String, Value>, images: &ImageSizes) -> Self {
        let graph = Graph(graph);
        let mut reader = Self {
            graph,
            numbers: GraphNumbers::new(graph),
            sizes: HashMap::new(),
            keys: HashMap::new(),
            is_corrected: false,
            files: Vec::new(),
            loaders: HashMap::new(),
            models: HashMap::new(),
            repeated: HashMap::new(),
        };
        let order = graph.topological();
        let nodes = order.iter().copied();
        for (id, node) in nodes.filter_map(|id| Some((id, graph.node(id)?))) {
            reader.read_size(id, node, images);
            let loaders = Loaders::of(id, node, &reader.loaders);
            if loaders.ids().any(|loader| loader == id) {
                let words = words(node, graph, &reader.numbers);
                let model = Signature::of(words.iter().map(String::as_str));
                reader.models.insert(id, model);
            }
            reader.loaders.insert(id, loaders);
            if reader.repeated.len() < MAX_LOOPS {
                let closed = Repetition::closed_by(id, node, graph, &reader.numbers, &order);
                let repeated = closed.map(|closed| reader.repeated_work(&closed));
                reader
                    .repeated
                    .extend(repeated.map(|repeated| (id, repeated)));
            }
        }
        reader
    }

    /// The work of a loop behind its first round, which is that of its nodes themselves.
    fn repeated_work(&self, closed: &Repetition<'a>) -> RepeatedWork {
        let nodes = closed.nodes.iter();
        let nodes = nodes.filter_map(|id| Some(self.features(id, self.graph.node(id)?)));
        let nodes: Vec<Features> = nodes.collect();
        let role = nodes.iter().max_by(|a, b| a.calls.total_cmp(&b.calls));
        let repeats = closed.repeats.unwrap_or(1.0);
        let units = nodes.iter().map(|node| node.units).sum::<Option<f64>>();
        let start = self.graph.node(closed.start);
        let start = start.map(|start| words(start, self.graph, &self.numbers));
        let start = start.unwrap_or_default();
        let signatures = nodes.iter().map(|node| node.signature.as_str());
        RepeatedWork {
            role: role.map_or(Role::Other, |node| node.role),
            calls: repeats * nodes.iter().map(|node| node.calls).sum::<f64>(),
            units: units.map(|units| units * repeats),
            signature: Signature::of(start.iter().map(String::as_str).chain(signatures)),
        }
    }

    /// Reads the size of the images that leave a node, and the numbers.
    fn read_size(&mut self, id: &'a str, node: &'a Value, images: &ImageSizes) {
        let loaded = ImageFile::loaded_by(node, self.graph);
        let key = self.size_key(node, image::text(node));
        let context = SizeContext {
            graph: self.graph,
            numbers: &self.numbers,
            sizes: &self.sizes,
            known: images,
            key,
        };
        let read = |context| match &loaded {
            Some((name, file)) => Some(Size::of_file(name, images.of_file(file), node, context)),
            None => Size::of(node, context),
        };
        let size = read(context);
        let is_corrected = images.of_node(key).is_some() && {
            let nothing = ImageSizes::default();
            let known = &nothing;
            read(SizeContext { known, ..context }) != size
        };
        self.is_corrected |= is_corrected;
        self.files.extend(loaded.map(|(_, file)| (id, file)));
        self.keys.insert(id, key);
        self.sizes.extend(size.map(|size| (id, size)));
        let sizes = &self.sizes;
        self.numbers.read(id, node, |id| sizes.get(id)?.dimensions);
    }

    /// What the size of a node's images depends on: its class, its inputs, the sizes of the images that it takes,
    /// and of what has no known size everything that this depends on. `file` is the name of a file that it loads, or the
    /// file itself.
    fn size_key(&self, node: &'a Value, file: Option<&str>) -> SizeKey {
        let class = class(node);
        // An upscale model enlarges images of any size by the same factor.
        let is_factor = class.to_ascii_lowercase().contains("upscalewithmodel");
        let mut words = words(node, self.graph, &self.numbers);
        words.extend(inputs(node).filter_map(|(name, value)| {
            let (source, output) = link(value)?;
            match self.sizes.get(source).and_then(|size| size.dimensions) {
                Some(_) if is_factor => None,
                Some(size) => Some(format!("{name}: {size:?}")),
                None => Some(format!("{name}: {:?} {output}", self.keys.get(source))),
            }
        }));
        words.sort_unstable();
        let words = words.iter().map(String::as_str);
        SizeKey(Signature::of([class].into_iter().chain(file).chain(words)).number())
    }

    /// Whether the size of a node is not the one in the graph, but the one that was observed.
    pub(super) fn is_corrected(&self) -> bool {
        self.is_corrected
    }

    /// What is known of the images that leave a node.
    pub(super) fn size(&self, id: &str) -> Option<Size<'a>> {
        self.sizes.get(id).copied()
    }

    /// The loops whose nodes are copied.
    pub(super) fn copied_loops(&self) -> CopiedLoops {
        CopiedLoops::read(self.graph, &self.numbers, &self.graph.topological())
    }

    /// The files that nodes load, with the ids of the nodes.
    pub(super) fn into_files(self) -> Vec<(&'a str, ImageFile)> {
        self.files
    }

    /// The features of the node with this id.
    pub(super) fn features(&self, id: &str, node: &'a Value) -> Features {
        let class = class(node);
        let role = Role::of(class);
        let steps = self.steps(node).filter(|_| role == Role::Sampler);
        let size = self.size(id);
        let pixels = size
            .and_then(|size| size.dimensions)
            .map(Dimensions::pixels);
        let loaders = self.loaders.get(id).into_iter().flat_map(Loaders::ids);
        let loaders: Vec<&str> = loaders.collect();
        let mut calls = steps.map_or(1.0, f64::from);
        if role == Role::Sampler {
            calls *= self.calls(node);
        }
        let units = match pixels {
            Some(pixels) => Some(calls * role.pass(pixels)),
            // Its cost has no size.
            None if matches!(role, Role::Loader | Role::Text) => Some(calls),
            None => None,
        };
        let models = self.models(id, &loaders);
        let mut words = words(node, self.graph, &self.numbers);
        let repeated = self
            .repeated
            .get(id)
            .filter(|repeated| repeated.calls > 0.0);
        words.extend(repeated.map(|repeated| repeated.signature.text()));
        let (role, calls, units) = match repeated {
            Some(repeated) => (repeated.role, repeated.calls, repeated.units),
            None => (role, calls, units),
        };
        let signature = |pixels: Option<f64>, file: Option<&str>| {
            let size = format!("{pixels:?} {steps:?} {:?}", self.sampler(node));
            let words = words.iter().chain([&size]).chain(&models);
            let words = words.map(String::as_str);
            Signature::of([class].into_iter().chain(words).chain(file)).text()
        };
        let file = size.and_then(|size| size.file);
        Features {
            role,
            steps,
            calls: calls.min(MAX_FEATURE),
            units: units.map(|units| units.min(MAX_FEATURE)),
            // The first round has waited for the models.
            loaders: match repeated {
                Some(_) => Vec::new(),
                None => loaders.iter().map(|&loader| loader.to_owned()).collect(),
            },
            models: Signature::of(models.iter().map(String::as_str)).number(),
            signature: signature(pixels, file.filter(|_| pixels.is_none())),
            former_signature: file
                .filter(|_| pixels.is_some())
                .map(|file| signature(None, Some(file))),
            saved: size
                .filter(|_| SAVING.contains(&class))
                .and_then(|size| SavedImages::of(size.dimensions, size.cause)),
        }
    }

    /// The models that a node works with, sorted so that they do not depend on the ids of the loaders.
    fn models(&self, id: &str, loaders: &[&str]) -> Vec<String> {
        let others = loaders.iter().filter(|loader| **loader != id);
        let mut models: Vec<Signature> = others
            .filter_map(|loader| self.models.get(loader).copied())
            .collect();
        models.sort_unstable();
        models.into_iter().map(Signature::text).collect()
    }

    /// The steps of its bar. With `denoise` below 1 the server still executes all of them.
    fn steps(&self, node: &'a Value) -> Option<u32> {
        let whole = |name| self.numbers.whole(node, name);
        let all = self.scheduled(node)?;
        let end = whole("end_at_step").map_or(all, |end| end.min(all));
        let begin = whole("start_at_step").unwrap_or(0);
        u32::try_from(end.saturating_sub(begin))
            .ok()
            .filter(|steps| *steps > 0)
    }

    /// The steps that the node sets, or the scheduler that its sigmas come from.
    fn scheduled(&self, node: &'a Value) -> Option<u64> {
        let (mut node, mut splits) = (node, Vec::new());
        for _ in 0..MAX_SCHEDULERS {
            if let Some(steps) = self.numbers.whole(node, "steps") {
                let steps = splits
                    .into_iter()
                    .rev()
                    .fold(steps, |steps, split| match split {
                        (step, 0) => steps.min(step),
                        (step, _) => steps.saturating_sub(step),
                    });
                return Some(steps);
            }
            let (source, output) = self.graph.source(node, "sigmas")?;
            // Its first output has the steps before the split, its second the others.
            if class(source) == "SplitSigmas"
                && let Some(step) = self.numbers.whole(source, "step")
            {
                splits.push((step, output));
            }
            node = source;
        }
        None
    }

    fn sampler(&self, node: &'a Value) -> Option<&'a str> {
        let name = |node| self.graph.text(node, "sampler_name");
        name(node).or_else(|| name(self.graph.source(node, "sampler")?.0))
    }

    fn calls(&self, node: &'a Value) -> f64 {
        let sampler = self.sampler(node);
        let known = CALLS.iter().find(|(name, _)| Some(*name) == sampler);
        known.map_or(1.0, |(_, calls)| *calls)
    }
}

#[cfg(test)]
mod tests;
