//! The time of one estimate, for a graph of 50 nodes: `cargo bench --bench estimate`.

use std::hint::black_box;

use comfy_relay::estimate::{CostModel, Estimate};
use comfy_relay::job::{Event, History, Job, JobId, Outcome, Plan};
use criterion::{Criterion, criterion_group, criterion_main};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

/// The nodes of the graph.
const NODES: usize = 50;

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
}

/// A chain of nodes.
fn plan() -> Plan {
    let classes = [
        "CheckpointLoaderSimple",
        "EmptyLatentImage",
        "KSampler",
        "VAEDecode",
        "ImageScale",
    ];
    let mut graph = serde_json::Map::new();
    for node in 0..NODES {
        let class = classes[node % classes.len()];
        let mut inputs = json!({"steps": 20 + node, "width": 512, "height": 512, "name": node});
        if node > 0 {
            inputs["source"] = json!([(node - 1).to_string(), 0]);
        }
        graph.insert(
            node.to_string(),
            json!({"class_type": class, "inputs": inputs}),
        );
    }
    Plan::from_graph(&graph, None)
}

/// A job whose first `count` nodes have begun, 2 s after one another.
fn job(plan: &Plan, count: usize) -> Job {
    let id = JobId::parse("bench").expect("a valid id");
    let mut job = Job::new(id, at(0)).on_backend("b", "p");
    job.apply(Event::Planned(plan.clone()), at(0));
    for number in 0..count {
        let (node, start) = (number.to_string(), 2 * number as i64);
        let started = Event::NodeStarted {
            node: node.clone(),
            display: None,
        };
        job.apply(started, at(start));
        let bar = Event::Bar {
            node: Some(node),
            value: 5.0,
            max: 20.0,
        };
        job.apply(bar, at(start + 1));
    }
    job
}

/// A model that has learned the whole job.
fn trained(plan: &Plan) -> CostModel {
    let mut model = CostModel::default();
    let mut completed = job(plan, NODES);
    completed.apply(Event::Ended(Outcome::Completed), at(100));
    completed.apply(
        Event::History(History {
            messages: Some(Outcome::Completed),
            ..History::default()
        }),
        at(100),
    );
    model.learn(&completed);
    model
}

fn estimate(criterion: &mut Criterion) {
    let plan = plan();
    let job = job(&plan, NODES / 2);
    let now = at(NODES as i64);
    for (name, model) in [
        ("known", trained(&plan)),
        ("never seen", CostModel::default()),
    ] {
        criterion.bench_function(&format!("estimate {NODES} nodes, {name}"), |bencher| {
            bencher.iter(|| Estimate::of(black_box(&job), black_box(&model), now));
        });
    }
}

criterion_group!(benches, estimate);
criterion_main!(benches);
