//! Loops whose nodes are copied for each round, and never run themselves.

use super::*;
use crate::job::LoopRounds;

/// The seconds of a step, and the steps of a round.
const STEP: f64 = 0.1;
const STEPS: u32 = 10;

/// What a job's loop is: its mode, how often it runs, and how many times as slow as usual.
#[derive(Clone, Copy)]
struct Loop {
    is_list: bool,
    rounds: u32,
    slowness: f64,
}

impl Loop {
    fn counted(rounds: u32) -> Self {
        Self {
            is_list: false,
            rounds,
            slowness: 1.0,
        }
    }

    fn plan(self) -> Plan {
        let mut start = json!({"mode": "simple", "mode.num_iterations": self.rounds, "initial_iteration_value": ["1", 0]});
        if self.is_list {
            start = json!({"mode": "List", "mode.list": ["1", 0]});
        }
        let graph = json!({
            "1": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 512, "batch_size": 1}},
            "2": {"class_type": "StartLoop", "inputs": start},
            "3": {"class_type": "KSampler", "inputs": {"steps": STEPS, "latent_image": ["2", 4]}},
            "4": {"class_type": "EndLoop", "inputs": {"output_value": ["3", 0], "next_iteration_value": ["3", 0]}},
            "5": {"class_type": "SaveLatent", "inputs": {"samples": ["4", 0]}}
        });
        Plan::from_graph(graph.as_object().unwrap(), None)
    }

    /// A job with the loop up to the time `until`, and its end.
    fn job(self, until: f64) -> (Job, f64) {
        let (events, end) = self.events();
        let mut job = job(self.plan());
        for (at_seconds, event) in events.into_iter().filter(|(t, _)| *t <= until) {
            job.apply(event, at(at_seconds));
        }
        if end <= until {
            job.apply(Event::History(History::default()), at(end));
        }
        (job, end)
    }

    fn events(self) -> (Vec<(f64, Event)>, f64) {
        use NodeState::{Finished, Running};
        let round = |ended| Event::Rounds {
            node: "2".to_owned(),
            rounds: LoopRounds {
                ended,
                all: self.rounds,
            },
        };
        let mut events = vec![(0.0, Event::Started)];
        let run = |events: &mut Vec<(f64, Event)>, id: &str, display: &str, t: f64| {
            events.push((t, report(id, display, 0, 1, Running)));
            events.push((t, report(id, display, 1, 1, Finished)));
        };
        run(&mut events, "1", "1", 0.0);
        events.push((0.0, report("2", "2", 0, 1, Running)));
        events.push((0.0, round(0)));
        events.push((0.0, report("2", "2", 1, 1, Finished)));
        let mut t = 0.0;
        for k in 0..self.rounds {
            run(&mut events, &format!("2.0.0.iteration_{k}"), "2", t);
            let id = format!("2.0.0.{k}_3");
            events.push((t, report(&id, "3", 0, 1, Running)));
            for step in 1..=STEPS {
                t += STEP * self.slowness;
                events.push((t, report(&id, "3", step, STEPS, Running)));
            }
            events.push((t, report(&id, "3", STEPS, STEPS, Finished)));
            run(&mut events, &format!("2.0.0.progress_{k}"), "2", t);
            events.push((t, round(k + 1)));
        }
        run(&mut events, "2.0.0.result", "2", t);
        run(&mut events, "4", "4", t);
        events.push((t, report("5", "5", 0, 1, Running)));
        t += 0.01;
        events.push((t, report("5", "5", 1, 1, Finished)));
        events.push((t, Event::Ended(Outcome::Completed)));
        (events, t)
    }
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

fn taught(rounds: u32) -> CostModel {
    let mut model = CostModel::default();
    for _ in 0..2 {
        model.learn(&Loop::counted(rounds).job(f64::INFINITY).0);
    }
    model
}

/// The largest error of the remaining time in a job, as a share of its duration.
fn worst_error(shape: Loop, model: &CostModel, shares: &[f64]) -> f64 {
    let end = shape.job(f64::INFINITY).1;
    let errors = shares.iter().map(|share| {
        let now = end * share;
        let left = remaining(&shape.job(now).0, model, now);
        (left - (end - now)).abs() / end
    });
    errors.fold(0.0, f64::max)
}

#[test]
fn a_known_loop_of_copies_is_estimated_from_its_start_to_its_end() {
    let model = taught(6);
    let shares = [0.01, 0.2, 0.4, 0.6, 0.8, 0.95];
    let error = worst_error(Loop::counted(6), &model, &shares);
    assert!(error < 0.03, "{error}");
    let more = worst_error(Loop::counted(20), &model, &shares);
    assert!(more < 0.05, "{more}");
    let slow = Loop {
        slowness: 2.0,
        ..Loop::counted(12)
    };
    let error = worst_error(slow, &model, &[0.3, 0.5, 0.7, 0.9]);
    assert!(error < 0.08, "{error}");
}

/// A list whose length only a text of ComfyUI shows.
#[test]
fn a_count_that_comes_as_text_counts() {
    let list = Loop {
        is_list: true,
        ..Loop::counted(12)
    };
    let error = worst_error(list, &taught(4), &[0.01, 0.3, 0.6, 0.9]);
    assert!(error < 0.05, "{error}");
}

/// Nothing has run but the sampler of another graph.
#[test]
fn the_first_loop_of_copies_is_estimated_by_its_rounds() {
    let slow = Loop {
        slowness: 5.0,
        ..Loop::counted(12)
    };
    let model = trained(2);
    let early = worst_error(slow, &model, &[0.01]);
    assert!(early < 0.3, "{early}");
    let later = worst_error(slow, &model, &[0.2, 0.5, 0.8]);
    assert!(later < 0.08, "{later}");
    // Nothing at all has run before.
    let error = worst_error(slow, &CostModel::default(), &[0.3, 0.5, 0.8]);
    assert!(error < 0.12, "{error}");
}

#[test]
fn the_body_of_a_loop_is_done_when_its_last_copy_is() {
    let shape = Loop::counted(3);
    let counts = |until: f64| {
        let (job, _) = shape.job(until);
        let counts = job.nodes().counts(job.plan());
        (counts.done, counts.total)
    };
    assert_eq!(counts(0.95), (2, 5));
    assert_eq!(counts(2.95), (2, 5));
    assert_eq!(counts(f64::INFINITY), (5, 5));
}

/// What is learned of the copies after a restart is the same.
#[test]
fn one_typical_copy_of_a_node_is_learned() {
    let (job, _) = Loop::counted(4).job(f64::INFINITY);
    let model = CostModel::default();
    let runs = model.runs(&job);
    let samplers: Vec<_> = runs
        .iter()
        .filter(|(_, run)| run.class == "KSampler")
        .collect();
    let [(id, run)] = samplers.as_slice() else {
        panic!("{samplers:?}");
    };
    assert!(id.starts_with("2.0.0.") && !run.is_cold, "{id}");
    assert!((run.seconds - 1.0).abs() < 1e-6, "{}", run.seconds);
}

#[test]
fn a_loop_without_rounds_is_not_waited_for() {
    let none = Loop::counted(0);
    let (job, end) = none.job(f64::INFINITY);
    assert_eq!(job.status(), Status::Completed);
    let (job, _) = none.job(end - 0.005);
    assert!(remaining(&job, &taught(3), end) < 0.5);
}
