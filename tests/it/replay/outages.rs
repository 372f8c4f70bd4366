//! Sockets that are displaced, dropped or cut, and a server that is killed.

use std::time::Duration;

use comfy_relay::replay::PlaybackSpeed;
use serde_json::json;
use tokio::time::timeout;

use super::caller::{Caller, ME, PATIENCE, Sound, ends, history_path, recording, replay};

/// How long to listen before we say that nothing comes.
const SILENCE: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_displaced_socket_falls_silent_until_a_new_one_comes() {
    for name in ["0.8.0/14-displaced-socket", "0.0.8/14-displaced-socket"] {
        let recording = recording(name);
        let server = replay(&[&recording], PlaybackSpeed::Fastest, false).await;
        let caller = Caller::of(&server);
        let mut ear = caller.connect(Some(ME)).await;
        let id = caller.submit(&recording, 0, Some(ME)).await;
        for _ in 0..2 {
            // It plays on, and then says nothing more, though the prompt runs.
            while let Ok(sound) = timeout(SILENCE, ear.next()).await {
                assert!(
                    matches!(sound, Sound::Text(_)) && !ends(&sound, &id),
                    "{sound:?}"
                );
            }
            assert_eq!(
                caller.get("/queue").await["queue_running"][0][1],
                id.as_str()
            );
            ear.close().await;
            ear = caller.connect(Some(ME)).await;
            ear.greeting().await;
            let executing = timeout(PATIENCE, ear.next()).await.unwrap().event();
            assert_eq!(
                executing,
                json!({"type": "executing", "data": {"node": "3"}})
            );
        }
        ear.end_of(&id).await;
        caller.result(&id).await;
    }
}

#[tokio::test]
async fn a_dropped_socket_comes_back() {
    for name in ["0.8.0/15-drop-reconnect", "0.0.8/15-drop-reconnect"] {
        let recording = recording(name);
        let server = replay(&[&recording], PlaybackSpeed::Fastest, false).await;
        let caller = Caller::of(&server);
        let mut ear = caller.connect(Some(ME)).await;
        let id = caller.submit(&recording, 0, Some(ME)).await;
        ear.until("the cut", |sound| *sound == Sound::Lost).await;
        let mut ear = caller.connect(Some(ME)).await;
        ear.until("a clean close", |sound| *sound == Sound::Closed(Some(1000)))
            .await;
        drop(ear);
        let mut ear = caller.connect(Some(ME)).await;
        ear.end_of(&id).await;
    }
}

#[tokio::test]
async fn an_end_is_missed() {
    let recording = recording("0.8.0/15b-drop-miss-end");
    let server = replay(&[&recording], PlaybackSpeed::Fastest, false).await;
    let caller = Caller::of(&server);
    let mut ear = caller.connect(Some(ME)).await;
    let id = caller.submit(&recording, 0, Some(ME)).await;
    let heard = ear.until("the cut", |sound| *sound == Sound::Lost).await;
    assert!(!heard.iter().any(|sound| ends(sound, &id)));
    assert_eq!(caller.result(&id).await["status"]["status_str"], "success");
}

#[tokio::test]
async fn a_killed_server_comes_back_empty() {
    let recording = recording("0.8.0/16-server-killed");
    let server = replay(&[&recording], PlaybackSpeed::Real(20.0), false).await;
    let caller = Caller::of(&server);
    let mut ear = caller.connect(Some(ME)).await;
    let lost = [
        caller.submit(&recording, 0, Some(ME)).await,
        caller.submit(&recording, 1, Some(ME)).await,
    ];
    ear.until("the kill", |sound| *sound == Sound::Lost).await;
    assert!(
        caller.try_get("/queue").await.is_none() && caller.try_connect(Some(ME)).await.is_none()
    );
    let queue = caller
        .until("the restart", async || caller.try_get("/queue").await)
        .await;
    assert_eq!(queue, json!({"queue_running": [], "queue_pending": []}));
    for id in &lost {
        assert_eq!(caller.get(&history_path(id)).await, json!({}));
    }
    let mut ear = caller.connect(Some(ME)).await;
    let id = caller.submit(&recording, 2, Some(ME)).await;
    ear.end_of(&id).await;
    assert_eq!(caller.result(&id).await["prompt"][0], 0);
}
