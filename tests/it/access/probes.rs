//! The probes of supervisors and load balancers: `/healthz` and `/readyz`.

use comfy_relay::config::{Dispatch, LimitConfig, ServerConfig};
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::queue::operations::operate;
use crate::storage::faults::proxy_to;
use crate::storage::lifecycle;
use crate::support::database::TestDatabase;
use crate::support::program::Program;
use crate::support::scripted_comfy::ScriptedComfy;
use crate::support::tcp_proxy::TcpProxy;
use crate::support::test_relay::{Settings, TestRelay, UNREACHABLE};
use crate::support::tokens::guarded;
use crate::support::wait::{PATIENCE, wait_until};

/// Why the relay is not ready; `None` if it is.
async fn reason(relay: &TestRelay) -> Option<String> {
    let request = relay.request(Method::GET, "/readyz");
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let retry_after = response.headers().contains_key("retry-after");
    let answer: serde_json::Value = response.json().await.unwrap();
    if status == 200 {
        assert_eq!(answer, json!({"status": "ready"}));
        return None;
    }
    assert_eq!((status, retry_after), (503, true), "{answer}");
    Some(answer["error"]["code"].as_str().unwrap().to_owned())
}

async fn becomes_ready(relay: &TestRelay) {
    wait_until("the relay is ready", async || reason(relay).await.is_none()).await;
}

async fn is_alive(relay: &TestRelay) {
    let alive = relay.get("/healthz").await;
    assert_eq!(alive, (200, json!({"status": "alive"})));
}

/// Runs `ready`. Returns whether it succeeds, and what it prints.
async fn asks(arguments: &[&str]) -> (bool, String) {
    let arguments = [&["ready"], arguments].concat();
    let output = Program::run(&arguments, &[]).await;
    let text = String::from_utf8([output.stdout, output.stderr].concat());
    (output.status.success(), text.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_ask_whether_a_relay_takes_jobs() {
    let relay = TestRelay::without_backend(guarded()).await;
    becomes_ready(&relay).await;
    let at = ["--relay", &relay.url()];
    assert_eq!(asks(&at).await, (true, "ready\n".to_owned()));
    let alive = asks(&["--live", at[0], at[1]]).await;
    assert_eq!(alive, (true, "alive\n".to_owned()));
    let (is_ready, text) = asks(&["--relay", UNREACHABLE]).await;
    assert!(!is_ready && text.contains("RELAY_URL"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_wait_for_a_relay() {
    // A relay behind a line that is cut answers nobody.
    let relay = TestRelay::without_backend(ServerConfig::default()).await;
    let line = TcpProxy::start(relay.address().parse().unwrap()).await;
    line.cut();
    let arguments = ["ready", "--wait", "300", "--relay", &line.url()];
    let mut waiting = Program::start_command(&arguments, &[]);
    wait_until("it has asked", async || line.refused() > 1).await;
    line.restore();
    assert!(waiting.exit_status().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_need_no_token_and_no_comfyui() {
    let comfyui = ScriptedComfy::start().await;
    let relay = TestRelay::connected_to(&comfyui.url(), guarded()).await;
    is_alive(&relay).await;
    becomes_ready(&relay).await;
    let asked = comfyui.calls("GET /queue");
    for path in ["/healthz", "/healthz/", "/readyz"] {
        let head = relay.request(Method::HEAD, path).send().await.unwrap();
        assert_eq!(head.status(), 200, "{path}");
        let posted = relay.request(Method::POST, path).send().await.unwrap();
        assert_eq!(posted.status(), 405, "{path}");
        assert_eq!(posted.headers()["allow"], "GET, HEAD, OPTIONS", "{path}");
    }
    assert!(
        comfyui.calls("GET /queue") <= asked + 1,
        "only its own polls"
    );
    // Its jobs wait here for the server.
    let away = TestRelay::without_backend(Settings::default()).await;
    becomes_ready(&away).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_can_take_no_job_is_not_ready() {
    let relay = TestRelay::without_backend(Settings::default()).await;
    becomes_ready(&relay).await;
    let name = UNREACHABLE.strip_prefix("http://").unwrap();
    operate(&relay, name, "drain").await;
    assert_eq!(reason(&relay).await, None, "what comes waits in the queue");
    relay.handle.start_shutdown();
    assert_eq!(reason(&relay).await.as_deref(), Some("going_away"));

    let mut direct = Settings::default();
    direct.relay.dispatch = Dispatch::Direct;
    let relay = TestRelay::without_backend(direct).await;
    wait_until("no server answers", async || {
        reason(&relay).await.as_deref() == Some("backend_unreachable")
    })
    .await;
    operate(&relay, name, "drain").await;
    assert_eq!(reason(&relay).await.as_deref(), Some("paused"));
    is_alive(&relay).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_relay_without_its_database_is_not_ready() {
    let db = TestDatabase::postgres().await;
    let (proxy, store) = proxy_to(&db).await;
    proxy.restore();
    let relay = TestRelay::without_backend(lifecycle::settings(store)).await;
    becomes_ready(&relay).await;
    proxy.cut();
    wait_until("the loss is noticed", async || {
        reason(&relay).await.as_deref() == Some("database_unreachable")
    })
    .await;
    is_alive(&relay).await;
    proxy.restore();
    becomes_ready(&relay).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_full_still_answers_its_probes() {
    let limits = LimitConfig {
        requests: 1,
        attempts: 0,
        connections: 1,
        connections_per_address: 0,
        loopback: true,
    };
    let config = ServerConfig {
        limits,
        ..ServerConfig::default()
    };
    let relay = TestRelay::without_backend(config).await;
    let held = TcpStream::connect(relay.address()).await.unwrap();
    let ask = async |path: &str| {
        let mut stream = TcpStream::connect(relay.address()).await.unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let reading = timeout(PATIENCE, stream.read_to_string(&mut answer));
        reading.await.unwrap().unwrap();
        answer
    };
    wait_until("the only connection is taken", async || {
        ask("/api/anime/health")
            .await
            .contains("too_many_connections")
    })
    .await;
    for _ in 0..3 {
        assert!(ask("/healthz").await.starts_with("HTTP/1.1 200 "));
    }
    drop(held);
}
