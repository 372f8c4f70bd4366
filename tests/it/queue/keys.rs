//! Keys of partner nodes, while their jobs wait.

use serde_json::{Value, json};

use super::{job, release, settings, still_servers, urls};
use crate::support::database::{TestDatabase, on_both};
use crate::support::subscriber::is_final;
use crate::support::test_relay::TestRelay;
use crate::support::wait::wait_until;

on_both!(
    keys_wait_sealed_and_are_gone_once_they_were_handed_in,
    keys_of_a_job_that_is_cancelled_are_gone,
);

const SEALED: &str = "SELECT count(*) AS v FROM comfy_relay.submissions WHERE secrets IS NOT NULL";

const KEY: &str = "comfyui-0123456789abcdef0123456789abcdef";

async fn keys_wait_sealed_and_are_gone_once_they_were_handed_in(db: TestDatabase) {
    let folder = tempfile::tempdir().unwrap();
    let servers = still_servers(1).await;
    let mut settings = settings(&db);
    settings.relay.queue_key_file = Some(folder.path().join("queue.key"));
    let relay = TestRelay::connected_to(&urls(&servers), settings.clone()).await;
    for number in 0..3 {
        let (status, answer) = relay
            .post("/api/anime/jobs", &job(&format!("job-{number}")).await)
            .await;
        assert_eq!(status, 201, "{answer}");
    }
    let mut body = job("keys").await;
    body["extra_data"] = json!({"api_key_comfy_org": KEY, "mine": 1});
    let (status, answer) = relay.post("/api/anime/jobs", &body).await;
    assert_eq!(status, 201, "{answer}");
    assert_eq!(db.value(SEALED).await, "1");
    relay.stop().await;
    let relay = TestRelay::connected_to(&urls(&servers), settings).await;
    release(&servers);
    wait_until("the job has ended", async || {
        is_final(&relay.job("keys").await.1)
    })
    .await;
    let (_, ended) = relay.job("keys").await;
    assert_eq!(ended["status"], "completed", "{ended}");
    let prompt = ended["prompt_id"].as_str().unwrap();
    let url = format!("{}/history/{prompt}", servers[0].url());
    let history: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
    let passed = &history[prompt]["prompt"][3];
    assert_eq!(passed["api_key_comfy_org"], KEY, "{passed}");
    assert_eq!(passed["mine"], 1);
    db.wait_for(SEALED, "0").await;
}

async fn keys_of_a_job_that_is_cancelled_are_gone(db: TestDatabase) {
    let folder = tempfile::tempdir().unwrap();
    let servers = still_servers(1).await;
    let mut settings = settings(&db);
    settings.relay.queue_key_file = Some(folder.path().join("queue.key"));
    let relay = TestRelay::connected_to(&urls(&servers), settings).await;
    for number in 0..3 {
        let body = job(&format!("job-{number}")).await;
        assert_eq!(relay.post("/api/anime/jobs", &body).await.0, 201);
    }
    let mut body = job("keys").await;
    body["extra_data"] = json!({"api_key_comfy_org": KEY});
    assert_eq!(relay.post("/api/anime/jobs", &body).await.0, 201);
    assert_eq!(db.value(SEALED).await, "1");
    let cancelled = relay.post("/api/anime/jobs/keys/cancel", &json!({})).await;
    assert_eq!(cancelled.0, 202, "{}", cancelled.1);
    db.wait_for(SEALED, "0").await;
}
