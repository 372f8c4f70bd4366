//! The training farm: made-up servers and workflows, unlike those of `benches/placement`, to choose rules and weights on that
//! are not scored on what they were chosen on.

use std::f64::consts::TAU;

use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use crate::estimate::{CostModel, Estimate, Familiarity};
use crate::job::{Event, History, Job, JobId, Outcome, Plan, PlannedNode, Role};

const WORKFLOWS: usize = 12;
const MODELS: usize = 5;
const JOBS: usize = 150;

/// After so many jobs, the next workflow comes for the first time.
const JOBS_BETWEEN_WORKFLOWS: usize = 12;

/// What makes a farm easy or hard, as standard deviations of logarithms.
struct Farm {
    name: &'static str,
    /// How much heavier one model is than another.
    models: f64,
    /// By how much a server's load changes from job to job.
    drift: f64,
    /// By how much a node's time varies from run to run.
    chance: f64,
    /// How fast the servers are.
    speeds: &'static [f64],
}

const MANY_MODELS: Farm = Farm {
    name: "many models",
    models: 0.7,
    drift: 0.04,
    chance: 0.04,
    speeds: &[1.0, 1.7, 3.0],
};

const ONE_MODEL: Farm = Farm {
    name: "one model",
    models: 0.0,
    ..MANY_MODELS
};

const LOAD: Farm = Farm {
    name: "load that comes and goes",
    drift: 0.15,
    ..MANY_MODELS
};

struct TrueWorkflow {
    plan: Plan,
    model: usize,
    /// The loaders, and what each node takes at the speed 1, in seconds.
    loaders: Vec<String>,
    nodes: Vec<(String, f64, u32)>,
}

struct FarmServer {
    name: String,
    free_at: f64,
    /// The logarithm of how many times as long as usual it takes.
    load: f64,
    loaded: Option<usize>,
}

/// How far the durations were off that were predicted of known workflows before they began, as a mean share.
#[test]
fn other_models_do_not_spoil_what_is_known_of_a_farm() {
    for (farm, limit) in [(MANY_MODELS, 0.08), (ONE_MODEL, 0.08), (LOAD, 0.2)] {
        let seeds = 0..3;
        let errors: Vec<f64> = seeds.flat_map(|seed| known_errors(&farm, seed)).collect();
        let error = errors.iter().sum::<f64>() / errors.len() as f64;
        println!(
            "{:26} {:5.1} % of {}",
            farm.name,
            100.0 * error,
            errors.len()
        );
        assert!(errors.len() > 150, "{}: {}", farm.name, errors.len());
        assert!(error < limit, "{}: {error}", farm.name);
    }
}

fn known_errors(farm: &Farm, seed: u64) -> Vec<f64> {
    let mut random = StdRng::seed_from_u64(1_000 + seed);
    let heaviness: Vec<f64> = (0..MODELS)
        .map(|_| chance(farm.models, &mut random))
        .collect();
    let workflows = (0..WORKFLOWS).map(|number| {
        let model = random.random_range(0..MODELS);
        TrueWorkflow::new(number, model, heaviness[model], &mut random)
    });
    let workflows: Vec<TrueWorkflow> = workflows.collect();
    let servers = (0..farm.speeds.len()).map(|number| FarmServer {
        name: format!("box{number}:8188"),
        free_at: 0.0,
        load: 0.0,
        loaded: None,
    });
    let mut servers: Vec<FarmServer> = servers.collect();
    let mut model = CostModel::default();
    let mut errors = Vec::new();
    for number in 0..JOBS {
        let seen = (2 + number / JOBS_BETWEEN_WORKFLOWS).min(WORKFLOWS);
        // The newest one comes most often.
        let workflow = match random.random::<f64>() {
            ..0.3 => &workflows[seen - 1],
            _ => &workflows[random.random_range(0..seen)],
        };
        let free_at = |server: &usize| servers[*server].free_at;
        let first = (0..servers.len()).min_by(|a, b| free_at(a).total_cmp(&free_at(b)));
        let first = first.unwrap();
        let server = &mut servers[first];
        server.load = 0.8 * server.load + farm.drift * normal(&mut random);
        let pace = server.load.exp() / farm.speeds[first];
        let job = run(workflow, server, pace, farm.chance, &mut random, &model);
        errors.extend(job.error);
        model.learn(&job.job);
    }
    errors
}

struct FarmJob {
    job: Job,
    /// `None` of a workflow that was not known on its server.
    error: Option<f64>,
}

/// Runs a workflow on a server that takes `pace` times as long as one of the speed 1.
fn run(
    workflow: &TrueWorkflow,
    server: &mut FarmServer,
    pace: f64,
    deviation: f64,
    random: &mut StdRng,
    model: &CostModel,
) -> FarmJob {
    let is_warm = server.loaded.replace(workflow.model) == Some(workflow.model);
    let cached = if is_warm {
        workflow.loaders.clone()
    } else {
        Vec::new()
    };
    let (start, plan) = (server.free_at, &workflow.plan);
    let familiarity = Familiarity::of_prompt(&server.name, plan, &cached, model);
    let predicted = Estimate::of_prompt(&server.name, plan, &cached, model).remaining;
    let mut job = Job::new(JobId::parse("farm").unwrap(), at(start)).on_backend(&server.name, "p");
    job.apply(Event::Planned(plan.clone()), at(start));
    job.apply(Event::Started, at(start));
    let nodes = cached.clone();
    job.apply(Event::Cached { nodes }, at(start));
    let mut now = start;
    for (id, seconds, steps) in &workflow.nodes {
        if cached.contains(id) {
            continue;
        }
        let (node, display) = (id.clone(), None);
        job.apply(Event::NodeStarted { node, display }, at(now));
        let seconds = seconds * pace * chance(deviation, random);
        for step in 1..=*steps {
            let (value, max) = (f64::from(step), f64::from(*steps));
            let node = Some(id.clone());
            let end = now + seconds * value / max;
            job.apply(Event::Bar { node, value, max }, at(end));
        }
        now += seconds;
    }
    job.apply(Event::Ended(Outcome::Completed), at(now));
    let history = History {
        messages: Some(Outcome::Completed),
        ..History::default()
    };
    job.apply(Event::History(history), at(now));
    server.free_at = now;
    let known = predicted.filter(|_| familiarity == Familiarity::Known);
    let error = known.map(|seconds| (seconds - (now - start)).abs() / (now - start));
    FarmJob { job, error }
}

impl TrueWorkflow {
    fn new(number: usize, model: usize, heaviness: f64, random: &mut StdRng) -> Self {
        let side = [384, 512, 640, 768, 1024][random.random_range(0..5)];
        let steps = random.random_range(6..40);
        let sampler = |steps: u32, latent: &str| {
            json!({"class_type": "KSampler", "inputs": {"steps": steps, "cfg": 7.0, "model": ["4", 0],
                "positive": ["6", 0], "negative": ["7", 0], "latent_image": [latent, 0]}})
        };
        let mut graph = json!({
            "3": sampler(steps, "5"),
            "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": format!("{model}.safetensors")}},
            "5": {"class_type": "EmptyLatentImage", "inputs": {"width": side, "height": side, "batch_size": 1}},
            "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a", "clip": ["4", 1]}},
            "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "b", "clip": ["4", 1]}},
            "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
            "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0]}},
        });
        let larger = |class: &str, from: [&str; 2], side: u64| json!({"class_type": class, "inputs": {from[0]: [from[1], 0], "width": side, "height": side}});
        match number % 3 {
            1 => {
                graph["10"] = larger("ImageScale", ["image", "8"], side * 2);
                graph["9"]["inputs"]["images"] = json!(["10", 0]);
            }
            2 => {
                graph["12"] = larger("LatentUpscale", ["samples", "3"], side * 3 / 2);
                graph["13"] = sampler(steps / 2, "12");
                graph["8"]["inputs"]["samples"] = json!(["13", 0]);
            }
            _ => {}
        }
        let plan = Plan::from_graph(graph.as_object().unwrap(), None);
        let needed = || plan.needed();
        let loaders = needed().filter(|(_, node)| node.role == Role::Loader);
        let nodes = needed().map(|(id, node)| {
            let seconds = seconds(node, heaviness) * chance(0.15, random);
            (id.to_owned(), seconds, node.steps.unwrap_or(0))
        });
        Self {
            model,
            loaders: loaders.map(|(id, _)| id.to_owned()).collect(),
            nodes: nodes.collect(),
            plan,
        }
    }
}

/// About what a node takes at the speed 1.
fn seconds(node: &PlannedNode, heaviness: f64) -> f64 {
    let units = node.units.unwrap_or(1.0);
    match node.role {
        Role::Loader => 5.0 * heaviness.sqrt(),
        Role::Sampler => 0.15 * heaviness * units,
        Role::Text => 0.08 * heaviness * units,
        Role::Vae => 0.3 * units,
        Role::Upscale => 0.4 * units,
        Role::Save => 0.2 * units,
        Role::Other => 0.02 * units,
    }
}

/// A factor whose logarithm has this standard deviation.
fn chance(deviation: f64, random: &mut StdRng) -> f64 {
    (deviation * normal(random)).exp()
}

/// A number with the standard normal distribution (Box and Muller).
fn normal(random: &mut StdRng) -> f64 {
    let radius = (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt();
    radius * (TAU * random.random::<f64>()).cos()
}

fn at(seconds: f64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs_f64(seconds)
}
