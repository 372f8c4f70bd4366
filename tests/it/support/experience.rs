//! A relay that has learned how long workflows take.

use std::sync::Arc;

use comfy_relay::recording::Recording;
use comfy_relay::replay::PlaybackSpeed;
use serde_json::Value;

use super::recordings::recording;
use super::test_relay::TestRelay;

/// How fast the recordings are played: fast enough for a test, and slow enough for a step to take
/// milliseconds.
const SPEED: f64 = 4.0;

/// A relay that knows the workflows of a recording, because it has played it once. When it is played
/// again, time stands still until its last prompt is posted.
pub(crate) async fn experienced(name: &str) -> (TestRelay, Arc<Recording>) {
    let recording = recording(name).await;
    let relay = TestRelay::replaying_all(vec![recording.clone()], PlaybackSpeed::Real(SPEED)).await;
    let mut subscribers = Vec::new();
    for (number, prompt) in recording.prompts().enumerate() {
        let job = format!("before-{number}");
        subscribers.push(relay.subscribe(&job).await);
        if prompt.request_body["client_id"] == recording.meta.client_id.as_str() {
            relay
                .submit_workflow(&job, &prompt.request_body["prompt"])
                .await;
        } else {
            register(&relay, &job, &prompt.request_body).await;
        }
    }
    for mut subscriber in subscribers {
        assert_eq!(subscriber.close_code().await, 1000);
    }
    (relay, recording)
}

/// Posts a prompt as another client would, and registers it.
pub(crate) async fn register(relay: &TestRelay, job: &str, body: &Value) {
    let (status, answer) = relay.post_to_comfyui("/prompt", body).await;
    assert_eq!(status, 200, "{answer}");
    let prompt_id = answer["prompt_id"].as_str().unwrap();
    relay.register(job, prompt_id).await;
}
