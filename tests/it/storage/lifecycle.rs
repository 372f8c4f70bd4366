//! Jobs from submission to deletion, with restarts of the relay.

use std::sync::Arc;
use std::time::Duration;

use comfy_relay::config::{RelayConfig, StoreConfig};
use comfy_relay::job::JobId;
use comfy_relay::recording::Recording;
use comfy_relay::relay::Relay;
use comfy_relay::replay::{PlaybackSpeed, Replay, ReplayOptions};
use serde_json::{Value, json};

use crate::support::database::{TestDatabase, on_both};
use crate::support::recordings::{ERROR, TXT2IMG, recording, replay_with, workflow};
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::wait::wait_until;

const QUEUE: &str = "0.8.0/10-queue-delete-pending";

on_both!(
    a_job_is_stored_with_all_its_fields,
    a_failure_is_stored_with_its_error,
    forgotten_jobs_are_read_from_the_database,
    a_job_continues_after_a_restart,
    a_job_of_an_unreachable_server_is_not_changed,
    old_jobs_are_deleted,
);

/// A replayed ComfyUI that outlives relays.
pub(crate) async fn comfyui(names: &[&str], speed: PlaybackSpeed) -> Replay {
    let mut recordings: Vec<Arc<Recording>> = Vec::new();
    for name in names {
        recordings.push(recording(name).await);
    }
    let options = ReplayOptions {
        speed,
        repeat: true,
        // Do not wait for a killed relay.
        client_timeout: Duration::from_millis(200),
    };
    replay_with(recordings, options).await
}

pub(crate) fn settings(store: StoreConfig) -> Settings {
    Settings {
        store,
        ..Settings::default()
    }
}

/// A relay on a database, connected to a ComfyUI.
pub(crate) async fn relay_at(comfyui: &str, store: StoreConfig) -> TestRelay {
    TestRelay::connected_to(comfyui, settings(store)).await
}

async fn a_job_is_stored_with_all_its_fields(db: TestDatabase) {
    let relay = TestRelay::replaying_with(TXT2IMG, settings(db.config())).await;
    let mut subscriber = relay.subscribe("job").await;
    relay.submit("job", TXT2IMG).await;
    // What is acknowledged has been written.
    let rows = db
        .value("SELECT count(*) AS v FROM comfy_relay.jobs WHERE job_key = 'job'")
        .await;
    assert_eq!(rows, "1");
    assert_eq!(subscriber.close_code().await, 1000);
    db.wait_for("SELECT status AS v FROM comfy_relay.jobs", "completed")
        .await;
    let last = subscriber.last().clone();
    for (column, wanted) in [
        ("job_key", "job"),
        ("prompt_id", last["prompt_id"].as_str().unwrap()),
        ("backend", last["backend"].as_str().unwrap()),
        ("output_path", last["output_path"].as_str().unwrap()),
        ("COALESCE(error_message, 'none')", "none"),
        ("seq", &last["seq"].to_string()),
        ("learned_from", "history"),
        ("created_at <= last_updated", "1"),
        ("progress", "100"),
        ("estimated_remaining", "0"),
        (
            "created_at <= started_at AND started_at <= completed_at",
            "1",
        ),
    ] {
        let found = db
            .value(&format!("SELECT {column} AS v FROM comfy_relay.jobs"))
            .await;
        assert_eq!(found.replace("true", "1"), wanted, "{column}");
    }
    let outputs = db.value("SELECT outputs AS v FROM comfy_relay.jobs").await;
    let mut outputs: Value = serde_json::from_str(&outputs).unwrap();
    // The row has the address at ComfyUI, subscribers get the one at the relay.
    let at_comfyui = outputs[0]["url"].take();
    let at_comfyui = at_comfyui.as_str().unwrap();
    assert!(at_comfyui.starts_with(&relay.comfyui_url()), "{at_comfyui}");
    outputs[0]["url"] = last["outputs"][0]["url"].clone();
    assert_eq!(outputs, last["outputs"]);
    let (_, view) = relay.job("job").await;
    let runs = db
        .value("SELECT count(*) AS v FROM comfy_relay.node_runs WHERE job_key = 'job'")
        .await;
    let timeline = view["timeline"].as_array().unwrap();
    assert_eq!(runs, timeline.len().to_string());
    let sampler =
        "SELECT steps AS v FROM comfy_relay.node_runs WHERE class = 'KSampler' AND seconds >= 0";
    assert_eq!(db.value(sampler).await, "20");
    relay.stop().await;
}

async fn a_failure_is_stored_with_its_error(db: TestDatabase) {
    let relay = TestRelay::replaying_with(ERROR, settings(db.config())).await;
    let mut subscriber = relay.subscribe("job").await;
    relay.submit("job", ERROR).await;
    assert_eq!(subscriber.close_code().await, 1000);
    // A NUL character, and its escape as text.
    let path = "a\0b \\u0000 \u{1F600}";
    relay
        .report(
            "other",
            &json!({"progress": 3, "status": "failed", "output_path": path}),
        )
        .await;
    relay.stop().await;
    let sql = "SELECT error_message AS v FROM comfy_relay.jobs WHERE status = 'failed' AND job_key = 'job'";
    assert_eq!(
        db.value(sql).await,
        subscriber.last()["error"].as_str().unwrap()
    );
    let sql = "SELECT error_code AS v FROM comfy_relay.jobs WHERE job_key = 'job'";
    assert_eq!(db.value(sql).await, "execution_error");
    let sql = "SELECT output_path AS v FROM comfy_relay.jobs WHERE job_key = 'other'";
    assert_eq!(db.value(sql).await, "ab \\u0000 \u{1F600}");
}

async fn forgotten_jobs_are_read_from_the_database(db: TestDatabase) {
    let mut settings = settings(db.config());
    settings.relay = RelayConfig {
        remember: Duration::ZERO,
        cleanup_interval: Duration::from_millis(1),
        ..settings.relay
    };
    let relay = TestRelay::replaying_with(TXT2IMG, settings).await;
    let mut subscriber = relay.subscribe("job").await;
    relay.submit("job", TXT2IMG).await;
    assert_eq!(subscriber.close_code().await, 1000);
    let id = JobId::parse("job").unwrap();
    wait_until("the job is forgotten", async || {
        relay.handle.final_seq(&id).is_none()
    })
    .await;
    assert_eq!(relay.handle.job_counts().total, 1, "the database counts it");
    let (_, view) = relay.job("job").await;
    for field in [
        "status",
        "progress",
        "output_path",
        "outputs",
        "seq",
        "prompt_id",
    ] {
        assert_eq!(view[field], subscriber.last()[field], "{field}");
    }
    let mut late = relay.subscribe("job").await;
    late.ends_as("completed").await;
    assert_eq!(late.last()["seq"], subscriber.last()["seq"]);
    let again = json!({"job_id": "job", "workflow": workflow(TXT2IMG).await, "priority": 1});
    for _ in 0..20 {
        let (status, answer) = relay.post("/api/anime/jobs", &again).await;
        assert_eq!(
            (status, &answer["error"]["code"]),
            (409, &json!("job_exists"))
        );
    }
    relay.stop().await;
}

async fn a_job_continues_after_a_restart(db: TestDatabase) {
    let comfyui = comfyui(&[TXT2IMG], PlaybackSpeed::Real(2.0)).await;
    let relay = relay_at(&comfyui.url(), db.config()).await;
    let mut subscriber = relay.subscribe("job").await;
    relay.submit("job", TXT2IMG).await;
    relay
        .report("render", &json!({"progress": 40, "status": "processing"}))
        .await;
    let half_way = |state: &Value| state["progress"].as_u64() >= Some(40);
    subscriber.receive_until(half_way).await;
    let client_id = db
        .value("SELECT client_id AS v FROM comfy_relay.backends")
        .await;
    relay.start_shutdown();
    assert_eq!(subscriber.close_code().await, 1001);
    relay.handle.shutdown().await;
    drop(relay);
    let before = subscriber.last().clone();

    let relay = relay_at(&comfyui.url(), db.config()).await;
    let mut again = relay.subscribe("job").await;
    // Checked like one subscriber that reconnects: no state is older than the last one received.
    again.states.push(before);
    let live = |state: &Value| {
        state["message"]
            .as_str()
            .unwrap_or("")
            .starts_with("KSampler")
    };
    again.receive_until(live).await;
    assert_eq!(
        db.value("SELECT client_id AS v FROM comfy_relay.backends")
            .await,
        client_id
    );
    again.ends_as("completed").await;
    let mut render = relay.subscribe("render").await;
    let state = render.receive_type("progress").await;
    assert_eq!(
        (&state["progress"], &state["status"]),
        (&json!(40), &json!("processing"))
    );
    relay.stop().await;
    let sql = "SELECT status AS v FROM comfy_relay.jobs WHERE job_key = 'job'";
    assert_eq!(db.value(sql).await, "completed");
    assert_eq!(
        db.value("SELECT count(*) AS v FROM comfy_relay.jobs").await,
        "2"
    );
}

async fn a_job_of_an_unreachable_server_is_not_changed(db: TestDatabase) {
    let old = comfyui(&[QUEUE], PlaybackSpeed::Real(1.0)).await;
    let relay = relay_at(&old.url(), db.config()).await;
    relay.submit("job", QUEUE).await;
    relay.stop().await;
    let other = comfyui(&[TXT2IMG], PlaybackSpeed::Fastest).await;
    let relay = relay_at(&other.url(), db.config()).await;
    let (_, view) = relay.job("job").await;
    // Its row is what is known of it: its server is another relay's, or was removed.
    assert_eq!(view["job_id"], "job");
    assert!(view["completed_at"].is_null(), "{view}");
    relay.submit("next", TXT2IMG).await;
    db.wait_for(
        "SELECT status AS v FROM comfy_relay.jobs WHERE job_key = 'next'",
        "completed",
    )
    .await;
    relay.stop().await;
    let sql = "SELECT status AS v FROM comfy_relay.jobs WHERE job_key = 'job'";
    assert!(["queued", "processing"].contains(&&*db.value(sql).await));
}

async fn old_jobs_are_deleted(db: TestDatabase) {
    let relay = TestRelay::replaying_with(TXT2IMG, settings(db.config())).await;
    for job in ["old", "new"] {
        relay.submit(job, TXT2IMG).await;
        let sql = format!("SELECT status AS v FROM comfy_relay.jobs WHERE job_key = '{job}'");
        db.wait_for(&sql, "completed").await;
    }
    relay
        .report("open", &json!({"progress": 1, "status": "processing"}))
        .await;
    relay.stop().await;
    let long_ago = "'2020-01-01T00:00:00.000Z'";
    db.execute(&format!(
        "UPDATE comfy_relay.jobs SET created_at = {long_ago} WHERE job_key <> 'new'; \
         UPDATE comfy_relay.jobs SET completed_at = {long_ago} WHERE job_key = 'old'; \
         UPDATE comfy_relay.node_runs SET started_at = {long_ago} WHERE job_key = 'old'"
    ))
    .await;
    let store = StoreConfig {
        retention: Some(Duration::from_secs(86_400)),
        ..db.config()
    };
    let mut settings = settings(store);
    settings.comfy.urls = vec!["http://127.0.0.1:1".parse().unwrap()];
    let relay = Relay::start(settings.relay, settings.comfy, &settings.store);
    let relay = relay.await.unwrap();
    db.wait_for(
        "SELECT count(*) AS v FROM comfy_relay.jobs WHERE job_key = 'old'",
        "0",
    )
    .await;
    let left = db
        .values("SELECT job_key AS v FROM comfy_relay.jobs ORDER BY job_key")
        .await;
    assert_eq!(left, ["new", "open"].map(|job| Some(job.to_owned())));
    let runs = db
        .values("SELECT DISTINCT job_key AS v FROM comfy_relay.node_runs")
        .await;
    assert_eq!(runs, [Some("new".to_owned())]);
    relay.shutdown().await;
}
