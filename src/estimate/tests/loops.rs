//! Loops, whose nodes run again as runs that their end is expanded to.

use super::*;

/// The seconds of a step, and the steps of a round.
const STEP: f64 = 0.1;
const STEPS: u32 = 10;

fn plan(rounds: u32) -> Plan {
    let graph = json!({
        "1": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 512, "batch_size": 1}},
        "2": {"class_type": "TestForLoopOpen", "inputs": {"remaining": rounds, "initial_value1": ["1", 0]}},
        "3": {"class_type": "KSampler", "inputs": {"steps": STEPS, "latent_image": ["2", 2]}},
        "4": {"class_type": "TestForLoopClose", "inputs": {"flow_control": ["2", 0], "initial_value1": ["3", 0]}},
        "5": {"class_type": "SaveLatent", "inputs": {"samples": ["4", 0]}}
    });
    Plan::from_graph(graph.as_object().unwrap(), None)
}

fn report(node: &str, display: &str, value: u32, max: u32, state: NodeState) -> Event {
    Event::Nodes(vec![NodeReport {
        node: node.to_owned(),
        display: Some(display.to_owned()),
        value: value.into(),
        max: max.into(),
        state,
        loading: false,
    }])
}

/// A job with a loop up to the time `until`, and its end. It is `slowness` times as slow as usual.
fn looped(rounds: u32, slowness: f64, until: f64) -> (Job, f64) {
    use NodeState::{Finished, Running};
    let mut events = vec![(0.0, Event::Started)];
    for node in ["1", "2"] {
        events.push((0.0, report(node, node, 0, 1, Running)));
        events.push((0.0, report(node, node, 1, 1, Finished)));
    }
    let mut t = 0.0;
    for round in 0..rounds {
        let id = match round {
            0 => "3".to_owned(),
            _ => format!("4.0.0.{round}.0.0.3"),
        };
        events.push((t, report(&id, "3", 0, 1, Running)));
        for step in 1..=STEPS {
            t += STEP * slowness;
            events.push((t, report(&id, "3", step, STEPS, Running)));
        }
        events.push((t, report(&id, "3", STEPS, STEPS, Finished)));
        if round == 0 {
            events.push((t, report("4", "4", 0, 1, Running)));
        }
    }
    events.push((t, report("4", "4", 1, 1, Finished)));
    events.push((t, report("5", "5", 0, 1, Running)));
    t += 0.01;
    events.push((t, report("5", "5", 1, 1, Finished)));
    events.push((t, Event::Ended(Outcome::Completed)));
    let mut job = job(plan(rounds));
    for (at_seconds, event) in events.into_iter().filter(|(t, _)| *t <= until) {
        job.apply(event, at(at_seconds));
    }
    if t <= until {
        job.apply(Event::History(History::default()), at(t));
    }
    (job, t)
}

fn taught(rounds: u32, times: usize) -> CostModel {
    let mut model = CostModel::default();
    for _ in 0..times {
        model.learn(&looped(rounds, 1.0, f64::INFINITY).0);
    }
    model
}

#[test]
fn a_loop_that_makes_progress_is_not_late() {
    let model = taught(10, 2);
    let end = looped(10, 1.0, f64::INFINITY).1;
    for share in [0.3, 0.6, 0.8, 0.9, 0.97] {
        let now = end * share;
        let (job, _) = looped(10, 1.0, now);
        let estimate = Estimate::of(&job, &model, at(now));
        let (left, truth) = (estimate.remaining.unwrap(), end - now);
        assert!((left - truth).abs() < 0.02 * end, "{share}: {left} {truth}");
        let interval = estimate.low.unwrap()..=estimate.high.unwrap();
        assert!(interval.contains(&truth), "{share}: {interval:?} {truth}");
    }
}

#[test]
fn more_rounds_take_as_much_longer() {
    let model = taught(4, 2);
    let end = looped(12, 1.0, f64::INFINITY).1;
    let (job, _) = looped(12, 1.0, 0.05);
    let left = remaining(&job, &model, 0.05);
    assert!((0.85..1.15).contains(&(left / end)), "{left} {end}");
}

/// It is expanded to more and more runs, of which nothing is known.
#[test]
fn a_class_that_never_ran_goes_on_for_a_while_when_it_is_expanded() {
    let graph = json!({"4": {"class_type": "Expand", "inputs": {}}});
    let mut job = job(Plan::from_graph(graph.as_object().unwrap(), None));
    job.apply(Event::Started, at(0.0));
    job.apply(report("4", "4", 0, 1, NodeState::Running), at(0.0));
    for second in 0..10_u32 {
        let id = format!("4.0.0.{second}");
        job.apply(
            report(&id, "4", 0, 1, NodeState::Running),
            at(second.into()),
        );
        job.apply(
            report(&id, "4", 1, 1, NodeState::Finished),
            at(second.into()),
        );
    }
    let estimate = Estimate::of(&job, &CostModel::default(), at(9.1));
    assert!(estimate.remaining.unwrap() > 3.0, "{estimate:?}");
    assert!(estimate.fraction < 0.8, "{estimate:?}");
}

/// Nothing has run but the sampler of another graph.
#[test]
fn the_first_loop_takes_as_long_as_its_rounds() {
    let model = trained(2);
    // A step took half a second there.
    let end = looped(12, 5.0, f64::INFINITY).1;
    let (job, _) = looped(12, 5.0, 0.05);
    let left = remaining(&job, &model, 0.05);
    assert!((0.7..1.3).contains(&(left / end)), "{left} {end}");
}
