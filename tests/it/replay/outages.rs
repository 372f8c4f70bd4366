//! Sockets that are displaced or lost, and a server that is killed.

use std::time::Duration;

use comfy_relay::replay::PlaybackSpeed;
use serde_json::json;
use tokio::time::timeout;

use super::client::{
    CLIENT_ID, Event, PATIENCE, ReplayClient, history_path, is_end_of, recording, replay,
};

/// How long a socket must be silent to count as silent.
const SILENCE: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_displaced_socket_is_silent_until_a_new_one_connects() {
    for name in ["0.8.0/14-displaced-socket", "0.0.8/14-displaced-socket"] {
        let recording = recording(name);
        let server = replay(&[&recording], PlaybackSpeed::Fastest, false).await;
        let client = ReplayClient::of(&server);
        let mut socket = client.connect(Some(CLIENT_ID)).await;
        let id = client.submit(&recording, 0, Some(CLIENT_ID)).await;
        for _ in 0..2 {
            // It sends events at first, and then none, although the prompt runs.
            while let Ok(event) = timeout(SILENCE, socket.next()).await {
                assert!(
                    matches!(event, Event::Text(_)) && !is_end_of(&event, &id),
                    "{event:?}"
                );
            }
            assert_eq!(
                client.get("/queue").await["queue_running"][0][1],
                id.as_str()
            );
            socket.close().await;
            socket = client.connect(Some(CLIENT_ID)).await;
            socket.greeting().await;
            let executing = timeout(PATIENCE, socket.next()).await.unwrap().json();
            assert_eq!(
                executing,
                json!({"type": "executing", "data": {"node": "3"}})
            );
        }
        socket.end_of(&id).await;
        client.result(&id).await;
    }
}

#[tokio::test]
async fn a_lost_socket_can_reconnect() {
    for name in ["0.8.0/15-drop-reconnect", "0.0.8/15-drop-reconnect"] {
        let recording = recording(name);
        let server = replay(&[&recording], PlaybackSpeed::Fastest, false).await;
        let client = ReplayClient::of(&server);
        let mut socket = client.connect(Some(CLIENT_ID)).await;
        let id = client.submit(&recording, 0, Some(CLIENT_ID)).await;
        socket.until("the cut", |event| *event == Event::Lost).await;
        let mut socket = client.connect(Some(CLIENT_ID)).await;
        socket
            .until("a clean close", |event| *event == Event::Closed(Some(1000)))
            .await;
        drop(socket);
        let mut socket = client.connect(Some(CLIENT_ID)).await;
        socket.end_of(&id).await;
    }
}

#[tokio::test]
async fn an_end_can_be_missed_on_the_socket() {
    let recording = recording("0.8.0/15b-drop-miss-end");
    let server = replay(&[&recording], PlaybackSpeed::Fastest, false).await;
    let client = ReplayClient::of(&server);
    let mut socket = client.connect(Some(CLIENT_ID)).await;
    let id = client.submit(&recording, 0, Some(CLIENT_ID)).await;
    let received = socket.until("the cut", |event| *event == Event::Lost).await;
    assert!(!received.iter().any(|event| is_end_of(event, &id)));
    assert_eq!(client.result(&id).await["status"]["status_str"], "success");
}

#[tokio::test]
async fn a_killed_server_restarts_with_an_empty_queue() {
    let recording = recording("0.8.0/16-server-killed");
    let server = replay(&[&recording], PlaybackSpeed::Real(20.0), false).await;
    let client = ReplayClient::of(&server);
    let mut socket = client.connect(Some(CLIENT_ID)).await;
    let lost = [
        client.submit(&recording, 0, Some(CLIENT_ID)).await,
        client.submit(&recording, 1, Some(CLIENT_ID)).await,
    ];
    socket
        .until("the kill", |event| *event == Event::Lost)
        .await;
    assert!(
        client.try_get("/queue").await.is_none()
            && client.try_connect(Some(CLIENT_ID)).await.is_none()
    );
    let queue = client
        .until("the restart", async || client.try_get("/queue").await)
        .await;
    assert_eq!(queue, json!({"queue_running": [], "queue_pending": []}));
    for id in &lost {
        assert_eq!(client.get(&history_path(id)).await, json!({}));
    }
    let mut socket = client.connect(Some(CLIENT_ID)).await;
    let id = client.submit(&recording, 2, Some(CLIENT_ID)).await;
    socket.end_of(&id).await;
    assert_eq!(client.result(&id).await["prompt"][0], 0);
}
