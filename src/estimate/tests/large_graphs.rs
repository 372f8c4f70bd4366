//! Graphs of thousands of nodes that do next to nothing themselves.

use super::*;

/// What ComfyUI needs to write the state of one node into a message, in seconds.
const MESSAGE: f64 = 1e-5;

fn plan(nodes: usize) -> Plan {
    let nodes = (0..nodes).map(|at| {
        let before = json!([at.saturating_sub(1).to_string(), 0]);
        let inputs = match at {
            0 => json!({"width": 64, "height": 64, "batch_size": 1}),
            _ => json!({"image": before}),
        };
        let class = if at == 0 { "EmptyImage" } else { "ImageInvert" };
        (
            at.to_string(),
            json!({"class_type": class, "inputs": inputs}),
        )
    });
    Plan::from_graph(&nodes.collect(), None)
}

/// A job in which the messages about each node take as long as there are nodes before it, up to the time
/// `until`; and its end.
fn run(nodes: usize, until: f64) -> (Job, f64) {
    let mut job = job(plan(nodes));
    job.apply(Event::Started, at(0.0));
    let mut t = 0.0;
    for number in 0..nodes {
        let message = MESSAGE * number as f64;
        for (seconds, state) in [
            (message, NodeState::Running),
            (0.001 + message, NodeState::Finished),
        ] {
            t += seconds;
            if t > until {
                return (job, t);
            }
            let report = NodeReport {
                node: number.to_string(),
                display: None,
                value: 0.0,
                max: 1.0,
                state,
                loading: false,
            };
            job.apply(Event::Nodes(vec![report]), at(t));
        }
    }
    job.apply(Event::Ended(Outcome::Completed), at(t));
    job.apply(Event::History(History::default()), at(t));
    (job, t)
}

fn error(model: &CostModel, nodes: usize, share: f64) -> f64 {
    let end = run(nodes, f64::INFINITY).1;
    let (job, _) = run(nodes, end * share);
    let left = remaining(&job, model, end * share);
    (left - end * (1.0 - share)).abs() / end
}

#[test]
fn thousands_of_nodes_take_longer_than_so_many_times_one() {
    let mut model = CostModel::default();
    model.learn(&run(40, f64::INFINITY).0);
    let first = error(&model, 2_000, 0.001);
    assert!(first < 0.5, "{first}");
    model.learn(&run(2_000, f64::INFINITY).0);
    model.learn(&run(2_000, f64::INFINITY).0);
    for (nodes, share) in [(2_000, 0.001), (2_000, 0.5), (1_000, 0.01), (40, 0.1)] {
        let error = error(&model, nodes, share);
        assert!(error < 0.15, "{nodes} nodes, {share}: {error}");
    }
}
