//! [`Workflow`]: recorded graphs, and how long they truly run.

use anyhow::Context;
use comfy_relay::job::{Plan, Role};
use serde_json::Value;

/// The recordings that the graphs are from, and the model of each.
const WORKFLOWS: [(&str, Model); 5] = [
    ("0.8.0/01-txt2img-basic", LARGE),
    ("0.8.0/03-hires-fix", LARGE),
    ("0.8.0/04-batch4", own(2, 0.5)),
    ("0.8.0/12-animated-video", own(3, 4.0)),
    ("0.8.0/20-long-run", own(4, 0.5)),
];

/// The model that two of them share.
const LARGE: Model = Model {
    key: 1,
    unit_seconds: 1.0,
    load_seconds: 20.0,
};

/// How many times as wide and high as recorded the images are: the recordings are of tiny ones.
const SCALE: u64 = 4;

/// A model, and what the slowest server takes to load it and to work with it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Model {
    pub(crate) key: u64,
    /// For one unit of a sampler's work.
    unit_seconds: f64,
    pub(crate) load_seconds: f64,
}

/// A small model that no other workflow uses.
const fn own(key: u64, unit_seconds: f64) -> Model {
    Model {
        key,
        unit_seconds,
        load_seconds: 4.0,
    }
}

/// A graph, and what it truly costs.
#[derive(Debug)]
pub(crate) struct Workflow {
    pub(crate) name: &'static str,
    pub(crate) plan: Plan,
    pub(crate) model: Model,
    /// In the order in which they run.
    pub(crate) nodes: Vec<TrueNode>,
    /// The seconds of a run on the slowest server, without loading the model.
    pub(crate) seconds: f64,
}

/// What a node truly costs.
#[derive(Debug)]
pub(crate) struct TrueNode {
    pub(crate) id: String,
    /// On the slowest server.
    pub(crate) seconds: f64,
    /// The steps of its bar; 0 without one.
    pub(crate) steps: u32,
    /// Whether it loads a model, and does not run where that is loaded.
    pub(crate) is_loader: bool,
}

impl Workflow {
    /// All of them, from the recordings.
    pub(crate) fn read_all() -> anyhow::Result<Vec<Self>> {
        let read = |(name, model)| Self::read(name, model);
        WORKFLOWS.into_iter().map(read).collect()
    }

    fn read(name: &'static str, model: Model) -> anyhow::Result<Self> {
        let file = format!(
            "{}/fixtures/{name}/prompt-1.json",
            env!("CARGO_MANIFEST_DIR")
        );
        let body = std::fs::read(&file).with_context(|| format!("cannot read {file}"))?;
        let body: Value = serde_json::from_slice(&body).context(file)?;
        let mut graph = body["prompt"].as_object().context("no graph")?.clone();
        for node in graph.values_mut() {
            if let Some(file) = node.pointer_mut("/inputs/ckpt_name") {
                *file = format!("{}.safetensors", model.key).into();
            }
            for side in ["/inputs/width", "/inputs/height"] {
                if let Some(side) = node.pointer_mut(side) {
                    *side = side.as_u64().map(|side| side * SCALE).into();
                }
            }
        }
        let plan = Plan::from_graph(&graph, None);
        let nodes = true_nodes(&plan, model);
        let without_load = nodes.iter().filter(|node| !node.is_loader);
        Ok(Self {
            name,
            seconds: without_load.map(|node| node.seconds).sum(),
            nodes,
            plan,
            model,
        })
    }

    /// The seconds of a run on the slowest server, before chance.
    pub(crate) fn true_seconds(&self, is_warm: bool) -> f64 {
        let load = if is_warm {
            0.0
        } else {
            self.model.load_seconds
        };
        self.seconds + load
    }

    /// The ids of the nodes that load the model.
    pub(crate) fn loaders(&self) -> Vec<String> {
        let loaders = self.nodes.iter().filter(|node| node.is_loader);
        loaders.map(|node| node.id.clone()).collect()
    }
}

/// What nodes take: in proportion to their units of work, and with a large model more for each.
fn true_nodes(plan: &Plan, model: Model) -> Vec<TrueNode> {
    let loaders = plan
        .needed()
        .filter(|(_, node)| node.role == Role::Loader)
        .count();
    let nodes = plan.needed().map(|(id, node)| {
        let of_unit = match node.role {
            Role::Loader => model.load_seconds / loaders as f64,
            Role::Sampler => model.unit_seconds,
            Role::Vae => 0.8,
            Role::Upscale => 1.5,
            Role::Text => 0.1,
            Role::Save => 0.5,
            Role::Other => 0.005,
        };
        let is_loader = node.role == Role::Loader;
        let units = node.units.filter(|_| !is_loader).unwrap_or(1.0);
        TrueNode {
            id: id.to_owned(),
            seconds: of_unit * units,
            steps: node.steps.unwrap_or(0),
            is_loader,
        }
    });
    nodes.collect()
}
