//! Sockets that stay open without any event.

use std::time::Duration;

use comfy_relay::config::ComfyConfig;
use reqwest::Method;
use serde_json::{Value, json};

use super::play::settings;
use crate::support::recordings::one_node_workflow;
use crate::support::scripted_comfy::ScriptedComfy;
use crate::support::subscriber::Subscriber;
use crate::support::tcp_proxy::TcpProxy;
use crate::support::test_relay::{Settings, TestRelay};

/// Longer than any test takes.
const FOREVER: Duration = Duration::from_secs(3_600);

/// How long it may take to replace a socket that the server has forgotten.
const NOTICED_WITHIN: Duration = Duration::from_secs(15);

fn running(client_id: &Value) -> Value {
    let prompt = json!([0, "p", {}, {"client_id": client_id}, []]);
    json!({"queue_running": [prompt], "queue_pending": []})
}

/// Submits a prompt, which runs at once.
async fn submit(relay: &TestRelay, comfyui: &ScriptedComfy) -> Subscriber {
    comfyui.accept_prompts_as("p");
    // The prompt is in the queue when the relay first reads it.
    comfyui.set_queue(&["p"], &[]);
    let workflow = one_node_workflow();
    relay.submit_workflow("job", &workflow).await;
    let queue = running(&comfyui.posted()["client_id"]);
    comfyui.answer("GET /queue", 200, &queue);
    relay.subscribe("job").await
}

async fn complete(comfyui: &ScriptedComfy, subscriber: &mut Subscriber) {
    comfyui.send(&json!({"type": "execution_success", "data": {"prompt_id": "p"}}));
    comfyui.set_queue(&[], &[]);
    comfyui.complete("p");
    subscriber.ends_as("completed").await;
}

/// How often metrics say that sockets were lost, and how often because they were silent.
async fn losses(relay: &TestRelay) -> [f64; 2] {
    let answer = relay.request(Method::GET, "/metrics").send().await.unwrap();
    let text = answer.text().await.unwrap();
    ["disconnects", "silences"].map(|name| {
        let begin = format!("comfy_relay_backend_{name}_total{{");
        let line = text.lines().find(|line| line.starts_with(&begin));
        let (_, value) = line.unwrap().rsplit_once(' ').unwrap();
        value.parse().unwrap()
    })
}

/// With the default settings, whose sum is the documented limit.
#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_the_server_has_forgotten_is_replaced_within_15_seconds() {
    let default = ComfyConfig::default();
    let latest = default.max_silence + default.poll_interval;
    assert!(latest < NOTICED_WITHIN, "{latest:?}");
    let comfyui = ScriptedComfy::start().await;
    let settings = Settings {
        comfy: default,
        ..Settings::default()
    };
    let relay = TestRelay::connected_to(&comfyui.url(), settings).await;
    assert_eq!(losses(&relay).await, [0.0, 0.0]);
    let mut subscriber = submit(&relay, &comfyui).await;
    comfyui.wait_for_calls("GET /ws", 2).await;
    relay.connected().await;
    complete(&comfyui, &mut subscriber).await;
    assert_eq!(losses(&relay).await, [1.0, 1.0]);
}

/// No close frame and no more packets: a server without power, or a NAT that has dropped the connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_half_open_connection_is_found_by_pings() {
    let comfyui = ScriptedComfy::start().await;
    let proxy = TcpProxy::start(comfyui.address()).await;
    let mut settings = settings();
    settings.comfy.ping_interval = Duration::from_millis(50);
    settings.comfy.pong_timeout = Duration::from_millis(500);
    settings.comfy.response_timeout = Duration::from_millis(500);
    settings.comfy.max_silence = FOREVER;
    let relay = TestRelay::connected_to(&proxy.url(), settings).await;
    let mut subscriber = submit(&relay, &comfyui).await;
    proxy.freeze();
    comfyui.wait_for_calls("GET /ws", 2).await;
    relay.connected().await;
    complete(&comfyui, &mut subscriber).await;
    let [lost, silent] = losses(&relay).await;
    assert!(lost >= 1.0 && silent == 0.0, "{lost}, {silent}");
}

/// An idle server sends no events, but answers pings.
#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_answers_pings_is_not_replaced() {
    let comfyui = ScriptedComfy::start().await;
    let mut settings = settings();
    settings.comfy.ping_interval = Duration::from_millis(10);
    // Longer than a busy machine delays a task.
    settings.comfy.pong_timeout = Duration::from_secs(5);
    settings.comfy.max_silence = FOREVER;
    let patience = settings.comfy.pong_timeout;
    let relay = TestRelay::connected_to(&comfyui.url(), settings).await;
    let mut subscriber = submit(&relay, &comfyui).await;
    // Wait until the heartbeats of the job show that the time has passed.
    let long = patience.as_secs_f64() + 1.0;
    subscriber
        .receive_until(|state| state["elapsed"].as_f64() > Some(long))
        .await;
    assert_eq!(comfyui.calls("GET /ws"), 1);
    complete(&comfyui, &mut subscriber).await;
}
