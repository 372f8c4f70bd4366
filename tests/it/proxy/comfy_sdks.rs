//! Comfy's own SDKs over Comfy API v2, unchanged but for the address.

use std::process::Command;

use comfy_relay::replay::PlaybackSpeed;
use serde_json::{Value, json};

use super::clients::{SLOW, SPEED, Stage, named};
use crate::support::test_relay::Settings;
use crate::support::tokens::{guarded, token};
use crate::support::tool::{Events, installed, node, skip};

/// The package comfy-sdk of PyPI; `None` on a machine without it.
fn python(stage: &Stage, arguments: &[&str]) -> Option<Events> {
    let python = installed("python/bin/python")?;
    let mut tried = Command::new(&python);
    let tried = tried.args(["-c", "import comfy_sdk"]).output();
    if !tried.unwrap().status.success() {
        skip("comfy-sdk", "tests/run installs it");
        return None;
    }
    let mut command = Command::new(python);
    command
        .arg("tests/clients/sdk_of_python.py")
        .args(arguments);
    command.env("COMFY_BASE_URL", &stage.api);
    Some(Events::of(command))
}

/// The package @comfyorg/sdk of npm; `None` on a machine without it.
fn typescript(stage: &Stage, arguments: &[&str]) -> Option<Events> {
    let module = installed("node_modules/@comfyorg/sdk/dist/index.js")?;
    let mut command = node("tests/clients/sdk_of_typescript.mjs")?;
    command.arg(module).args(arguments);
    command.env("COMFY_BASE_URL", &stage.api);
    Some(Events::of(command))
}

/// Its workflow loads a picture.
const IMG2IMG: &str = "0.33.0/40-image-to-image-run1";

/// What a client has to show of a job that it has followed to its picture.
fn check_run(stage: &Stage, events: &[Value]) {
    let progress = named(events, "progress");
    let values: Vec<f64> = progress
        .iter()
        .map(|it| it["value"].as_f64().unwrap())
        .collect();
    assert!(values.is_sorted() && !values.is_empty(), "{events:?}");
    let statuses = named(events, "status");
    assert_eq!(
        statuses.last().unwrap()["status"],
        "succeeded",
        "{events:?}"
    );
    assert_eq!(named(events, "ended")[0]["status"], "succeeded");
    assert_eq!(named(events, "output").len(), 1, "{events:?}");
    let pictures = named(events, "picture");
    assert_eq!(pictures.len(), 1, "{events:?}");
    let picture = pictures[0];
    assert_eq!(picture["type"], "image", "{picture}");
    // The head of a PNG file.
    assert_eq!(picture["head"], "89504e47", "{picture}");
    assert_eq!(picture["part"], "89504e47", "{picture}");
    assert_eq!(picture["is_whole"], true, "{picture}");
    let url = picture["url"].as_str().unwrap();
    assert!(url.starts_with(&stage.api), "{picture}");
    let workflow = named(events, "workflow")[0];
    assert_eq!(workflow["format"], "api");
    assert!(workflow["nodes"].as_u64().unwrap() > 1, "{workflow}");
}

fn check_cancelled(events: &[Value]) {
    assert_eq!(
        named(events, "ended")[0]["status"],
        "canceled",
        "{events:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_of_python_follows_a_job_to_its_picture() {
    let stage = Stage::new(SPEED, Settings::default()).await;
    let file = stage.file();
    for _ in 0..2 {
        let Some(mut client) = python(&stage, &["run", file.to_str().unwrap()]) else {
            return;
        };
        let events = client.until("done").await;
        check_run(&stage, &events);
        let submitted = named(&events, "submitted")[0];
        assert_eq!(submitted["metadata"], json!({"shot": "7"}));
        let listed = named(&events, "listed")[0]["ids"].as_array().unwrap();
        assert_eq!(listed[0], submitted["id"], "{events:?}");
        assert!(client.end().await);
        let id = submitted["id"].as_str().unwrap();
        let mut later = python(&stage, &["later", id]).unwrap();
        let events = later.until("done").await;
        assert_eq!(named(&events, "job")[0]["status"], "succeeded");
        assert_eq!(named(&events, "picture").len(), 1, "{events:?}");
    }
    assert_eq!(stage.jobs().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_of_python_repeats_a_request_and_gets_the_same_job() {
    let stage = Stage::new(SPEED, Settings::default()).await;
    let file = stage.file();
    let Some(mut client) = python(&stage, &["repeat", file.to_str().unwrap()]) else {
        return;
    };
    let events = client.until("done").await;
    assert_eq!(named(&events, "repeated")[0]["is_same"], true, "{events:?}");
    assert_eq!(named(&events, "refused").len(), 1, "{events:?}");
    assert_eq!(stage.jobs().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_of_python_cancels_what_runs() {
    let stage = Stage::new(SLOW, Settings::default()).await;
    let file = stage.file();
    let Some(mut client) = python(&stage, &["cancel", file.to_str().unwrap()]) else {
        return;
    };
    check_cancelled(&client.until("done").await);
}

fn check_load(events: &[Value]) {
    assert_eq!(
        named(events, "ended")[0]["status"],
        "succeeded",
        "{events:?}"
    );
    let uploaded = named(events, "uploaded")[0];
    assert_eq!(uploaded["is_new"], true, "{events:?}");
    assert!(
        uploaded["file"].as_str().unwrap().starts_with("photo-"),
        "{events:?}"
    );
    let again = named(events, "again")[0];
    assert_eq!(
        (&again["is_new"], &again["is_other"]),
        (&json!(false), &json!(true)),
        "{events:?}"
    );
    assert_eq!(named(events, "refused").len(), 1, "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_of_python_uploads_what_a_workflow_loads() {
    let stage = Stage::playing(IMG2IMG, PlaybackSpeed::Fastest, Settings::default()).await;
    let file = stage.file();
    let Some(mut client) = python(&stage, &["load", file.to_str().unwrap()]) else {
        return;
    };
    check_load(&client.until("done").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_of_typescript_uploads_what_a_workflow_loads() {
    let stage = Stage::playing(IMG2IMG, PlaybackSpeed::Fastest, Settings::default()).await;
    let file = stage.file();
    let Some(mut client) = typescript(&stage, &["load", file.to_str().unwrap()]) else {
        return;
    };
    check_load(&client.until("done").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_of_python_signs_in_with_a_token() {
    let stage = Stage::new(SPEED, Settings::from(guarded())).await;
    let (file, token) = (stage.file(), token(&json!({})));
    let Some(mut client) = python(&stage, &["run", file.to_str().unwrap(), &token]) else {
        return;
    };
    check_run(&stage, &client.until("done").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_of_typescript_follows_a_job_to_its_picture() {
    let stage = Stage::new(SPEED, Settings::default()).await;
    let file = stage.file();
    for _ in 0..2 {
        let Some(mut client) = typescript(&stage, &["run", file.to_str().unwrap()]) else {
            return;
        };
        let events = client.until("done").await;
        check_run(&stage, &events);
        assert!(client.end().await);
    }
    assert_eq!(stage.jobs().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_of_typescript_cancels_what_runs() {
    let stage = Stage::new(SLOW, Settings::default()).await;
    let file = stage.file();
    let Some(mut client) = typescript(&stage, &["cancel", file.to_str().unwrap()]) else {
        return;
    };
    check_cancelled(&client.until("done").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_of_typescript_signs_in_with_a_token() {
    let stage = Stage::new(SPEED, Settings::from(guarded())).await;
    let (file, token) = (stage.file(), token(&json!({})));
    let Some(mut client) = typescript(&stage, &["run", file.to_str().unwrap(), &token]) else {
        return;
    };
    check_run(&stage, &client.until("done").await);
}
