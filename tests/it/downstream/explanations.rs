//! When a job will end, to the millisecond, and why.

use comfy_relay::replay::PlaybackSpeed;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::support::recordings::TXT2IMG;
use crate::support::subscriber::is_final;
use crate::support::test_relay::{Settings, TestRelay};

/// The sampler of the recorded workflow, and its steps.
const SAMPLER: (&str, f64) = ("3", 20.0);

fn moment(state: &Value, field: &str) -> Timestamp {
    let text = state[field].as_str().unwrap_or_else(|| panic!("{state}"));
    text.parse().unwrap()
}

fn node<'a>(explanation: &'a Value, id: &str) -> &'a Value {
    let nodes = explanation["nodes"].as_array().unwrap();
    nodes.iter().find(|node| node["id"] == id).unwrap()
}

/// Checks the moment of completion of a state, and returns whether it has one.
fn completes(state: &Value) -> bool {
    if is_final(state) || state["estimated_remaining"].is_null() {
        assert_eq!(state.get("estimated_completion"), None, "{state}");
        return false;
    }
    let text = state["estimated_completion"].as_str().unwrap();
    assert_eq!(text.len(), "2026-11-28T18:53:56.282Z".len(), "{state}");
    let left = moment(state, "estimated_completion").duration_since(moment(state, "timestamp"));
    let published = state["estimated_remaining"].as_f64().unwrap();
    let difference = (left.as_secs_f64() - published).abs();
    assert!(difference <= 0.502, "{state}");
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn the_moment_of_completion_agrees_with_the_remaining_seconds() {
    let relay = TestRelay::replaying_with(TXT2IMG, PlaybackSpeed::Real(8.0)).await;
    for job in ["first", "second"] {
        let mut subscriber = relay.subscribe(job).await;
        relay.submit(job, TXT2IMG).await;
        let running =
            subscriber.receive_until(|state| state["type"] == "progress" && completes(state));
        running.await;
        let (_, shown) = relay.job(job).await;
        completes(&shown);
        subscriber.ends_as("completed").await;
        let states = subscriber.states.iter();
        assert!(states.filter(|state| completes(state)).count() > 5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_explained_while_it_runs_and_when_it_has_ended() {
    let relay = TestRelay::replaying_with(TXT2IMG, PlaybackSpeed::Real(8.0)).await;
    let mut subscriber = relay.subscribe("first").await;
    relay.submit("first", TXT2IMG).await;
    subscriber.ends_as("completed").await;
    let (status, first) = relay.get("/api/anime/jobs/first/estimate").await;
    assert_eq!((status, &first["job_id"]), (200, &json!("first")));
    assert_eq!(first["familiarity"], "first_time");
    assert_eq!(
        (&first["is_guess"], &first["remaining"]),
        (&json!(true), &json!(0.0))
    );
    assert_eq!(first["nodes"].as_array().unwrap().len(), 7);
    let (sampler, steps) = SAMPLER;
    let before = node(&first, sampler);
    assert_eq!(
        (&before["source"], &before["runs"]),
        (&json!("table"), &json!(0))
    );
    assert_eq!(
        (&before["state"], &before["left"]),
        (&json!("finished"), &Value::Null)
    );
    assert_eq!(before["steps_seen"].as_f64(), Some(steps));

    let mut subscriber = relay.subscribe("second").await;
    relay.submit("second", TXT2IMG).await;
    let samples = |state: &Value| state["node"]["id"] == sampler && state["node"]["step"] == 10;
    subscriber.receive_until(samples).await;
    let (_, running) = relay.get("/api/anime/jobs/second/estimate").await;
    assert_eq!(
        (&running["familiarity"], &running["status"]),
        (&json!("known"), &json!("processing"))
    );
    let during = node(&running, sampler);
    assert_eq!(
        (&during["source"], &during["runs"]),
        (&json!("signature"), &json!(1))
    );
    assert_eq!(
        (&during["class_type"], &during["steps"]),
        (&json!("KSampler"), &json!(steps))
    );
    assert_eq!(during["state"], "running");
    assert!(
        during["left"].as_f64() > Some(0.0) && during["took"].as_f64() > Some(0.0),
        "{during}"
    );
    assert_eq!(node(&running, "9")["state"], "waiting");
    assert!(running["low"].as_f64() <= running["remaining"].as_f64());
    assert!(running["speed"]["job"].as_f64() > Some(0.0), "{running}");

    subscriber.ends_as("completed").await;
    let (_, ended) = relay.get("/api/anime/jobs/second/estimate").await;
    let after = node(&ended, sampler);
    // The model has learned from the job since.
    assert_eq!(
        (&after["predicted"], &after["runs"]),
        (&during["predicted"], &json!(1))
    );
    let (predicted, took) = (
        after["predicted"].as_f64().unwrap(),
        after["took"].as_f64().unwrap(),
    );
    assert!((predicted - took).abs() < 0.5 * took, "{after}");
    let start = ended["at_start"]["remaining"].as_f64().unwrap();
    let elapsed = ended["elapsed"].as_f64().unwrap();
    assert!((start - elapsed).abs() < 0.5 * elapsed, "{ended}");
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_without_a_graph_are_explained_as_far_as_they_can_be() {
    let relay = TestRelay::without_backend(Settings::default()).await;
    let report = json!({"progress": 10, "status": "processing", "estimated_remaining": 60});
    relay.report("render", &report).await;
    let (status, why) = relay.get("/api/anime/jobs/render/estimate").await;
    assert_eq!(
        (status, &why["nodes"], &why["speed"]),
        (200, &json!([]), &Value::Null)
    );
    assert!(why["remaining"].as_f64() > Some(50.0), "{why}");
    relay
        .report("render", &json!({"progress": 100, "status": "completed"}))
        .await;
    let (status, why) = relay.get("/api/anime/jobs/render/estimate").await;
    assert_eq!(
        (status, &why["nodes"], &why["status"]),
        (200, &json!([]), &json!("completed"))
    );
}
