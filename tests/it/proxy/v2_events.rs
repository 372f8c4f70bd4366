//! The events of jobs over Comfy API v2.

use comfy_relay::replay::PlaybackSpeed;
use serde_json::{Value, json};

use super::v2_client::{V2Client, data};
use crate::support::recordings::{TXT2IMG, one_node_workflow, recording, replay};
use crate::support::scripted_comfy::ScriptedComfy;
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::tokens::{guarded, in_seconds, token};
use crate::support::wait::wait_until;

const PROMPT_ID: &str = "0b5c1b7e-6a38-4c0e-9a53-2f62f3f7a1c4";

#[tokio::test(flavor = "multi_thread")]
async fn every_viewer_follows_a_job_to_its_end() {
    let relay = TestRelay::replaying_with(TXT2IMG, PlaybackSpeed::Real(2.0)).await;
    let client = V2Client::new(&relay.serve_comfy().await);
    relay.post("/api/anime/queue/pause", &Value::Null).await;
    let job = client.submit().await;
    let mut viewers = Vec::new();
    for _ in 0..3 {
        viewers.push(client.follow(&job).await);
    }
    let first = viewers[0].next().await.unwrap();
    assert_eq!(
        (first.0.as_str(), &first.1["status"]),
        ("status", &json!("queued")),
        "{first:?}"
    );
    relay.post("/api/anime/queue/resume", &Value::Null).await;
    let mut ends = Vec::new();
    for viewer in viewers {
        let events = viewer.rest().await;
        let progress = data(&events, "progress");
        assert!(progress.len() > 1, "{events:?}");
        assert!(
            progress
                .iter()
                .all(|it| it.get("estimated_remaining").is_some())
        );
        let output = data(&events, "output");
        assert_eq!(output.len(), 1, "{events:?}");
        let (name, last) = events.last().unwrap();
        assert_eq!(
            (name.as_str(), &last["status"]),
            ("status", &json!("succeeded"))
        );
        let statuses = data(&events, "status");
        assert!(
            statuses.iter().any(|it| it["status"] == "running"),
            "{events:?}"
        );
        ends.push(output[0].clone());
    }
    assert!(ends.iter().all(|output| output["id"] == ends[0]["id"]));
    // One that comes later gets the state, and the end.
    let events = client.follow(&job).await.rest().await;
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["progress", "output", "status"], "{events:?}");
    let (_, shown) = client.get(job["urls"]["self"].as_str().unwrap()).await;
    assert_eq!(shown["outputs"][0]["id"], ends[0]["id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn previews_come_as_comfyui_makes_them() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.accept_prompts_as(PROMPT_ID);
    let relay = TestRelay::connected_to(&comfyui.url(), Settings::default()).await;
    let client = V2Client::new(&relay.serve_comfy().await);
    comfyui.set_queue(&[PROMPT_ID], &[]);
    let body = json!({"workflow": one_node_workflow()});
    let (status, job) = client.post("/jobs", &body).await;
    assert_eq!(status, 201, "{job}");
    let mut viewer = client.follow(&job).await;
    comfyui.send(&json!({"type": "executing", "data": {"node": "9", "prompt_id": PROMPT_ID}}));
    loop {
        let (name, data) = viewer.next().await.unwrap();
        if name == "status" && data["status"] == "running" {
            break;
        }
    }
    comfyui.send_preview(PROMPT_ID, "9", "9");
    let preview = loop {
        let (name, data) = viewer.next().await.unwrap();
        if name == "preview" {
            break data;
        }
    };
    assert_eq!(
        (&preview["node_id"], &preview["content_type"]),
        (&json!("9"), &json!("image/png"))
    );
    assert!(!preview["data_base64"].as_str().unwrap().is_empty());
    // A viewer that comes later gets the newest at once.
    let mut later = client.follow(&job).await;
    loop {
        let (name, data) = later.next().await.unwrap();
        if name == "preview" {
            assert_eq!(data["data_base64"], preview["data_base64"]);
            break;
        }
    }
}

/// Viewers see a job run again on another server, under the same id.
#[tokio::test(flavor = "multi_thread")]
async fn viewers_stay_while_a_server_is_killed() {
    let speed = PlaybackSpeed::Real(1.0);
    let server = async || replay(vec![recording(TXT2IMG).await], speed).await;
    let (first, second) = (server().await, server().await);
    let mut settings = Settings::default();
    settings.relay.lost_after = std::time::Duration::from_secs(1);
    let urls = format!("{},{}", first.url(), second.url());
    let relay = TestRelay::connected_to(&urls, settings).await;
    let client = V2Client::new(&relay.serve_comfy().await);
    let pause = format!("/api/anime/backends/{}/pause", &second.url()[7..]);
    assert_eq!(relay.post(&pause, &Value::Null).await.0, 200);
    let job = client.submit().await;
    let mut viewer = client.follow(&job).await;
    loop {
        let (name, data) = viewer.next().await.unwrap();
        if name == "progress" && data["step"].is_number() {
            break;
        }
    }
    let resume = pause.replace("pause", "resume");
    assert_eq!(relay.post(&resume, &Value::Null).await.0, 200);
    drop(first);
    second.set_speed(PlaybackSpeed::Fastest);
    let events = viewer.rest().await;
    let (_, last) = events.last().unwrap();
    assert_eq!(last["status"], "succeeded", "{events:?}");
    let (_, shown) = client.get(job["urls"]["self"].as_str().unwrap()).await;
    assert_eq!(shown["status"], "succeeded");
    let url = shown["outputs"][0]["url"].as_str().unwrap();
    assert_eq!(reqwest::get(url).await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_token() {
    let relay = TestRelay::replaying_with(TXT2IMG, guarded()).await;
    let api = relay.serve_comfy().await;
    let owner = V2Client::with_token(&api, &token(&json!({"scope": "subscribe submit operate"})));
    let pause = relay.request_as(
        &token(&json!({"scope": "operate"})),
        reqwest::Method::POST,
        "/api/anime/queue/pause",
    );
    assert_eq!(pause.send().await.unwrap().status(), 200);
    let job = owner.submit().await;
    let brief = V2Client::with_token(&api, &token(&json!({"exp": in_seconds(10)})));
    let events = brief.follow(&job).await.rest().await;
    assert!(
        events
            .iter()
            .all(|(name, data)| name != "status" || data["status"] == "queued"),
        "{events:?}"
    );
    wait_until("the token has expired", async || {
        brief.get(job["urls"]["self"].as_str().unwrap()).await.0 == 401
    })
    .await;
}
