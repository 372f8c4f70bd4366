//! A ComfyUI that answers, and whose worker or graphics card is dead.

use std::time::Duration;

use serde_json::{Value, json};

use super::play::settings;
use crate::support::recordings::{TXT2IMG, one_node_workflow, workflow};
use crate::support::scripted_comfy::ScriptedComfy;
use crate::support::subscriber::Subscriber;
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::wait::wait_until;

/// What the message of a job begins with whose server is silent.
const NO_SIGN: &str = "No sign of life from ComfyUI for ";

/// Settings under which a silence is noticed at once.
fn impatient() -> Settings {
    let mut settings = settings();
    settings.comfy.min_stall = Duration::from_millis(300);
    settings.comfy.stalled_after = Duration::from_millis(300);
    settings
}

fn is_silent(state: &Value) -> bool {
    let message = state["message"].as_str().unwrap_or_default();
    message.starts_with(NO_SIGN)
}

/// The status and the reason of a server in health.
async fn health(relay: &TestRelay, server: usize) -> (String, String) {
    let (_, health) = relay.get("/api/anime/health").await;
    let server = &health["components"]["comfyui"][server];
    let word = |name: &str| server[name].as_str().unwrap_or_default().to_owned();
    (word("status"), word("reason"))
}

/// The status of the first server in health.
async fn health_status(relay: &TestRelay) -> String {
    health(relay, 0).await.0
}

/// What a server has in its queue: the prompt that runs, and how many wait.
fn set_queue(comfyui: &ScriptedComfy, running: &str, waiting: usize) {
    let client = comfyui.posted()["client_id"].clone();
    let item = |id: String| json!([0, id, {}, {"client_id": client}, []]);
    let waiting = (0..waiting).map(|number| item(format!("w{number}")));
    let waiting: Vec<Value> = waiting.collect();
    let queue = json!({"queue_running": [item(running.to_owned())], "queue_pending": waiting});
    comfyui.answer("GET /queue", 200, &queue);
}

/// Submits a prompt, which begins, and then is silent.
async fn begin(relay: &TestRelay, comfyui: &ScriptedComfy, job: &str) -> Subscriber {
    begin_as(relay, comfyui, job, "p", &one_node_workflow()).await
}

/// The same with another prompt, of one node with the id 9.
async fn begin_as(
    relay: &TestRelay,
    comfyui: &ScriptedComfy,
    job: &str,
    prompt: &str,
    graph: &Value,
) -> Subscriber {
    comfyui.accept_prompts_as(prompt);
    comfyui.set_queue(&[prompt], &[]);
    relay.submit_workflow(job, graph).await;
    set_queue(comfyui, prompt, 0);
    comfyui.send(&json!({"type": "execution_start", "data": {"prompt_id": prompt}}));
    comfyui.send(&json!({"type": "executing", "data": {"prompt_id": prompt, "node": "9"}}));
    relay.subscribe(job).await
}

/// Completes a prompt that runs.
async fn complete(comfyui: &ScriptedComfy, prompt: &str, mut subscriber: Subscriber) {
    comfyui.send(&json!({"type": "execution_success", "data": {"prompt_id": prompt}}));
    comfyui.set_queue(&[], &[]);
    comfyui.complete(prompt);
    subscriber.ends_as("completed").await;
}

/// The node that ran last greets each new socket, the queue changes, and other parts of the server talk.
fn talk_of_other_things(comfyui: &ScriptedComfy) {
    comfyui.send(&json!({"type": "executing", "data": {"node": "9", "display_node": "9"}}));
    let queue = json!({"exec_info": {"queue_remaining": 2}});
    comfyui.send(&json!({"type": "status", "data": {"status": queue}}));
    for kind in [
        "assets.seed.started",
        "cm-queue-status",
        "cm-task-completed",
        "logs",
    ] {
        comfyui.send(&json!({"type": kind, "data": {"status": "done", "entries": []}}));
    }
    comfyui.send_node_text("77", "a fox in the snow");
}

/// The worker has died in the middle of a prompt: the server takes a prompt, which never starts.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_worker_is_dead_is_stalled_and_its_jobs_go_on() {
    let comfyui = ScriptedComfy::start().await;
    let relay = TestRelay::connected_to(&comfyui.url(), impatient()).await;
    let mut monitor = relay.monitor().await;
    let mut subscriber = begin(&relay, &comfyui, "dead").await;
    subscriber.receive_until(is_silent).await;
    assert_ne!(health_status(&relay).await, "stalled", "nothing waits");
    set_queue(&comfyui, "p", 1);
    wait_until("the server is stalled", async || {
        talk_of_other_things(&comfyui);
        health_status(&relay).await == "stalled"
    })
    .await;
    let reason = health(&relay, 0).await.1;
    assert!(
        reason.starts_with("no sign of life for ") && reason.contains("1 prompt waits"),
        "{reason}"
    );
    let is_stalled = |status: &Value| status["backends"][0]["status"] == "stalled";
    let status = monitor.receive_until(is_stalled).await;
    assert_eq!(status["backends"][0]["connected"], true, "{status}");
    assert!(status["backends"][0]["reason"].is_string(), "{status}");
    let (_, health) = relay.get("/api/anime/health").await;
    assert_eq!(health["status"], "degraded");
    let metrics = relay
        .request(reqwest::Method::GET, "/metrics")
        .send()
        .await
        .unwrap();
    let metrics = metrics.text().await.unwrap();
    let name = comfyui.address();
    for (status, value) in [("stalled", 1), ("connected", 0), ("sick", 0)] {
        let line = format!(
            "comfy_relay_backend_status{{backend=\"{name}\",status=\"{status}\"}} {value}\n"
        );
        assert!(metrics.contains(&line), "{line} {metrics}");
    }
    // It says so until somebody restarts the server, however often its socket is replaced.
    comfyui.wait_for_more_calls("GET /ws", 2).await;
    let state = subscriber.receive_until(is_silent).await;
    assert_eq!(state["status"], "processing", "{state}");
    assert_eq!(health_status(&relay).await, "stalled");
}

/// A node works for long without a word, and moves in the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_node_is_not_a_dead_worker() {
    let comfyui = ScriptedComfy::start().await;
    let relay = TestRelay::connected_to(&comfyui.url(), impatient()).await;
    let mut subscriber = begin(&relay, &comfyui, "slow").await;
    set_queue(&comfyui, "p", 1);
    subscriber.receive_until(is_silent).await;
    wait_until("the server seems stalled", async || {
        health_status(&relay).await == "stalled"
    })
    .await;
    let bar = json!({"prompt_id": "p", "node": "9", "value": 1, "max": 2});
    comfyui.send(&json!({"type": "progress", "data": bar}));
    let moved = |state: &Value| state["message"] == "SaveImage: step 1 of 2";
    subscriber.receive_until(moved).await;
    wait_until("it has moved", async || {
        health_status(&relay).await == "connected"
    })
    .await;
    comfyui.send(&json!({"type": "execution_success", "data": {"prompt_id": "p"}}));
    comfyui.set_queue(&[], &[]);
    comfyui.complete("p");
    subscriber.ends_as("completed").await;
}

/// What has run before is missed after the time that it may take; of anything else nothing is concluded for far longer.
#[tokio::test(flavor = "multi_thread")]
async fn a_known_prompt_is_missed_sooner_than_one_that_has_never_run() {
    let comfyui = ScriptedComfy::start().await;
    let mut settings = impatient();
    settings.comfy.stalled_after = Duration::from_secs(3_600);
    let relay = TestRelay::connected_to(&comfyui.url(), settings).await;
    let first = begin(&relay, &comfyui, "first").await;
    complete(&comfyui, "p", first).await;
    let other = json!({"9": {"class_type": "Slow", "inputs": {"frames": 900}}});
    let mut unknown = begin_as(&relay, &comfyui, "unknown", "u", &other).await;
    set_queue(&comfyui, "u", 1);
    // It is silent for many times as long as the known one may be.
    let long = |state: &Value| state["elapsed"].as_f64() > Some(3.0);
    unknown.receive_until(long).await;
    assert_ne!(health_status(&relay).await, "stalled");
    assert!(!unknown.states.iter().any(is_silent));
    complete(&comfyui, "u", unknown).await;
    let known = one_node_workflow();
    let mut known = begin_as(&relay, &comfyui, "known", "k", &known).await;
    set_queue(&comfyui, "k", 1);
    known.receive_until(is_silent).await;
    wait_until("the server is stalled", async || {
        health_status(&relay).await == "stalled"
    })
    .await;
}

/// With the settings of every day, in which minutes pass before anything is concluded.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_node_within_its_time_is_left_alone() {
    let comfyui = ScriptedComfy::start().await;
    let relay = TestRelay::connected_to(&comfyui.url(), settings()).await;
    let mut subscriber = begin(&relay, &comfyui, "long").await;
    set_queue(&comfyui, "p", 1);
    comfyui.wait_for_more_calls("GET /queue", 20).await;
    assert_ne!(health_status(&relay).await, "stalled");
    comfyui.send(&json!({"type": "execution_success", "data": {"prompt_id": "p"}}));
    comfyui.complete("p");
    comfyui.set_queue(&[], &[]);
    subscriber.ends_as("completed").await;
    assert!(!subscriber.states.iter().any(is_silent));
}

/// Its process was ended, and answers again.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_takes_the_state_of_a_stalled_server_back() {
    let comfyui = ScriptedComfy::start().await;
    let relay = TestRelay::connected_to(&comfyui.url(), impatient()).await;
    let mut subscriber = begin(&relay, &comfyui, "dead").await;
    set_queue(&comfyui, "p", 1);
    wait_until("the server is stalled", async || {
        health_status(&relay).await == "stalled"
    })
    .await;
    comfyui.set_queue(&[], &[]);
    restart(&relay, &comfyui).await;
    subscriber.ends_as("failed").await;
    assert_eq!(health_status(&relay).await, "connected");
}

/// After it nothing runs on a card any more.
pub(crate) const FAULT: &str =
    "CUDA error: an illegal memory access was encountered\nCompile with TORCH_USE_CUDA_DSA";

/// Fails a prompt of a graph of its own with this error.
pub(crate) async fn fail(relay: &TestRelay, comfyui: &ScriptedComfy, number: usize, error: &str) {
    let prompt = format!("f{number}");
    comfyui.accept_prompts_as(&prompt);
    let graph = json!({"9": {"class_type": format!("Class{number}"), "inputs": {}}});
    let body = json!({"job_id": format!("failing-{number}"), "workflow": graph, "backend": comfyui.address().to_string()});
    let (status, answer) = relay.post("/api/anime/jobs", &body).await;
    assert_eq!(status, 201, "{answer}");
    let mut subscriber = relay.subscribe(&format!("failing-{number}")).await;
    let data = json!({"prompt_id": prompt, "node_id": "9", "node_type": "KSampler",
        "exception_type": "RuntimeError", "exception_message": error, "traceback": []});
    comfyui.send(&json!({"type": "execution_error", "data": data}));
    let status = json!({"status_str": "error", "messages": [["execution_error", data]]});
    let entry = json!({"prompt": [0, prompt, {}, {}, []], "outputs": {}, "status": status});
    comfyui.answer(
        &format!("GET /history/{prompt}"),
        200,
        &json!({prompt: entry}),
    );
    subscriber.ends_as("failed").await;
}

/// After a fault of the device each prompt fails until the restart; other servers get the submissions until then.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_card_has_failed_is_sick_until_a_success_or_a_restart() {
    for is_restarted in [false, true] {
        let servers = [ScriptedComfy::start().await, ScriptedComfy::start().await];
        let urls = [servers[0].url(), servers[1].url()].join(",");
        let relay = TestRelay::connected_to(&urls, settings()).await;
        let [sick, other] = &servers;
        other.accept_prompts_as("other");
        for number in 0..4 {
            fail(
                &relay,
                sick,
                number,
                "CUDA out of memory. Tried to allocate 2.00 GiB",
            )
            .await;
        }
        for number in 4..7 {
            assert_eq!(health_status(&relay).await, "connected");
            fail(&relay, sick, number, FAULT).await;
        }
        let (status, reason) = health(&relay, 0).await;
        assert_eq!(status, "sick");
        assert!(reason.contains("graphics card"), "{reason}");
        let before = sick.calls("POST /prompt");
        for number in 0..4 {
            let body = json!({"job_id": format!("elsewhere-{number}"), "workflow": workflow(TXT2IMG).await});
            let (status, answer) = relay.post("/api/anime/jobs", &body).await;
            assert_eq!(status, 201, "{answer}");
            assert_eq!(answer["backend"], other.address().to_string());
        }
        assert_eq!(sick.calls("POST /prompt"), before);
        if is_restarted {
            for number in 0..7 {
                sick.answer(&format!("GET /history/f{number}"), 200, &json!({}));
            }
            restart(&relay, sick).await;
        } else {
            succeed(&relay, sick).await;
        }
        wait_until("the server is healthy", async || {
            health_status(&relay).await == "connected"
        })
        .await;
    }
}

/// Completes a prompt of another client: the relay hands nothing in to a sick server.
pub(crate) async fn succeed(relay: &TestRelay, comfyui: &ScriptedComfy) {
    comfyui.set_queue(&["good"], &[]);
    let body = json!({"job_id": "good", "prompt_id": "good"});
    let (status, answer) = relay.post("/api/anime/jobs", &body).await;
    assert_eq!(status, 201, "{answer}");
    let mut subscriber = relay.subscribe("good").await;
    for (kind, node) in [
        ("executing", json!("9")),
        ("execution_success", json!(null)),
    ] {
        comfyui.send(&json!({"type": kind, "data": {"prompt_id": "good", "node": node}}));
    }
    comfyui.complete("good");
    subscriber.ends_as("completed").await;
}

/// Ends the process, and starts it again.
async fn restart(relay: &TestRelay, comfyui: &ScriptedComfy) {
    comfyui.refuse_sockets(true);
    comfyui.close_sockets();
    wait_until("the server is away", async || {
        health_status(relay).await == "unreachable"
    })
    .await;
    comfyui.refuse_sockets(false);
}
