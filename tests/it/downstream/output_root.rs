//! `output_path` for a pipeline that sees ComfyUI's output folder.

use std::path::{Path, PathBuf};

use comfy_relay::config::RelayConfig;
use serde_json::json;

use crate::support::recordings::TXT2IMG;
use crate::support::test_relay::{Settings, TestRelay};

/// The output path of a job that has completed, as its subscriber, one job and the list show it.
async fn output_path(output_root: Option<PathBuf>) -> String {
    let settings = Settings {
        relay: RelayConfig {
            output_root,
            ..Settings::default().relay
        },
        ..Settings::default()
    };
    let relay = TestRelay::replaying_with(TXT2IMG, settings).await;
    let mut subscriber = relay.subscribe("shot").await;
    relay.submit("shot", TXT2IMG).await;
    subscriber.ends_as("completed").await;
    let path = subscriber.last()["output_path"].clone();
    let (_, job) = relay.job("shot").await;
    assert_eq!(job["output_path"], path);
    // A producer knows its own paths.
    let report = json!({"progress": 100, "status": "completed", "output_path": "a/b.mp4"});
    relay.report("render", &report).await;
    let (_, page) = relay.get("/api/anime/jobs?status=completed").await;
    assert_eq!(page["jobs"][0]["output_path"], "a/b.mp4");
    assert_eq!(page["jobs"][1]["output_path"], path);
    path.as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_output_root_an_output_path_can_be_opened() {
    let below = output_path(None).await;
    assert!(Path::new(&below).is_relative(), "{below}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(&below);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "picture").unwrap();
    let path = output_path(Some(folder.path().to_owned())).await;
    assert_eq!(std::fs::read_to_string(path).unwrap(), "picture");
}
