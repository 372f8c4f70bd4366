//! A group of jobs, followed as one job.

use std::time::Duration;

use comfy_relay::config::ServerConfig;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::subscriber::{Subscriber, is_final};
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::tokens::{guarded, token};

async fn report(relay: &TestRelay, job: &str, progress: u64, status: &str) {
    let report = json!({"progress": progress, "status": status, "group": "ep3"});
    relay.report(job, &report).await;
}

/// Receives until the message of the group is this.
async fn says(group: &mut Subscriber, message: &str) -> Value {
    group
        .receive_until(|state| state["message"] == message)
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_has_one_bar_from_before_its_first_job_to_its_last_end() {
    let relay = TestRelay::without_backend(Settings::without_heartbeat()).await;
    let mut group = relay.subscribe("group:ep3").await;
    group
        .receive_until(|message| message["job_wait"].is_u64())
        .await;
    report(&relay, "a", 0, "queued").await;
    let state = says(&mut group, "0 of 1 shot").await;
    assert_eq!(state["job_id"], "group:ep3");
    assert_eq!(state["status"], "queued");
    assert_eq!(state["group"], "ep3");
    report(&relay, "b", 50, "processing").await;
    relay
        .report("other", &json!({"progress": 5, "status": "processing"}))
        .await;
    says(&mut group, "0 of 2 shots, 1 running").await;
    report(&relay, "b", 100, "completed").await;
    let state = says(&mut group, "1 of 2 shots").await;
    assert_eq!(state["status"], "processing");
    // Another client begins with the newest state, also on a socket that follows a job already.
    let mut late = relay.connect("/ws/other").await;
    late.send(r#"{"type": "subscribe", "job_id": "group:ep3"}"#)
        .await;
    says(&mut late, "1 of 2 shots").await;
    report(&relay, "a", 100, "completed").await;
    group.ends_as("completed").await;
    assert_eq!(group.last()["message"], "2 of 2 shots");
    late.receive_until(is_final).await;
    let (status, shown) = relay.job("group:ep3").await;
    assert_eq!((status, &shown), (200, group.last()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_fails_when_all_have_ended_and_goes_on_with_a_new_job() {
    let relay = TestRelay::without_backend(Settings::without_heartbeat()).await;
    report(&relay, "a", 10, "processing").await;
    report(&relay, "b", 10, "processing").await;
    let mut group = relay.subscribe("group:ep3").await;
    says(&mut group, "0 of 2 shots, 2 running").await;
    report(&relay, "a", 20, "failed").await;
    let state = says(&mut group, "0 of 2 shots, 1 running, 1 failed").await;
    assert_eq!(state["status"], "processing");
    report(&relay, "b", 100, "completed").await;
    group.ends_as("failed").await;
    assert_eq!(group.last()["message"], "1 of 2 shots, 1 failed");
    let error = "1 failed; a: the producer reported a failure";
    assert_eq!(group.last()["error"], error);
    assert_eq!(group.errors.len(), 1, "{:?}", group.errors);
    report(&relay, "c", 10, "processing").await;
    let mut group = relay.connect("/ws/group:ep3").await;
    says(&mut group, "1 of 3 shots, 1 running, 1 failed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_stream_of_a_group_ends_once() {
    let relay = TestRelay::without_backend(Settings::without_heartbeat()).await;
    report(&relay, "a", 10, "processing").await;
    let path = "/api/anime/jobs/group:ep3/events";
    let events = relay.request(Method::GET, path).send();
    let events = tokio::spawn(async move { events.await.unwrap().text().await.unwrap() });
    let mut group = relay.connect("/ws/group:ep3").await;
    says(&mut group, "0 of 1 shot, 1 running").await;
    report(&relay, "a", 100, "completed").await;
    let events = events.await.unwrap();
    assert!(events.contains(r#""message":"1 of 1 shot""#), "{events}");
    let id = events.rsplit_once("id: ").unwrap().1;
    let id = id.split_once('\n').unwrap().0;
    let again = relay.request(Method::GET, path).header("last-event-id", id);
    assert_eq!(again.send().await.unwrap().status(), 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_nobody_has_named_is_not_found() {
    let server = ServerConfig {
        job_wait: Duration::from_millis(50),
        ..ServerConfig::default()
    };
    let relay = TestRelay::without_backend(server).await;
    for path in ["group:ep3", "group:ep3/estimate", "group:ep3/outputs"] {
        let (status, answer) = relay.job(path).await;
        let refused = (status, &answer["error"]["code"]);
        assert_eq!(refused, (404, &json!("job_not_found")), "{path}");
    }
    let mut group = relay.connect("/ws/group:ep3").await;
    assert_eq!(group.close_code().await, 4404);
    assert_eq!(group.errors[0]["code"], "job_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_names_the_group_to_follow_it() {
    let relay = TestRelay::without_backend(guarded()).await;
    let body = json!({"progress": 5, "status": "processing", "group": "ep3"});
    let path = "/api/anime/jobs/shot/progress";
    let request = relay.request_as(&token(&json!({})), Method::POST, path);
    assert_eq!(request.json(&body).send().await.unwrap().status(), 202);
    let follow = async |job: &str| {
        let token = token(&json!({"jobs": [job], "scope": "subscribe"}));
        relay.connect(&format!("/ws/group:ep3?token={token}")).await
    };
    assert_eq!(follow("shot").await.close_code().await, 4403);
    let mut group = follow("group:ep3").await;
    says(&mut group, "0 of 1 shot, 1 running").await;
}
