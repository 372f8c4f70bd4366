//! ComfyUI is unreachable for a while.

use std::time::Duration;

use comfy_relay::replay::{PlaybackSpeed, Replay};
use serde_json::json;

use crate::support::program::Program;
use crate::support::recordings::{TXT2IMG, one_node_workflow, recording, replay};
use crate::support::scripted_comfy::{Reply, ScriptedComfy};
use crate::support::subscriber::{is_final, waits_for_comfyui};
use crate::support::tcp_proxy::TcpProxy;
use crate::support::test_relay::{Settings, TestRelay, UNREACHABLE};

async fn comfyui(name: &str, speed: PlaybackSpeed) -> Replay {
    replay(vec![recording(name).await], speed).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comfyui_that_starts_later_is_connected() {
    let comfyui = comfyui(TXT2IMG, PlaybackSpeed::Fastest).await;
    let proxy = TcpProxy::start(comfyui.address()).await;
    proxy.cut();
    let relay = TestRelay::start(&proxy.url(), Settings::default()).await;
    let (_, health) = relay.get("/api/anime/health").await;
    assert_eq!(health["status"], "degraded");
    proxy.restore();
    relay.connected().await;
    let (_, health) = relay.get("/api/anime/health").await;
    assert_eq!(health["status"], "healthy");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_address_of_comfyui_is_logged_with_its_cause() {
    // Nothing listens there.
    let program = Program::start(&[], &[("COMFYUI_URL", UNREACHABLE)]);
    program.logs("cannot connect to ComfyUI").await;
    let log = program.log();
    let line = log
        .lines()
        .find(|line| line.contains("cannot connect"))
        .unwrap();
    for text in ["WARN", UNREACHABLE, "onnection refused", "COMFYUI_URL"] {
        assert!(line.contains(text), "{text:?}: {line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comfyui_that_answers_again_is_logged_once() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.refuse_sockets(true);
    let program = Program::start(&[], &[("COMFYUI_URL", &comfyui.url())]);
    // Another server at the address answers, but opens no socket.
    comfyui.wait_for_calls("GET /ws", 2).await;
    comfyui.refuse_sockets(false);
    program
        .logs("connected to ComfyUI, which did not answer before")
        .await;
    let log = program.log();
    let refused = "the server answered the WebSocket handshake with 200 OK";
    assert_eq!(
        log.matches(refused).count(),
        1,
        "two attempts are one outage: {log}"
    );
    assert!(log.contains("since="), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_waits_for_an_unreachable_comfyui_and_goes_on() {
    let comfyui = comfyui(TXT2IMG, PlaybackSpeed::Real(4.0)).await;
    let proxy = TcpProxy::start(comfyui.address()).await;
    let relay = TestRelay::connected_to(&proxy.url(), Settings::default()).await;
    let mut subscriber = relay.subscribe("job").await;
    relay.submit("job", TXT2IMG).await;
    let before = subscriber
        .receive_until(|state| state["progress"].as_u64() >= Some(20))
        .await;
    proxy.cut();
    let away = subscriber.receive_until(waits_for_comfyui).await;
    assert_eq!(away["status"], "processing");
    assert!(away["progress"].as_u64() >= before["progress"].as_u64());
    proxy.restore();
    subscriber.ends_as("completed").await;
    assert!(is_final(subscriber.last()));
}

/// A prompt waits behind another one that is silent for so long that the relay reconnects; meanwhile the server
/// is restarted with an empty queue.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_behind_a_silent_socket_is_not_a_cancellation() {
    let comfyui = ScriptedComfy::start().await;
    let mut settings = Settings::default();
    settings.comfy.max_silence = Duration::from_millis(50);
    settings.comfy.history_grace = Duration::from_millis(50);
    let relay = TestRelay::connected_to(&comfyui.url(), settings).await;
    let workflow = one_node_workflow();
    let body = json!({"job_id": "first", "workflow": workflow});
    comfyui.accept_prompts_as("a");
    assert_eq!(relay.post("/api/anime/jobs", &body).await.0, 201);
    let client = comfyui.posted()["client_id"].clone();
    comfyui.set_queue(&[], &["a", "b"]);
    relay.register("waiting", "b").await;
    let mut waiting = relay.subscribe("waiting").await;
    waiting
        .receive_until(|state| state["queue_position"].is_u64())
        .await;
    // From here on the server refuses new sockets.
    comfyui.refuse_sockets(true);
    let running = json!([0, "a", {}, {"client_id": client}, []]);
    let queue = json!({"queue_running": [running], "queue_pending": [[1, "b", {}, {}, []]]});
    comfyui.answer("GET /queue", 200, &queue);
    waiting.receive_until(waits_for_comfyui).await;
    comfyui.set_queue(&[], &[]);
    comfyui.refuse_sockets(false);
    assert_eq!(waiting.close_code().await, 1000);
    assert_eq!(waiting.last()["status"], "failed", "{}", waiting.last());
}

/// A prompt that ends after a restart says nothing of those that waited before it.
#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_was_lost_before_another_one_ended_is_no_cancellation() {
    let comfyui = ScriptedComfy::start().await;
    let relay = TestRelay::connected_to(&comfyui.url(), Settings::default()).await;
    comfyui.set_queue(&["a"], &["b", "c"]);
    for (job, prompt) in [("lost", "b"), ("later", "c")] {
        relay.register(job, prompt).await;
    }
    let mut lost = relay.subscribe("lost").await;
    let mut later = relay.subscribe("later").await;
    for waiting in [&mut lost, &mut later] {
        waiting
            .receive_until(|state| state["queue_position"].as_u64() >= Some(1))
            .await;
    }
    let sockets = comfyui.calls("GET /ws");
    // What it has is not known before the later one has ended.
    comfyui.reply("GET /queue", Reply::Text(200, "starting".to_owned()));
    comfyui.close_sockets();
    comfyui.wait_for_calls("GET /ws", sockets + 1).await;
    comfyui.complete("c");
    comfyui.send(&json!({"type": "execution_success", "data": {"prompt_id": "c"}}));
    later.ends_as("completed").await;
    comfyui.set_queue(&[], &[]);
    lost.ends_as("failed").await;
}
