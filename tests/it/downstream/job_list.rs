//! Servers that list their jobs without the graphs: their queue, which can have many megabytes, is read only for a graph
//! that is needed.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::scripted_comfy::{JOB_LIST, Reply, ScriptedComfy};
use crate::support::tcp_proxy::TcpProxy;
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::wait::wait_until;

const QUEUE: &str = "GET /queue";

/// A graph, so long that a queue of ten of them has fifty megabytes.
fn long_graph() -> Value {
    json!({"9": {"class_type": "SaveImage", "inputs": {"images": "x".repeat(5 << 20)}}})
}

fn short_graph() -> Value {
    json!({"9": {"class_type": "SaveImage", "inputs": {}}})
}

/// Has these prompts in its queue with their graphs, the first one running.
fn set_queue(comfyui: &ScriptedComfy, prompts: &[&str], graph: &Value) {
    let items = prompts.iter().enumerate();
    let items: Vec<Value> = items
        .map(|(number, id)| json!([number, id, graph, {"client_id": "another"}, ["9"]]))
        .collect();
    let (running, pending) = items.split_at(1);
    let queue = json!({"queue_running": running, "queue_pending": pending});
    comfyui.answer(QUEUE, 200, &queue);
}

/// A relay that looks often.
async fn relay_at(url: &str) -> TestRelay {
    TestRelay::connected_to(url, settings()).await
}

fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.comfy.poll_interval = Duration::from_millis(20);
    settings.comfy.min_poll_pause = Duration::from_millis(5);
    settings
}

/// A relay that follows the prompt "ours" as "job", as the last one of these.
async fn relay_with_job(comfyui: &ScriptedComfy, prompts: &[&str]) -> TestRelay {
    comfyui.list_jobs(&prompts[..1], &prompts[1..]);
    let relay = relay_at(&comfyui.url()).await;
    relay.register("job", "ours").await;
    relay
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_of_fifty_megabytes_is_read_once_for_its_graphs() {
    let comfyui = ScriptedComfy::start().await;
    let foreign: Vec<String> = (0..9).map(|number| format!("foreign-{number}")).collect();
    let mut prompts: Vec<&str> = foreign.iter().map(String::as_str).collect();
    prompts.push("ours");
    set_queue(&comfyui, &prompts, &long_graph());
    let relay = relay_with_job(&comfyui, &prompts).await;
    let mut subscriber = relay.subscribe("job").await;
    let waits = |ahead: u64| move |state: &Value| state["queue_position"] == ahead;
    subscriber.receive_until(waits(9)).await;
    comfyui.wait_for_more_calls(JOB_LIST, 5).await;
    for gone in 1..=5 {
        comfyui.list_jobs(&prompts[gone..=gone], &prompts[gone + 1..]);
        subscriber.receive_until(waits(9 - gone as u64)).await;
    }
    assert_eq!(comfyui.calls(QUEUE), 1);
    // One that is behind all of ours says nothing of them; one before them does.
    let mut prompts = prompts.split_off(5);
    prompts.push("behind");
    comfyui.list_jobs(&prompts[..1], &prompts[1..]);
    comfyui.wait_for_more_calls(JOB_LIST, 3).await;
    assert_eq!(comfyui.calls(QUEUE), 1);
    prompts.insert(1, "before");
    set_queue(&comfyui, &prompts, &short_graph());
    comfyui.list_jobs(&prompts[..1], &prompts[1..]);
    comfyui.wait_for_calls(QUEUE, 2).await;
    subscriber.receive_until(waits(5)).await;
    comfyui.wait_for_more_calls(JOB_LIST, 3).await;
    assert_eq!(comfyui.calls(QUEUE), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graph_is_read_alone_where_the_server_shows_it() {
    let comfyui = ScriptedComfy::start().await;
    for prompt in ["foreign", "ours"] {
        let workflow = json!({"prompt": short_graph(), "extra_data": {"client_id": "another"}});
        let shown = json!({"id": prompt, "status": "pending", "priority": 0, "workflow": workflow});
        comfyui.answer(&format!("GET /api/jobs/{prompt}"), 200, &shown);
    }
    let relay = relay_with_job(&comfyui, &["foreign", "ours"]).await;
    let mut subscriber = relay.subscribe("job").await;
    subscriber
        .receive_until(|state| state["queue_position"] == 1)
        .await;
    comfyui.wait_for_more_calls(JOB_LIST, 3).await;
    comfyui.list_jobs(&["ours"], &[]);
    let state = subscriber
        .receive_until(|state| state["status"] == "processing")
        .await;
    assert_eq!(state["nodes"]["total"], 1, "{state}");
    let (status, answer) = relay.get("/api/anime/jobs/job/workflow").await;
    assert_eq!((status, &answer["workflow"]), (200, &short_graph()));
    assert_eq!(comfyui.calls(QUEUE), 0);
    assert_eq!(comfyui.calls("GET /api/jobs/foreign"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_the_list_makes_no_prompt_look_gone() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.set_queue(&["foreign"], &["ours"]);
    let part = json!({
        "jobs": [{"id": "foreign", "status": "in_progress", "priority": 0}],
        "pagination": {"offset": 0, "limit": 1, "total": 2, "has_more": true},
    });
    let relay = relay_with_job(&comfyui, &["foreign", "ours"]).await;
    comfyui.answer(JOB_LIST, 200, &part);
    let mut subscriber = relay.subscribe("job").await;
    subscriber
        .receive_until(|state| state["queue_position"] == 1)
        .await;
    comfyui.wait_for_more_calls(JOB_LIST, 5).await;
    let (_, view) = relay.job("job").await;
    assert_eq!(view["status"], "queued", "{view}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_the_list_leaves_out_is_looked_for_in_the_queue() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.set_queue(&["foreign"], &["ours"]);
    comfyui.list_jobs(&["foreign"], &["ours"]);
    let mut settings = settings();
    settings.comfy.history_grace = Duration::ZERO;
    let relay = TestRelay::connected_to(&comfyui.url(), settings).await;
    relay.register("job", "ours").await;
    let mut subscriber = relay.subscribe("job").await;
    subscriber
        .receive_until(|state| state["queue_position"] == 1)
        .await;
    comfyui.list_jobs(&["foreign"], &[]);
    let looks = comfyui.calls(QUEUE);
    comfyui.wait_for_calls(QUEUE, looks + 3).await;
    let (_, view) = relay.job("job").await;
    assert_eq!(view["status"], "queued", "{view}");
    // It is gone when it is in neither.
    comfyui.set_queue(&["foreign"], &[]);
    subscriber.ends_as("cancelled").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_breaks_off_is_replaced_by_the_queue() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.set_queue(&["foreign"], &["ours"]);
    comfyui.reply(JOB_LIST, Reply::Disconnect);
    let relay = relay_at(&comfyui.url()).await;
    relay.register("job", "ours").await;
    let mut subscriber = relay.subscribe("job").await;
    subscriber
        .receive_until(|state| state["queue_position"] == 1)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_server_is_asked_for_the_list_once_a_connection() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.answer(JOB_LIST, 404, &json!("404: Not Found"));
    comfyui.set_queue(&["foreign"], &["ours"]);
    let proxy = TcpProxy::start(comfyui.address()).await;
    let relay = relay_at(&proxy.url()).await;
    relay.register("job", "ours").await;
    comfyui.wait_for_more_calls(QUEUE, 5).await;
    assert_eq!(comfyui.calls(JOB_LIST), 1);
    // It can be a newer one after a restart.
    comfyui.list_jobs(&["ours"], &[]);
    proxy.cut();
    comfyui.wait_for_calls("CLOSE /ws", 1).await;
    proxy.restore();
    let mut subscriber = relay.subscribe("job").await;
    subscriber
        .receive_until(|state| state["status"] == "processing")
        .await;
}

/// A place that changes is published to those who follow the job; others get it when they come.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_nobody_followed_shows_its_place_of_now() {
    let comfyui = ScriptedComfy::start().await;
    let prompts = ["a", "b", "c", "ours"];
    set_queue(&comfyui, &prompts, &short_graph());
    let relay = relay_with_job(&comfyui, &prompts).await;
    let mut first = relay.subscribe("job").await;
    let before = first
        .receive_until(|state| state["queue_position"] == 3)
        .await;
    drop(first);
    let is_left = async || relay.handle.connection_count().total == 0;
    wait_until("the subscriber has left", is_left).await;
    comfyui.list_jobs(&prompts[2..3], &prompts[3..]);
    comfyui.wait_for_more_calls(JOB_LIST, 3).await;
    let mut second = relay.subscribe("job").await;
    let state = second
        .receive_until(|state| state["queue_position"] == 1)
        .await;
    assert!(second.states.len() <= 2, "{:?}", second.states);
    assert!(state["seq"].as_u64() > before["seq"].as_u64());
}

/// Lists these prompts of a queue, the first one running. Each keeps its number.
fn list_from(comfyui: &ScriptedComfy, prompts: &[&str], first: usize) {
    let jobs = prompts.iter().enumerate().skip(first);
    let jobs: Vec<Value> = jobs
        .map(|(number, id)| {
            let status = if number == first {
                "in_progress"
            } else {
                "pending"
            };
            json!({"id": id, "status": status, "priority": number})
        })
        .collect();
    let pagination = json!({"offset": 0, "limit": null, "total": jobs.len(), "has_more": false});
    let list = json!({"jobs": jobs, "pagination": pagination});
    comfyui.answer(JOB_LIST, 200, &list);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_nobody_follows_is_where_its_queue_shows_it() {
    let comfyui = ScriptedComfy::start().await;
    let prompts = ["a", "b", "c", "ours", "d", "theirs"];
    set_queue(&comfyui, &prompts, &short_graph());
    list_from(&comfyui, &prompts, 0);
    let relay = relay_at(&comfyui.url()).await;
    relay.register("job", "ours").await;
    relay.register("last", "theirs").await;
    // One look has ended when the second one after it begins.
    let moved_to = async |first| {
        list_from(&comfyui, &prompts, first);
        comfyui.wait_for_more_calls(JOB_LIST, 3).await;
    };
    let place = async |job: &str| relay.job(job).await.1["queue_position"].clone();
    moved_to(0).await;
    assert_eq!(
        (place("job").await, place("last").await),
        (json!(3), json!(5))
    );
    moved_to(1).await;
    assert_eq!(
        (place("job").await, place("last").await),
        (json!(2), json!(4))
    );
    moved_to(2).await;
    let (_, page) = relay.get("/api/anime/jobs?status=queued").await;
    let shown = page["jobs"].as_array().unwrap().iter();
    let places: Vec<&Value> = shown.map(|job| &job["queue_position"]).collect();
    assert_eq!(places, [3, 1]);
    moved_to(1).await;
    let mut late = relay.subscribe("last").await;
    assert_eq!(late.receive_type("progress").await["queue_position"], 4);
    moved_to(3).await;
    assert_eq!(relay.job("job").await.1["status"], "processing");
    late.receive_until(|state| state["queue_position"] == 2)
        .await;
    comfyui.complete("ours");
    moved_to(4).await;
    wait_until("it has ended", async || {
        relay.job("job").await.1["status"] == "completed"
    })
    .await;
    assert_eq!(place("last").await, json!(1));
}
