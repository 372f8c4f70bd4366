//! ComfyUI's answers are invalid, late or missing.

use std::net::TcpListener;
use std::time::Duration;

use comfy_relay::config::Dispatch;
use serde_json::{Value, json};

use super::play::{play, settings};
use crate::support::chaos_proxy::fault::{BadAnswer, Call, Fault};
use crate::support::recordings::{TXT2IMG, one_node_workflow, recording};
use crate::support::scripted_comfy::{Reply, ScriptedComfy};
use crate::support::subscriber::{Subscriber, waits_for_comfyui};
use crate::support::tcp_proxy::TcpProxy;
use crate::support::test_relay::{Settings, TestRelay};

/// Longer than any test takes.
const FOREVER: Duration = Duration::from_secs(3_600);

/// Queues of busy servers have been this long.
const LONG_QUEUE: usize = 50 << 20;

async fn connected_relay(comfyui: &ScriptedComfy, settings: Settings) -> TestRelay {
    TestRelay::connected_to(&comfyui.url(), settings).await
}

/// A job that is the prompt `p`, which runs.
async fn job(relay: &TestRelay, comfyui: &ScriptedComfy) -> Subscriber {
    comfyui.set_queue(&["p"], &[]);
    relay.register("job", "p").await;
    let mut subscriber = relay.subscribe("job").await;
    subscriber
        .receive_until(|state| state["status"] == "processing")
        .await;
    subscriber
}

async fn steps_to(comfyui: &ScriptedComfy, subscriber: &mut Subscriber, step: u64) {
    let node = json!({"value": step, "max": 1_000, "state": "running", "node_id": "3"});
    let data = json!({"prompt_id": "p", "nodes": {"3": node}});
    comfyui.send(&json!({"type": "progress_state", "data": data}));
    subscriber
        .receive_until(|state| state["node"]["step"] == step)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_answers_are_requested_again() {
    let recording = recording(TXT2IMG).await;
    let ways = [
        BadAnswer::Status(500),
        BadAnswer::Status(404),
        BadAnswer::Slow(Duration::from_millis(300)),
        BadAnswer::Page,
        BadAnswer::InvalidJson,
        BadAnswer::OtherShape,
        BadAnswer::Truncated,
    ];
    for call in [Call::Queue, Call::History, Call::Stats] {
        for how in ways {
            for frame in [0, 30] {
                let times = 3;
                let fault = Fault::Answers {
                    frame,
                    call,
                    times,
                    how,
                };
                let played = play(recording.clone(), vec![fault.clone()]).await;
                assert!(
                    played.problems.is_empty(),
                    "{fault:?}: {:?}",
                    played.problems
                );
                assert_eq!(played.jobs, 1);
            }
        }
    }
}

/// The relay connects to the configured servers only.
#[tokio::test(flavor = "multi_thread")]
async fn redirects_to_another_host_are_not_followed() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let how = BadAnswer::Redirect(elsewhere.local_addr().unwrap().port());
    let calls = [
        Call::Socket,
        Call::Stats,
        Call::Prompt,
        Call::Queue,
        Call::History,
    ];
    let redirect = |call| Fault::Answers {
        frame: 0,
        call,
        times: 2,
        how,
    };
    let faults = calls.into_iter().map(redirect).collect();
    let played = play(recording(TXT2IMG).await, faults).await;
    assert!(played.problems.is_empty(), "{:?}", played.problems);
    assert_eq!(played.jobs, 1);
    let accepted = elsewhere.accept();
    assert!(accepted.is_err(), "{accepted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_an_answer_times_out_and_is_repeated() {
    let comfyui = ScriptedComfy::start().await;
    let mut settings = settings();
    settings.comfy.response_timeout = Duration::from_millis(200);
    let relay = connected_relay(&comfyui, settings).await;
    let mut subscriber = job(&relay, &comfyui).await;
    comfyui.reply("GET /queue", Reply::Hang);
    comfyui.wait_for_more_calls("GET /queue", 3).await;
    // Events of the socket are published meanwhile.
    steps_to(&comfyui, &mut subscriber, 7).await;
    comfyui.set_queue(&[], &[]);
    comfyui.complete("p");
    subscriber.ends_as("completed").await;
}

/// Between the queue and the history a prompt is in neither.
#[tokio::test(flavor = "multi_thread")]
async fn a_history_entry_may_be_late() {
    for end in [None, Some("execution_success")] {
        let comfyui = ScriptedComfy::start().await;
        let mut settings = settings();
        settings.comfy.history_grace = FOREVER;
        let relay = connected_relay(&comfyui, settings).await;
        let mut subscriber = job(&relay, &comfyui).await;
        if let Some(end) = end {
            comfyui.send(&json!({"type": end, "data": {"prompt_id": "p"}}));
        }
        comfyui.set_queue(&[], &[]);
        comfyui.wait_for_calls("GET /history/p", 5).await;
        let (_, view) = relay.job("job").await;
        assert_eq!(view["status"], "processing", "{view}");
        comfyui.complete("p");
        subscriber.ends_as("completed").await;
    }
}

/// Its kernel accepts connections, and it never sends a byte.
#[tokio::test(flavor = "multi_thread")]
async fn a_comfyui_that_accepts_connections_and_hangs_is_unreachable() {
    let comfyui = ScriptedComfy::start().await;
    let proxy = TcpProxy::start(comfyui.address()).await;
    let mut settings = settings();
    settings.comfy.connect_timeout = Duration::from_millis(300);
    settings.comfy.response_timeout = Duration::from_millis(300);
    settings.comfy.ping_interval = Duration::from_millis(50);
    settings.comfy.pong_timeout = Duration::from_millis(500);
    settings.comfy.max_silence = FOREVER;
    settings.relay.dispatch = Dispatch::Queue;
    let relay = TestRelay::connected_to(&proxy.url(), settings).await;
    let mut subscriber = job(&relay, &comfyui).await;
    proxy.hold(true);
    proxy.freeze();
    subscriber.receive_until(waits_for_comfyui).await;
    let (_, health) = relay.get("/api/anime/health").await;
    assert_eq!(health["status"], "degraded", "{health}");
    let workflow = one_node_workflow();
    let body = json!({"job_id": "other", "workflow": workflow});
    let (status, answer) = relay.post("/api/anime/jobs", &body).await;
    assert_eq!(status, 201, "{answer}");
    let (_, other) = relay.job("other").await;
    assert_eq!(other["waiting_for"], "server", "{other}");
    let message = other["message"].as_str().unwrap();
    assert!(message.ends_with("does not answer"), "{message}");
    comfyui.set_queue(&[], &[]);
    comfyui.complete("p");
    proxy.hold(false);
    subscriber.ends_as("completed").await;
}

/// NaN, and nesting deeper than any stack, in another client's workflow.
#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_workflow_hides_no_other_prompt() {
    for odd in [
        "NaN".to_owned(),
        format!("{}{}", "[".repeat(50_000), "]".repeat(50_000)),
    ] {
        let comfyui = ScriptedComfy::start().await;
        let relay = connected_relay(&comfyui, settings()).await;
        let mut subscriber = job(&relay, &comfyui).await;
        let workflow =
            format!(r#"{{"1": {{"class_type": "Odd", "inputs": {{}}, "is_changed": [{odd}]}}}}"#);
        let queue = format!(
            r#"{{"queue_running": [[1, "odd", {workflow}, {{}}, []]], "queue_pending": [[2, "p", {workflow}, {{}}, []]]}}"#
        );
        comfyui.reply("GET /queue", Reply::Text(200, queue));
        comfyui.wait_for_more_calls("GET /queue", 3).await;
        let entry = format!(
            r#"{{"p": {{"prompt": [2, "p", {workflow}, {{}}, []], "outputs": {{}},
                "status": {{"status_str": "success", "messages": [["execution_success", {{}}]]}}}}}}"#
        );
        comfyui.set_queue(&[], &[]);
        if odd == "NaN" {
            comfyui.reply("GET /history/p", Reply::Text(200, entry));
        } else {
            // The relay does not parse nesting this deep, so the entry comes without it.
            comfyui.complete("p");
        }
        subscriber.ends_as("completed").await;
    }
}

/// JSON without the lists of a queue is not an empty queue.
#[tokio::test(flavor = "multi_thread")]
async fn an_unexpected_queue_loses_no_prompt() {
    let comfyui = ScriptedComfy::start().await;
    let mut settings = settings();
    settings.comfy.history_grace = Duration::ZERO;
    let relay = connected_relay(&comfyui, settings).await;
    let mut subscriber = job(&relay, &comfyui).await;
    for strange in ["{}", "[]", "null", "7", r#"{"queue_running": null}"#] {
        comfyui.reply("GET /queue", Reply::Text(200, strange.to_owned()));
        comfyui.wait_for_more_calls("GET /queue", 3).await;
        let (_, view) = relay.job("job").await;
        assert_eq!(view["status"], "processing", "{strange}: {view}");
    }
    comfyui.complete("p");
    subscriber.ends_as("completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_of_fifty_megabytes_delays_no_event() {
    let comfyui = ScriptedComfy::start().await;
    let relay = connected_relay(&comfyui, settings()).await;
    let mut subscriber = job(&relay, &comfyui).await;
    let workflow =
        json!({"1": {"class_type": "Load", "inputs": {"picture": "x".repeat(LONG_QUEUE)}}});
    let queue = json!({"queue_running": [[1, "p", {}, {}, []]], "queue_pending": [[2, "q", workflow, {}, []]]});
    comfyui.answer("GET /queue", 200, &queue);
    let asked = comfyui.calls("GET /queue");
    comfyui.wait_for_calls("GET /queue", asked + 1).await;
    let status =
        json!({"type": "status", "data": {"status": {"exec_info": {"queue_remaining": 2}}}});
    for step in 1..=200 {
        comfyui.send(&status);
        steps_to(&comfyui, &mut subscriber, step).await;
    }
    let looks = comfyui.calls("GET /queue") - asked;
    assert!(
        looks < 100,
        "the queue was read {looks} times for 200 events"
    );
    comfyui.wait_for_calls("GET /queue", asked + 2).await;
    comfyui.set_queue(&[], &[]);
    comfyui.complete("p");
    subscriber.ends_as("completed").await;
}

/// Its history is read once for each queue, however long the entry takes to come.
#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_is_about_to_come_is_asked_for_once_a_look() {
    let comfyui = ScriptedComfy::start().await;
    let mut settings = settings();
    settings.comfy.history_grace = FOREVER;
    let relay = connected_relay(&comfyui, settings).await;
    let mut subscriber = job(&relay, &comfyui).await;
    comfyui.answer("GET /history/p", 200, &json!({}));
    comfyui.set_queue(&[], &[]);
    comfyui.send(&json!({"type": "execution_success", "data": {"prompt_id": "p"}}));
    comfyui.wait_for_more_calls("GET /history/p", 3).await;
    let count = |call| comfyui.calls(call);
    let (looks, reads) = (count("GET /queue"), count("GET /history/p"));
    comfyui.wait_for_more_calls("GET /queue", 8).await;
    let (looks, reads) = (count("GET /queue") - looks, count("GET /history/p") - reads);
    assert!(
        reads <= looks + 2,
        "{reads} reads of the history in {looks} looks"
    );
    comfyui.complete("p");
    subscriber.ends_as("completed").await;
}

/// While the history cannot be read, the relay cannot know that the prompt is lost.
#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_history_does_not_end_a_job() {
    let comfyui = ScriptedComfy::start().await;
    let mut settings = settings();
    settings.comfy.history_grace = Duration::ZERO;
    let relay = connected_relay(&comfyui, settings).await;
    let mut subscriber = job(&relay, &comfyui).await;
    comfyui.answer("GET /history/p", 500, &Value::Null);
    comfyui.set_queue(&[], &[]);
    comfyui.wait_for_calls("GET /history/p", 5).await;
    let (_, view) = relay.job("job").await;
    assert_eq!(view["status"], "processing", "{view}");
    comfyui.answer("GET /history/p", 200, &json!({}));
    subscriber.ends_as("failed").await;
}

/// The answer to a submission is lost, and the server is unreachable for a moment.
#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_whose_answer_is_lost_is_searched_until_the_server_answers() {
    let comfyui = ScriptedComfy::start().await;
    let relay = connected_relay(&comfyui, settings()).await;
    comfyui.reply("POST /prompt", Reply::Disconnect);
    comfyui.reply("GET /queue", Reply::Disconnect);
    let asked = comfyui.calls("GET /queue");
    let workflow = one_node_workflow();
    let body = json!({"job_id": "job", "workflow": workflow});
    let back = async {
        comfyui.wait_for_calls("GET /queue", asked + 2).await;
        let prompt = comfyui.posted()["prompt_id"].clone();
        comfyui.set_queue(&[prompt.as_str().unwrap()], &[]);
        prompt
    };
    let (submitted, prompt) = tokio::join!(relay.post("/api/anime/jobs", &body), back);
    let (status, answer) = submitted;
    assert_eq!((status, &answer["prompt_id"]), (201, &prompt), "{answer}");
}

/// Its queue without the prompt does not say that it will not have it.
#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_a_slow_server_takes_late_is_followed() {
    let comfyui = ScriptedComfy::start().await;
    let relay = connected_relay(&comfyui, settings()).await;
    comfyui.reply("POST /prompt", Reply::Disconnect);
    let asked = comfyui.calls("GET /queue");
    let body = json!({"workflow": one_node_workflow()});
    let late = async {
        comfyui.wait_for_calls("GET /queue", asked + 2).await;
        let prompt = comfyui.posted()["prompt_id"].clone();
        comfyui.set_queue(&[prompt.as_str().unwrap()], &[]);
        prompt
    };
    let (submitted, prompt) = tokio::join!(relay.post("/api/anime/jobs", &body), late);
    let (status, answer) = submitted;
    assert_eq!((status, &answer["prompt_id"]), (201, &prompt), "{answer}");
}
