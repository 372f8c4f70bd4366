//! Costs of nodes are known after a restart, and at the first start from the server's history.

use std::time::{Duration, Instant};

use comfy_relay::config::StoreConfig;
use comfy_relay::job::JobId;
use comfy_relay::replay::{PlaybackSpeed, Replay};
use serde_json::{Value, json};

use super::faults::proxy_to;
use super::lifecycle::{comfyui, settings};
use crate::support::database::{TestDatabase, on_both};
use crate::support::recordings::{TXT2IMG, one_node_workflow};
use crate::support::scripted_comfy::ScriptedComfy;
use crate::support::test_relay::TestRelay;
use crate::support::wait::wait_until;

on_both!(
    a_job_that_only_the_database_knows_is_explained_by_what_its_nodes_took,
    costs_are_known_after_a_restart,
    costs_are_learned_from_servers_of_2023_too,
    the_speed_of_the_day_is_known_after_a_restart,
);

/// Shares no node class with the others but the one that saves images.
const MANY: &str = "0.8.0/23-many-nodes";
const OF_2023: [&str; 2] = ["2023-08-14/01-txt2img-basic", "2023-12-30/01-txt2img-basic"];

/// A relay that publishes often.
async fn relay_at(comfyui: &str, store: StoreConfig) -> TestRelay {
    let mut settings = settings(store);
    settings.relay.heartbeat = Duration::from_millis(50);

    TestRelay::connected_to(comfyui, settings).await
}

/// Runs a workflow to its end, and returns the first state in which it was processing.
async fn run(relay: &TestRelay, job: &str, name: &str) -> Value {
    let mut subscriber = relay.subscribe(job).await;
    relay.submit(job, name).await;
    let works = |state: &Value| state["status"] == "processing";
    let first = subscriber.receive_until(works).await;
    subscriber.ends_as("completed").await;
    first
}

/// Clears the history of the server.
async fn clear_history(comfyui: &Replay) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/history", comfyui.url());
    let request = client.post(url).json(&json!({"clear": true}));
    request.send().await.unwrap().error_for_status().unwrap();
}

fn has_estimate(state: &Value) -> bool {
    ["estimated_remaining", "estimated_low", "estimated_high"]
        .iter()
        .all(|field| state[field].is_u64())
}

fn has_no_estimate(state: &Value) -> bool {
    state["estimated_remaining"].is_null()
}

async fn a_job_that_only_the_database_knows_is_explained_by_what_its_nodes_took(db: TestDatabase) {
    let comfyui = comfyui(&[TXT2IMG], PlaybackSpeed::Real(8.0)).await;
    let relay = relay_at(&comfyui.url(), db.config()).await;
    run(&relay, "job", TXT2IMG).await;
    let (_, before) = relay.get("/api/anime/jobs/job/estimate").await;
    relay.stop().await;

    let relay = relay_at(&comfyui.url(), db.config()).await;
    let (status, after) = relay.get("/api/anime/jobs/job/estimate").await;
    assert_eq!(status, 200, "{after}");
    for field in ["familiarity", "at_start", "speed"] {
        assert_eq!(after[field], Value::Null, "{after}");
    }
    let nodes = |answer: &Value, fields: &[&str]| -> Vec<Value> {
        let nodes = answer["nodes"].as_array().unwrap().iter();
        let kept = |node: &Value| fields.iter().map(|field| node[*field].clone()).collect();
        nodes.map(kept).collect()
    };
    let kept = ["id", "class_type", "state", "units"];
    assert_eq!(nodes(&after, &kept), nodes(&before, &kept));
    for (after, before) in nodes(&after, &["took"])
        .iter()
        .zip(nodes(&before, &["took"]))
    {
        let (after, before) = (after[0].as_f64().unwrap(), before[0].as_f64().unwrap());
        assert!((after - before).abs() < 0.002, "{after} {before}");
    }
    assert!(
        nodes(&after, &["predicted"])
            .iter()
            .all(|it| it[0].is_null())
    );
    relay.stop().await;
}

async fn costs_are_known_after_a_restart(db: TestDatabase) {
    let comfyui = comfyui(&[MANY, TXT2IMG], PlaybackSpeed::Real(4.0)).await;
    let relay = relay_at(&comfyui.url(), db.config()).await;
    run(&relay, "many-1", MANY).await;
    relay.stop().await;
    clear_history(&comfyui).await;

    let relay = relay_at(&comfyui.url(), db.config()).await;
    let state = run(&relay, "many-2", MANY).await;
    assert!(has_estimate(&state), "{state}");
    let state = run(&relay, "text-1", TXT2IMG).await;
    assert!(has_no_estimate(&state), "it never ran: {state}");
    relay.stop().await;
    clear_history(&comfyui).await;

    // Each learned run has all its features.
    let whole = "SELECT count(*) AS v FROM comfy_relay.node_runs WHERE NOT cached AND units > 0 AND cold IS NOT NULL";
    let all = "SELECT count(*) AS v FROM comfy_relay.node_runs WHERE NOT cached";
    assert_eq!(db.value(whole).await, db.value(all).await);
    let sampler = "SELECT planned_steps AS v FROM comfy_relay.node_runs WHERE class = 'KSampler' \
        AND steps = 20 AND ticks = 20 AND tick > 0 AND cold";
    assert_eq!(db.value(sampler).await, "20");

    let relay = relay_at(&comfyui.url(), db.config()).await;
    let state = run(&relay, "text-2", TXT2IMG).await;
    assert!(has_estimate(&state), "{state}");
    relay.stop().await;
    clear_history(&comfyui).await;

    // As earlier versions have stored them.
    db.execute(
        "UPDATE comfy_relay.node_runs SET units = NULL, planned_steps = NULL, cold = NULL, tick = NULL, ticks = NULL; \
         ALTER TABLE comfy_relay.node_runs DROP COLUMN parallel; \
         ALTER TABLE comfy_relay.node_runs DROP COLUMN display; \
         ALTER TABLE comfy_relay.node_runs DROP COLUMN title; \
         ALTER TABLE comfy_relay.node_runs DROP COLUMN state; \
         ALTER TABLE comfy_relay.jobs DROP COLUMN cancelling; \
         DROP TABLE comfy_relay.submissions; DROP TABLE comfy_relay.operations; DROP TABLE comfy_relay.requests; \
         DROP TABLE comfy_relay.added_backends; DROP TABLE comfy_relay.cancel_requests; \
         ALTER TABLE comfy_relay.leases DROP COLUMN prompts; ALTER TABLE comfy_relay.leases DROP COLUMN free_at; \
         DROP INDEX comfy_relay.jobs_by_status; DROP INDEX comfy_relay.jobs_by_backend; \
         DROP INDEX comfy_relay.jobs_by_workflow; DROP INDEX comfy_relay.jobs_by_group; \
         DROP INDEX comfy_relay.jobs_open_owner; ALTER TABLE comfy_relay.leases DROP COLUMN wanted_by; ALTER TABLE comfy_relay.leases DROP COLUMN wanted_until; \
         ALTER TABLE comfy_relay.leases DROP COLUMN report; \
         ALTER TABLE comfy_relay.relays DROP COLUMN connections; ALTER TABLE comfy_relay.relays DROP COLUMN followed_jobs; \
         ALTER TABLE comfy_relay.relays DROP COLUMN list; \
         DROP TABLE comfy_relay.webhook_deliveries; DROP TABLE comfy_relay.job_webhooks; DROP TABLE comfy_relay.gone_webhooks; \
         DROP TABLE comfy_relay.input_files; \
         DROP TABLE comfy_relay.assets; \
         DELETE FROM comfy_relay.migrations WHERE version >= 4",
    )
    .await;
    let relay = relay_at(&comfyui.url(), db.config()).await;
    let state = run(&relay, "text-3", TXT2IMG).await;
    assert!(has_estimate(&state), "{state}");
    relay.stop().await;
}

async fn costs_are_learned_from_servers_of_2023_too(db: TestDatabase) {
    for (number, name) in OF_2023.into_iter().enumerate() {
        let comfyui = comfyui(&[name], PlaybackSpeed::Real(8.0)).await;
        let relay = relay_at(&comfyui.url(), db.config()).await;
        let state = run(&relay, &format!("first-{number}"), name).await;
        assert!(has_no_estimate(&state), "{name}: {state}");
        let state = run(&relay, &format!("second-{number}"), name).await;
        assert!(has_estimate(&state), "{name}: {state}");
        relay.stop().await;
        let of =
            format!("FROM comfy_relay.node_runs WHERE job_key = 'second-{number}' AND NOT cached");
        let learned = format!("SELECT count(*) AS v {of} AND cold IS NOT NULL AND units > 0");
        assert_eq!(db.value(&learned).await, "7", "{name}");
        let sampler = format!("SELECT ticks AS v {of} AND class = 'KSampler' AND tick > 0");
        assert_eq!(
            db.value(&sampler).await.trim_end_matches(".0"),
            "20",
            "{name}"
        );
    }
}

/// A server of 2023 sends only that a prompt has ended. The time until the relay reads its history is not time of
/// the last node.
#[tokio::test(flavor = "multi_thread")]
async fn the_wait_for_the_history_is_not_a_cost() {
    let db = TestDatabase::sqlite().await;
    let comfyui = ScriptedComfy::start().await;
    let relay = relay_at(&comfyui.url(), db.config()).await;
    comfyui.accept_prompts_as("mine");
    comfyui.set_queue(&["mine"], &[]);
    let workflow = one_node_workflow();
    relay.submit_workflow("job", &workflow).await;
    let mut subscriber = relay.subscribe("job").await;
    let send = |kind: &str, data: Value| comfyui.send(&json!({"type": kind, "data": data}));
    send("execution_start", json!({"prompt_id": "mine"}));
    send("executing", json!({"node": "9", "prompt_id": "mine"}));
    send("executing", json!({"node": null, "prompt_id": "mine"}));
    let image = json!({"filename": "a.png", "subfolder": "", "type": "output"});
    let made = json!({"node": "9", "output": {"images": [image]}, "prompt_id": "mine"});
    send("executed", made);
    // The events before it have been received by now.
    subscriber
        .receive_until(|state| state["outputs"].get(0).is_some())
        .await;
    let since = Instant::now();
    comfyui.wait_for_more_calls("GET /queue", 5).await;
    let waited = since.elapsed().as_secs_f64();
    comfyui.set_queue(&[], &[]);
    comfyui.complete("mine");
    assert_eq!(subscriber.close_code().await, 1000);
    relay.stop().await;
    let sql = "SELECT unixepoch(jobs.completed_at, 'subsec') - unixepoch(runs.started_at, 'subsec') \
        - runs.seconds AS v FROM comfy_relay.node_runs AS runs JOIN comfy_relay.jobs AS jobs USING (job_key) WHERE node = '9'";
    let left_out: f64 = db.value(sql).await.parse().unwrap();
    // Timestamps are stored in milliseconds.
    assert!(left_out >= waited - 0.005, "{left_out} of {waited}");
}

/// Only the server knows of earlier jobs.
#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_relay_learns_from_the_servers_history() {
    let comfyui = comfyui(&[TXT2IMG], PlaybackSpeed::Real(1.0)).await;
    let relay = relay_at(&comfyui.url(), StoreConfig::default()).await;
    let state = run(&relay, "before", TXT2IMG).await;
    assert!(has_no_estimate(&state), "{state}");
    relay.stop().await;

    let relay = relay_at(&comfyui.url(), StoreConfig::default()).await;
    let mut subscriber = relay.subscribe("job").await;
    relay.submit("job", TXT2IMG).await;
    let state = subscriber.receive_until(has_estimate).await;
    assert_eq!(state["nodes"]["done"], 0, "no node has run yet: {state}");
    // It took 8.5 seconds.
    let remaining = state["estimated_remaining"].as_u64().unwrap();
    assert!((5..=9).contains(&remaining), "{state}");
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn costs_are_known_once_the_database_is_reachable() {
    let db = TestDatabase::postgres().await;
    let (proxy, store) = proxy_to(&db).await;
    proxy.restore();
    let comfyui = comfyui(&[MANY, TXT2IMG], PlaybackSpeed::Real(4.0)).await;
    let relay = relay_at(&comfyui.url(), store.clone()).await;
    run(&relay, "text-1", TXT2IMG).await;
    let open = json!({"progress": 40, "status": "processing"});
    relay.report("render", &open).await;
    relay.stop().await;
    clear_history(&comfyui).await;

    proxy.cut();
    let relay = relay_at(&comfyui.url(), store).await;
    let job = relay.submit_unnamed(MANY).await;
    relay.subscribe(&job).await.ends_as("completed").await;
    proxy.restore();
    // The job is restored after the stored runs are read.
    let render = JobId::parse("render").unwrap();
    wait_until("the database is read", async || {
        relay.handle.job(&render).await.is_some()
    })
    .await;
    let state = run(&relay, "text-2", TXT2IMG).await;
    assert!(has_estimate(&state), "{state}");
    let state = run(&relay, "many-2", MANY).await;
    assert!(
        has_estimate(&state),
        "what was learned meanwhile is kept: {state}"
    );
    relay.stop().await;
}

/// The hours of the only server, as health checks show them.
async fn speed_of_day(relay: &TestRelay) -> Vec<Value> {
    let (_, health) = relay.get("/api/anime/health").await;
    let hours = health["components"]["comfyui"][0]["speed"].as_array();
    hours.cloned().unwrap_or_default()
}

async fn the_speed_of_the_day_is_known_after_a_restart(db: TestDatabase) {
    let comfyui = comfyui(&[TXT2IMG], PlaybackSpeed::Real(8.0)).await;
    let relay = relay_at(&comfyui.url(), db.config()).await;
    run(&relay, "first", TXT2IMG).await;
    assert_eq!(
        speed_of_day(&relay).await,
        [Value::Null; 0],
        "nothing to compare it with"
    );
    run(&relay, "second", TXT2IMG).await;
    let before = speed_of_day(&relay).await;
    assert_eq!(before.len(), 24);
    // Between the second job and this, an hour may have begun.
    let known: Vec<f64> = before.iter().filter_map(Value::as_f64).collect();
    assert_eq!(known.len(), 1, "{before:?}");
    assert!((0.3..3.0).contains(&known[0]), "{known:?}");
    assert!(before[22].is_f64() || before[23].is_f64(), "{before:?}");
    relay.stop().await;
    clear_history(&comfyui).await;

    let relay = relay_at(&comfyui.url(), db.config()).await;
    wait_until("it is learned from the database", async || {
        !speed_of_day(&relay).await.is_empty()
    })
    .await;
    let after: Vec<f64> = speed_of_day(&relay)
        .await
        .iter()
        .filter_map(Value::as_f64)
        .collect();
    assert_eq!(after.len(), 1);
    assert!((after[0] - known[0]).abs() <= 0.02, "{after:?} {known:?}");
    relay.stop().await;
}
