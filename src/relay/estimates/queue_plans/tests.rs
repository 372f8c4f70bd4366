use std::cell::Cell;

use serde_json::{Value, json};

use super::*;
use crate::job::ImageSizes;

/// Reads every graph of a queue; no job has a plan.
struct Graphs {
    queue: Queue,
    read: Cell<usize>,
    version: Cell<Option<u64>>,
    awaited: Vec<ImageFile>,
    knows: Cell<bool>,
}

impl Graphs {
    fn of(queue: &Queue) -> Self {
        Self {
            queue: queue.clone(),
            read: Cell::default(),
            version: Cell::default(),
            awaited: Vec::new(),
            knows: Cell::default(),
        }
    }
}

impl QueuedPlans for Graphs {
    fn revision(&self) -> PlanRevision {
        (
            self.version.get().unwrap_or_default(),
            u64::from(self.knows.get()),
        )
    }

    fn version(&self, _: &str) -> Option<u64> {
        self.version.get()
    }

    fn of_job(&self, _: &str) -> Option<Plan> {
        None
    }

    fn graph(&self, prompt_id: &str) -> Option<&QueueEntry> {
        self.queue.entry(prompt_id)
    }

    fn read(&self, entry: &QueueEntry) -> (Plan, Vec<ImageFile>) {
        self.read.set(self.read.get() + 1);
        let graph = entry.graph();
        let plan = graph.map(|graph| graph.plan(&ImageSizes::default()));
        (plan.unwrap_or_default(), self.awaited.clone())
    }

    fn knows_any(&self, files: &[ImageFile]) -> bool {
        self.knows.get() && !files.is_empty()
    }
}

fn graph(model: &str, steps: u32) -> Value {
    json!({
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": model}},
        "3": {"class_type": "KSampler", "inputs": {"model": ["4", 0], "steps": steps}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["3", 0]}}
    })
}

fn queue(running: &[(&str, Value)], pending: &[(f64, &str, Value)]) -> Queue {
    let running = running
        .iter()
        .map(|(id, graph)| json!([0, id, graph, {}, ["9"]]));
    let pending = pending
        .iter()
        .map(|(number, id, graph)| json!([number, id, graph, {}, ["9"]]));
    let body = json!({
        "queue_running": running.collect::<Value>(),
        "queue_pending": pending.collect::<Value>(),
    });
    Queue::parse(body.to_string().into()).unwrap()
}

/// One second for each step; a hundred for a model that must be loaded.
fn seconds(plan: &Plan, cached: &[String]) -> Estimate {
    let steps: u32 = plan.needed().filter_map(|(_, node)| node.steps).sum();
    let load = if cached.is_empty() { 100.0 } else { 0.0 };
    Estimate {
        remaining: (steps < 1_000).then_some(f64::from(steps) + load),
        ..Estimate::default()
    }
}

fn remaining(queue: &Queue, prediction: &QueuePrediction, prompt: &str) -> Option<f64> {
    let mut pending = queue.pending().iter();
    let place = pending.position(|entry| *entry.prompt_id == *prompt)?;
    prediction.waiting.get(place)?.end.remaining
}

#[test]
fn prompts_add_up_in_the_order_of_their_numbers() {
    let queue = queue(
        &[("r", graph("m", 1))],
        &[
            (5.0, "last", graph("m", 2)),
            (-7.0, "front", graph("m", 30)),
            (-1.0, "second", graph("other", 4)),
        ],
    );
    let prediction = Plans::default().predict(&queue, &Graphs::of(&queue), seconds);
    assert_eq!(prediction.running["r"].remaining, Some(101.0));
    assert_eq!(remaining(&queue, &prediction, "front"), Some(30.0));
    assert_eq!(
        remaining(&queue, &prediction, "second"),
        Some(134.0),
        "its own model"
    );
    assert_eq!(remaining(&queue, &prediction, "last"), Some(236.0));
}

#[test]
fn prompts_behind_one_that_cannot_be_predicted_are_unknown() {
    for unknown in [graph("m", 1_000), json!({}), json!("not a graph")] {
        let queue = queue(
            &[],
            &[
                (1.0, "a", graph("m", 1)),
                (2.0, "b", unknown),
                (3.0, "c", graph("m", 1)),
            ],
        );
        let prediction = Plans::default().predict(&queue, &Graphs::of(&queue), seconds);
        assert_eq!(remaining(&queue, &prediction, "a"), Some(101.0));
        assert_eq!(remaining(&queue, &prediction, "b"), None);
        assert_eq!(remaining(&queue, &prediction, "c"), None);
    }
}

#[test]
fn each_prompt_is_read_once_and_forgotten_with_the_queue() {
    let many: Vec<(f64, String)> = (0..50).map(|n| (f64::from(n), format!("p{n}"))).collect();
    let pending: Vec<(f64, &str, Value)> = many
        .iter()
        .map(|(number, id)| (*number, id.as_str(), graph("m", 2)))
        .collect();
    let (full, mut plans) = (queue(&[], &pending), Plans::default());
    let own = &Graphs::of(&full);
    for _ in 0..3 {
        let prediction = plans.predict(&full, own, seconds);
        assert_eq!(prediction.waiting.len(), 50);
    }
    assert_eq!(own.read.get(), 50);
    assert_eq!(
        plans.plans.len(),
        1,
        "they differ in nothing that costs time"
    );
    plans.predict(&queue(&[], &[]), own, seconds);
    assert!(plans.by_prompt.is_empty() && plans.plans.is_empty());
}

#[test]
fn a_prompt_is_read_again_when_a_size_or_a_jobs_plan_has_changed() {
    let queue = queue(&[], &[(1.0, "a", graph("m", 2))]);
    let graphs = Graphs {
        awaited: vec![ImageFile::parse("photo.png").unwrap()],
        ..Graphs::of(&queue)
    };
    let mut plans = Plans::default();
    let read = |plans: &mut Plans| {
        plans.predict(&queue, &graphs, seconds);
        graphs.read.get()
    };
    assert_eq!((read(&mut plans), read(&mut plans)), (1, 1));
    graphs.knows.set(true);
    assert_eq!(read(&mut plans), 2);
    graphs.knows.set(false);
    graphs.version.set(Some(1));
    assert_eq!((read(&mut plans), read(&mut plans)), (3, 3));
}

#[test]
fn a_prompt_whose_graph_was_not_read_is_unknown_until_then() {
    let queue = queue(&[], &[(1.0, "a", graph("m", 2)), (2.0, "b", graph("m", 3))]);
    let graphs = Graphs::of(&queue);
    let without =
        Graphs::of(&Queue::parse(r#"{"queue_running":[],"queue_pending":[]}"#.into()).unwrap());
    let mut plans = Plans::default();
    assert!(plans.predict(&queue, &without, seconds).waiting.is_empty());
    assert_eq!(plans.unknown(queue.prompt_ids(), &without), ["a", "b"]);
    assert_eq!(plans.predict(&queue, &graphs, seconds).waiting.len(), 2);
    assert!(plans.unknown(queue.prompt_ids(), &without).is_empty());
    assert_eq!(
        plans.predict(&queue, &without, seconds).waiting.len(),
        2,
        "they are known"
    );
}

#[test]
fn one_prediction_reads_at_most_so_much_and_the_next_one_continues() {
    let mut long = graph("m", 2);
    long["9"]["inputs"]["filename_prefix"] = "x".repeat(MAX_READ / 2).into();
    let queue = queue(
        &[],
        &[
            (1.0, "a", long.clone()),
            (2.0, "b", long.clone()),
            (3.0, "c", long),
        ],
    );
    let mut plans = Plans::default();
    let known: Vec<usize> = (0..4)
        .map(|_| {
            plans
                .predict(&queue, &Graphs::of(&queue), seconds)
                .waiting
                .len()
        })
        .collect();
    assert_eq!(known, [1, 2, 3, 3]);
}

#[test]
fn one_prediction_covers_at_most_so_many_nodes() {
    let wide = |steps: u32| {
        let mut wide = graph("m", steps);
        for id in 0..MAX_PREDICTED / 2 {
            wide[format!("n{id}")] = json!({"class_type": "X", "inputs": {}});
        }
        wide
    };
    let queue = queue(
        &[],
        &[
            (1.0, "a", wide(1)),
            (2.0, "b", wide(2)),
            (3.0, "c", wide(3)),
        ],
    );
    let mut plans = Plans::default();
    let known: Vec<usize> = (0..4)
        .map(|_| {
            plans
                .predict(&queue, &Graphs::of(&queue), seconds)
                .waiting
                .len()
        })
        .collect();
    assert_eq!(known.last(), Some(&1));
}
