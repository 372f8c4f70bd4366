//! What the model learns from jobs that ran here or earlier.

use super::*;

/// What two models must agree on: each node, cold and warm, and the machine's speed.
fn state(model: &CostModel, plans: &[Plan]) -> Vec<(String, Vec<Option<f64>>)> {
    let speed = Some(model.log_speed_factor("b"));
    let mut state = vec![("speed".to_owned(), vec![speed])];
    for (number, plan) in plans.iter().enumerate() {
        for (id, node) in plan.nodes() {
            let known = [true, false].map(|is_cold| model.predict("b", node, is_cold));
            let numbers = known.iter().flat_map(|known| {
                [
                    Some(known.seconds),
                    known.tick,
                    known.ticks,
                    Some(f64::from(known.match_level.distance())),
                ]
            });
            let is_cold = model.is_cold("b", node, |_| false);
            let numbers = numbers.chain([Some(f64::from(u8::from(is_cold)))]);
            state.push((format!("{number}/{id}"), numbers.collect()));
        }
    }
    state.sort_by(|a, b| a.0.cmp(&b.0));
    state
}

#[test]
fn stored_runs_teach_the_same_as_the_jobs_themselves() {
    let (mut learned, mut restored) = (CostModel::default(), CostModel::default());
    // The machine becomes slower, and the fourth job is cancelled halfway.
    let runs = [(20, 0.5), (20, 0.6), (30, 0.9), (20, 0.7), (25, 1.1)];
    for (number, (steps, step)) in runs.into_iter().enumerate() {
        let (job, _) = match number {
            3 => {
                let (mut job, _) = run(graph(steps, 512), steps, step, 15.0);
                job.apply(Event::Ended(Outcome::Cancelled), at(15.5));
                job.apply(Event::History(History::default()), at(16.0));
                (job, 16.0)
            }
            _ => run(graph(steps, 512), steps, step, 100.0),
        };
        assert!(job.status().is_final());
        let mut stored: Vec<PastRun<'_>> =
            learned.runs(&job).into_iter().map(|(_, run)| run).collect();
        assert_eq!(stored.len(), if number == 3 { 2 } else { 5 });
        let loader = job.plan().node("4").unwrap();
        stored.push(PastRun {
            class: &loader.class_type,
            signature: &loader.signature,
            is_cached: true,
            ..stored[0]
        });
        restored.learn_runs("b", &stored, None);
        learned.learn(&job);
    }
    let plans = [graph(20, 512), graph(50, 768)];
    assert_eq!(state(&restored, &plans), state(&learned, &plans));
    assert!(
        learned.log_speed_factor("b") > 0.05,
        "the speed was not tested"
    );
}

#[test]
fn a_run_stored_without_units_teaches_its_own_signature_only() {
    let plan = graph(20, 512);
    for (_, node) in plan.needed() {
        let run = PastRun {
            class: &node.class_type,
            signature: &node.signature,
            units: None,
            calls: None,
            models: 0,
            steps: None,
            is_cold: false,
            is_cached: false,
            seconds: 2.0,
            tick: None,
            ticks: None,
            is_parallel: false,
        };
        let mut model = CostModel::default();
        model.learn_runs("b", &[run], None);
        let prediction = model.predict("b", node, true);
        assert_eq!(
            (prediction.seconds, prediction.match_level),
            (2.0, prediction::MatchLevel::Signature)
        );
        let other = graph(40, 1024);
        let unlike = other
            .nodes()
            .filter(|(_, other)| other.signature != node.signature);
        for (_, other) in unlike {
            assert_eq!(
                model.predict("b", other, true).match_level,
                prediction::MatchLevel::Default
            );
        }
        // Impossible numbers teach nothing.
        for wrong in [f64::NAN, f64::INFINITY, -1.0] {
            let (mut time, mut units, mut tick, mut ticks) = (run, run, run, run);
            time.seconds = wrong;
            units.units = Some(wrong);
            tick.tick = Some(wrong);
            ticks.ticks = Some(wrong);
            for run in [time, units, tick, ticks] {
                model.learn_runs("b", &[run], None);
            }
        }
        assert_eq!(model.predict("b", node, true), prediction);
    }
}

#[test]
fn a_slow_machine_slows_all_its_backends() {
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
    let slowed = of(&model, "box:8189/b");
    assert!(slowed > 1.2 * near, "{slowed} {near}");
    assert!((of(&model, "far:8188") - far).abs() < 0.01 * far);
}

#[test]
fn the_history_of_a_backend_seeds_the_model() {
    let plan = graph(20, 512);
    let mut model = CostModel::default();
    let whole = |model: &CostModel| Estimate::of_prompt("b", &plan, &[], model).remaining;
    for wrong in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
        model.learn_prompt("b", &plan, &[], wrong);
    }
    assert_eq!(whole(&model), None);
    model.learn_prompt("b", &plan, &[], 60.0);
    let first = whole(&model).unwrap();
    assert!((first - 60.0).abs() < 1.0, "{first}");
    // Its models are loaded now.
    let loader = plan.node("4").unwrap();
    assert!(!model.is_cold("b", loader, |_| false));
    model.learn_prompt("b", &plan, &["4".to_owned(), "5".to_owned()], 30.0);
    let warm = Estimate::of_prompt("b", &plan, &["4".to_owned(), "5".to_owned()], &model);
    let warm = warm.remaining.unwrap();
    assert!((warm - 30.0).abs() < 1.0, "{warm}");
}

/// Servers of 2023 report only that the prompt is over. Its history is read later; that is not work.
#[test]
fn the_last_node_of_an_old_server_ends_with_its_prompt() {
    let mut job = job(graph(20, 512));
    for (node, seconds) in [("4", 0.0), ("5", 2.0), ("3", 2.0), ("8", 12.0), ("9", 13.0)] {
        begin(&mut job, node, seconds);
    }
    job.apply(Event::WorkDone, at(13.5));
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

fn end(job: &mut Job, outcome: Outcome, seconds: f64) {
    job.apply(Event::Ended(outcome), at(seconds));
    job.apply(Event::History(History::default()), at(seconds));
}

/// Learns a job as it was stored: its runs, and its cached nodes.
fn restore(model: &mut CostModel, job: &Job, runs: &[PastRun<'_>]) {
    let mut stored = runs.to_vec();
    let is_cached = |id: &str| job.nodes().is_cached(id);
    let cached = job.plan().needed().filter(|(id, _)| is_cached(id));
    stored.extend(cached.map(|(_, node)| PastRun {
        class: &node.class_type,
        signature: &node.signature,
        units: None,
        calls: None,
        models: 0,
        steps: None,
        is_cold: false,
        is_cached: true,
        seconds: 0.0,
        tick: None,
        ticks: None,
        is_parallel: false,
    }));
    model.learn_runs("b", &stored, None);
}

#[test]
fn models_that_a_job_did_not_reach_are_not_loaded() {
    let plan = graph(20, 512);
    let other = json!({
        "1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
        "2": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "other"}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "model": ["2", 0]}}
    });
    let other = Plan::from_graph(other.as_object().unwrap(), None);
    let mut deleted = job(other.clone());
    deleted.apply(Event::Vanished(Reason::Deleted), at(1.0));
    let mut interrupted = job(other.clone());
    begin(&mut interrupted, "1", 0.0);
    end(&mut interrupted, Outcome::Cancelled, 1.0);
    let mut while_loading = job(other.clone());
    begin(&mut while_loading, "1", 0.0);
    begin(&mut while_loading, "2", 1.0);
    end(&mut while_loading, Outcome::Cancelled, 2.0);
    let mut loaded = job(other.clone());
    begin(&mut loaded, "2", 0.0);
    begin(&mut loaded, "1", 1.0);
    end(&mut loaded, Outcome::Cancelled, 2.0);
    let mut cached = job(other.clone());
    let nodes = vec!["2".to_owned()];
    cached.apply(Event::Cached { nodes }, at(0.0));
    end(&mut cached, Outcome::Cancelled, 2.0);
    // Whether the other model is then loaded, and the one of the job before.
    for (job, is_other_loaded, is_own_loaded) in [
        (deleted, false, true),
        (interrupted, false, true),
        (while_loading, false, false),
        (loaded, true, false),
        (cached, true, false),
    ] {
        let mut learned = trained(1);
        let mut restored = learned.clone();
        let runs = learned.runs(&job);
        let runs: Vec<PastRun<'_>> = runs.into_iter().map(|(_, run)| run).collect();
        restore(&mut restored, &job, &runs);
        learned.learn(&job);
        for model in [&learned, &restored] {
            let is_loaded =
                |plan: &Plan, id: &str| !model.is_cold("b", plan.node(id).unwrap(), |_| false);
            assert_eq!(is_loaded(&other, "2"), is_other_loaded, "{job:?}");
            assert_eq!(is_loaded(&plan, "4"), is_own_loaded, "{job:?}");
        }
    }
}

#[test]
fn runs_with_impossible_numbers_are_ignored() {
    let (plan, other) = (graph(20, 512), graph(40, 1024));
    let node = plan.node("3").unwrap();
    let run = PastRun {
        class: &node.class_type,
        signature: &node.signature,
        units: node.units,
        calls: Some(node.calls),
        models: node.models,
        steps: node.steps,
        is_cold: true,
        is_cached: false,
        seconds: 2.0,
        tick: Some(0.1),
        ticks: Some(20.0),
        is_parallel: false,
    };
    let units = [1e-300, 1e-7, 1e13, 1e300].map(|units| PastRun {
        units: Some(units),
        ..run
    });
    let seconds = [1e10, 1e300].map(|seconds| PastRun { seconds, ..run });
    let tick = [1e10, 1e300].map(|tick| PastRun {
        tick: Some(tick),
        ..run
    });
    let ticks = [0.0, 1e10, 1e300].map(|ticks| PastRun {
        ticks: Some(ticks),
        ..run
    });
    for wrong in [&units[..], &seconds, &tick, &ticks].concat() {
        let mut model = CostModel::default();
        model.learn_runs("b", &[wrong], None);
        for node in [node, other.node("3").unwrap()] {
            let prediction = model.predict("b", node, true);
            assert_eq!(
                prediction.match_level,
                prediction::MatchLevel::Default,
                "{wrong:?}"
            );
        }
    }
    let mut model = CostModel::default();
    model.learn_runs("b", &[run], None);
    let prediction = model.predict("b", node, true);
    assert_eq!(prediction.match_level, prediction::MatchLevel::Signature);
}

#[test]
fn a_node_that_failed_before_its_job_ended_is_not_learned() {
    let report = |node: &str, state: NodeState| NodeReport {
        node: node.to_owned(),
        display: None,
        value: 1.0,
        max: 1.0,
        state,
        loading: false,
    };
    let mut job = job(graph(20, 512));
    begin(&mut job, "4", 0.0);
    let reports = vec![report("4", NodeState::Finished)];
    job.apply(Event::Nodes(reports), at(2.0));
    begin(&mut job, "3", 2.0);
    let reports = vec![report("3", NodeState::Failed)];
    job.apply(Event::Nodes(reports), at(3.0));
    let failed = Outcome::Failed(JobError::without_outputs());
    end(&mut job, failed, 3.1);
    let runs = CostModel::default().runs(&job);
    let ids: Vec<&str> = runs.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, ["4"]);
}

/// Another graphics card, or a program that keeps running beside ComfyUI.
#[test]
fn a_persistent_change_of_speed_is_learned_within_some_jobs() {
    for factor in [4.0, 2.0, 0.25] {
        let mut model = trained(20);
        let mut ratios = Vec::new();
        for _ in 0..20 {
            let (job, end) = run(graph(20, 512), 20, 0.5 * factor, 200.0);
            let estimate = Estimate::of_prompt("b", &graph(20, 512), &[], &model);
            ratios.push(estimate.remaining.unwrap() / end);
            model.learn(&job);
        }
        assert!((ratios[0] - 1.0).abs() > 0.3, "{factor}: {ratios:?}");
        let later = &ratios[12..];
        assert!(
            later.iter().all(|ratio| (ratio - 1.0).abs() < 0.15),
            "{factor}: {ratios:?}"
        );
    }
}

#[test]
fn a_slow_server_beside_a_fast_one_is_slow_alone() {
    let (fast, slow) = ("box:8188", "box:8189");
    let job = |backend: &str, step: f64| {
        let (job, end) = run(graph(20, 512), 20, step, 100.0);
        (job.on_backend(backend, "p"), end)
    };
    let mut model = CostModel::default();
    for _ in 0..20 {
        model.learn(&job(fast, 0.5).0);
    }
    for _ in 0..10 {
        model.learn(&job(slow, 2.0).0);
        model.learn(&job(fast, 0.5).0);
    }
    for (backend, step) in [(fast, 0.5), (slow, 2.0)] {
        let estimate = Estimate::of_prompt(backend, &graph(20, 512), &[], &model);
        let ratio = estimate.remaining.unwrap() / job(backend, step).1;
        assert!((ratio - 1.0).abs() < 0.1, "{backend}: {ratio}");
    }
}
