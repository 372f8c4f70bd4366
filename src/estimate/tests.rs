//! What the tests share: a graph, its jobs, and models trained on them.

mod copied_loops;
mod explanations;
mod forecasts;
mod large_graphs;
mod loops;
mod parallel;
mod partners;
mod properties;
mod queue;
mod training;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::*;
use crate::job::{Event, History, JobError, JobId, NodeReport, NodeState, Reason};

fn at(seconds: f64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs_f64(seconds)
}

fn graph(steps: u32, width: u32) -> Plan {
    let graph = json!({
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a"}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": width, "height": 512, "batch_size": 1}},
        "3": {"class_type": "KSampler", "inputs": {"model": ["4", 0], "latent_image": ["5", 0], "steps": steps}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0]}}
    });
    Plan::from_graph(graph.as_object().unwrap(), None)
}

fn job(plan: Plan) -> Job {
    let mut job = Job::new(JobId::parse("j").unwrap(), at(0.0)).on_backend("b", "p");
    job.apply(Event::Planned(plan), at(0.0));
    job
}

fn begin(job: &mut Job, node: &str, seconds: f64) {
    let event = Event::NodeStarted {
        node: node.to_owned(),
        display: None,
    };
    job.apply(event, at(seconds));
}

/// A job whose steps take `step` seconds each, up to the time `until`; and its end.
fn run(plan: Plan, steps: u32, step: f64, until: f64) -> (Job, f64) {
    let mut job = job(plan);
    let sampled = 2.0 + f64::from(steps) * step;
    let mut events: Vec<(f64, Event)> = vec![(0.0, Event::Started)];
    let node = |node: &str| Event::NodeStarted {
        node: node.to_owned(),
        display: None,
    };
    events.extend([(0.0, node("4")), (2.0, node("5")), (2.0, node("3"))]);
    events.extend((1..=steps).map(|value| {
        let bar = Event::Bar {
            node: Some("3".to_owned()),
            value: f64::from(value),
            max: f64::from(steps),
        };
        (2.0 + f64::from(value) * step, bar)
    }));
    events.extend([(sampled, node("8")), (sampled + 1.0, node("9"))]);
    let end = sampled + 1.2;
    events.push((end, Event::Ended(Outcome::Completed)));
    for (t, event) in events.into_iter().filter(|(t, _)| *t <= until) {
        job.apply(event, at(t));
    }
    if end <= until {
        job.apply(Event::History(History::default()), at(end));
    }
    (job, end)
}

fn trained(runs: usize) -> CostModel {
    let mut model = CostModel::default();
    for _ in 0..runs {
        model.learn(&run(graph(20, 512), 20, 0.5, 100.0).0);
    }
    model
}

fn remaining(job: &Job, model: &CostModel, now: f64) -> f64 {
    Estimate::of(job, model, at(now)).remaining.unwrap()
}
