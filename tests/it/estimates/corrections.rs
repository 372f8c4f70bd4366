//! What the images that a job has saved show of its plan is known of the next jobs, and of those that wait.

use std::ops::RangeInclusive;

use comfy_relay::config::StoreConfig;
use serde_json::{Value, json};

use super::server::{case, has_run, relay_at, remaining, start, state};
use crate::support::scripted_comfy::{ScriptedComfy, saved_view, view};
use crate::support::subscriber::Subscriber;
use crate::support::test_relay::TestRelay;

const PICTURE: &str = include_str!("cases/picture.json");

/// Image to image on a picture.
fn on_picture() -> Value {
    let mut workflow = case(PICTURE);
    workflow["4"]["inputs"]["image"] = "small.png".into();
    workflow
}

/// Text to image of a size that no graph shows.
fn on_chosen_size() -> Value {
    let mut workflow = case(PICTURE);
    workflow["4"] =
        json!({"class_type": "CR Aspect Ratio", "inputs": {"aspect_ratio": "1:1", "swap": "Off"}});
    workflow["5"] = json!({"class_type": "EmptyLatentImage",
        "inputs": {"width": ["4", 0], "height": ["4", 1], "batch_size": 1}});
    workflow
}

/// A server on which image to image of 512 by 512 pixels took ten seconds.
async fn experienced() -> (ScriptedComfy, TestRelay) {
    let comfyui = ScriptedComfy::start().await;
    comfyui.set_image("small.png", 512, 512);
    has_run(&comfyui, &on_picture(), &["8"], 10);
    let relay = relay_at(&comfyui, StoreConfig::default()).await;
    (comfyui, relay)
}

/// Starts a job, and checks how long it is estimated to take.
async fn begins(
    comfyui: &ScriptedComfy,
    relay: &TestRelay,
    id: &str,
    workflow: &Value,
    takes: RangeInclusive<u64>,
) -> Subscriber {
    let prompt = format!("prompt-{id}");
    let mut subscriber = relay.subscribe(id).await;
    comfyui.accept_prompts_as(&prompt);
    comfyui.run_prompt(&prompt, workflow, &["8"]);
    relay.submit_workflow(id, workflow).await;
    start(comfyui, &prompt);
    let is_right = |state: &Value| takes.contains(&remaining(state));
    let what = format!("takes {takes:?} seconds");
    state(&mut subscriber, &what, is_right).await;
    subscriber
}

/// Ends a job that has saved an image of this size.
async fn saves(comfyui: &ScriptedComfy, id: &str, subscriber: &mut Subscriber, side: u32) {
    let file = format!("{id}.png");
    comfyui.set_saved_image(&file, side, side);
    let files = json!({"images": [{"filename": file, "subfolder": "", "type": "output"}]});
    let prompt = format!("prompt-{id}");
    let executed = json!({"node": "8", "display_node": "8", "output": files, "prompt_id": prompt});
    comfyui.send(&json!({"type": "executed", "data": executed}));
    comfyui.wait_for_calls(&saved_view(&file), 1).await;
    comfyui.set_queue(&[], &[]);
    comfyui.complete(&prompt);
    subscriber.ends_as("completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_image_shows_the_size_of_the_next_job_of_its_graph() {
    let (comfyui, relay) = experienced().await;
    let workflow = on_chosen_size();
    let mut first = begins(&comfyui, &relay, "first", &workflow, 7..=12).await;
    saves(&comfyui, "first", &mut first, 2_048).await;
    let mut seeded = workflow;
    seeded["6"]["inputs"]["seed"] = 2.into();
    begins(&comfyui, &relay, "second", &seeded, 60..=200).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_image_corrects_the_jobs_that_wait() {
    let (comfyui, relay) = experienced().await;
    let workflow = on_chosen_size();
    begins(&comfyui, &relay, "first", &workflow, 7..=12).await;
    comfyui.accept_prompts_as("prompt-second");
    let running = json!([0, "prompt-first", workflow, {}, ["8"]]);
    let pending = json!([1, "prompt-second", workflow, {}, ["8"]]);
    let queue = json!({"queue_running": [running], "queue_pending": [pending]});
    comfyui.answer("GET /queue", 200, &queue);
    let mut second = relay.subscribe("second").await;
    relay.submit_workflow("second", &workflow).await;
    let waits = |state: &Value| (1..=40).contains(&remaining(state));
    state(&mut second, "waits for the first", waits).await;
    comfyui.set_saved_image("a.png", 2_048, 2_048);
    let files = json!({"images": [{"filename": "a.png", "subfolder": "", "type": "output"}]});
    let executed = json!({"node": "8", "output": files, "prompt_id": "prompt-first"});
    comfyui.send(&json!({"type": "executed", "data": executed}));
    state(&mut second, "takes a minute", |state| {
        remaining(state) >= 60
    })
    .await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_that_is_written_under_an_old_name_has_its_new_size() {
    let (comfyui, relay) = experienced().await;
    let workflow = on_picture();
    let mut first = begins(&comfyui, &relay, "first", &workflow, 7..=12).await;
    let size = view("small.png");
    let fetched = comfyui.calls(&size);
    comfyui.set_image("small.png", 2_048, 2_048);
    saves(&comfyui, "first", &mut first, 2_048).await;
    comfyui.wait_for_calls(&size, fetched + 1).await;
    begins(&comfyui, &relay, "second", &workflow, 60..=200).await;
    relay.stop().await;
}
