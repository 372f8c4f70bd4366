//! Events of servers and of the queue.

use serde_json::json;

use super::{settings, webhooks};
use crate::faults::workers::{FAULT, fail, succeed};
use crate::queue::operations::operate_queue;
use crate::support::database::{TestDatabase, on_both};
use crate::support::recordings::{TXT2IMG, workflow};
use crate::support::scripted_comfy::ScriptedComfy;
use crate::support::test_relay::TestRelay;
use crate::support::webhook_receiver::{ReceivedWebhook, WebhookReceiver};

on_both!(a_queue_that_becomes_empty_is_announced);

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_falls_sick_and_recovers_is_announced_once() {
    let db = TestDatabase::sqlite().await;
    let (receiver, comfyui) = (WebhookReceiver::start().await, ScriptedComfy::start().await);
    let settings = settings(&db, webhooks(Some(&receiver)));
    let relay = TestRelay::connected_to(&comfyui.url(), settings).await;
    for number in 0..3 {
        fail(&relay, &comfyui, number, FAULT).await;
    }
    let has = |event: &'static str| {
        move |all: &[ReceivedWebhook]| all.iter().any(|it| it.event() == event)
    };
    receiver.wait_for("it is sick", has("backend.sick")).await;
    succeed(&relay, &comfyui).await;
    let received = receiver
        .wait_for("it has recovered", has("backend.recovered"))
        .await;
    for (event, status) in [("backend.sick", "sick"), ("backend.recovered", "connected")] {
        let mut told = received.iter().filter(|it| it.event() == event);
        let data = &told.next().unwrap().body["data"];
        assert_eq!(data["backend"], comfyui.address().to_string());
        assert_eq!(data["status"], status);
        assert!(told.next().is_none(), "{event} came twice");
    }
    relay.stop().await;
}

async fn a_queue_that_becomes_empty_is_announced(db: TestDatabase) {
    let receiver = WebhookReceiver::start().await;
    let settings = settings(&db, webhooks(Some(&receiver)));
    let relay = TestRelay::replaying_with(TXT2IMG, settings).await;
    operate_queue(&relay, "pause").await;
    let body = json!({"job_id": "job", "workflow": workflow(TXT2IMG).await});
    let (status, answer) = relay.post("/api/anime/jobs", &body).await;
    assert_eq!(status, 201, "{answer}");
    assert_eq!(relay.handle.queue_length(), 1);
    receiver.wait_for_count(1).await;
    let is_empty = |event: &str| event == "queue.empty";
    assert!(receiver.received().iter().all(|it| !is_empty(it.event())));
    operate_queue(&relay, "resume").await;
    let received = receiver
        .wait_for("the queue is empty", |all| {
            all.iter().any(|it| it.event() == "queue.empty")
        })
        .await;
    let empty = received
        .iter()
        .find(|it| it.event() == "queue.empty")
        .unwrap();
    assert!(empty.body["data"]["processing"].is_u64(), "{}", empty.text);
    relay.stop().await;
}
