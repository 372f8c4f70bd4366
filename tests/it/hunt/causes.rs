//! What comes instead of ComfyUI is said: in health, in the answer to a submission, and once in the log.

use std::time::{Duration, Instant};

use serde_json::json;

use super::JOBS;
use crate::support::program::Program;
use crate::support::recordings::one_node_workflow;
use crate::support::scripted_comfy::{Reply, ScriptedComfy};
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::wait::wait_until;

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_instead_of_a_socket_is_said() {
    for (status, words) in [
        (401, ["401 Unauthorized", "COMFYUI_TOKEN"]),
        (403, ["403 Forbidden", "handshake"]),
        (404, ["404 Not Found", "address"]),
        (307, ["307 Temporary Redirect", "not followed"]),
        (200, ["200 OK", "handshake"]),
    ] {
        let comfyui = ScriptedComfy::start().await;
        comfyui.refuse_sockets(true);
        comfyui.reply(
            "GET /ws",
            Reply::Text(status, "<html>Sign in</html>".to_owned()),
        );
        let relay = TestRelay::start(&comfyui.url(), Settings::default()).await;
        let body = json!({"job_id": "mine", "workflow": one_node_workflow()});
        let (code, answer) = relay.post(JOBS, &body).await;
        assert_eq!(
            (code, &answer["error"]["code"]),
            (503, &json!("backend_unreachable"))
        );
        let (_, health) = relay.get("/api/anime/health").await;
        let backend = &health["components"]["comfyui"][0];
        assert_eq!(backend["status"], "unreachable");
        for word in words {
            for text in [&answer["error"]["message"], &backend["reason"]] {
                assert!(
                    text.as_str().is_some_and(|text| text.contains(word)),
                    "{status}: {text}"
                );
            }
        }
    }
}

/// Nobody has reported this one: the reason changes while the server is away.
#[tokio::test(flavor = "multi_thread")]
async fn each_reason_is_logged_once() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.refuse_sockets(true);
    comfyui.reply("GET /ws", Reply::Text(401, String::new()));
    let program = Program::with_database("sqlite::memory:", &comfyui.url()).await;
    program.logs("401 Unauthorized").await;
    comfyui.wait_for_more_calls("GET /ws", 2).await;
    comfyui.reply("GET /ws", Reply::Text(403, String::new()));
    program.logs("403 Forbidden").await;
    let log = program.log();
    for reason in ["401 Unauthorized", "403 Forbidden"] {
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(reason)).collect();
        assert_eq!(lines.len(), 1, "{log}");
        assert!(lines[0].contains("WARN"), "{log}");
    }
}

/// Dialled with pauses that double, and shown as contested while it pauses.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cuts_each_socket_is_dialled_ever_more_seldom() {
    let pause = Duration::from_millis(10);
    let mut settings = Settings::default();
    settings.comfy.min_backoff = pause;
    settings.comfy.max_backoff = Duration::from_secs(3_600);
    let comfyui = ScriptedComfy::start().await;
    comfyui.cut_sockets(true);
    let began_at = Instant::now();
    let relay = TestRelay::start(&comfyui.url(), settings).await;
    let status = async || {
        let (_, health) = relay.get("/api/anime/health").await;
        health["components"]["comfyui"][0]["status"].clone()
    };
    wait_until("the server is contested", async || {
        status().await == "contested"
    })
    .await;
    comfyui.wait_for_calls("GET /ws", 7).await;
    let pauses = began_at.elapsed().div_duration_f64(pause);
    let dials = comfyui.calls("GET /ws") as f64;
    assert!(
        dials <= 2.0 + pauses.log2(),
        "{dials} dials in {pauses} pauses"
    );
    assert_eq!(status().await, "contested");
}
