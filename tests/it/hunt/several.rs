//! Several servers: each is used, and none is used twice.

use comfy_relay::config::Dispatch;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{JOBS, case};
use crate::support::program::Program;
use crate::support::scripted_comfy::{Reply, ScriptedComfy};
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::wait::PATIENCE;

const GRAPH: &str = include_str!("cases/burst-on-idle-servers.json");

/// The variable of a list that names one server twice.
const TWICE: &str = include_str!("cases/one-server-twice.env");

/// Servers whose queues are known to be empty, and a relay that follows them.
async fn idle(count: usize) -> (Vec<ScriptedComfy>, TestRelay) {
    let servers = join_all((0..count).map(|_| ScriptedComfy::start())).await;
    let urls: Vec<String> = servers.iter().map(ScriptedComfy::url).collect();
    let mut settings = Settings::default();
    // The queue hands prompts in one after another.
    settings.relay.dispatch = Dispatch::Direct;
    let relay = TestRelay::connected_to(&urls.join(","), settings).await;
    let empty = json!({"status": {"exec_info": {"queue_remaining": 0}}});
    for server in &servers {
        server.send(&json!({"type": "status", "data": empty}));
    }
    let are_idle = |message: &Value| {
        let backends = message["backends"].as_array();
        backends.is_some_and(|all| all.iter().all(|it| it["queue_remaining"] == 0))
    };
    relay.monitor().await.receive_until(are_idle).await;
    (servers, relay)
}

/// Submits so many jobs at once, and checks how many prompts each server gets before any of them has answered.
async fn check_parts(servers: &[ScriptedComfy], relay: &TestRelay, parts: &[usize]) {
    for server in servers {
        server.reply("POST /prompt", Reply::Hang);
    }
    let bodies: Vec<Value> = (0..parts.iter().sum())
        .map(|number: usize| json!({"job_id": format!("job-{number}"), "workflow": case(GRAPH)}))
        .collect();
    let submitting = join_all(bodies.iter().map(|body| relay.post(JOBS, body)));
    let answering = async {
        for (server, prompts) in servers.iter().zip(parts) {
            server.wait_for_calls("POST /prompt", *prompts).await;
        }
        for (number, server) in servers.iter().enumerate() {
            server.accept_prompts_as(&format!("p{number}"));
        }
    };
    let (submitted, ()) = tokio::join!(submitting, answering);
    for (status, answer) in submitted {
        assert_eq!(status, 201, "{answer}");
    }
    let prompts = servers.iter().map(|server| server.calls("POST /prompt"));
    assert_eq!(prompts.collect::<Vec<usize>>(), parts);
}

/// Before any server has said that its queue has grown.
#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_come_together_go_to_idle_servers_in_equal_parts() {
    for (count, each) in [(4, 2), (3, 3), (2, 1), (4, 1)] {
        let (servers, relay) = idle(count).await;
        check_parts(&servers, &relay, &vec![each; count]).await;
    }
}

/// Nobody has reported this one: the queues are not the same length.
#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_come_together_fill_the_shortest_queue_first() {
    let (servers, relay) = idle(2).await;
    servers[0].set_queue(&["theirs"], &["another"]);
    let longer = json!({"status": {"exec_info": {"queue_remaining": 2}}});
    servers[0].send(&json!({"type": "status", "data": longer}));
    let is_shown = |message: &Value| message["backends"][0]["queue_remaining"] == 2;
    relay.monitor().await.receive_until(is_shown).await;
    check_parts(&servers, &relay, &[1, 3]).await;
}

/// Two sockets under one client id take each other's place. Nobody has reported the second: other spellings.
#[tokio::test(flavor = "multi_thread")]
async fn one_server_twice_in_the_list_ends_the_program() {
    let (name, reported) = TWICE.trim().split_once('=').unwrap();
    for urls in [
        reported,
        "LOCALHOST:8188,http://localhost:8188",
        "gpu:80,http://gpu",
        "gpu:8188/a/,gpu:8188/a",
        "[::1]:8188,http://[0:0:0:0:0:0:0:1]:8188",
    ] {
        let variables = [(name, urls), ("LISTEN", "127.0.0.1:0")];
        let running = timeout(PATIENCE, Program::run(&["serve"], &variables));
        let output = running.await.expect("the program serves");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{urls}");
        for word in [name, "one server"] {
            assert!(error.contains(word), "{urls}: {error}");
        }
    }
}
