//! What the sockets of ComfyUI's clients receive.

use std::time::Duration;

use comfy_relay::config::ServerConfig;
use comfy_relay::replay::{PlaybackSpeed, Replay, ReplayOptions};
use serde_json::{Value, json};

use super::comfy_client::{ComfyClient, Event, count, is_of_type, prompts, take_prompt};
use crate::support::recordings::{
    ERROR, TXT2IMG, one_node_workflow, recording, replay_with, workflow,
};
use crate::support::scripted_comfy::ScriptedComfy;
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::tokens::{guarded, token};
use crate::support::wait::wait_until;

/// A prompt id that servers keep.
pub(super) const PROMPT_ID: &str = "0b5c1b7e-6a38-4c0e-9a53-2f62f3f7a1c4";

/// A server that plays a recording.
pub(super) async fn playing(name: &str) -> Replay {
    let options = ReplayOptions {
        speed: PlaybackSpeed::Fastest,
        repeat: true,
        // No client reads the history as the recorded one did.
        client_timeout: Duration::from_millis(100),
    };
    replay_with(vec![recording(name).await], options).await
}

/// What a client receives of a prompt, without what differs from run to run.
async fn run(url: &str, name: &str) -> Vec<Event> {
    let mut client = ComfyClient::with_metadata(url, "me").await;
    let id = take_prompt(url, "me", &workflow(name).await).await;
    let events = client.until_done(&id).await;
    let same = |event: Event| match event {
        Event::Text(text) => {
            let text = text.to_string().replace(&id, "prompt");
            let mut text: Value = serde_json::from_str(&text).unwrap();
            text["data"].as_object_mut().unwrap().remove("timestamp");
            Event::Text(text)
        }
        Event::Binary(bytes) => {
            // The id is in the metadata.
            let at = bytes
                .windows(id.len())
                .position(|part| part == id.as_bytes());
            let end = at.map_or(0, |at| at + id.len());
            Event::Binary(bytes[end..].to_vec())
        }
        closed => closed,
    };
    events.into_iter().map(same).collect()
}

/// The message with which the relay answers flags comes at any moment, as in ComfyUI.
fn without_flags(events: Vec<Event>) -> Vec<Event> {
    let mut events = events;
    events.retain(|event| !is_of_type(event, "feature_flags"));
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_sent_what_comfyui_sends_it() {
    for name in [
        TXT2IMG,
        "0.8.0/02-previews-metadata",
        ERROR,
        "0.33.0/01-txt2img-basic",
        "0.0.8/02-previews-metadata",
    ] {
        let direct = playing(name).await;
        let expected = without_flags(run(&direct.url(), name).await);
        let behind = playing(name).await;
        let relay = TestRelay::connected_to(&behind.url(), Settings::default()).await;
        let received = without_flags(run(&relay.serve_comfy().await, name).await);
        assert!(expected.len() > 5, "{name}: {expected:?}");
        assert_eq!(received, expected, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_socket_of_a_client_is_sent_everything_and_no_other_client_is() {
    let servers = [playing(TXT2IMG).await, playing(TXT2IMG).await];
    let urls = format!("{},{}", servers[0].url(), servers[1].url());
    let relay = TestRelay::connected_to(&urls, Settings::default()).await;
    let api = relay.serve_comfy().await;
    let mut clients = Vec::new();
    for id in ["a", "a", "b"] {
        clients.push(ComfyClient::connect(&api, id).await);
    }
    let graph = workflow(TXT2IMG).await;
    let of_a = take_prompt(&api, "a", &graph).await;
    let of_b = take_prompt(&api, "b", &graph).await;
    let mut received = Vec::new();
    for client in &mut clients {
        let prompt = if client.id == "a" { &of_a } else { &of_b };
        let events = client.until_done(prompt).await;
        assert_eq!(prompts(&events), [prompt.as_str()]);
        assert_eq!(count(&events, "execution_success"), 1);
        received.push(events);
    }
    assert_eq!(received[0], received[1]);
}

/// A relay before a server that a test scripts, with a prompt of the client `me`, and the URL of ComfyUI's API.
pub(super) async fn scripted(server: ServerConfig) -> (ScriptedComfy, TestRelay, String) {
    let comfyui = ScriptedComfy::start().await;
    comfyui.accept_prompts_as(PROMPT_ID);
    let relay = TestRelay::connected_to(&comfyui.url(), server).await;
    let api = relay.serve_comfy().await;
    take_prompt(&api, "me", &one_node_workflow()).await;
    comfyui.set_queue(&[PROMPT_ID], &[]);
    (comfyui, relay, api)
}

pub(super) fn executing(node: Option<&str>) -> Value {
    json!({"type": "executing", "data": {"node": node, "display_node": node, "prompt_id": PROMPT_ID}})
}

/// The id that the client knows: the server chose another one.
pub(super) async fn known_prompt(relay: &TestRelay) -> String {
    let (_, jobs) = relay.get("/api/anime/jobs").await;
    jobs["jobs"][0]["job_id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_connects_again_is_greeted_with_the_node_that_runs() {
    let (comfyui, relay, api) = scripted(ServerConfig::default()).await;
    let mut first = ComfyClient::connect(&api, "me").await;
    let greeting = first.next_text().await;
    assert_eq!(greeting["data"]["sid"], "me");
    assert!(greeting["data"]["status"]["exec_info"]["queue_remaining"].is_u64());
    comfyui.send(&executing(Some("9")));
    let known = known_prompt(&relay).await;
    first
        .until(|text| text["data"]["node"] == "9" && text["data"]["prompt_id"] == known)
        .await;
    // The job is changed after the message is passed on.
    wait_until("the node runs", async || {
        relay.job(&known).await.1["status"] == "processing"
    })
    .await;
    let mut second = ComfyClient::connect(&api, "me").await;
    assert_eq!(second.next_text().await["data"]["sid"], "me");
    assert_eq!(
        second.next_text().await,
        json!({"type": "executing", "data": {"node": "9"}})
    );
    let mut other = ComfyClient::connect(&api, "other").await;
    assert_eq!(other.next_text().await["data"]["sid"], "other");
    // Of an extension, for everybody. Nothing came before it.
    comfyui.send(&json!({"type": "execution_success", "data": {"prompt_id": PROMPT_ID}}));
    comfyui.send(&executing(None));
    comfyui.send(&json!({"type": "cm-queue-status", "data": {"status": "all-done"}}));
    let events = other.until(|text| text["type"] == "cm-queue-status").await;
    assert_eq!(prompts(&events), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_extension_sends_may_have_any_data() {
    let (comfyui, _relay, api) = scripted(ServerConfig::default()).await;
    let mut client = ComfyClient::connect(&api, "me").await;
    for data in [json!("a text"), json!(7), json!([1, "x"]), json!({"a": 1})] {
        let event = json!({"type": "my.event", "data": data});
        comfyui.send(&event);
        let events = client.until(|text| text["type"] == "my.event").await;
        assert_eq!(events.last(), Some(&Event::Text(event)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn previews_have_metadata_for_clients_that_read_it() {
    let (comfyui, relay, api) = scripted(ServerConfig::default()).await;
    let mut rich = ComfyClient::with_metadata(&api, "me").await;
    let mut plain = ComfyClient::connect(&api, "me").await;
    comfyui.send(&json!({"type": "feature_flags", "data": {"supports_preview_metadata": true}}));
    comfyui.send_preview(PROMPT_ID, "9", "9");
    let preview = async |client: &mut ComfyClient| loop {
        if let Event::Binary(bytes) = client.next().await {
            return bytes;
        }
    };
    assert_eq!(
        preview(&mut plain).await,
        [0, 0, 0, 1, 0, 0, 0, 2, 1, 2, 3, 4]
    );
    let known = known_prompt(&relay).await;
    let metadata = preview(&mut rich).await;
    assert!(metadata.starts_with(&[0, 0, 0, 4]) && metadata.ends_with(&[1, 2, 3, 4]));
    assert!(String::from_utf8_lossy(&metadata).contains(&known));
    // The server has said what it can do: clients that ask get its answer.
    let mut asking = ComfyClient::with_metadata(&api, "me").await;
    asking.until(|text| text["type"] == "feature_flags").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_is_not_read_holds_nobody_up() {
    let (comfyui, _relay, api) = scripted(ServerConfig::default()).await;
    let mut slow = ComfyClient::connect(&api, "me").await;
    let mut fast = ComfyClient::connect(&api, "me").await;
    let text = "x".repeat(1 << 20);
    for number in 0..100 {
        let number = number.to_string();
        let output = json!({"text": [number, text]});
        let data = json!({"node": "9", "output": output, "prompt_id": PROMPT_ID});
        comfyui.send(&json!({"type": "executed", "data": data}));
        let is_same = |text: &Value| text["data"]["output"]["text"][0] == number;
        fast.until(is_same).await;
    }
    let mut received = 0;
    let code = loop {
        match slow.next().await {
            Event::Closed(code) => break code,
            event => received += usize::from(is_of_type(&event, "executed")),
        }
    };
    assert_eq!(code, 1008);
    assert!((1..100).contains(&received), "{received}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_length_of_the_queue_is_that_of_all_queues() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    let api = relay.serve_comfy().await;
    let mut client = ComfyClient::connect(&api, "me").await;
    client.until_length(0).await;
    relay.post("/api/anime/queue/pause", &Value::Null).await;
    for length in 1..=2 {
        take_prompt(&api, "other", &workflow(TXT2IMG).await).await;
        client.until_length(length).await;
    }
    relay.post("/api/anime/queue/resume", &Value::Null).await;
    client.until_length(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lengths_that_servers_send_at_the_same_time_are_added() {
    let servers = [ScriptedComfy::start().await, ScriptedComfy::start().await];
    let urls = format!("{},{}", servers[0].url(), servers[1].url());
    let relay = TestRelay::connected_to(&urls, ServerConfig::default()).await;
    let api = relay.serve_comfy().await;
    let mut client = ComfyClient::connect(&api, "me").await;
    let status = |length: u64| {
        let info = json!({"exec_info": {"queue_remaining": length}});
        json!({"type": "status", "data": {"status": info}})
    };
    for length in 0..100 {
        servers.iter().for_each(|it| it.send(&status(length)));
    }
    servers[0].send(&status(200));
    servers[1].send(&status(3_000));
    client.until_length(3_200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_length_is_followed_by_an_older_one() {
    // Each more makes it likelier that two of them count at the same time.
    let mut servers = Vec::new();
    for _ in 0..6 {
        servers.push(ScriptedComfy::start().await);
    }
    let urls: Vec<String> = servers.iter().map(ScriptedComfy::url).collect();
    let relay = TestRelay::connected_to(&urls.join(","), ServerConfig::default()).await;
    let api = relay.serve_comfy().await;
    let mut client = ComfyClient::connect(&api, "me").await;
    let info = |length: u64| json!({"exec_info": {"queue_remaining": length}});
    for round in 1..=300 {
        for server in &servers {
            server.send(&json!({"type": "status", "data": {"status": info(round)}}));
            // Passed on after the length, by the task that reads the same socket.
            server.send(&json!({"type": "my.mark", "data": round}));
        }
        let mut last = Value::Null;
        for _ in &servers {
            for event in client.until(|text| text["type"] == "my.mark").await {
                if let Event::Text(text) = event
                    && text["type"] == "status"
                {
                    last = text["data"]["status"].clone();
                }
            }
        }
        assert_eq!(last, info(6 * round));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_needs_a_token_for_all_jobs() {
    let relay = TestRelay::replaying_with(TXT2IMG, guarded()).await;
    let api = relay.serve_comfy().await;
    let open = async |token: &str| {
        let url = format!(
            "{}/ws?clientId=me&token={token}",
            api.replacen("http", "ws", 1)
        );
        tokio_tungstenite::connect_async(url).await.is_ok()
    };
    assert!(open(&token(&json!({}))).await);
    assert!(!open(&token(&json!({"jobs": ["one"]}))).await);
    assert!(!open("wrong").await);
}
