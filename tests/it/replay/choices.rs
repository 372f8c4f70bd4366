//! Which prompt of which recording is played.

use comfy_relay::replay::PlaybackSpeed;
use serde_json::json;

use super::caller::{Caller, ME, Sound, is, recording, replay};

#[tokio::test]
async fn a_recording_of_two_prompts_can_begin_again() {
    let recording = recording("0.8.0/05-cached-rerun");
    let server = replay(&[&recording], PlaybackSpeed::Fastest, true).await;
    let caller = Caller::of(&server);
    let mut ear = caller.connect(Some(ME)).await;
    let mut lengths = Vec::new();
    for round in 0..4 {
        let id = caller.submit(&recording, round % 2, Some(ME)).await;
        lengths.push(
            ear.end_of(&id)
                .await
                .iter()
                .filter(|sound| is(sound, "progress"))
                .count(),
        );
        assert_eq!(caller.result(&id).await["prompt"][0], round);
    }
    assert!(lengths[0] > 0);
    assert_eq!(lengths, [lengths[0], 0, lengths[0], 0]);
}

#[tokio::test]
async fn prompts_choose_their_recording_by_graph() {
    let (plain, failing) = (
        recording("0.8.0/01-txt2img-basic"),
        recording("0.8.0/24-error-oom"),
    );
    let server = replay(&[&plain, &failing], PlaybackSpeed::Fastest, true).await;
    let caller = Caller::of(&server);
    let mut ear = caller.connect(Some(ME)).await;
    // Both are posted at once, and are played one after the other.
    let failed = caller.submit(&failing, 0, Some(ME)).await;
    let completed = caller.submit(&plain, 0, Some(ME)).await;
    assert!(
        ear.end_of(&failed)
            .await
            .iter()
            .any(|sound| is(sound, "execution_error"))
    );
    assert!(
        ear.end_of(&completed)
            .await
            .iter()
            .any(|sound| is(sound, "execution_success"))
    );
    // An unknown graph gets the next in turn.
    let (_, answer) = caller
        .post(
            "/prompt",
            &json!({"prompt": {"1": {"class_type": "New"}}, "client_id": ME}),
        )
        .await;
    ear.end_of(answer["prompt_id"].as_str().unwrap()).await;
}

#[tokio::test]
async fn what_nobody_posts_any_more_is_left_out() {
    let (cached, plain) = (
        recording("0.8.0/05-cached-rerun"),
        recording("0.8.0/24-error-oom"),
    );
    let server = replay(&[&cached, &plain], PlaybackSpeed::Real(5.0), true).await;
    let caller = Caller::of(&server);
    let mut ear = caller.connect(Some(ME)).await;
    let first = caller.submit(&cached, 0, Some(ME)).await;
    ear.until("its start", |sound| is(sound, "execution_start"))
        .await;
    // The second prompt of that recording never comes; the first is played to its end all the same.
    let other = caller.submit(&plain, 0, Some(ME)).await;
    assert_eq!(
        caller.get("/queue").await["queue_pending"][0][1],
        other.as_str()
    );
    ear.end_of(&first).await;
    let heard = ear.end_of(&other).await;
    let mine = |sound: &&Sound| !is(sound, "status") && matches!(sound, Sound::Text(_));
    assert!(
        heard
            .iter()
            .filter(mine)
            .all(|sound| sound.event()["data"]["prompt_id"] == other.as_str())
    );
    assert_eq!(caller.result(&other).await["status"]["status_str"], "error");
}
