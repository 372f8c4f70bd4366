//! What the pages read beside the states of jobs.

use comfy_relay::config::ServerConfig;
use serde_json::{Value, json};

use crate::support::database::TestDatabase;
use crate::support::recordings::{TXT2IMG, workflow};
use crate::support::test_relay::TestRelay;

#[tokio::test(flavor = "multi_thread")]
async fn the_workflow_of_a_job_is_the_graph_that_was_submitted() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    relay.submit("shot", TXT2IMG).await;
    relay.subscribe("shot").await.ends_as("completed").await;
    let (status, answer) = relay.get("/api/anime/jobs/shot/workflow").await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["job_id"], "shot");
    assert_eq!(answer["workflow"], workflow(TXT2IMG).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_no_comfyui_runs_has_no_workflow() {
    let relay = TestRelay::without_backend(ServerConfig::default()).await;
    relay
        .report("render", &json!({"progress": 10, "status": "processing"}))
        .await;
    let (status, answer) = relay.get("/api/anime/jobs/render/workflow").await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (410, &json!("workflow_unavailable"))
    );
}

/// The totals without the moment and the share.
async fn totals(relay: &TestRelay, since: &str) -> Value {
    let (status, totals) = relay.get(&format!("/api/anime/totals{since}")).await;
    assert_eq!(status, 200, "{totals}");
    json!([totals["completed"], totals["failed"], totals["cancelled"]])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_does_not_change_the_totals() {
    let database = TestDatabase::sqlite().await;
    let relay = TestRelay::without_backend(database.config()).await;
    for (job, status) in [
        ("a", "completed"),
        ("b", "completed"),
        ("c", "failed"),
        ("d", "processing"),
    ] {
        relay
            .report(job, &json!({"progress": 50, "status": status}))
            .await;
    }
    assert_eq!(totals(&relay, "").await, json!([2, 1, 0]));
    relay.stop().await;
    let relay = TestRelay::without_backend(database.config()).await;
    assert_eq!(totals(&relay, "").await, json!([2, 1, 0]));
    assert_eq!(
        totals(&relay, "?since=2025-01-01T00:00:00Z").await,
        json!([2, 1, 0])
    );
    assert_eq!(
        totals(&relay, "?since=2999-01-01T00:00:00Z").await,
        json!([0, 0, 0])
    );
    let (status, answer) = relay.get("/api/anime/totals?since=today").await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (400, &json!("bad_query"))
    );
}
