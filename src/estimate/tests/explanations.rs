//! Why an estimate is what it is.

use serde_json::json;

use super::*;

fn explain(job: &Job, log: Option<&EstimateLog>, model: &CostModel, now: f64) -> Explanation {
    let estimate = Estimate::of(job, model, at(now));
    let start = log.and_then(EstimateLog::start);
    Explanation::of(job, estimate, start, model, at(now))
}

fn begun(job: &Job, model: &CostModel) -> EstimateLog {
    let mut log = EstimateLog::default();
    assert!(log.awaits_start(job));
    log.begin(job, model, at(0.0));
    log
}

fn node<'a>(explanation: &'a Explanation, id: &str) -> &'a NodeExplanation {
    let mut nodes = explanation.nodes.iter();
    nodes.find(|node| node.id == id).unwrap()
}

fn ids(explanation: &Explanation) -> Vec<&str> {
    let nodes = explanation.nodes.iter();
    nodes.map(|node| node.id.as_str()).collect()
}

#[test]
fn a_running_job_is_explained_as_it_is_estimated() {
    let model = trained(3);
    let log = begun(&run(graph(20, 512), 20, 0.5, 0.0).0, &model);
    let (job, _) = run(graph(20, 512), 20, 1.0, 12.1);
    let why = explain(&job, Some(&log), &model, 12.1);
    assert_eq!(why.remaining, Some(remaining(&job, &model, 12.1)));
    assert_eq!(
        (why.familiarity, why.is_guess),
        (Some("known"), Some(false))
    );
    assert_eq!(ids(&why), ["4", "5", "3", "8", "9"]);

    let sampler = node(&why, "3");
    assert_eq!(
        (sampler.state, sampler.source),
        (Some("running"), Some("signature"))
    );
    assert_eq!((sampler.runs, sampler.scaled_by), (Some(3), None));
    assert_eq!(
        (sampler.steps, sampler.steps_seen),
        (Some(20.0), Some(10.0))
    );
    assert_eq!((sampler.began, sampler.cold), (Some(2.0), Some(true)));
    let (predicted, left) = (sampler.predicted.unwrap(), sampler.left.unwrap());
    assert!((predicted - 10.0).abs() < 0.5, "{predicted}");
    assert!((6.0..11.5).contains(&left), "{left}");
    assert!((sampler.took.unwrap() - 10.1).abs() < 1e-6);

    let loader = node(&why, "4");
    assert_eq!((loader.state, loader.left), (Some("finished"), None));
    let decoder = node(&why, "8");
    assert_eq!((decoder.state, decoder.took), (Some("waiting"), None));
    // The job is slow, and so will be what follows.
    let speed = why.speed.unwrap();
    assert!(speed.job > 1.3 * speed.machine, "{speed:?}");
    let slowed = decoder.predicted.unwrap() * speed.job;
    assert!((decoder.left.unwrap() - slowed).abs() < 1e-9);
    let whole: f64 = why.nodes.iter().filter_map(|node| node.left).sum();
    assert!((whole - why.remaining.unwrap()).abs() < 0.1 * whole);
}

/// The model has learned from the job since.
#[test]
fn a_job_that_ended_is_explained_by_what_was_predicted_at_its_start() {
    let mut model = trained(3);
    let log = begun(&run(graph(20, 512), 20, 0.5, 0.0).0, &model);
    let (job, end) = run(graph(20, 512), 20, 2.0, 100.0);
    let before = node(&explain(&job, Some(&log), &model, end), "3").clone();
    for _ in 0..5 {
        model.learn(&job);
    }
    let why = explain(&job, Some(&log), &model, end + 50.0);
    assert_eq!(node(&why, "3"), &before);
    assert!((before.predicted.unwrap() - 10.0).abs() < 0.5, "{before:?}");
    assert_eq!((before.took, before.left), (Some(40.0), None));
    assert_eq!((why.remaining, why.elapsed), (Some(0.0), Some(43.2)));
    let start = why.at_start.unwrap();
    let predicted = start.remaining.unwrap();
    assert!((predicted - 13.2).abs() < 1.0, "{start:?}");
    assert!(start.low < start.remaining && start.remaining < start.high);
    let speed = why.speed.unwrap();
    assert!(speed.job > 2.0 && speed.machine < 1.2, "{speed:?}");
}

#[test]
fn a_job_whose_start_was_not_seen_shows_what_its_nodes_took() {
    let model = trained(3);
    let (job, end) = run(graph(20, 512), 20, 0.5, 100.0);
    let why = explain(&job, None, &model, end);
    assert_eq!((why.familiarity, why.is_guess), (None, None));
    assert_eq!((why.speed, why.at_start), (None, None));
    let sampler = node(&why, "3");
    assert_eq!((sampler.predicted, sampler.source), (None, None));
    assert_eq!((sampler.took, sampler.steps_seen), (Some(10.0), Some(20.0)));
}

#[test]
fn each_prediction_says_where_it_comes_from() {
    let model = trained(2);
    let graph = json!({
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a"}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 768, "height": 512, "batch_size": 1}},
        "3": {"class_type": "KSampler", "inputs": {"model": ["4", 0], "latent_image": ["5", 0], "steps": 30}},
        "6": {"class_type": "LoadLatent", "inputs": {"latent": "x"}},
        "7": {"class_type": "KSampler", "inputs": {"model": ["4", 0], "latent_image": ["6", 0], "steps": 30}},
        "2": {"class_type": "KSamplerAdvanced", "inputs": {"model": ["4", 0], "latent_image": ["5", 0], "steps": 10}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "also": ["7", 0], "more": ["2", 0]}},
        "1": {"class_type": "Mystery", "inputs": {"images": ["3", 0]}}
    });
    let plan = Plan::from_graph(graph.as_object().unwrap(), None);
    let why = explain(&job(plan.clone()), None, &model, 0.0);
    let source = |id| (node(&why, id).source, node(&why, id).scaled_by);
    assert_eq!(source("4"), (Some("signature"), None));
    assert_eq!(source("3"), (Some("class"), Some("size")));
    assert_eq!(source("7"), (Some("class"), Some("calls")));
    assert_eq!(source("2"), (Some("role"), Some("size")));
    assert_eq!(source("1"), (Some("table"), None));
    assert_eq!(
        (node(&why, "4").runs, node(&why, "1").runs),
        (Some(1), Some(0))
    );
    assert_eq!(node(&why, "7").units, None);
    assert!(node(&why, "3").units.is_some());

    let elsewhere = Job::new(JobId::parse("j").unwrap(), at(0.0)).on_backend("other", "p");
    let mut elsewhere = elsewhere;
    elsewhere.apply(Event::Planned(plan), at(0.0));
    let why = explain(&elsewhere, None, &model, 0.0);
    assert_eq!(node(&why, "3").source, Some("other_backend"));
}

#[test]
fn nodes_that_do_not_run_are_listed_without_a_prediction() {
    let model = trained(2);
    let mut job = job(graph(20, 512));
    job.apply(Event::Started, at(0.0));
    let mut log = begun(&job, &model);
    assert!(!log.awaits_start(&job), "nothing has changed");
    job.apply(
        Event::Cached {
            nodes: vec!["4".to_owned(), "5".to_owned()],
        },
        at(0.0),
    );
    assert!(log.awaits_start(&job), "the sampler is warm");
    log.begin(&job, &model, at(0.0));
    begin(&mut job, "3", 0.0);
    assert!(!log.awaits_start(&job));
    job.apply(
        Event::Ended(Outcome::Failed(JobError::reported(None))),
        at(1.0),
    );
    job.apply(Event::History(History::default()), at(1.0));
    log.forget_estimates();
    let why = explain(&job, Some(&log), &model, 2.0);
    assert_eq!(ids(&why), ["4", "5", "3", "8", "9"]);
    let states: Vec<&str> = why.nodes.iter().filter_map(|node| node.state).collect();
    assert_eq!(states[..2], ["cached", "cached"]);
    assert_eq!(states[3..], ["not_run", "not_run"]);
    assert_eq!(node(&why, "4").predicted, None);
    assert_eq!(node(&why, "3").cold, Some(false));
    assert!(why.nodes.iter().all(|node| node.left.is_none()));
}

#[test]
fn runs_that_a_loop_made_are_listed() {
    let mut job = job(graph(20, 512));
    begin(&mut job, "4", 0.0);
    let made = NodeReport {
        node: "8.0.0.1".to_owned(),
        display: Some("8".to_owned()),
        value: 3.0,
        max: 10.0,
        state: NodeState::Running,
        loading: false,
    };
    job.apply(Event::Nodes(vec![made]), at(1.0));
    let why = explain(&job, None, &trained(2), 2.0);
    let made = node(&why, "8.0.0.1");
    assert_eq!(made.class_type.as_deref(), Some("VAEDecode"));
    assert_eq!((made.predicted, made.source), (None, None));
    assert_eq!((made.took, made.steps_seen), (Some(1.0), Some(3.0)));
    assert!(made.left.is_some());
}

/// The memory of an ended job is bounded.
#[test]
fn the_longest_nodes_of_a_large_graph_are_kept() {
    let nodes = (0..3_000).map(|id| {
        let inputs = json!({"steps": id % 100 + 1});
        (
            id.to_string(),
            json!({"class_type": "KSampler", "inputs": inputs}),
        )
    });
    let plan = Plan::from_graph(&nodes.collect(), None);
    let model = CostModel::default();
    let mut job = job(plan);
    job.apply(Event::Started, at(0.0));
    let log = begun(&job, &model);
    job.apply(
        Event::Ended(Outcome::Failed(JobError::reported(None))),
        at(1.0),
    );
    job.apply(Event::History(History::default()), at(1.0));
    let why = explain(&job, Some(&log), &model, 2.0);
    assert_eq!(why.nodes.len(), 3_000);
    let predicted: Vec<f64> = why.nodes.iter().filter_map(|node| node.predicted).collect();
    assert_eq!(predicted.len(), 1_000);
    let shortest = predicted.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(shortest >= 33.0, "{shortest}");
}
