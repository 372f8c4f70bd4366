use std::path::Path;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::comfy::Message;
use crate::config::{ComfyConfig, RelayConfig, StoreConfig};
use crate::estimate::Estimate;
use crate::job::{Event, History, JobId, Outcome, Plan};
use crate::recording::{FrameKind, Recording};
use crate::relay::{Relay, stored_job};
use crate::store::{LeaseOwner, Recorder};

const BACKEND: &str = "127.0.0.1:1";

/// Recordings of many kinds: whole, cached, failed, interrupted, in a loop, at the same time, and of
/// servers that do not send how a prompt ended.
const RECORDINGS: [&str; 10] = [
    "0.8.0/01-txt2img-basic",
    "0.8.0/05-cached-rerun",
    "0.8.0/07-error-mid-run",
    "0.8.0/09-interrupt",
    "0.8.0/11-bar-resets",
    "0.8.0/18-async-parallel",
    "0.8.0/19-subgraph-loop",
    "2023-08-14/01-txt2img-basic",
    "2023-12-30/01-txt2img-basic",
    "2023-12-30/05-cached-rerun",
];

fn at(t: f64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs_f64(t)
}

/// The jobs of a recording, as the relay would have tracked them from a moment on.
fn jobs_of(name: &str, from: f64) -> Vec<Job> {
    let recording = Recording::read(&Path::new("fixtures").join(name)).unwrap();
    let posted = recording.prompts().filter_map(|exchange| {
        let id = exchange.response.get("prompt_id")?.as_str()?;
        let graph = exchange.request_body["prompt"].as_object()?;
        let job_id = JobId::parse(&format!("{from}-{id}")).unwrap();
        let mut job = Job::new(job_id, at(from)).on_backend(BACKEND, id);
        job.apply(Event::Planned(Plan::from_graph(graph, None)), at(from));
        Some(job)
    });
    let mut jobs: Vec<Job> = posted.collect();
    let mut running: Option<String> = None;
    for frame in &recording.frames {
        let now = at(from + frame.t);
        let FrameKind::Text(text) = &frame.kind else {
            continue;
        };
        let (id, event) = match Message::parse(text, "") {
            Message::Prompt { prompt_id, event } => (prompt_id, event),
            Message::PromptEnded { prompt_id } => (prompt_id, Event::WorkDone),
            _ => continue,
        };
        running = id.or(running);
        let Some(job) = jobs
            .iter_mut()
            .find(|job| job.prompt_id() == running.as_deref())
        else {
            continue;
        };
        let is_over = event == Event::WorkDone;
        job.apply(event, now);
        if is_over {
            let produced = History {
                produced: true,
                ..History::default()
            };
            // It is read a while later.
            job.apply(Event::History(produced), at(from + frame.t + 0.7));
        }
    }
    jobs.retain(|job| job.status().is_final());
    jobs
}

/// The estimate for each plan.
fn estimates(model: &CostModel, jobs: &[Job]) -> Vec<[Option<f64>; 3]> {
    let estimates = jobs
        .iter()
        .map(|job| Estimate::of_prompt(BACKEND, job.plan(), &[], model));
    let estimates = estimates.map(|estimate| [estimate.remaining, estimate.low, estimate.high]);
    estimates.collect()
}

/// A relay whose backend does not run.
async fn relay() -> Relay {
    let comfy = ComfyConfig {
        urls: vec![format!("http://{BACKEND}").parse().unwrap()],
        ..ComfyConfig::default()
    };
    let store = StoreConfig::default();
    let relay = Relay::start(RelayConfig::default(), comfy, &store);
    relay.await.unwrap()
}

fn learning(relay: &Relay) -> &Learning {
    &relay.0.tracker.estimator.learning
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_from_the_store_teach_the_same_as_their_jobs_did() {
    let recorder = Recorder::new(crate::store::Store::open(&StoreConfig::default()));
    let stop = CancellationToken::new();
    let owner = Arc::new(LeaseOwner::new());
    let running = tokio::spawn(recorder.clone().run(stop.clone()));
    recorder.ready().await;
    let mut learned = CostModel::default();
    let mut all: Vec<Job> = Vec::new();
    for (number, name) in RECORDINGS.into_iter().enumerate() {
        let jobs = jobs_of(name, 1_000.0 * number as f64);
        assert!(!jobs.is_empty(), "{name}");
        all.extend(jobs);
    }
    let mut count = 0;
    for job in &mut all {
        let runs = learned.runs(job);
        count += runs.len();
        let costs = runs.iter();
        let costs = costs.map(|(node, run)| ((*node).to_owned(), stored_runs::cost(run).unwrap()));
        let costs = costs.collect();
        learned.learn(job);
        let progress = job.publish(1.0, None, job.ended_at().unwrap());
        let writer = (&owner, 1);
        recorder.record(stored_job::record(job, Some(&costs), progress, writer));
        recorder.written(job.id()).await;
    }
    let runs = recorder
        .store()
        .node_runs(BACKEND, Timestamp::now(), 10_000)
        .await
        .unwrap();
    assert!(
        count > 50 && runs.len() > count,
        "{count} of {} were learned",
        runs.len()
    );
    let mut stored: Vec<JobRuns> = JobRuns::of(BACKEND, runs).collect();
    stored.sort_by_key(JobRuns::began_at);
    let mut replayed = CostModel::default();
    for job in &stored {
        replayed.learn_runs(job.backend(), &job.past(), job.began_at());
    }
    let (wanted, found) = (estimates(&learned, &all), estimates(&replayed, &all));
    assert!(wanted.iter().flatten().all(Option::is_some), "{wanted:?}");
    for (wanted, found) in wanted.iter().flatten().zip(found.iter().flatten()) {
        let (wanted, found) = (wanted.unwrap(), found.unwrap());
        assert!((wanted - found).abs() <= 1e-6 * wanted, "{wanted} {found}");
    }
    stop.cancel();
    running.await.unwrap();
}

/// A job whose end was received, while its history is not read yet.
fn ending(name: &str, prompt_id: &str, step: f64, from: f64) -> Job {
    let graph = json!({
        "3": {"class_type": "KSampler", "inputs": {"steps": 20}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["3", 0]}}
    });
    let id = JobId::parse(name).unwrap();
    let mut job = Job::new(id, at(from)).on_backend(BACKEND, prompt_id);
    let plan = Plan::from_graph(graph.as_object().unwrap(), None);
    job.apply(Event::Planned(plan), at(from));
    for (node, t) in [("3", 0.0), ("9", 20.0 * step)] {
        let node = node.to_owned();
        job.apply(
            Event::NodeStarted {
                node,
                display: None,
            },
            at(from + t),
        );
    }
    let end = at(from + 20.0 * step + 1.0);
    job.apply(Event::Ended(Outcome::Completed), end);
    job
}

fn ended(mut job: Job) -> Job {
    let end = job.work_done_at().unwrap();
    job.apply(Event::History(History::default()), end);
    job
}

fn job(name: &str, step: f64) -> Job {
    ended(ending(name, name, step, 0.0))
}

/// However late older runs are learned, they count as older. Also with more jobs than are kept.
#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_ended_outweigh_older_runs_learned_later() {
    for count in [3, MAX_PENDING_JOBS, MAX_PENDING_JOBS + 20] {
        let relay = relay().await;
        let live: Vec<Job> = (0..count)
            .map(|number| job(&format!("job-{number}"), 0.5))
            .collect();
        let old = || (0..40).map(|number| job(&format!("old-{number}"), 3.0));
        let mut wanted = CostModel::default();
        // Jobs that are not kept any longer are older than those of the replay.
        let (in_base, kept) = live.split_at(count.saturating_sub(MAX_PENDING_JOBS));
        in_base.iter().for_each(|job| wanted.learn(job));
        old().for_each(|job| wanted.learn(&job));
        kept.iter().for_each(|job| wanted.learn(job));
        for job in &live {
            assert_eq!(learning(&relay).learn(job).len(), 2);
        }
        // Learned after the jobs have ended.
        let teach = move |model: &mut CostModel| old().for_each(|job| model.learn(&job));
        learning(&relay).replay([], teach).await;
        assert_eq!(
            estimates(&learning(&relay).model(), &live),
            estimates(&wanted, &live),
            "{count}"
        );
        assert!(learning(&relay).pending().live.len() <= MAX_PENDING_JOBS);
        // After the last replay no job is kept any longer.
        learning(&relay).replay([&BACKEND.to_owned()], |_| {}).await;
        learning(&relay).learn(&live[0]);
        wanted.learn(&live[0]);
        assert_eq!(
            estimates(&learning(&relay).model(), &live),
            estimates(&wanted, &live)
        );
        assert!(learning(&relay).pending().live.is_empty());
        relay.shutdown().await;
    }
}

/// A job that ends while older runs are learned is learned once, and as the newest.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_ends_during_a_replay_is_learned_on_top() {
    let relay = relay().await;
    let (teaching, learned) = (Arc::new(std::sync::Barrier::new(2)), job("live", 0.5));
    let held = teaching.clone();
    let replaying = tokio::spawn({
        let relay = relay.clone();
        async move {
            let teach = move |model: &mut CostModel| {
                held.wait();
                (0..40).for_each(|number| model.learn(&job(&format!("old-{number}"), 3.0)));
                held.wait();
            };
            learning(&relay).replay([], teach).await;
        }
    });
    let live: Vec<Job> = (0..MAX_PENDING_JOBS + 5).map(|_| learned.clone()).collect();
    tokio::task::block_in_place(|| teaching.wait());
    for job in &live {
        learning(&relay).learn(job);
    }
    tokio::task::block_in_place(|| teaching.wait());
    replaying.await.unwrap();
    let mut wanted = CostModel::default();
    (0..40).for_each(|number| wanted.learn(&job(&format!("old-{number}"), 3.0)));
    live.iter().for_each(|job| wanted.learn(job));
    assert_eq!(
        estimates(&learning(&relay).model(), &live),
        estimates(&wanted, &live)
    );
    relay.shutdown().await;
}

/// A prompt runs once, however many jobs follow it: it is learned once, and replayed once.
#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_several_jobs_follow_is_learned_once() {
    let relay = relay().await;
    relay.recorder().ready().await;
    let mut once = CostModel::default();
    let followers = ["one", "other", "third"];
    // The second prompt deviates from the first: learned twice, it would count more.
    for (prompt, step, from) in [("a", 0.5, 0.0), ("b", 0.8, 100.0)] {
        let of = |follower: &str| ending(&format!("{follower}-{prompt}"), prompt, step, from);
        once.learn(&ended(of("one")));
        for follower in followers {
            relay.0.tracker.registry().insert(
                of(follower),
                Some(relay.0.tracker.backends[0].clone()),
                0,
            );
        }
        for follower in followers {
            let id = of(follower).id().clone();
            relay
                .0
                .tracker
                .ingest(&id, Event::History(History::default()));
            relay.0.tracker.await_written(&id).await;
        }
    }
    let jobs = [job("any", 0.5)];
    assert_eq!(
        estimates(&learning(&relay).model(), &jobs),
        estimates(&once, &jobs)
    );

    let store = relay.recorder().store();
    let runs = store.node_runs(BACKEND, Timestamp::now(), 10_000).await;
    let runs = runs.unwrap();
    assert_eq!(runs.len(), 12, "the nodes of every job are kept");
    let mut stored: Vec<JobRuns> = JobRuns::of(BACKEND, runs).collect();
    stored.sort_by_key(JobRuns::began_at);
    let mut replayed = CostModel::default();
    for job in &stored {
        replayed.learn_runs(job.backend(), &job.past(), job.began_at());
    }
    let (wanted, found) = (estimates(&once, &jobs), estimates(&replayed, &jobs));
    for (wanted, found) in wanted[0].iter().zip(found[0]) {
        let (wanted, found) = (wanted.unwrap(), found.unwrap());
        assert!((wanted - found).abs() <= 1e-6 * wanted, "{wanted} {found}");
    }
    relay.shutdown().await;
}

/// A prompt under the id of one that has ended is another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_later_prompt_with_the_same_id_is_learned_too() {
    let relay = relay().await;
    let mut both = CostModel::default();
    for (name, step, from) in [("first", 0.5, 0.0), ("second", 0.8, 100.0)] {
        let job = ending(name, "same", step, from);
        both.learn(&ended(job.clone()));
        let id = job.id().clone();
        relay
            .0
            .tracker
            .registry()
            .insert(job, Some(relay.0.tracker.backends[0].clone()), 0);
        relay
            .0
            .tracker
            .ingest(&id, Event::History(History::default()));
    }
    let jobs = [job("any", 0.5)];
    assert_eq!(
        estimates(&learning(&relay).model(), &jobs),
        estimates(&both, &jobs)
    );
    relay.shutdown().await;
}
