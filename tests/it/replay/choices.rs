//! Which prompt of which recording is played.

use comfy_relay::replay::PlaybackSpeed;
use serde_json::json;

use super::client::{CLIENT_ID, Event, ReplayClient, is_type, recording, replay};
use crate::support::recordings::TXT2IMG;

#[tokio::test]
async fn a_recording_of_two_prompts_can_begin_again() {
    let recording = recording("0.8.0/05-cached-rerun");
    let server = replay(&[&recording], PlaybackSpeed::Fastest, true).await;
    let client = ReplayClient::of(&server);
    let mut socket = client.connect(Some(CLIENT_ID)).await;
    let mut lengths = Vec::new();
    for round in 0..4 {
        let id = client.submit(&recording, round % 2, Some(CLIENT_ID)).await;
        lengths.push(
            socket
                .end_of(&id)
                .await
                .iter()
                .filter(|event| is_type(event, "progress"))
                .count(),
        );
        assert_eq!(client.result(&id).await["prompt"][0], round);
    }
    assert!(lengths[0] > 0);
    assert_eq!(lengths, [lengths[0], 0, lengths[0], 0]);
}

#[tokio::test]
async fn the_workflow_of_a_prompt_selects_its_recording() {
    let (plain, failing) = (recording(TXT2IMG), recording("0.8.0/24-error-oom"));
    let server = replay(&[&plain, &failing], PlaybackSpeed::Fastest, true).await;
    let client = ReplayClient::of(&server);
    let mut socket = client.connect(Some(CLIENT_ID)).await;
    // Both are posted at once, and are played one after the other.
    let failed = client.submit(&failing, 0, Some(CLIENT_ID)).await;
    let completed = client.submit(&plain, 0, Some(CLIENT_ID)).await;
    assert!(
        socket
            .end_of(&failed)
            .await
            .iter()
            .any(|event| is_type(event, "execution_error"))
    );
    assert!(
        socket
            .end_of(&completed)
            .await
            .iter()
            .any(|event| is_type(event, "execution_success"))
    );
    // An unknown workflow gets the next recording.
    let (_, answer) = client
        .post(
            "/prompt",
            &json!({"prompt": {"1": {"class_type": "New"}}, "client_id": CLIENT_ID}),
        )
        .await;
    socket.end_of(answer["prompt_id"].as_str().unwrap()).await;
}

#[tokio::test]
async fn recorded_prompts_that_are_never_posted_are_skipped() {
    let (cached, plain) = (
        recording("0.8.0/05-cached-rerun"),
        recording("0.8.0/24-error-oom"),
    );
    let server = replay(&[&cached, &plain], PlaybackSpeed::Real(5.0), true).await;
    let client = ReplayClient::of(&server);
    let mut socket = client.connect(Some(CLIENT_ID)).await;
    let first = client.submit(&cached, 0, Some(CLIENT_ID)).await;
    socket
        .until("its start", |event| is_type(event, "execution_start"))
        .await;
    // The second prompt of that recording is never posted; the first one is played to its end nevertheless.
    let other = client.submit(&plain, 0, Some(CLIENT_ID)).await;
    assert_eq!(
        client.get("/queue").await["queue_pending"][0][1],
        other.as_str()
    );
    socket.end_of(&first).await;
    let received = socket.end_of(&other).await;
    let mine = |event: &&Event| !is_type(event, "status") && matches!(event, Event::Text(_));
    assert!(
        received
            .iter()
            .filter(mine)
            .all(|event| event.json()["data"]["prompt_id"] == other.as_str())
    );
    assert_eq!(client.result(&other).await["status"]["status_str"], "error");
}
