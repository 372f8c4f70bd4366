//! Subscribers of jobs that nobody has registered yet.

use std::time::Duration;

use comfy_relay::config::ServerConfig;
use comfy_relay::job::JobId;
use futures_util::future::join_all;
use serde_json::json;

use crate::support::scripted_comfy::{Reply, ScriptedComfy};
use crate::support::subscriber::{Subscriber, is_final};
use crate::support::test_relay::{Settings, TestRelay};

const LOOKUP: &str = "GET /history/render";

/// How many subscribers wait for one job.
const CROWD: usize = 8;

/// Subscribers that have been greeted, and wait for `render`.
async fn crowd(relay: &TestRelay) -> Vec<Subscriber> {
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        let mut subscriber = Subscriber::connect(relay.socket_url("/ws/render")).await;
        assert_eq!(subscriber.receive_greeting().await.get("job_wait"), None);
        crowd.push(subscriber);
    }
    crowd
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_looked_for_once_however_many_wait_for_it() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.reply(LOOKUP, Reply::Hang);
    let relay = TestRelay::connected_to(&comfyui.url(), Settings::default()).await;
    let mut waiting = crowd(&relay).await;
    // The one that came first leaves: the others are answered all the same.
    drop(waiting.remove(0));
    comfyui.wait_for_calls(LOOKUP, 1).await;
    comfyui.answer(LOOKUP, 200, &json!({}));
    for subscriber in &mut waiting {
        let notice = subscriber.receive_type("connection").await;
        assert!(notice["job_wait"].is_u64(), "{notice}");
    }
    assert_eq!(comfyui.calls(LOOKUP), 1);
    relay
        .report("render", &json!({"progress": 100, "status": "completed"}))
        .await;
    for subscriber in &mut waiting {
        subscriber.receive_until(is_final).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_who_ask_for_a_job_at_once_share_the_answer() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.reply(LOOKUP, Reply::Hang);
    let relay = TestRelay::connected_to(&comfyui.url(), Settings::default()).await;
    let job = JobId::parse("render").unwrap();
    let asking = join_all((0..CROWD).map(|_| relay.handle.lookup_shared(&job)));
    let answering = async {
        comfyui.wait_for_calls(LOOKUP, 1).await;
        comfyui.answer(LOOKUP, 200, &json!({}));
    };
    let (found, ()) = tokio::join!(asking, answering);
    assert!(found.iter().all(Result::is_err));
    assert_eq!(comfyui.calls(LOOKUP), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_subscriber_waits_for_its_own_time() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.answer(LOOKUP, 200, &json!({}));
    let server = ServerConfig {
        job_wait: Duration::from_millis(100),
        ..ServerConfig::default()
    };
    let relay = TestRelay::connected_to(&comfyui.url(), server).await;
    for mut subscriber in crowd(&relay).await {
        assert_eq!(subscriber.close_code().await, 4404);
        assert_eq!(subscriber.errors.len(), 1);
        assert_eq!(subscriber.errors[0]["code"], "job_not_found");
    }
    // One that has another job stays, and one that wants this job again waits again.
    relay
        .report("other", &json!({"progress": 5, "status": "processing"}))
        .await;
    let mut subscriber = relay.connect("/ws/other").await;
    for _ in 0..2 {
        subscriber
            .send(r#"{"type": "subscribe", "job_id": "render"}"#)
            .await;
        let error = subscriber.receive_type("error").await;
        assert_eq!(error["code"], "job_not_found");
    }
    subscriber
        .send(r#"{"type": "subscribe", "job_id": "render"}"#)
        .await;
    subscriber
        .send(r#"{"type": "unsubscribe", "job_id": "render"}"#)
        .await;
    relay
        .report("other", &json!({"progress": 100, "status": "completed"}))
        .await;
    subscriber.receive_until(is_final).await;
    assert_eq!(subscriber.errors.len(), 2);
}
