use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::job::{Event, History, JobId};

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

/// A job of which each step takes `step` seconds, until `until`, and when it ends.
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
    events.push((end, Event::Ended(Verdict::Completed)));
    for (t, event) in events.into_iter().filter(|(t, _)| *t <= until) {
        job.apply(event, at(t));
    }
    if end <= until {
        job.apply(Event::History(History::default()), at(end));
    }
    (job, end)
}

fn taught(runs: usize) -> CostModel {
    let mut model = CostModel::default();
    for _ in 0..runs {
        model.learn(&run(graph(20, 512), 20, 0.5, 100.0).0);
    }
    model
}

fn remaining(job: &Job, model: &CostModel, now: f64) -> f64 {
    Estimate::of(job, model, at(now)).remaining.unwrap()
}

#[test]
fn a_workflow_that_ran_before_is_known_from_its_first_second() {
    let model = taught(3);
    let (job, end) = run(graph(20, 512), 20, 0.5, 0.1);
    let left = remaining(&job, &model, 0.1);
    assert!((left - (end - 0.1)).abs() < 0.5, "{left}");
}

#[test]
fn steps_and_pixels_scale_what_was_learned() {
    let model = taught(3);
    let of = |plan: &Plan| {
        Estimate::of_prompt("b", plan, &[], &model)
            .remaining
            .unwrap()
    };
    let (usual, longer, wider) = (
        of(&graph(20, 512)),
        of(&graph(40, 512)),
        of(&graph(20, 1024)),
    );
    assert!((longer - usual - 10.0).abs() < 0.5, "{usual} {longer}");
    assert!(wider - usual > 7.0, "{usual} {wider}");
}

#[test]
fn live_steps_outweigh_what_was_learned() {
    let (job, end) = run(graph(20, 512), 20, 2.0, 22.1);
    let left = remaining(&job, &taught(3), 22.1);
    let truth = end - 22.1;
    assert!((left - truth).abs() < 0.2 * truth, "{left} {truth}");
}

#[test]
fn the_first_step_tells_before_there_is_a_pace() {
    let model = taught(3);
    let after_first = |step: f64| {
        let now = 2.0 + step + 0.01;
        remaining(&run(graph(20, 512), 20, step, now).0, &model, now)
    };
    let (usual, slow) = (after_first(0.5), after_first(2.0));
    assert!(slow > 1.15 * usual, "{usual} {slow}");
}

#[test]
fn cached_nodes_cost_nothing() {
    let model = taught(1);
    let plan = graph(20, 512);
    let of = |cached: &[String]| {
        Estimate::of_prompt("b", &plan, cached, &model)
            .remaining
            .unwrap()
    };
    assert!(of(&["4".to_owned(), "5".to_owned(), "3".to_owned()]) < of(&[]) - 10.0);
}

#[test]
fn a_silent_node_moves_and_never_passes_its_end() {
    let model = taught(1);
    let mut job = job(graph(20, 512));
    begin(&mut job, "4", 0.0);
    let shares: Vec<f64> = [0.5, 1.0, 2.0, 4.0, 20.0, 1e6]
        .map(|now| Estimate::of(&job, &model, at(now)).fraction)
        .to_vec();
    assert!(shares[0] > 0.0 && shares[1] > shares[0] && shares[2] > shares[1]);
    assert!(shares.iter().all(|share| *share < 1.0), "{shares:?}");
    assert!(remaining(&job, &model, 1e6) > 0.0);
}

#[test]
fn nothing_is_told_without_evidence() {
    let mut job = job(graph(20, 512));
    begin(&mut job, "4", 0.0);
    let estimate = Estimate::of(&job, &CostModel::default(), at(0.5));
    assert_eq!(estimate.remaining, None);
}

#[test]
fn what_waits_ends_after_all_before_it() {
    let one = |seconds: f64| Estimate {
        fraction: 0.0,
        remaining: Some(seconds),
        low: Some(seconds - 3.0),
        high: Some(seconds + 4.0),
    };
    let estimate = Estimate::queued([one(10.0), one(20.0)], one(5.0));
    assert_eq!(estimate.remaining, Some(35.0));
    assert!(estimate.low.unwrap() > 26.0 && estimate.high.unwrap() < 47.0);
    assert_eq!(
        Estimate::queued([Estimate::default()], one(5.0)).remaining,
        None
    );
}

/// What models must agree on: each node, cold and warm, and the machine's speed.
fn told(model: &CostModel, plans: &[Plan]) -> Vec<(String, Vec<Option<f64>>)> {
    let mut told = vec![("speed".to_owned(), vec![Some(model.slowness("b"))])];
    for (number, plan) in plans.iter().enumerate() {
        for (id, node) in plan.nodes() {
            let known = [true, false].map(|is_cold| model.predict("b", node, is_cold));
            let numbers = known.iter().flat_map(|known| {
                [
                    Some(known.seconds),
                    known.tick,
                    known.ticks,
                    Some(f64::from(known.nearness as u8)),
                ]
            });
            let is_cold = model.is_cold("b", node, |_| false);
            let numbers = numbers.chain([Some(f64::from(u8::from(is_cold)))]);
            told.push((format!("{number}/{id}"), numbers.collect()));
        }
    }
    told.sort_by(|a, b| a.0.cmp(&b.0));
    told
}

#[test]
fn what_is_left_falls_with_time_and_never_below_zero() {
    let now = Estimate {
        fraction: 0.2,
        remaining: Some(10.0),
        low: Some(4.0),
        high: Some(15.0),
    };
    let then = now.later(6.0);
    assert_eq!(
        (then.low, then.remaining, then.high),
        (Some(0.0), Some(4.0), Some(9.0))
    );
    assert_eq!(now.later(60.0).high, Some(0.0));
    assert_eq!(Estimate::default().later(1.0), Estimate::default());
}

#[test]
fn what_is_recalled_is_known_as_what_was_learned() {
    let (mut learned, mut recalled) = (CostModel::default(), CostModel::default());
    // The machine becomes slower, the fourth job fails, and the last one was broken off in the middle.
    let runs = [(20, 0.5), (20, 0.6), (30, 0.9), (20, 0.7), (25, 1.1)];
    for (number, (steps, step)) in runs.into_iter().enumerate() {
        let (job, _) = match number {
            3 => {
                let (mut job, _) = run(graph(steps, 512), steps, step, 15.0);
                job.apply(Event::Ended(Verdict::Cancelled), at(15.5));
                job.apply(Event::History(History::default()), at(16.0));
                (job, 16.0)
            }
            _ => run(graph(steps, 512), steps, step, 100.0),
        };
        assert!(job.status().is_final());
        let mut kept: Vec<PastRun<'_>> =
            learned.runs(&job).into_iter().map(|(_, run)| run).collect();
        assert_eq!(kept.len(), if number == 3 { 2 } else { 5 });
        let loader = job.plan().node("4").unwrap();
        kept.push(PastRun {
            class: &loader.class_type,
            signature: &loader.signature,
            is_cached: true,
            ..kept[0]
        });
        recalled.recall("b", &kept);
        learned.learn(&job);
    }
    let plans = [graph(20, 512), graph(50, 768)];
    assert_eq!(told(&recalled, &plans), told(&learned, &plans));
    assert!(
        learned.slowness("b") > 0.05,
        "the speed was not put to the test"
    );
}

#[test]
fn a_run_of_which_only_the_time_was_kept_tells_of_its_like() {
    let plan = graph(20, 512);
    for (_, node) in plan.needed() {
        let run = PastRun {
            class: &node.class_type,
            signature: &node.signature,
            units: None,
            steps: None,
            is_cold: false,
            is_cached: false,
            seconds: 2.0,
            tick: None,
            ticks: None,
        };
        let mut model = CostModel::default();
        model.recall("b", &[run]);
        let told = model.predict("b", node, true);
        assert_eq!((told.seconds, told.nearness), (2.0, model::Nearness::Exact));
        let other = graph(40, 1024);
        let unlike = other
            .nodes()
            .filter(|(_, other)| other.signature != node.signature);
        for (_, other) in unlike {
            assert_eq!(
                model.predict("b", other, true).nearness,
                model::Nearness::Table
            );
        }
        // What cannot be is not believed.
        for wrong in [f64::NAN, f64::INFINITY, -1.0] {
            model.recall(
                "b",
                &[PastRun {
                    seconds: wrong,
                    ..run
                }],
            );
            model.recall(
                "b",
                &[PastRun {
                    units: Some(wrong),
                    ..run
                }],
            );
            model.recall(
                "b",
                &[PastRun {
                    tick: Some(wrong),
                    ..run
                }],
            );
            model.recall(
                "b",
                &[PastRun {
                    ticks: Some(wrong),
                    ..run
                }],
            );
        }
        assert_eq!(model.predict("b", node, true), told);
    }
}

#[test]
fn a_branch_that_a_switch_leaves_out_is_waited_for_no_longer() {
    let switch = json!({
        "1": {"class_type": "KSampler", "inputs": {"steps": 20}},
        "2": {"class_type": "VAEDecode", "inputs": {"samples": ["1", 0]}},
        "3": {"class_type": "EmptyImage", "inputs": {}},
        "4": {"class_type": "Switch", "inputs": {"on_true": ["2", 0], "on_false": ["3", 0]}},
        "5": {"class_type": "SaveImage", "inputs": {"images": ["4", 0]}}
    });
    let mut job = job(Plan::from_graph(switch.as_object().unwrap(), None));
    let mut left = Vec::new();
    for (node, seconds) in [("3", 0.0), ("4", 1.0), ("5", 2.0)] {
        begin(&mut job, node, seconds);
        left.push(remaining(&job, &taught(1), seconds));
    }
    assert!(left[1] > 10.0 && left[2] < 2.0, "{left:?}");
}

#[test]
fn what_slows_a_machine_down_slows_all_its_servers() {
    let mut model = CostModel::default();
    let job = |backend: &str, step: f64| {
        let (job, _) = run(graph(20, 512), 20, step, 100.0);
        job.on_backend(backend, "p")
    };
    for backend in ["box:8188", "box:8189/b", "far:8188"] {
        model.learn(&job(backend, 0.5));
    }
    let of = |model: &CostModel, backend: &str| {
        let estimate = Estimate::of_prompt(backend, &graph(20, 512), &[], model);
        estimate.remaining.unwrap()
    };
    let (near, far) = (of(&model, "box:8189/b"), of(&model, "far:8188"));
    model.learn(&job("box:8188", 2.0));
    assert!(of(&model, "box:8189/b") > 1.3 * near);
    assert!((of(&model, "far:8188") - far).abs() < 0.01 * far);
}

#[test]
fn the_history_of_a_server_seeds_the_model() {
    let plan = graph(20, 512);
    let mut model = CostModel::default();
    let whole = |model: &CostModel| Estimate::of_prompt("b", &plan, &[], model).remaining;
    for wrong in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
        model.recall_prompt("b", &plan, &[], wrong);
    }
    assert_eq!(whole(&model), None);
    model.recall_prompt("b", &plan, &[], 60.0);
    let first = whole(&model).unwrap();
    assert!((first - 60.0).abs() < 1.0, "{first}");
    // Its models are there now.
    let loader = plan.node("4").unwrap();
    assert!(!model.is_cold("b", loader, |_| false));
    model.recall_prompt("b", &plan, &["4".to_owned(), "5".to_owned()], 30.0);
    let warm = Estimate::of_prompt("b", &plan, &["4".to_owned(), "5".to_owned()], &model);
    let warm = warm.remaining.unwrap();
    assert!((warm - 30.0).abs() < 1.0, "{warm}");
}

/// Servers of 2023 tell only that it is over. Its history is read later, and that is no work.
#[test]
fn the_last_node_of_an_old_server_ends_where_it_was_heard() {
    let mut job = job(graph(20, 512));
    for (node, seconds) in [("4", 0.0), ("5", 2.0), ("3", 2.0), ("8", 12.0), ("9", 13.0)] {
        begin(&mut job, node, seconds);
    }
    job.apply(Event::Over, at(13.5));
    let produced = History {
        produced: true,
        ..History::default()
    };
    job.apply(Event::History(produced), at(15.0));
    let runs = CostModel::default().runs(&job);
    let seconds: Vec<(&str, f64)> = runs.iter().map(|(id, run)| (*id, run.seconds)).collect();
    assert_eq!(
        seconds,
        [("4", 2.0), ("3", 10.0), ("5", 0.0), ("8", 1.0), ("9", 0.5)]
    );
}

fn event() -> impl Strategy<Value = Event> {
    let node =
        || prop::sample::select(vec!["4", "3", "8", "9", "7.0.0.1", "x"]).prop_map(str::to_owned);
    let number = || prop_oneof![3 => (0u32..30).prop_map(f64::from), 1 => prop::num::f64::ANY];
    prop_oneof![
        Just(Event::Started),
        node().prop_map(|node| Event::NodeStarted {
            node,
            display: None
        }),
        prop::collection::vec(node(), 0..3).prop_map(|nodes| Event::Cached { nodes }),
        (node(), number(), number()).prop_map(|(node, value, max)| Event::Bar {
            node: Some(node),
            value,
            max,
        }),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<f64>().prop_map(|x| json!(x)),
        any::<u64>().prop_map(|x| json!(x)),
        any::<i32>().prop_map(|x| json!(x)),
        Just(json!(null)),
        Just(json!(["1", 0])),
        Just(json!("a")),
    ]
}

/// Seconds until the next event, by a clock that is set now and then.
fn pause() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => 0.0..100.0,
        1 => -1e8..1e8,
        1 => Just(-3_600.0),
        1 => Just(3_600.0),
    ]
}

proptest! {
    #[test]
    fn estimates_are_sane_whatever_happens(
        events in prop::collection::vec((event(), pause()), 0..40),
        taught_runs in 0usize..3,
        fields in prop::collection::vec(value(), 7),
    ) {
        let names = ["steps", "width", "height", "batch_size", "scale_by", "start_at_step", "denoise"];
        let inputs: serde_json::Map<String, Value> =
            names.iter().map(|name| (*name).to_owned()).zip(fields).collect();
        let graph = json!({
            "1": {"class_type": "EmptyLatentImage", "inputs": inputs},
            "3": {"class_type": "KSampler", "inputs": inputs},
            "4": {"class_type": "VAELoader", "inputs": {"x": ["3", 0]}},
            "8": {"class_type": "ImageUpscaleWithModel", "inputs": {"x": ["4", 0], "y": ["3", 1]}}
        });
        let mut model = taught(taught_runs);
        let mut job = job(Plan::from_graph(graph.as_object().unwrap(), None));
        let (mut now, mut shown) = (0.0, 0);
        for (event, pause) in events {
            now += pause;
            job.apply(event, at(now));
            let estimate = Estimate::of(&job, &model, at(now));
            prop_assert!((0.0..1.0).contains(&estimate.fraction), "{estimate:?}");
            if let (Some(low), Some(middle), Some(high)) = (estimate.low, estimate.remaining, estimate.high) {
                prop_assert!(0.0 <= low && low <= middle && middle <= high && high.is_finite(), "{estimate:?}");
            }
            let progress = job.publish(estimate.fraction, estimate.outlook(), at(now)).progress;
            prop_assert!((shown..100).contains(&progress));
            shown = progress;
        }
        job.apply(Event::Ended(Verdict::Completed), at(now));
        model.learn(&job);
        for (_, node) in job.plan().nodes() {
            prop_assert!(model.predict("b", node, true).seconds.is_finite());
        }
    }
}
