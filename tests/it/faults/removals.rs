//! Prompts that other clients cancel, and servers that die.

use comfy_relay::config::Dispatch;
use comfy_relay::replay::PlaybackSpeed;
use futures_util::future::join_all;
use serde_json::json;

use super::play::{play, settings};
use crate::support::chaos_proxy::fault::Fault;
use crate::support::program::Program;
use crate::support::recordings::{TXT2IMG, recording, workflow};
use crate::support::subscriber::{Subscriber, waits_for_comfyui};
use crate::support::test_relay::{Settings, TestRelay};

const QUEUE: &str = "0.8.0/10c-queue-order";

/// Slow enough that a test can act while a prompt runs.
const SPEED: f64 = 2.0;

async fn relay_at_speed(name: &str) -> TestRelay {
    let settings = Settings {
        speed: PlaybackSpeed::Real(SPEED),
        ..settings()
    };
    TestRelay::replaying_with(name, settings).await
}

async fn submit(relay: &TestRelay, job: &str, name: &str, index: usize) -> (Subscriber, String) {
    let recording = recording(name).await;
    let workflow = &recording.prompts().nth(index).unwrap().request_body["prompt"];
    let prompt_id = relay.submit_workflow(job, workflow).await;
    let subscriber = relay.subscribe(job).await;
    (subscriber, prompt_id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_another_client_interrupts_is_cancelled() {
    let relay = relay_at_speed(TXT2IMG).await;
    let (mut subscriber, _) = submit(&relay, "job", TXT2IMG, 0).await;
    subscriber
        .receive_until(|state| state["progress"].as_u64() >= Some(10))
        .await;
    relay.post_to_comfyui("/interrupt", &json!({})).await;
    subscriber.ends_as("cancelled").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_prompt_that_another_client_deletes_is_cancelled() {
    let relay = relay_at_speed(QUEUE).await;
    let (_running, _) = submit(&relay, "running", QUEUE, 0).await;
    let (mut waiting, prompt_id) = submit(&relay, "waiting", QUEUE, 1).await;
    waiting
        .receive_until(|state| state["queue_position"] == 1)
        .await;
    relay
        .post_to_comfyui("/queue", &json!({"delete": [prompt_id]}))
        .await;
    waiting.ends_as("cancelled").await;
}

/// The server is restarted at every tenth frame, without its history.
#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_of_a_restarted_server_is_lost() {
    let recording = recording(TXT2IMG).await;
    let frames = recording.frames.len();
    // The first frames are sent before the prompt.
    let plays = (5..frames).step_by(10).map(|frame| {
        let restart = Fault::Restart {
            frame,
            keeps_history: false,
        };
        play(recording.clone(), vec![restart])
    });
    for (number, played) in join_all(plays).await.into_iter().enumerate() {
        assert!(
            played.problems.is_empty(),
            "{number}: {:?}",
            played.problems
        );
        assert!(played.observed.accepts_no_more, "{number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_may_not_run_again_is_lost_once_its_killed_server_is_back() {
    let comfyui = Program::replay(TXT2IMG, "127.0.0.1:0");
    comfyui.ready().await;
    let address = comfyui.address().to_string();
    let mut settings = settings();
    settings.relay.dispatch = Dispatch::Queue;
    let relay = TestRelay::connected_to(&format!("http://{address}"), settings).await;
    let body = json!({"job_id": "job", "workflow": workflow(TXT2IMG).await, "retries": 0});
    let (status, answer) = relay.post("/api/anime/jobs", &body).await;
    assert_eq!(status, 201, "{answer}");
    let mut subscriber = relay.subscribe("job").await;
    subscriber
        .receive_until(|state| state["progress"].as_u64() >= Some(10))
        .await;
    comfyui.kill().await;
    let away = subscriber.receive_until(waits_for_comfyui).await;
    assert_eq!(away["status"], "processing");
    let _comfyui = Program::replay(TXT2IMG, &address);
    subscriber.ends_as("failed").await;
    let (_, view) = relay.job("job").await;
    assert_eq!(view["error_code"], "prompt_lost", "{view}");
}
