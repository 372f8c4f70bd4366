//! The percentage of a partner node is no step, and shows no pace.

use std::collections::HashSet;

use serde_json::json;

use super::*;

/// A service makes a picture, which is saved.
fn plan() -> Plan {
    let graph = json!({
        "1": {"class_type": "ServiceNode", "inputs": {"prompt": "a fox"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}}
    });
    let plan = Plan::from_graph(graph.as_object().unwrap(), None);
    plan.with_partners(&HashSet::from(["ServiceNode".to_owned()]))
}

/// A job whose service takes 20 seconds, and shows these percentages: at which second, and how much.
fn until(percentages: &[(f64, f64)], end: Option<f64>) -> Job {
    let mut job = job(plan());
    begin(&mut job, "1", 0.0);
    for &(seconds, value) in percentages {
        let bar = Event::Bar {
            node: Some("1".to_owned()),
            value,
            max: 100.0,
        };
        job.apply(bar, at(seconds));
    }
    if let Some(end) = end {
        begin(&mut job, "2", end);
        job.apply(Event::Ended(Outcome::Completed), at(end + 0.2));
        job.apply(Event::History(History::default()), at(end + 0.2));
    }
    job
}

#[test]
fn nothing_is_learned_of_a_percentage() {
    let job = until(&[(5.0, 25.0), (10.0, 50.0), (15.0, 95.0)], Some(20.0));
    let model = CostModel::default();
    let runs = model.runs(&job);
    let (_, service) = runs.iter().find(|(id, _)| *id == "1").unwrap();
    assert_eq!(service.seconds, 20.0);
    assert_eq!(
        (service.tick, service.ticks, service.steps),
        (None, None, None)
    );
}

/// A job whose service says in how many seconds it expects to be ready: at which second, and how many.
fn said(figures: &[(f64, u64)], end: Option<f64>) -> Job {
    let mut job = job(plan());
    begin(&mut job, "1", 0.0);
    for &(seconds, remaining) in figures {
        let event = Event::Partner {
            node: "1".to_owned(),
            status: None,
            remaining: Some(remaining),
        };
        job.apply(event, at(seconds));
    }
    if let Some(end) = end {
        begin(&mut job, "2", end);
        job.apply(Event::Ended(Outcome::Completed), at(end + 0.2));
        job.apply(Event::History(History::default()), at(end + 0.2));
    }
    job
}

#[test]
fn what_a_service_says_counts_where_nothing_has_run() {
    let left = remaining(
        &said(&[(1.0, 60), (5.0, 56)], None),
        &CostModel::default(),
        5.0,
    );
    assert!((45.0..62.0).contains(&left), "{left}");
}

/// It has always said half of what it takes, or something else each time.
#[test]
fn what_a_service_says_counts_as_it_has_held() {
    let mut short = CostModel::default();
    let mut wrong = CostModel::default();
    for round in 0..8_u32 {
        let took = 40.0 + f64::from(round);
        short.learn(&said(&[(1.0, took as u64 / 2 - 1)], Some(took)));
        let stated = if round % 2 == 0 { 4 } else { 300 };
        wrong.learn(&said(&[(1.0, stated)], Some(took)));
    }
    let asks_for = |seconds| said(&[(1.0, seconds)], None);
    // It says 50, which was always half of it, beside runs of 43 s.
    let left = remaining(&asks_for(50), &short, 1.0);
    let usual = remaining(&asks_for(20), &short, 1.0);
    assert!(left > usual + 5.0, "{left} {usual}");
    let left = remaining(&asks_for(300), &wrong, 1.0);
    assert!((35.0..60.0).contains(&left), "{left}");
}

#[test]
fn what_a_service_has_taken_before_counts_for_more_than_its_percentage() {
    let mut model = CostModel::default();
    for _ in 0..4 {
        model.learn(&until(&[(5.0, 50.0), (10.0, 99.0)], Some(20.0)));
    }
    let running = until(&[(2.0, 20.0), (4.0, 40.0), (6.0, 60.0), (8.0, 80.0)], None);
    let left = remaining(&running, &model, 8.0);
    assert!((left - 12.2).abs() < 1.5, "{left}");
}

#[test]
fn the_percentage_of_a_node_that_has_never_run_counts() {
    let running = until(&[(2.0, 20.0), (4.0, 40.0)], None);
    let left = remaining(&running, &CostModel::default(), 4.0);
    // The time that it has taken alone would make it less than half of that.
    assert!((5.0..10.0).contains(&left), "{left}");
}
