//! What one message of ComfyUI costs on its way through the relay: parsed, applied to its job, and
//! encoded for subscribers: `cargo bench --bench message`.

use std::hint::black_box;

use comfy_relay::comfy::Message;
use comfy_relay::estimate::{CostModel, Estimate};
use comfy_relay::hub::Publication;
use comfy_relay::job::{Event, Job, JobId, Plan};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// The nodes of the graph.
const NODES: usize = 100;

/// The URL that the links to outputs begin with.
const VIEW: &str = "http://127.0.0.1:8188/view";

fn graph() -> Map<String, Value> {
    let mut graph = Map::new();
    for node in 0..NODES {
        let mut inputs = json!({"steps": 20, "cfg": 7.5, "name": format!("input {node}")});
        if node > 0 {
            inputs["source"] = json!([(node - 1).to_string(), 0]);
        }
        let class = ["KSampler", "VAEDecode", "ImageScale"][node % 3];
        graph.insert(
            node.to_string(),
            json!({"class_type": class, "inputs": inputs}),
        );
    }
    graph
}

/// A `progress_state` in which all nodes but the last have finished, and the last is at `step`: the
/// longest message about such a graph.
fn progress_state(step: usize) -> String {
    let nodes: Map<String, Value> = (0..NODES)
        .map(|node| {
            let id = node.to_string();
            let (value, max, state) = if node + 1 == NODES {
                (step as f64, 20.0, "running")
            } else {
                (1.0, 1.0, "finished")
            };
            let entry = json!({"value": value, "max": max, "state": state, "node_id": id,
                "prompt_id": "7a8e1f1c-9f3c-4d5e-8f2b-6a1d2c3b4a59", "display_node_id": id,
                "parent_node_id": null, "real_node_id": id});
            (id, entry)
        })
        .collect();
    let data = json!({"prompt_id": "7a8e1f1c-9f3c-4d5e-8f2b-6a1d2c3b4a59", "nodes": nodes});
    json!({"type": "progress_state", "data": data}).to_string()
}

fn parse_event(text: &str) -> Event {
    match Message::parse(text, VIEW) {
        Message::Prompt { event, .. } => event,
        other => panic!("a progress_state is parsed as {other:?}"),
    }
}

fn message(criterion: &mut Criterion) {
    let now = Timestamp::now();
    let id = JobId::parse("bench").expect("a valid id");
    let mut job = Job::new(id, now).on_backend("127.0.0.1:8188", "prompt");
    job.apply(Event::Planned(Plan::from_graph(&graph(), None)), now);
    let fresh = job.clone();
    assert!(job.apply(parse_event(&progress_state(1)), now));
    let next = progress_state(2);

    criterion.bench_function("parse a progress_state of 100 nodes", |bencher| {
        bencher.iter(|| Message::parse(black_box(&next), VIEW));
    });
    let event = parse_event(&next);
    criterion.bench_function("apply it to a job that it advances by a step", |bencher| {
        let batch = || (job.clone(), event.clone());
        bencher.iter_batched_ref(
            batch,
            |(job, event)| {
                let event = std::mem::replace(event, Event::Started);
                assert!(job.apply(event, now));
            },
            BatchSize::SmallInput,
        );
    });
    criterion.bench_function("apply it to a job without any node state", |bencher| {
        let batch = || (fresh.clone(), event.clone());
        bencher.iter_batched_ref(
            batch,
            |(job, event)| {
                let event = std::mem::replace(event, Event::Started);
                assert!(job.apply(event, now));
            },
            BatchSize::SmallInput,
        );
    });
    let model = CostModel::default();
    criterion.bench_function("estimate the job", |bencher| {
        bencher.iter(|| Estimate::of(black_box(&job), &model, now));
    });
    let estimate = Estimate::of(&job, &model, now);
    let progress = job.publish(estimate.fraction, estimate.remaining_time(), now);
    criterion.bench_function("encode its publication", |bencher| {
        bencher.iter(|| Publication::encode(black_box(&progress), None));
    });
}

criterion_group!(benches, message);
criterion_main!(benches);
