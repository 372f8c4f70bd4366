//! How long the estimate of one job takes, for a graph of 50 nodes: `cargo bench --bench estimate`.

use std::hint::black_box;

use comfy_relay::estimate::{CostModel, Estimate};
use comfy_relay::job::{Event, History, Job, JobId, Outcome, Plan};
use criterion::{Criterion, criterion_group, criterion_main};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

/// The nodes of the graph.
const NODES: usize = 50;

fn estimate(criterion: &mut Criterion) {
    let at = |seconds: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds);
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
    let plan = Plan::from_graph(&graph, None);
    let run = |until: usize| {
        let id = JobId::parse("bench").expect("a valid id");
        let mut job = Job::new(id, at(0)).on_backend("b", "p");
        job.apply(Event::Planned(plan.clone()), at(0));
        for node in 0..until {
            let node = node.to_string();
            let started = Event::NodeStarted {
                node: node.clone(),
                display: None,
            };
            job.apply(started, at(2 * node.parse::<i64>().unwrap_or(0)));
            let bar = Event::Bar {
                node: Some(node.clone()),
                value: 5.0,
                max: 20.0,
            };
            job.apply(bar, at(2 * node.parse::<i64>().unwrap_or(0) + 1));
        }
        job
    };
    let mut known = CostModel::default();
    let mut done = run(NODES);
    done.apply(Event::Ended(Outcome::Completed), at(100));
    done.apply(
        Event::History(History {
            messages: Some(Outcome::Completed),
            ..History::default()
        }),
        at(100),
    );
    known.learn(&done);
    let job = run(NODES / 2);
    let now = at(NODES as i64);
    for (name, model) in [("known", known), ("never seen", CostModel::default())] {
        criterion.bench_function(&format!("estimate {NODES} nodes, {name}"), |bencher| {
            bencher.iter(|| Estimate::of(black_box(&job), black_box(&model), now));
        });
    }
}

criterion_group!(benches, estimate);
criterion_main!(benches);
