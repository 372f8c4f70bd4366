//! Prompts that are interrupted or deleted, in the recording or by the client.

use std::time::Duration;

use comfy_relay::replay::PlaybackSpeed;
use serde_json::json;
use tokio::time::timeout;

use super::client::{CLIENT_ID, ReplayClient, history_path, is_type, recording, replay, types};

#[tokio::test]
async fn a_recorded_interrupt_happens_without_the_client() {
    let recording = recording("0.8.0/09-interrupt");
    let server = replay(&[&recording], PlaybackSpeed::Fastest, false).await;
    let client = ReplayClient::of(&server);
    let mut socket = client.connect(Some(CLIENT_ID)).await;
    let cancelled = client.submit(&recording, 0, Some(CLIENT_ID)).await;
    assert!(
        socket
            .end_of(&cancelled)
            .await
            .iter()
            .any(|event| is_type(event, "execution_interrupted"))
    );
    assert_eq!(
        client.result(&cancelled).await["status"]["status_str"],
        "error"
    );
    let completed = client.submit(&recording, 1, Some(CLIENT_ID)).await;
    assert_eq!(
        client.result(&completed).await["status"]["status_str"],
        "success"
    );
}

#[tokio::test]
async fn a_client_can_interrupt_a_prompt() {
    for name in ["0.8.0/20-long-run", "2023-12-30/01-txt2img-basic"] {
        let recording = recording(name);
        let server = replay(&[&recording], PlaybackSpeed::Real(2.0), true).await;
        let client = ReplayClient::of(&server);
        let mut socket = client.connect(Some(CLIENT_ID)).await;
        let id = client.submit(&recording, 0, Some(CLIENT_ID)).await;
        socket
            .until("progress", |event| is_type(event, "progress"))
            .await;
        if name.starts_with("0.8") {
            client
                .post("/interrupt", &json!({"prompt_id": "another"}))
                .await;
            assert_eq!(
                client.get("/queue").await["queue_running"][0][1],
                id.as_str()
            );
        }
        client.post("/interrupt", &json!({"prompt_id": id})).await;
        let received = socket.end_of(&id).await;
        let kinds = types(&received);
        assert_eq!(
            kinds[kinds.len() - 3..],
            ["execution_interrupted", "status", "executing"]
        );
        let interrupted = received[received.len() - 3].json();
        assert_eq!(interrupted["data"]["prompt_id"], id.as_str());
        assert!(
            !interrupted["data"]["node_type"]
                .as_str()
                .unwrap()
                .is_empty()
        );
        let entry = client.result(&id).await;
        assert_eq!(entry.get("status").is_some(), name.starts_with("0.8"));
        // The next one starts at once: the rest of the interrupted one takes no time.
        let next = client.submit(&recording, 0, Some(CLIENT_ID)).await;
        let received = timeout(
            Duration::from_secs(5),
            socket.until("its start", |event| is_type(event, "execution_start")),
        )
        .await
        .unwrap();
        assert!(!types(&received).contains(&"progress".to_owned()));
        assert_eq!(
            received.last().unwrap().json()["data"]["prompt_id"],
            next.as_str()
        );
    }
}

#[tokio::test]
async fn a_deleted_prompt_is_neither_queued_nor_in_the_history() {
    let recording = recording("0.8.0/10-queue-delete-pending");
    let server = replay(&[&recording], PlaybackSpeed::Real(4.0), false).await;
    let client = ReplayClient::of(&server);
    let mut socket = client.connect(Some(CLIENT_ID)).await;
    let mut ids = Vec::new();
    for k in 0..5 {
        ids.push(client.submit(&recording, k, Some(CLIENT_ID)).await);
    }
    assert_eq!(
        client.get("/prompt").await["exec_info"]["queue_remaining"],
        5
    );
    socket
        .until("the first to run", |event| is_type(event, "progress"))
        .await;
    // The recording deletes the third, the client the fifth; the running one cannot be deleted.
    client
        .post("/queue", &json!({"delete": [ids[4], ids[0]]}))
        .await;
    let queue = client.get("/queue").await;
    assert!(!queue.to_string().contains(&ids[4]) && queue.to_string().contains(&ids[0]));
    for k in [0, 1, 3] {
        assert_eq!(client.result(&ids[k]).await["prompt"][0], k);
    }
    for k in [2, 4] {
        assert_eq!(client.get(&history_path(&ids[k])).await, json!({}));
    }
    assert_eq!(
        client.get("/queue").await,
        json!({"queue_running": [], "queue_pending": []})
    );
}
