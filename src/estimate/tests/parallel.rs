//! Nodes that run at the same time count once.

use serde_json::json;

use super::*;

/// `count` nodes that wait for a service, each in a branch of its own, or one after another.
fn services(count: usize, is_chain: bool) -> Plan {
    let mut graph = serde_json::Map::new();
    for number in 0..count {
        let mut inputs = json!({"seed": number});
        if is_chain && number > 0 {
            inputs["image"] = json!([format!("s{}", number - 1), 0]);
        }
        let service = json!({"class_type": "ServiceNode", "inputs": inputs});
        let save =
            json!({"class_type": "SaveImage", "inputs": {"images": [format!("s{number}"), 0]}});
        graph.insert(format!("s{number}"), service);
        graph.insert(format!("o{number}"), save);
    }
    Plan::from_graph(&graph, None)
}

fn report(node: &str, state: NodeState) -> NodeReport {
    NodeReport {
        node: node.to_owned(),
        display: None,
        value: 0.0,
        max: 1.0,
        state,
        loading: false,
    }
}

/// A job of these branches: all services begin at once and take ten seconds, then each picture is saved in 0.2 s.
fn ran(count: usize) -> Job {
    let mut job = job(services(count, false));
    job.apply(Event::Started, at(0.0));
    for number in 0..count {
        let begun = report(&format!("s{number}"), NodeState::Running);
        job.apply(Event::Nodes(vec![begun]), at(0.01 * number as f64));
    }
    for number in 0..count {
        let began = 10.0 + 0.2 * number as f64;
        let (service, save) = (format!("s{number}"), format!("o{number}"));
        let ended = report(&service, NodeState::Finished);
        job.apply(Event::Nodes(vec![ended]), at(10.0));
        job.apply(
            Event::Nodes(vec![report(&save, NodeState::Running)]),
            at(began),
        );
        job.apply(
            Event::Nodes(vec![report(&save, NodeState::Finished)]),
            at(began + 0.2),
        );
    }
    let end = at(10.0 + 0.2 * count as f64);
    job.apply(Event::Ended(Outcome::Completed), end);
    job.apply(Event::History(History::default()), end);
    job
}

fn trained_on_services() -> CostModel {
    let mut model = CostModel::default();
    (0..4).for_each(|_| model.learn(&ran(3)));
    model
}

fn whole(plan: &Plan) -> f64 {
    let estimate = Estimate::of_prompt("b", plan, &[], &trained_on_services());
    estimate.remaining.unwrap()
}

#[test]
fn nodes_that_run_at_the_same_time_count_once_before_they_start() {
    let three = whole(&services(3, false));
    assert!((three - 10.6).abs() < 1.0, "{three}");
    // Those that need each other do not run at the same time.
    let chain = whole(&services(3, true));
    assert!((chain - 30.6).abs() < 2.0, "{chain}");
}

#[test]
fn a_job_that_begins_counts_them_once_too() {
    let mut job = job(services(3, false));
    job.apply(Event::Started, at(0.0));
    job.apply(
        Event::Nodes(vec![report("s0", NodeState::Running)]),
        at(0.0),
    );
    let left = remaining(&job, &trained_on_services(), 0.0);
    assert!((left - 10.6).abs() < 1.0, "{left}");
}

#[test]
fn what_was_stored_of_parallel_nodes_is_learned_again() {
    let (mut learned, mut restored) = (CostModel::default(), CostModel::default());
    for _ in 0..4 {
        let job = ran(3);
        let stored = learned.runs(&job).into_iter().map(|(_, run)| run);
        let stored: Vec<PastRun<'_>> = stored.collect();
        restored.learn_runs("b", &stored, None);
        learned.learn(&job);
    }
    let whole = |model: &CostModel| Estimate::of_prompt("b", &services(3, false), &[], model);
    assert_eq!(whole(&restored), whole(&learned));
}
