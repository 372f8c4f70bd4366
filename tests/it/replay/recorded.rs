//! `record`, against a replay server.

use std::path::Path;
use std::sync::Arc;

use comfy_relay::recording::Recording;
use comfy_relay::replay::PlaybackSpeed;

use super::client::{folder, recording, replay};
use crate::support::program::Program;

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
