//! A client registers a prompt that has become a job by itself.

use comfy_relay::config::WebhookConfig;
use serde_json::{Value, json};

use super::{FAST, SLOW, WITHOUT_CLIENT, ids, job_that, jobs, post, runs, settings};
use crate::storage::lifecycle::comfyui;
use crate::support::database::{TestDatabase, on_both};
use crate::support::subscriber::is_final;
use crate::support::test_relay::TestRelay;
use crate::support::wait::wait_until;
use crate::support::webhook_receiver::{WEBHOOK_SECRET, WebhookReceiver};

on_both!(
    a_registration_takes_a_job_over_that_nobody_follows,
    a_job_that_somebody_follows_ends_beside_the_registered_one,
    a_registration_under_the_prompt_id_says_what_the_job_is,
    a_registration_under_the_prompt_id_has_its_webhook,
    a_registration_under_the_prompt_id_is_in_open_streams,
);

async fn register(relay: &TestRelay, job: &str, prompt_id: &str) -> Value {
    let body =
        json!({"job_id": job, "prompt_id": prompt_id, "labels": {"shot": "7"}, "group": "g"});
    let (status, answer) = relay.post("/api/anime/jobs", &body).await;
    assert_eq!(status, 201, "{answer}");
    answer
}

/// A prompt shows its first step.
fn has_step(job: &Value) -> bool {
    job["node"]["step"].as_u64() >= Some(1)
}

async fn a_registration_takes_a_job_over_that_nobody_follows(db: TestDatabase) {
    let server = comfyui(&[WITHOUT_CLIENT], SLOW).await;
    let relay = TestRelay::connected_to(&server.url(), settings(&db)).await;
    let prompt = post(&server, WITHOUT_CLIENT, None).await;
    let before = job_that(&relay, &prompt, runs).await;
    register(&relay, "mine", &prompt).await;
    let (_, mine) = relay.job("mine").await;
    assert_eq!(mine["status"], "processing", "{mine}");
    assert_eq!(mine["labels"], json!({"shot": "7"}), "{mine}");
    assert_eq!(mine["group"], "g");
    assert!(mine["progress"].as_u64() >= before["progress"].as_u64());
    assert_eq!(ids(&relay).await, ["mine"]);
    db.wait_for("SELECT job_key AS v FROM comfy_relay.jobs", "mine")
        .await;
    let mut subscriber = relay.subscribe("mine").await;
    server.set_speed(FAST);
    subscriber.ends_as("completed").await;
    assert!(subscriber.states.iter().any(has_step));
    assert_eq!(ids(&relay).await, ["mine"]);
}

async fn a_job_that_somebody_follows_ends_beside_the_registered_one(db: TestDatabase) {
    let server = comfyui(&[WITHOUT_CLIENT], SLOW).await;
    let relay = TestRelay::connected_to(&server.url(), settings(&db)).await;
    let prompt = post(&server, WITHOUT_CLIENT, None).await;
    job_that(&relay, &prompt, runs).await;
    let mut early = relay.subscribe(&prompt).await;
    register(&relay, "mine", &prompt).await;
    let mut subscriber = relay.subscribe("mine").await;
    server.set_speed(FAST);
    early.ends_as("completed").await;
    subscriber.ends_as("completed").await;
    let mut both = vec!["mine".to_owned(), prompt];
    both.sort();
    assert_eq!(ids(&relay).await, both);
    let ended = jobs(&relay).await;
    assert!(ended.iter().all(is_final), "{ended:?}");
}

async fn a_registration_under_the_prompt_id_has_its_webhook(db: TestDatabase) {
    let receiver = WebhookReceiver::start().await;
    let server = comfyui(&[WITHOUT_CLIENT], SLOW).await;
    let mut settings = settings(&db);
    settings.relay.webhook = WebhookConfig {
        hosts: vec![format!("127.0.0.1:{}", receiver.port()).parse().unwrap()],
        networks: vec!["127.0.0.0/8".parse().unwrap()],
        secret: Some(WEBHOOK_SECRET.to_owned().into()),
        ..WebhookConfig::default()
    };
    let relay = TestRelay::connected_to(&server.url(), settings).await;
    let prompt = post(&server, WITHOUT_CLIENT, None).await;
    job_that(&relay, &prompt, runs).await;
    db.wait_for("SELECT count(*) AS v FROM comfy_relay.jobs", "1")
        .await;
    let body = json!({"job_id": prompt, "prompt_id": prompt, "webhook": receiver.url()});
    let (status, answer) = relay.post("/api/anime/jobs", &body).await;
    assert_eq!(status, 201, "{answer}");
    server.set_speed(FAST);
    let received = receiver
        .wait_for("the end", |all| {
            all.iter().any(|it| it.event() == "job.completed")
        })
        .await;
    let started = received.iter().filter(|it| it.event() == "job.started");
    assert_eq!(started.count(), 1, "it was before the registration");
}

async fn a_registration_under_the_prompt_id_says_what_the_job_is(db: TestDatabase) {
    let server = comfyui(&[WITHOUT_CLIENT], SLOW).await;
    let relay = TestRelay::connected_to(&server.url(), settings(&db)).await;
    let prompt = post(&server, WITHOUT_CLIENT, None).await;
    job_that(&relay, &prompt, runs).await;
    register(&relay, &prompt, &prompt).await;
    let labels = "SELECT labels AS v FROM comfy_relay.jobs";
    assert_eq!(db.value(labels).await, r#"{"shot":"7"}"#);
    let group = async || {
        let (_, list) = relay.get("/api/anime/jobs?group=g").await;
        list["jobs"].as_array().unwrap().len() == 1
    };
    wait_until("the job is in its group", group).await;
    let mut subscriber = relay.subscribe(&prompt).await;
    server.set_speed(FAST);
    subscriber.ends_as("completed").await;
    assert_eq!(subscriber.last()["labels"], json!({"shot": "7"}));
    assert_eq!(ids(&relay).await, [prompt]);
}

async fn a_registration_under_the_prompt_id_is_in_open_streams(db: TestDatabase) {
    let server = comfyui(&[WITHOUT_CLIENT], SLOW).await;
    let relay = TestRelay::connected_to(&server.url(), settings(&db)).await;
    let prompt = post(&server, WITHOUT_CLIENT, None).await;
    job_that(&relay, &prompt, runs).await;
    let mut all = relay.connect("/ws/jobs").await;
    let of_it = |state: &Value| state["job_id"] == prompt.as_str();
    all.receive_until(of_it).await;
    let mut labelled = relay.connect("/ws/jobs?label=shot=7").await;
    let mut group = relay.connect("/ws/group:g").await;
    register(&relay, &prompt, &prompt).await;
    labelled.receive_until(of_it).await;
    group
        .receive_until(|state| state["status"] == "processing")
        .await;
    server.set_speed(FAST);
    let has_completed = |state: &Value| state["status"] == "completed";
    labelled.receive_until(has_completed).await;
    all.receive_until(has_completed).await;
    group.receive_until(has_completed).await;
}
