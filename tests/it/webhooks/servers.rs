//! Events of servers and of the queue.

use serde_json::json;

use super::{settings, webhooks};
use crate::queue::operations::operate_queue;
use crate::support::database::{TestDatabase, on_both};
use crate::support::recordings::{TXT2IMG, workflow};
use crate::support::test_relay::TestRelay;
use crate::support::webhook_receiver::WebhookReceiver;

on_both!(a_queue_that_becomes_empty_is_announced);

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
