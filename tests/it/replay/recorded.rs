//! `record`, against a replay server.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use comfy_relay::recording::{Exchange, Recording};
use comfy_relay::replay::PlaybackSpeed;
use serde_json::json;

use super::client::{folder, recording, replay};
use crate::support::program::Program;
use crate::support::recordings::one_node_workflow;
use crate::support::scripted_comfy::{Reply, ScriptedComfy};

/// Its graph loads `photo.png`.
const IMAGE_TO_IMAGE: &str = "0.33.0/40-image-to-image-run1";

/// Records into the folder `out` what a replay of `original` plays. Returns the log.
async fn record(original: &Arc<Recording>, out: &Path) -> String {
    let server = replay(&[original], PlaybackSpeed::Fastest, false).await;
    let workflow = folder(IMAGE_TO_IMAGE).join("prompt-1.json");
    let arguments = [
        "record",
        workflow.to_str().unwrap(),
        "--out",
        out.to_str().unwrap(),
        "--comfyui-url",
        &server.url(),
    ];
    let output = Program::run(&arguments, &[]).await;
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{log}");
    log
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_recording_has_the_sizes_of_the_pictures() {
    let original = recording(IMAGE_TO_IMAGE);
    let out = tempfile::tempdir().unwrap();
    let log = record(&original, out.path()).await;
    assert!(!log.contains("warning"), "{log}");
    let recorded = Recording::read(out.path()).unwrap();
    assert!(recorded.inputs.contains_key("photo.png"));
    assert_eq!(recorded.inputs, original.inputs);
    // The sizes are measured beside the recording.
    let mut paths = recorded.exchanges.iter().map(|exchange| &exchange.path);
    assert!(!paths.any(|path| path.starts_with("/view")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_recording_has_the_frames_of_an_animation() {
    let inputs = r#"{"photo.png": {"width": 640, "height": 480, "frames": 24}}"#;
    let original = Recording::clone(&recording(IMAGE_TO_IMAGE));
    let animated = Arc::new(original.with_inputs(inputs).unwrap());
    let out = tempfile::tempdir().unwrap();
    record(&animated, out.path()).await;
    let recorded = Recording::read(out.path()).unwrap();
    assert_eq!(recorded.inputs, animated.inputs);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_that_cannot_be_measured_is_left_out() {
    let original = recording(IMAGE_TO_IMAGE);
    let without = Recording::clone(&original).with_inputs("{}").unwrap();
    let out = tempfile::tempdir().unwrap();
    let log = record(&Arc::new(without), out.path()).await;
    assert!(
        log.contains("warning: photo.png is not in inputs.json"),
        "{log}"
    );
    assert!(!out.path().join("inputs.json").exists());
}

/// Records a scripted ComfyUI that ends one prompt at once. Returns the exchanges below `/api/jobs`.
async fn recorded_jobs(comfyui: &ScriptedComfy) -> Vec<Exchange> {
    comfyui.accept_prompts_as("p");
    comfyui.complete("p");
    comfyui.set_queue(&[], &[]);
    let folder = tempfile::tempdir().unwrap();
    let workflow = folder.path().join("workflow.json");
    fs::write(&workflow, one_node_workflow().to_string()).unwrap();
    let out = folder.path().join("recording");
    let url = comfyui.url();
    let arguments = [
        "record",
        workflow.to_str().unwrap(),
        "--out",
        out.to_str().unwrap(),
        "--comfyui-url",
        &url,
    ];
    let output = Program::run(&arguments, &[]).await;
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{log}");
    let exchanges = Recording::read(&out).unwrap().exchanges.into_iter();
    exchanges
        .filter(|exchange| exchange.path.starts_with("/api/jobs"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_keeps_what_newer_servers_say_of_their_prompts() {
    let comfyui = ScriptedComfy::start().await;
    let list = json!({"jobs": [], "pagination": {"offset": 0, "limit": 200, "total": 0, "has_more": false}});
    comfyui.answer("GET /api/jobs", 200, &list);
    // A server knows a prompt a moment after it has accepted it.
    comfyui.answer("GET /api/jobs/p", 404, &json!({"error": "Job not found"}));
    let recorded = recorded_jobs(&comfyui).await;
    let of = |path: &str| recorded.iter().filter(|one| one.path == path).count();
    assert!(of("/api/jobs?status=in_progress,pending&limit=200") > 0);
    assert_eq!(of("/api/jobs/p"), 2);
    for exchange in &recorded {
        let wanted = if exchange.path.ends_with("/p") {
            json!({"error": "Job not found"})
        } else {
            list.clone()
        };
        assert_eq!(exchange.response, wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_lists_of_prompts_is_asked_once() {
    let comfyui = ScriptedComfy::start().await;
    let not_found = || Reply::Text(404, "404: Not Found".to_owned());
    comfyui.reply("GET /api/jobs", not_found());
    comfyui.reply("GET /api/jobs/p", not_found());
    let recorded = recorded_jobs(&comfyui).await;
    // The queue and the prompt may be asked for at the same time.
    assert!((1..=2).contains(&recorded.len()), "{recorded:?}");
}
