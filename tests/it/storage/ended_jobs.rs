//! Jobs that ended some time ago, of which memory has no more than their final states.

use std::time::Duration;

use comfy_relay::job::{JobId, Selection};
use serde_json::{Value, json};

use super::faults::proxy_to;
use super::lifecycle::settings;
use crate::support::database::{TestDatabase, on_both};
use crate::support::recordings::{ERROR, TXT2IMG};
use crate::support::subscriber::is_final;
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::wait::wait_until;

on_both!(
    a_job_that_ended_some_time_ago_is_shown_as_before,
    a_failure_is_shown_as_before_after_a_restart,
    a_job_that_ended_some_time_ago_is_still_ended,
    a_feed_that_reads_late_gets_the_final_state_once,
);

/// The details of so many ended jobs stay in memory, however long ago they ended.
fn with_details_of(jobs: usize, settings: impl Into<Settings>) -> Settings {
    let mut settings = settings.into();
    settings.relay.details_of = jobs;
    settings.relay.details_for = Duration::ZERO;
    settings
}

fn id(job: &str) -> JobId {
    JobId::parse(job).unwrap()
}

/// Waits until memory has no details of an ended job, and the hub no state.
async fn dropped(relay: &TestRelay, job: &str) {
    let what = format!("the details of {job} are dropped");
    let is_dropped = async || relay.handle.newest_state(&id(job)).is_none();
    wait_until(&what, is_dropped).await;
    assert!(relay.handle.knows(&id(job)), "{job}");
}

/// A job of a producer ends: the details of the one that ended before are dropped.
async fn end_another(relay: &TestRelay) {
    relay
        .report("another", &json!({"progress": 100, "status": "completed"}))
        .await;
}

/// What is shown of a job, apart from the moment of the answer, and from what is finer than a millisecond.
async fn shown(relay: &TestRelay, job: &str) -> Value {
    let (status, mut shown) = relay.job(job).await;
    assert_eq!(status, 200, "{shown}");
    shown["timestamp"] = Value::Null;
    let to_the_millisecond = |moment: &mut Value| {
        if let Some(text) = moment.as_str() {
            let at: jiff::Timestamp = text.parse().unwrap();
            *moment = json!(at.as_millisecond());
        }
    };
    for field in ["created_at", "started_at", "completed_at"] {
        to_the_millisecond(&mut shown[field]);
    }
    for run in shown["timeline"].as_array_mut().unwrap() {
        to_the_millisecond(&mut run["started_at"]);
    }
    shown
}

async fn run(relay: &TestRelay, job: &str, recording: &str) -> Value {
    let mut subscriber = relay.subscribe(job).await;
    relay.submit(job, recording).await;
    assert_eq!(subscriber.close_code().await, 1000);
    subscriber.last().clone()
}

async fn a_job_that_ended_some_time_ago_is_shown_as_before(db: TestDatabase) {
    let settings = with_details_of(1, settings(db.config()));
    let relay = TestRelay::replaying_with(TXT2IMG, settings).await;
    let last = run(&relay, "job", TXT2IMG).await;
    let before = shown(&relay, "job").await;
    assert_eq!(before["timeline"].as_array().unwrap().len(), 7);
    let (_, explained) = relay.get("/api/anime/jobs/job/estimate").await;
    end_another(&relay).await;
    dropped(&relay, "job").await;

    let mut monitor = relay.monitor().await;
    let status = monitor.receive_type("system_status").await;
    let recent = status["recent_jobs"].as_array().unwrap();
    let recent = recent.iter().find(|recent| recent["id"] == "job").unwrap();
    assert_eq!(
        (&recent["status"], &recent["progress"]),
        (&json!("completed"), &json!(100))
    );
    assert_eq!(status["jobs"]["completed"], 2);

    for _ in 0..2 {
        let mut late = relay.subscribe("job").await;
        late.ends_as("completed").await;
        assert_eq!(late.last(), &last);
        assert_eq!(
            late.states.iter().filter(|state| is_final(state)).count(),
            1
        );
        dropped(&relay, "job").await;
    }
    assert_eq!(shown(&relay, "job").await, before);
    // A subscriber that comes while the job is read from its row.
    let mut late = relay.subscribe("job").await;
    late.ends_as("completed").await;
    assert_eq!(late.last(), &last);
    let (_, again) = relay.get("/api/anime/jobs/job/estimate").await;
    let took = |explained: &Value| -> Vec<(Value, Value, Value)> {
        let nodes = explained["nodes"].as_array().unwrap();
        let began = nodes.iter().filter(|node| node["state"] == "finished");
        let node = |node: &Value| {
            (
                node["id"].clone(),
                node["title"].clone(),
                node["class_type"].clone(),
            )
        };
        began.map(node).collect()
    };
    assert_eq!(took(&again), took(&explained));
    dropped(&relay, "job").await;
    relay.stop().await;
}

async fn a_failure_is_shown_as_before_after_a_restart(db: TestDatabase) {
    let relay = TestRelay::replaying_with(ERROR, settings(db.config())).await;
    run(&relay, "job", ERROR).await;
    let before = shown(&relay, "job").await;
    let states = |shown: &Value| -> Vec<Value> {
        let runs = shown["timeline"].as_array().unwrap();
        runs.iter().map(|run| run["state"].clone()).collect()
    };
    assert!(states(&before).contains(&json!("failed")), "{before}");
    relay.stop().await;
    let relay = TestRelay::without_backend(settings(db.config())).await;
    let after = shown(&relay, "job").await;
    assert_eq!(after["timeline"], before["timeline"]);
    relay.stop().await;
}

async fn a_job_that_ended_some_time_ago_is_still_ended(db: TestDatabase) {
    let settings = with_details_of(0, settings(db.config()));
    let relay = TestRelay::replaying_with(TXT2IMG, settings).await;
    let last = run(&relay, "job", TXT2IMG).await;
    end_another(&relay).await;
    dropped(&relay, "job").await;
    dropped(&relay, "another").await;
    let prompt = last["prompt_id"].as_str().unwrap();
    assert_eq!(relay.handle.jobs_of_prompt(prompt), [id("job")]);
    assert_eq!(relay.handle.final_seq(&id("job")), last["seq"].as_u64());

    let code = |(status, answer): (u16, Value)| (status, answer["error"]["code"].clone());
    let cancelled = relay.post("/api/anime/jobs/job/cancel", &json!({})).await;
    assert_eq!(code(cancelled), (409, json!("not_cancellable")));
    let path = "/api/anime/jobs/another/progress";
    let repeated = json!({"progress": 100, "status": "completed"});
    assert_eq!(relay.post(path, &repeated).await.0, 202);
    let late = json!({"progress": 10, "status": "processing"});
    assert_eq!(
        code(relay.post(path, &late).await),
        (409, json!("job_ended"))
    );
    let again = json!({"job_id": "job", "prompt_id": prompt});
    assert_eq!(relay.post("/api/anime/jobs", &again).await.0, 201);
    let (_, outputs) = relay.get("/api/anime/jobs/job/outputs").await;
    assert_eq!(
        outputs["outputs"].as_array().unwrap().len(),
        last["outputs"].as_array().unwrap().len()
    );
    dropped(&relay, "job").await;
    let counts = relay.handle.job_counts();
    assert_eq!((counts.completed, counts.total), (2, 2));
    relay.stop().await;
}

async fn a_feed_that_reads_late_gets_the_final_state_once(db: TestDatabase) {
    let settings = with_details_of(0, settings(db.config()));
    let relay = TestRelay::without_backend(settings).await;
    let mut feed = relay.handle.feed(Selection::default(), false);
    let grouped = Selection {
        group: Some("shots".to_owned()),
        ..Selection::default()
    };
    let mut other = relay.handle.feed(grouped, false);
    for job in ["a", "b"] {
        let report =
            json!({"progress": 100, "status": "failed", "group": (job == "b").then_some("shots")});
        relay.report(job, &report).await;
        dropped(&relay, job).await;
    }
    let mut ended = Vec::new();
    while ended.len() < 2 {
        let states = feed.next().await;
        ended.extend(
            states
                .iter()
                .map(|state| (state.job().clone(), state.is_final())),
        );
    }
    assert_eq!(ended, [(id("a"), true), (id("b"), true)]);
    let states = other.next().await;
    let ended: Vec<_> = states.iter().map(|state| state.job().clone()).collect();
    assert_eq!(ended, [id("b")]);
    for job in ["a", "b"] {
        dropped(&relay, job).await;
    }
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_not_on_the_disk_keeps_its_details() {
    let db = TestDatabase::postgres().await;
    let (proxy, store) = proxy_to(&db).await;
    proxy.restore();
    let settings = with_details_of(0, settings(store));
    let relay = TestRelay::replaying_with(TXT2IMG, settings).await;
    let last = run(&relay, "first", TXT2IMG).await;
    dropped(&relay, "first").await;
    let mut subscriber = relay.subscribe("second").await;
    relay.submit("second", TXT2IMG).await;
    let runs = |state: &Value| state["status"] == "processing";
    subscriber.receive_until(runs).await;
    proxy.cut();
    assert_eq!(subscriber.close_code().await, 1000);
    // The database answers for the first job, and is away; its final state is in memory.
    let mut late = relay.subscribe("first").await;
    late.ends_as("completed").await;
    assert_eq!(late.last(), &last);
    dropped(&relay, "first").await;
    let (status, answer) = relay.job("first").await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (503, &json!("database_unreachable"))
    );
    let before = shown(&relay, "second").await;
    assert_eq!(before["timeline"].as_array().unwrap().len(), 7);
    proxy.restore();
    dropped(&relay, "second").await;
    assert_eq!(shown(&relay, "second").await, before);
    relay.stop().await;
}
