//! Servers that hang, break off or answer something else: what is asked of the others is done.

use std::time::Duration;

use comfy_relay::config::{Dispatch, ServerConfig};
use reqwest::Client;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::comfy_client::{ComfyClient, get, post, post_prompt, take_prompt};
use super::sockets::{PROMPT_ID, executing};
use crate::support::database::TestDatabase;
use crate::support::recordings::one_node_workflow;
use crate::support::scripted_comfy::{JOB_LIST, Reply, ScriptedComfy, saved_view};
use crate::support::subscriber::waits_for_comfyui;
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::wait::{PATIENCE, wait_until};

/// Two servers that take prompts, a relay before them, and the URL of ComfyUI's API.
async fn before_two(settings: impl Into<Settings>) -> ([ScriptedComfy; 2], TestRelay, String) {
    let servers = [ScriptedComfy::start().await, ScriptedComfy::start().await];
    let urls = format!("{},{}", servers[0].url(), servers[1].url());
    for server in &servers {
        server.accept_prompts_as(PROMPT_ID);
    }
    let relay = TestRelay::connected_to(&urls, settings).await;
    let api = relay.serve_comfy().await;
    (servers, relay, api)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_may_have_done_is_not_repeated_on_another_one() {
    let ([first, second], _relay, api) = before_two(ServerConfig::default()).await;
    let call = "POST /extension/run";
    first.reply(call, Reply::Disconnect);
    second.answer(call, 200, &Value::Null);
    let answer = Client::new().post(format!("{api}/extension/run"));
    assert_eq!(answer.send().await.unwrap().status(), 503);
    assert!(first.calls(call) > 0);
    assert_eq!(second.calls(call), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_begins_no_answer_is_given_up() {
    let mut settings = Settings::default();
    settings.comfy.response_timeout = Duration::from_millis(500);
    let ([first, _], _relay, api) = before_two(settings).await;
    first.reply("GET /extension/slow", Reply::Hang);
    assert_eq!(get(&api, "/extension/slow").await.0, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_does_not_go_on_is_given_up() {
    let settings = ServerConfig {
        body_timeout: Duration::from_millis(500),
        ..ServerConfig::default()
    };
    let ([first, _], _relay, api) = before_two(settings).await;
    for path in [
        "/extension/slow",
        "/view?filename=a.png&subfolder=&type=output",
    ] {
        first.reply(&format!("GET {path}"), Reply::Stall("half".to_owned()));
        let mut answer = reqwest::get(format!("{api}{path}")).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.chunk().await.unwrap().unwrap(), "half");
        let rest = timeout(PATIENCE, answer.chunk()).await;
        assert!(rest.expect("it is waited for").is_err(), "{path}");
    }
}

/// The server whose job has made it is not waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_a_server_that_is_gone_comes_from_one_that_has_its_name() {
    let ([first, second], relay, api) = before_two(ServerConfig::default()).await;
    let pause = format!("/api/anime/backends/{}/pause", second.address());
    assert_eq!(relay.post(&pause, &Value::Null).await.0, 200);
    first.set_queue(&[PROMPT_ID], &[]);
    let id = take_prompt(&api, "me", &one_node_workflow()).await;
    let images = json!({"images": [{"filename": "a.png", "subfolder": "", "type": "output"}]});
    let data = json!({"node": "9", "output": images, "prompt_id": PROMPT_ID});
    first.send(&json!({"type": "executed", "data": data}));
    wait_until("the output is known", async || {
        let (_, job) = relay.job(&id).await;
        job["outputs"]
            .as_array()
            .is_some_and(|outputs| !outputs.is_empty())
    })
    .await;
    first.reply(&saved_view("a.png"), Reply::Hang);
    second.reply(&saved_view("a.png"), Reply::File("second".into()));
    first.refuse_sockets(true);
    first.close_sockets();
    wait_until("the first server is away", async || {
        waits_for_comfyui(&relay.job(&id).await.1)
    })
    .await;
    let url = format!("{api}/view?filename=a.png&subfolder=&type=output");
    let answer = reqwest::get(url).await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "second");
    assert_eq!(first.calls(&saved_view("a.png")), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_json_is_left_out() {
    let ([first, second], _relay, api) = before_two(ServerConfig::default()).await;
    for server in [&first, &second] {
        server.answer("GET /queue", 200, &json!([]));
        server.answer(JOB_LIST, 200, &json!([]));
    }
    second.answer("GET /system_stats", 200, &json!([]));
    second.answer("GET /object_info", 200, &json!([]));
    let empty = json!({"queue_running": [], "queue_pending": []});
    assert_eq!(get(&api, "/queue").await, (200, empty));
    let (status, jobs) = get(&api, "/api/jobs").await;
    assert_eq!((status, &jobs["jobs"]), (200, &json!([])));
    let (status, stats) = get(&api, "/system_stats").await;
    assert_eq!(status, 200);
    assert!(stats["system"].is_object(), "{stats}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_keeps_no_prompt_on_another_one_from_being_stopped() {
    let ([first, second], relay, api) = before_two(ServerConfig::default()).await;
    let pause = format!("/api/anime/backends/{}/pause", second.address());
    assert_eq!(relay.post(&pause, &Value::Null).await.0, 200);
    let id = take_prompt(&api, "me", &one_node_workflow()).await;
    first.set_queue(&[PROMPT_ID], &[]);
    first.send(&executing(Some("9")));
    wait_until("it runs", async || {
        relay.job(&id).await.1["status"] == "processing"
    })
    .await;
    let cancel = format!("POST /api/jobs/{PROMPT_ID}/cancel");
    first.reply(&cancel, Reply::Hang);
    second.answer("POST /interrupt", 200, &Value::Null);
    let interrupting = {
        let api = api.clone();
        tokio::spawn(async move { post(&api, "/interrupt", &json!({})).await.0 })
    };
    first.wait_for_calls(&cancel, 1).await;
    second.wait_for_calls("POST /interrupt", 1).await;
    first.answer(&cancel, 200, &json!({"cancelled": true}));
    assert_eq!(interrupting.await.unwrap(), 200);
    assert_eq!(first.calls("POST /interrupt"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_of_a_server_that_is_gone_is_not_waited_for() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.set_queue(&["another"], &[]);
    let relay = TestRelay::connected_to(&comfyui.url(), ServerConfig::default()).await;
    let api = relay.serve_comfy().await;
    let mut client = ComfyClient::connect(&api, "me").await;
    comfyui.send(
        &json!({"type": "status", "data": {"status": {"exec_info": {"queue_remaining": 1}}}}),
    );
    client.until_length(1).await;
    comfyui.refuse_sockets(true);
    comfyui.close_sockets();
    client.until_length(0).await;
    let (_, length) = get(&api, "/prompt").await;
    assert_eq!(length["exec_info"]["queue_remaining"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_prompts_are_looked_for_once_on_each_server() {
    let mut settings = Settings::default();
    // Nothing else reads the queue.
    settings.comfy.poll_interval = Duration::from_secs(3_600);
    let ([first, second], _relay, api) = before_two(settings).await;
    second.set_queue(&[], &["foreign"]);
    second.list_jobs(&[], &["foreign"]);
    let looks = || first.calls("GET /queue") + first.calls(JOB_LIST);
    let before = looks();
    let cancel =
        async |ids: &[String]| post(&api, "/api/jobs/cancel", &json!({"job_ids": ids})).await;
    let mut ids: Vec<String> = (0..998).map(|number| format!("unknown-{number}")).collect();
    assert_eq!(cancel(&ids).await, (200, json!({"cancelled": false})));
    ids.extend(["foreign".to_owned(), "foreign".to_owned()]);
    assert_eq!(cancel(&ids).await, (200, json!({"cancelled": true})));
    assert_eq!(second.calls("POST /api/jobs/foreign/cancel"), 1);
    let more = looks() - before;
    assert!(more < 20, "the queue was read {more} times");
    ids.push("one more".to_owned());
    let (status, refused) = cancel(&ids).await;
    assert_eq!(status, 400, "{refused}");
    assert!(refused["error"].as_str().unwrap().contains("1000"));
    // No other list of ids is longer, and of one that is, nothing is done.
    for path in ["/queue", "/history"] {
        let call = format!("POST {path}");
        let delete = async |ids: &[String]| post(&api, path, &json!({"delete": ids})).await;
        for server in [&first, &second] {
            server.answer(&call, 200, &Value::Null);
        }
        let before = second.calls(&call);
        let (status, refused) = delete(&ids).await;
        assert_eq!(status, 400, "{refused}");
        assert_eq!(refused["error"]["code"], "too_many_ids");
        assert_eq!(second.calls(&call), before);
        assert_eq!(delete(&ids[..1_000]).await.0, 200);
        assert_eq!(second.calls(&call), before + 1);
    }
}

/// As the proxy before a server answers, whose limit on bodies is lower.
#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_is_too_large_for_a_server_closes_nothing_else() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.answer("POST /prompt", 413, &Value::Null);
    let relay = TestRelay::connected_to(&comfyui.url(), Settings::default()).await;
    let api = relay.serve_comfy().await;
    let (status, refused) = post_prompt(&api, "me", &one_node_workflow()).await;
    assert_eq!(status, 502, "{refused}");
    assert_eq!(get(&api, "/system_stats").await.0, 200);
    assert_eq!(get(&api, "/extension/list").await.0, 200);
}

/// One that has not answered is passed over for others.
#[tokio::test(flavor = "multi_thread")]
async fn the_only_server_is_asked_although_it_has_not_answered_a_prompt() {
    let comfyui = ScriptedComfy::start().await;
    let mut settings = Settings::default();
    settings.relay.dispatch = Dispatch::Direct;
    settings.comfy.submit_wait = Duration::from_millis(50);
    let relay = TestRelay::connected_to(&comfyui.url(), settings).await;
    let api = relay.serve_comfy().await;
    for call in ["POST /prompt", "GET /queue"] {
        comfyui.reply(call, Reply::Hang);
    }
    take_prompt(&api, "me", &one_node_workflow()).await;
    assert_eq!(get(&api, "/system_stats").await.0, 200);
    assert_eq!(get(&api, "/extension/list").await.0, 200);
}

/// It may be a job that waits.
#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_a_job_is_not_said_to_be_deleted_while_the_database_is_away() {
    let db = TestDatabase::sqlite().await;
    let comfyui = ScriptedComfy::start().await;
    let relay = TestRelay::connected_to(&comfyui.url(), Settings::from(db.config())).await;
    let api = relay.serve_comfy().await;
    let (path, body) = ("/queue", json!({"delete": ["unknown"]}));
    assert_eq!(post(&api, path, &body).await.0, 200);
    db.execute("ALTER TABLE comfy_relay.jobs RENAME TO away")
        .await;
    for (path, body) in [
        (path, body),
        ("/interrupt", json!({"prompt_id": "unknown"})),
        ("/history", json!({"delete": ["unknown"]})),
        ("/api/jobs/unknown/cancel", json!({})),
    ] {
        let (status, answer) = post(&api, path, &body).await;
        let error = &answer["error"];
        assert_eq!(
            (status, &error["code"]),
            (503, &json!("database_unreachable")),
            "{path}: {answer}"
        );
    }
    // The servers were asked all the same.
    assert_eq!(comfyui.calls("POST /queue"), 2);
}
