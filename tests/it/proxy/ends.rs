//! How prompts end, whatever becomes of their servers: each once.

use std::time::Duration;

use comfy_relay::config::ServerConfig;
use serde_json::{Value, json};

use super::comfy_client::{ComfyClient, count, get, post, prompts, take_prompt};
use super::sockets::{PROMPT_ID, executing, known_prompt, playing, scripted};
use crate::support::database::{TestDatabase, on_both};
use crate::support::program::Program;
use crate::support::recordings::{TXT2IMG, one_node_workflow, workflow};
use crate::support::scripted_comfy::{JOB_LIST, ScriptedComfy};
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::wait::wait_until;

on_both!(a_prompt_that_another_relay_runs_ends_once_for_its_client);

/// The id of the same job on another server.
const OTHER_ID: &str = "7d0e4c0a-2b6f-4f0e-8a55-94c0d8a0b1f2";

fn of_prompt(kind: &str, prompt_id: &str) -> Value {
    json!({"type": kind, "data": {"prompt_id": prompt_id}})
}

/// Of an extension: every client receives it.
fn broadcast() -> Value {
    json!({"type": "cm-queue-status", "data": null})
}

/// Pauses or resumes a server, or does else with it what an operator can.
async fn operate(relay: &TestRelay, address: impl ToString, verb: &str) {
    let path = format!("/api/anime/backends/{}/{verb}", address.to_string());
    assert_eq!(relay.post(&path, &Value::Null).await.0, 200);
}

/// What a relay needs to give a server up soon.
fn impatient() -> Settings {
    let mut settings = Settings::default();
    settings.relay.lost_after = Duration::from_secs(1);
    settings
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_no_socket_has_received_is_sent_once() {
    let (comfyui, relay, api) = scripted(ServerConfig::default()).await;
    let mut client = ComfyClient::connect(&api, "me").await;
    comfyui.send(&executing(Some("9")));
    client.until(|text| text["data"]["node"] == "9").await;
    comfyui.complete(PROMPT_ID);
    comfyui.set_queue(&[], &[]);
    comfyui.close_sockets();
    let known = known_prompt(&relay).await;
    let events = client.until_done(&known).await;
    assert_eq!(count(&events, "execution_success"), 1);
    // What the server sends too late is left out.
    relay.connected().await;
    comfyui.wait_for_calls("GET /ws", 2).await;
    comfyui.send(&of_prompt("execution_success", PROMPT_ID));
    comfyui.send(&broadcast());
    let events = client.until(|text| text["type"] == "cm-queue-status").await;
    assert_eq!(count(&events, "execution_success"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_is_lost_with_its_server_ends_once_on_another_one() {
    let doomed = Program::slow_replay(TXT2IMG);
    doomed.ready().await;
    let other = playing(TXT2IMG).await;
    let urls = format!("http://{},{}", doomed.address(), other.url());
    let relay = TestRelay::connected_to(&urls, impatient()).await;
    let api = relay.serve_comfy().await;
    let mut client = ComfyClient::connect(&api, "me").await;
    operate(&relay, other.address(), "pause").await;
    let id = take_prompt(&api, "me", &workflow(TXT2IMG).await).await;
    let mut events = client.until(|text| text["type"] == "execution_start").await;
    operate(&relay, other.address(), "resume").await;
    doomed.kill().await;
    events.extend(client.until_done(&id).await);
    assert_eq!(prompts(&events), [id.as_str()]);
    assert_eq!(count(&events, "execution_start"), 2);
    assert_eq!(count(&events, "execution_success"), 1);
    assert_eq!(count(&events, "execution_error"), 0);
    // The job is changed after the message is passed on.
    wait_until("the job has completed", async || {
        relay.job(&id).await.1["status"] == "completed"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_of_which_a_socket_has_received_half_is_completed() {
    let (comfyui, relay, api) = scripted(ServerConfig::default()).await;
    let mut client = ComfyClient::connect(&api, "me").await;
    comfyui.send(&executing(Some("9")));
    comfyui.send(&of_prompt("execution_success", PROMPT_ID));
    let is_success = |text: &Value| text["type"] == "execution_success";
    client.until(is_success).await;
    comfyui.complete(PROMPT_ID);
    comfyui.set_queue(&[], &[]);
    comfyui.close_sockets();
    let known = known_prompt(&relay).await;
    let events = client.until_done(&known).await;
    assert_eq!(count(&events, "execution_success"), 0, "{events:?}");
    relay.connected().await;
    comfyui.wait_for_calls("GET /ws", 2).await;
    comfyui.send(&executing(None));
    comfyui.send(&broadcast());
    let events = client.until(|text| text["type"] == "cm-queue-status").await;
    assert_eq!(count(&events, "executing"), 0, "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_back_does_not_end_a_prompt_that_runs_elsewhere() {
    let servers = [ScriptedComfy::start().await, ScriptedComfy::start().await];
    let [first, second] = &servers;
    first.accept_prompts_as(PROMPT_ID);
    second.accept_prompts_as(OTHER_ID);
    let urls = format!("{},{}", first.url(), second.url());
    let relay = TestRelay::connected_to(&urls, impatient()).await;
    let api = relay.serve_comfy().await;
    let mut client = ComfyClient::connect(&api, "me").await;
    operate(&relay, second.address(), "pause").await;
    let body = json!({"prompt": one_node_workflow(), "client_id": "me", "prompt_id": PROMPT_ID});
    assert_eq!(post(&api, "/prompt", &body).await.0, 200);
    first.set_queue(&[PROMPT_ID], &[]);
    first.send(&executing(Some("9")));
    client.until(|text| text["data"]["node"] == "9").await;
    second.set_queue(&[OTHER_ID], &[]);
    operate(&relay, second.address(), "resume").await;
    first.refuse_sockets(true);
    first.close_sockets();
    second.wait_for_calls("POST /prompt", 1).await;
    first.refuse_sockets(false);
    // It is told to stop what runs elsewhere, and says that it has.
    let cancel = format!("POST /api/jobs/{PROMPT_ID}/cancel");
    first.wait_for_calls(&cancel, 1).await;
    first.send(&of_prompt("execution_interrupted", PROMPT_ID));
    first.send(&executing(None));
    first.send(&broadcast());
    let is_broadcast = |text: &Value| text["type"] == "cm-queue-status";
    let events = client.until(is_broadcast).await;
    assert_eq!(count(&events, "execution_interrupted"), 0, "{events:?}");
    assert_eq!(count(&events, "executing"), 0, "{events:?}");
    second.send(&of_prompt("execution_success", OTHER_ID));
    let done = json!({"type": "executing", "data": {"node": null, "prompt_id": OTHER_ID}});
    second.send(&done);
    let events = client.until_done(PROMPT_ID).await;
    assert_eq!(count(&events, "execution_success"), 1, "{events:?}");
    // Nor does the history of the server show it as interrupted.
    let ended = |id: &str, word: &str, at: u64| {
        let caller = json!({"comfy_relay": {"prompt_id": PROMPT_ID, "client_id": "me"}});
        let messages = json!([["execution_end", {"prompt_id": id, "timestamp": at}]]);
        json!({id: {"prompt": [0, id, {}, caller, []], "outputs": {},
            "status": {"status_str": word, "messages": messages}}})
    };
    second.answer("GET /history", 200, &ended(OTHER_ID, "success", 1));
    first.answer("GET /history", 200, &ended(PROMPT_ID, "error", 2));
    let (_, history) = get(&api, "/history").await;
    assert_eq!(history.as_object().unwrap().len(), 1, "{history}");
    assert_eq!(history[PROMPT_ID]["status"]["status_str"], "success");
    for (server, id) in [(first, PROMPT_ID), (second, OTHER_ID)] {
        let pagination = json!({"offset": 0, "limit": null, "total": 1, "has_more": false});
        let jobs = json!([{"id": id, "status": "completed", "create_time": 1}]);
        server.answer(
            JOB_LIST,
            200,
            &json!({"jobs": jobs, "pagination": pagination}),
        );
    }
    let (_, list) = get(&api, "/api/jobs").await;
    assert_eq!(list["pagination"]["total"], 1, "{list}");
    assert_eq!(list["jobs"].as_array().unwrap().len(), 1, "{list}");
    assert_eq!(list["jobs"][0]["id"], PROMPT_ID);
}

/// Its relay follows no server: another one on its database takes the prompt.
async fn a_prompt_that_another_relay_runs_ends_once_for_its_client(db: TestDatabase) {
    let comfyui = ScriptedComfy::start().await;
    comfyui.accept_prompts_as(PROMPT_ID);
    let settings = Settings::from(db.config());
    let first = TestRelay::connected_to(&comfyui.url(), settings.clone()).await;
    let second = TestRelay::start(&comfyui.url(), settings).await;
    wait_until("the second one stands by", async || {
        let (_, health) = second.get("/api/anime/health").await;
        health["components"]["comfyui"][0]["followed_elsewhere"] == true
    })
    .await;
    let api = second.serve_comfy().await;
    let mut client = ComfyClient::connect(&api, "me").await;
    comfyui.set_queue(&[], &[PROMPT_ID]);
    let body = json!({"prompt": one_node_workflow(), "client_id": "me", "prompt_id": PROMPT_ID});
    assert_eq!(post(&api, "/prompt", &body).await.0, 200);
    comfyui.wait_for_calls("POST /prompt", 1).await;
    comfyui.set_queue(&[PROMPT_ID], &[]);
    comfyui.send(&executing(Some("9")));
    wait_until("it runs", async || {
        first.job(PROMPT_ID).await.1["status"] == "processing"
    })
    .await;
    // It is in the lists of both, and nobody but its client follows it.
    let (_, queue) = get(&api, "/queue").await;
    assert_eq!(queue["queue_running"][0][1], PROMPT_ID, "{queue}");
    client.until_length(1).await;
    comfyui.complete(PROMPT_ID);
    comfyui.set_queue(&[], &[]);
    comfyui.send(&of_prompt("execution_success", PROMPT_ID));
    comfyui.send(&executing(None));
    let events = client.until_done(PROMPT_ID).await;
    assert_eq!(count(&events, "execution_success"), 1, "{events:?}");
    wait_until("the queue is empty", async || {
        get(&api, "/prompt").await.1["exec_info"]["queue_remaining"] == 0
    })
    .await;
}
