//! ComfyUI answers unexpectedly, late or not at all.

use std::time::Duration;

use comfy_relay::config::ServerConfig;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::recordings::one_node_workflow;
use crate::support::scripted_comfy::{Reply, ScriptedComfy};
use crate::support::subscriber::Subscriber;
use crate::support::test_relay::{Settings, TestRelay, response};

async fn connected_relay(comfyui: &ScriptedComfy) -> TestRelay {
    TestRelay::connected_to(&comfyui.url(), Settings::default()).await
}

/// A relay whose subscribers wait this long for unknown jobs.
async fn impatient(comfyui: &ScriptedComfy, job_wait: Duration) -> TestRelay {
    let server = ServerConfig {
        job_wait,
        ..ServerConfig::default()
    };
    TestRelay::start(&comfyui.url(), server).await
}

async fn register(relay: &TestRelay, job: &str, prompt: &str) -> Subscriber {
    relay.register(job, prompt).await;
    relay.subscribe(job).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hides_its_version_is_followed() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.answer("GET /system_stats", 500, &json!("no"));
    comfyui.set_queue(&["p"], &[]);
    let relay = connected_relay(&comfyui).await;
    let mut subscriber = register(&relay, "job", "p").await;
    comfyui.complete("p");
    comfyui.set_queue(&[], &[]);
    subscriber.ends_as("completed").await;
    assert_eq!(comfyui.calls("GET /system_stats"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_history_delays_no_other_job() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.set_queue(&["a"], &["b", "c"]);
    let relay = connected_relay(&comfyui).await;
    let mut broken = register(&relay, "a", "a").await;
    let _garbled = register(&relay, "b", "b").await;
    let mut well = register(&relay, "c", "c").await;
    comfyui.answer("GET /history/a", 500, &json!("no"));
    comfyui.reply("GET /history/b", Reply::Text(200, "<html>".to_owned()));
    comfyui.complete("c");
    comfyui.set_queue(&[], &[]);
    well.ends_as("completed").await;
    comfyui.complete("a");
    broken.ends_as("completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_was_received_needs_no_history() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.set_queue(&["p"], &[]);
    let relay = connected_relay(&comfyui).await;
    let mut subscriber = register(&relay, "job", "p").await;
    comfyui.answer("GET /history/p", 500, &json!("no"));
    comfyui.set_queue(&[], &[]);
    comfyui.send(&json!({"type": "execution_success", "data": {"prompt_id": "p"}}));
    subscriber.ends_as("completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_queue_hides_no_history() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.set_queue(&["p"], &[]);
    let relay = connected_relay(&comfyui).await;
    let mut subscriber = register(&relay, "job", "p").await;
    comfyui.answer("GET /queue", 500, &json!("no"));
    comfyui.complete("p");
    subscriber.ends_as("completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_comfyui_does_not_delay_the_shutdown() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.set_queue(&["p"], &[]);
    let relay = connected_relay(&comfyui).await;
    let _subscriber = register(&relay, "job", "p").await;
    comfyui.reply("GET /queue", Reply::Hang);
    comfyui.wait_for_more_calls("GET /queue", 1).await;
    let stopping = tokio::time::timeout(Duration::from_secs(10), relay.handle.shutdown());
    stopping.await.expect("the relay hangs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_is_followed_although_its_answer_was_lost() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.reply("POST /prompt", Reply::Hang);
    let relay = connected_relay(&comfyui).await;
    let workflow = one_node_workflow();
    let body = json!({"job_id": "job", "workflow": workflow});
    let submitting = response(relay.request(Method::POST, "/api/anime/jobs").json(&body));
    let submitting = tokio::spawn(submitting);
    comfyui.wait_for_calls("POST /prompt", 1).await;
    let posted = comfyui.posted();
    let prompt = posted["prompt_id"].as_str().unwrap();
    comfyui.set_queue(&[prompt], &[]);
    comfyui.reply("POST /prompt", Reply::Disconnect);
    let (status, accepted) = submitting.await.unwrap();
    assert_eq!((status, &accepted["prompt_id"]), (201, &json!(prompt)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_is_followed_although_its_client_has_disconnected() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.reply("POST /prompt", Reply::Hang);
    let relay = connected_relay(&comfyui).await;
    let mut subscriber = relay.subscribe("job").await;
    let workflow = one_node_workflow();
    let body = json!({"job_id": "job", "workflow": workflow});
    let submitting = response(relay.request(Method::POST, "/api/anime/jobs").json(&body));
    let submitting = tokio::spawn(submitting);
    comfyui.wait_for_calls("POST /prompt", 1).await;
    submitting.abort();
    assert!(submitting.await.unwrap_err().is_cancelled());
    let posted = comfyui.posted();
    let prompt = posted["prompt_id"].as_str().unwrap();
    comfyui.send(&json!({"type": "execution_success", "data": {"prompt_id": prompt}}));
    comfyui.complete(prompt);
    comfyui.answer("POST /prompt", 200, &json!({"prompt_id": prompt}));
    subscriber.ends_as("completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_reported_during_a_slow_lookup_is_found() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.reply("GET /queue", Reply::Hang);
    let relay = impatient(&comfyui, Duration::from_millis(1)).await;
    let mut subscriber = relay.subscribe("render").await;
    let mut events = relay
        .request(Method::GET, "/api/anime/jobs/render/events")
        .send()
        .await
        .unwrap();
    comfyui.wait_for_calls("GET /queue", 1).await;
    let path = "/api/anime/jobs/render/progress";
    let report = json!({"progress": 5, "status": "processing"});
    relay.post(path, &report).await;
    comfyui.set_queue(&[], &[]);
    subscriber.receive_type("progress").await;
    let report = json!({"progress": 99, "status": "completed"});
    relay.post(path, &report).await;
    subscriber.ends_as("completed").await;
    assert!(subscriber.errors.is_empty(), "{:?}", subscriber.errors);
    let mut text = String::new();
    while let Some(chunk) = events.chunk().await.unwrap() {
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert!(!text.contains("job_not_found"), "{text}");
    assert!(text.contains(r#""status":"completed""#), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_comfyui_does_not_make_a_job_unknown() {
    let server = ServerConfig {
        job_wait: Duration::from_millis(50),
        ..ServerConfig::default()
    };
    let relay = TestRelay::without_backend(server).await;
    let mut subscriber = relay.subscribe("some-prompt").await;
    let waiting = subscriber.receive_type("connection").await;
    let message = waiting["message"].as_str().unwrap();
    assert!(
        message.contains("Nobody has registered this job yet"),
        "{message}"
    );
    assert!(message.contains("does not answer"), "{message}");
    assert_eq!(subscriber.close_code().await, 1013);
    let codes: Vec<&Value> = subscriber
        .errors
        .iter()
        .map(|error| &error["code"])
        .collect();
    assert_eq!(
        codes,
        ["backend_unreachable"],
        "the job may come until then"
    );
    let job = "/api/anime/jobs/some-prompt";
    for (status, answer) in [
        relay.get(job).await,
        relay.post(&format!("{job}/cancel"), &json!({})).await,
    ] {
        assert_eq!(
            (status, &answer["error"]["code"]),
            (503, &json!("backend_unreachable"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_is_searched_on_the_named_backend() {
    let comfyui = ScriptedComfy::start().await;
    let relay = connected_relay(&comfyui).await;
    let backend = comfyui.url().replace("http://", "");
    let body = json!({"prompt_id": "unknown-prompt", "backend": backend});
    let (status, answer) = relay.post("/api/anime/jobs", &body).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (404, &json!("prompt_not_found"))
    );
    comfyui.set_queue(&["p"], &[]);
    let body = json!({"prompt_id": "p", "backend": backend});
    let (status, _) = relay.post("/api/anime/jobs", &body).await;
    assert_eq!(status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bare_prompt_id_can_be_cancelled() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.set_queue(&["p"], &[]);
    let relay = connected_relay(&comfyui).await;
    let (status, answer) = relay.post("/api/anime/jobs/p/cancel", &json!({})).await;
    assert_eq!(status, 202, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_without_subscribers_are_not_searched() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.reply("GET /queue", Reply::Hang);
    let relay = connected_relay(&comfyui).await;
    let mut subscriber = relay.subscribe("unknown").await;
    comfyui.wait_for_calls("GET /queue", 1).await;
    for number in 0..500 {
        for verb in ["subscribe", "unsubscribe"] {
            let message = json!({"type": verb, "job_id": format!("job-{number}")});
            subscriber.send(&message.to_string()).await;
        }
    }
    subscriber.ping().await;
    comfyui.set_queue(&["later"], &[]);
    subscriber
        .send(r#"{"type": "subscribe", "job_id": "later"}"#)
        .await;
    subscriber
        .receive_until(|message| message["job_id"] == "later")
        .await;
    let history: usize = (0..500)
        .map(|number| comfyui.calls(&format!("GET /history/job-{number}")))
        .sum();
    assert_eq!(history, 0);
    assert!(comfyui.calls("GET /queue") < 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_is_not_read_without_a_job() {
    let comfyui = ScriptedComfy::start().await;
    let relay = connected_relay(&comfyui).await;
    comfyui.wait_for_calls("GET /system_stats", 1).await;
    let mut monitor = relay.monitor().await;
    let status = |remaining: u64| json!({"type": "status", "data": {"status": {"exec_info": {"queue_remaining": remaining}}}});
    for remaining in [3, 2, 5] {
        comfyui.send(&status(remaining));
    }
    monitor
        .receive_until(|message| message["backends"][0]["queue_remaining"] == 5)
        .await;
    let (_, health) = relay.get("/api/anime/health").await;
    assert_eq!(health["components"]["comfyui"][0]["queue_pending"], 4);
    assert_eq!(comfyui.calls("GET /queue"), 0);
}
