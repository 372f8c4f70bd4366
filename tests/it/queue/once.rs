//! A request that is repeated submits its job once.

use comfy_relay::config::Dispatch;
use reqwest::header::HeaderValue;
use reqwest::{Client, Method};
use serde_json::{Value, json};

use super::{job, prompts_run, servers, settings, urls};
use crate::storage::faults::proxy_to;
use crate::storage::lifecycle;
use crate::support::database::{TestDatabase, on_both};
use crate::support::program::Program;
use crate::support::recordings::{TXT2IMG, one_node_workflow, workflow};
use crate::support::scripted_comfy::{Reply, ScriptedComfy};
use crate::support::test_relay::{Settings, TestRelay, response};
use crate::support::tokens::{guarded, token};

on_both!(
    a_request_with_a_key_is_done_once,
    the_same_job_id_with_the_same_body_is_answered_again,
    two_requests_at_the_same_moment_submit_one_job,
    two_relays_submit_one_job,
    a_request_that_was_refused_leaves_no_key,
    a_killed_relay_leaves_one_job_that_comfyui_has,
    a_killed_relay_leaves_one_job_that_comfyui_does_not_have,
    keys_are_forgotten_after_a_day,
);

const JOBS: &str = "/api/anime/jobs";

/// Posts a body with a key.
async fn post(relay: &TestRelay, key: &str, body: &Value) -> (u16, Value) {
    let request = relay.request(Method::POST, JOBS).json(body);
    let key = HeaderValue::from_bytes(key.as_bytes()).unwrap();
    response(request.header("idempotency-key", key)).await
}

fn code(answer: &(u16, Value)) -> (u16, &Value) {
    (answer.0, &answer.1["error"]["code"])
}

async fn stored_jobs(db: &TestDatabase) -> String {
    let count = "SELECT count(*) AS v FROM comfy_relay.jobs";
    db.value(count).await
}

async fn a_request_with_a_key_is_done_once(db: TestDatabase) {
    let servers = servers(1).await;
    let relay = TestRelay::connected_to(&urls(&servers), settings(&db)).await;
    let body =
        json!({"workflow": workflow(TXT2IMG).await, "priority": 1, "labels": {"a": "1", "b": "2"}});
    let (status, first) = post(&relay, "a key", &body).await;
    assert_eq!(status, 201, "{first}");
    assert!(first.get("replayed").is_none(), "{first}");
    // The order of the fields makes no difference.
    let mut turned = body.clone();
    let labels = turned.as_object_mut().unwrap().remove("labels").unwrap();
    assert_eq!(labels, json!({"b": "2", "a": "1"}));
    turned["labels"] = json!({"b": "2", "a": "1"});
    let (status, again) = post(&relay, "a key", &turned).await;
    assert_eq!((status, &again["replayed"]), (200, &json!(true)), "{again}");
    for field in ["job_id", "prompt_id", "backend", "ws_url", "urls"] {
        assert_eq!(again[field], first[field], "{field}");
    }
    let mut other = body.clone();
    other["priority"] = json!(2);
    let conflict = post(&relay, "a key", &other).await;
    assert_eq!(code(&conflict), (409, &json!("idempotency_conflict")));
    assert_eq!(post(&relay, "another key", &other).await.0, 201);
    for key in ["", "é", &"x".repeat(256)] {
        let answer = post(&relay, key, &body).await;
        assert_eq!(code(&answer), (400, &json!("bad_idempotency_key")), "{key}");
    }
    assert_eq!(stored_jobs(&db).await, "2");
    // It is in the database: another relay knows it.
    relay.stop().await;
    let relay = TestRelay::connected_to(&urls(&servers), settings(&db)).await;
    let (status, again) = post(&relay, "a key", &body).await;
    assert_eq!((status, &again["job_id"]), (200, &first["job_id"]));
}

async fn the_same_job_id_with_the_same_body_is_answered_again(db: TestDatabase) {
    let servers = servers(1).await;
    let relay = TestRelay::connected_to(&urls(&servers), settings(&db)).await;
    let mut body = job("one").await;
    let (status, first) = relay.post(JOBS, &body).await;
    assert_eq!(status, 201, "{first}");
    let (status, again) = relay.post(JOBS, &body).await;
    assert_eq!((status, &again["replayed"]), (200, &json!(true)), "{again}");
    assert_eq!(again["prompt_id"], first["prompt_id"]);
    body["priority"] = json!(3);
    let other = relay.post(JOBS, &body).await;
    assert_eq!(code(&other), (409, &json!("job_exists")));
    relay.subscribe("one").await.ends_as("completed").await;
    assert_eq!(prompts_run(&servers[0].url()).await.len(), 1);
}

async fn two_requests_at_the_same_moment_submit_one_job(db: TestDatabase) {
    let servers = servers(2).await;
    let relay = TestRelay::connected_to(&urls(&servers), settings(&db)).await;
    let body = json!({"workflow": workflow(TXT2IMG).await});
    let posts = (0..5).map(|_| post(&relay, "k", &body));
    let mut answers = futures_util::future::join_all(posts).await;
    answers.sort_by_key(|(status, _)| *status);
    let statuses: Vec<u16> = answers.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 201]);
    let id = &answers[0].1["job_id"];
    assert!(answers.iter().all(|(_, answer)| answer["job_id"] == *id));
    let named = job("named").await;
    let (one, other) = tokio::join!(relay.post(JOBS, &named), relay.post(JOBS, &named));
    let mut statuses = [one.0, other.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 201]);
    assert_eq!(stored_jobs(&db).await, "2");
}

async fn two_relays_submit_one_job(db: TestDatabase) {
    let servers = servers(2).await;
    let one = TestRelay::connected_to(&servers[0].url(), settings(&db)).await;
    let two = TestRelay::connected_to(&servers[1].url(), settings(&db)).await;
    let body = json!({"workflow": workflow(TXT2IMG).await});
    for key in ["1", "2", "3", "4"] {
        let (first, second) = tokio::join!(post(&one, key, &body), post(&two, key, &body));
        let mut statuses = [first.0, second.0];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 201], "{first:?} {second:?}");
        assert_eq!(first.1["job_id"], second.1["job_id"]);
    }
    assert_eq!(stored_jobs(&db).await, "4");
}

async fn a_request_that_was_refused_leaves_no_key(db: TestDatabase) {
    let servers = servers(1).await;
    let relay = TestRelay::connected_to(&urls(&servers), settings(&db)).await;
    let wrong = json!({"workflow": {"1": {"class_type": "Unknown", "inputs": {}}}});
    assert_eq!(post(&relay, "k", &wrong).await.0, 400);
    let unknown = json!({"workflow": workflow(TXT2IMG).await, "backend": "elsewhere"});
    assert_eq!(post(&relay, "k", &unknown).await.0, 400);
    let keys = "SELECT count(*) AS v FROM comfy_relay.requests";
    assert_eq!(db.value(keys).await, "0");
    let right = json!({"workflow": workflow(TXT2IMG).await});
    assert_eq!(post(&relay, "k", &right).await.0, 201);
    assert_eq!(db.value(keys).await, "1");
}

/// A relay that is killed while it hands in a job with a key: the key and the submission are written, the job is not. Returns
/// the body of the request, and the id under which ComfyUI may have the prompt.
async fn killed(db: &TestDatabase, comfyui: &ScriptedComfy) -> (Value, String) {
    let relay = Program::with_database(&db.url(), &comfyui.url()).await;
    comfyui.reply("POST /prompt", Reply::Hang);
    let body = json!({"workflow": one_node_workflow()});
    tokio::select! {
        answer = post_to(&relay, &body) => panic!("{answer:?}"),
        () = comfyui.wait_for_calls("POST /prompt", 1) => {}
    }
    relay.kill().await;
    assert_eq!(stored_jobs(db).await, "0");
    let prompt = comfyui.posted()["prompt_id"].as_str().unwrap().to_owned();
    (body, prompt)
}

async fn post_to(relay: &Program, body: &Value) -> (u16, Value) {
    let client = Client::builder().no_proxy().build().unwrap();
    let request = client.post(format!("http://{}{JOBS}", relay.address()));
    response(request.json(body).header("idempotency-key", "k")).await
}

async fn a_killed_relay_leaves_one_job_that_comfyui_has(db: TestDatabase) {
    let comfyui = ScriptedComfy::start().await;
    let (body, prompt) = killed(&db, &comfyui).await;
    comfyui.set_queue(&[&prompt], &[]);
    let promised = db.value("SELECT made AS v FROM comfy_relay.requests").await;
    let relay = Program::with_database(&db.url(), &comfyui.url()).await;
    let (status, answer) = post_to(&relay, &body).await;
    assert_eq!((status, &answer["prompt_id"]), (201, &json!(prompt)));
    let id = answer["job_id"].as_str().unwrap();
    assert!(promised.contains(id), "{id}: {promised}");
    db.wait_for("SELECT status AS v FROM comfy_relay.jobs", "processing")
        .await;
    assert_eq!(comfyui.calls("POST /prompt"), 1, "it is not run twice");
    let (status, again) = post_to(&relay, &body).await;
    assert_eq!((status, &again["job_id"]), (200, &answer["job_id"]));
    relay.kill().await;
}

async fn a_killed_relay_leaves_one_job_that_comfyui_does_not_have(db: TestDatabase) {
    let comfyui = ScriptedComfy::start().await;
    let (body, _) = killed(&db, &comfyui).await;
    // It may also have been killed before the submission was written.
    db.execute("DELETE FROM comfy_relay.submissions").await;
    let promised = db.value("SELECT made AS v FROM comfy_relay.requests").await;
    comfyui.accept_prompts_as("p");
    comfyui.set_queue(&["p"], &[]);
    let relay = Program::with_database(&db.url(), &comfyui.url()).await;
    let (status, answer) = post_to(&relay, &body).await;
    assert_eq!(status, 201, "{answer}");
    let id = answer["job_id"].as_str().unwrap();
    assert!(promised.contains(id), "{id}: {promised}");
    assert_eq!(stored_jobs(&db).await, "1");
    relay.kill().await;
}

async fn keys_are_forgotten_after_a_day(db: TestDatabase) {
    let servers = servers(1).await;
    let mut settings = settings(&db);
    settings.relay.cleanup_interval = std::time::Duration::from_millis(20);
    let relay = TestRelay::connected_to(&urls(&servers), settings).await;
    let body = json!({"workflow": workflow(TXT2IMG).await});
    for key in ["old", "new"] {
        assert_eq!(post(&relay, key, &body).await.0, 201);
    }
    let old = "UPDATE comfy_relay.requests SET created_at = created_at - 86401000 \
               WHERE created_at = (SELECT min(created_at) FROM comfy_relay.requests)";
    db.execute(old).await;
    db.wait_for("SELECT count(*) AS v FROM comfy_relay.requests", "1")
        .await;
    assert_eq!(post(&relay, "old", &body).await.0, 201);
    assert_eq!(post(&relay, "new", &body).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_others_are_no_concern() {
    let mut settings = Settings::from(guarded());
    settings.relay.dispatch = Dispatch::Queue;
    let relay = TestRelay::replaying_with(TXT2IMG, settings).await;
    let body = json!({"workflow": workflow(TXT2IMG).await});
    let mut ids = Vec::new();
    for (sub, wanted) in [("ann", 201), ("bob", 201), ("ann", 200)] {
        let token = token(&json!({"sub": sub}));
        let request = relay.request_as(&token, Method::POST, JOBS).json(&body);
        let (status, answer) = response(request.header("idempotency-key", "k")).await;
        assert_eq!(status, wanted, "{sub}: {answer}");
        ids.push(answer["job_id"].clone());
    }
    assert_eq!(ids[0], ids[2]);
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_holds_where_jobs_are_handed_in_at_once() {
    let mut settings = Settings::default();
    settings.relay.dispatch = Dispatch::Direct;
    let relay = TestRelay::replaying_with(TXT2IMG, settings).await;
    let body = json!({"workflow": workflow(TXT2IMG).await});
    let (status, first) = post(&relay, "k", &body).await;
    assert_eq!(status, 201, "{first}");
    let (status, again) = post(&relay, "k", &body).await;
    assert_eq!((status, &again["job_id"]), (200, &first["job_id"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_database_a_relay_takes_no_key() {
    let db = TestDatabase::postgres().await;
    let (proxy, store) = proxy_to(&db).await;
    proxy.restore();
    let comfyui = ScriptedComfy::start().await;
    let mut settings = lifecycle::settings(store);
    settings.comfy.lease = std::time::Duration::from_secs(300);
    let relay = TestRelay::connected_to(&comfyui.url(), settings).await;
    comfyui.accept_prompts_as("p");
    comfyui.set_queue(&["p"], &[]);
    proxy.cut();
    let body = json!({"workflow": one_node_workflow()});
    let answer = post(&relay, "k", &body).await;
    assert_eq!(code(&answer), (503, &json!("database_unreachable")));
    assert_eq!(comfyui.calls("POST /prompt"), 0);
    assert_eq!(relay.post(JOBS, &body).await.0, 202, "without a key");
    proxy.restore();
}
