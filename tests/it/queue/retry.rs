//! An ended job is run again.

use std::time::Duration;

use serde_json::{Value, json};

use super::operations::operate;
use super::{job, prompts_run, release, servers, settings, still_servers, urls};
use crate::support::database::{TestDatabase, on_both};
use crate::support::program::Program;
use crate::support::recordings::{TXT2IMG, one_node_workflow};
use crate::support::scripted_comfy::ScriptedComfy;
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::wait::wait_until;

on_both!(
    an_ended_job_is_run_again,
    a_job_that_has_not_ended_is_not_repeated,
    a_registered_prompt_is_repeated_while_comfyui_has_its_graph,
    keys_of_partner_nodes_are_not_kept_for_a_retry,
    lost_attempts_are_shown,
);

fn retry(id: &str) -> String {
    format!("/api/anime/jobs/{id}/retry")
}

fn code(answer: &(u16, Value)) -> (u16, &str) {
    (
        answer.0,
        answer.1["error"]["code"].as_str().unwrap_or_default(),
    )
}

async fn an_ended_job_is_run_again(db: TestDatabase) {
    let servers = servers(1).await;
    let relay = TestRelay::connected_to(&urls(&servers), settings(&db)).await;
    let mut body = job("first").await;
    body["params"] = json!({"3.seed": 77});
    body["labels"] = json!({"shot": "12"});
    body["group"] = json!("scene");
    body["priority"] = json!(4);
    body["extra_data"] = json!({"mine": 1});
    assert_eq!(relay.post("/api/anime/jobs", &body).await.0, 201);
    relay.subscribe("first").await.ends_as("completed").await;
    let (status, answer) = relay
        .post(&retry("first"), &json!({"job_id": "second"}))
        .await;
    assert_eq!(status, 201, "{answer}");
    assert_eq!(answer["job_id"], "second");
    assert_eq!(answer["retry_of"], "first");
    relay.subscribe("second").await.ends_as("completed").await;
    let (_, second) = relay.job("second").await;
    assert_eq!(second["retry_of"], "first", "{second}");
    assert_eq!(second["labels"], json!({"shot": "12"}));
    assert_eq!(second["group"], "scene");
    let (_, first) = relay.job("first").await;
    assert_eq!(first["retried_as"], json!(["second"]), "{first}");
    assert!(first.get("retry_of").is_none());
    let history = format!("{}/history", servers[0].url());
    let history: Value = reqwest::get(history).await.unwrap().json().await.unwrap();
    let prompt = |job: &Value| history[job["prompt_id"].as_str().unwrap()]["prompt"].clone();
    assert_eq!(prompt(&second)[2], prompt(&first)[2], "the same graph");
    assert_eq!(prompt(&second)[2]["3"]["inputs"]["seed"], 77);
    assert_eq!(prompt(&second)[3]["mine"], 1);
    let priorities = "SELECT priority AS v FROM comfy_relay.submissions WHERE priority = 4";
    assert_eq!(db.values(priorities).await.len(), 2);
    // Without a body, under an id of the relay's making; and repeated, where it names its id.
    let (status, third) = relay.post(&retry("second"), &Value::Null).await;
    assert_eq!(status, 400, "{third}");
    let nothing = relay.request(reqwest::Method::POST, &retry("second"));
    let (status, third) = crate::support::test_relay::response(nothing).await;
    assert_eq!((status, &third["retry_of"]), (201, &json!("second")));
    let again = relay
        .post(&retry("first"), &json!({"job_id": "second"}))
        .await;
    assert_eq!((again.0, &again.1["replayed"]), (200, &json!(true)));
    let unknown = relay.post(&retry("first"), &json!({"backends": "x"})).await;
    assert_eq!(code(&unknown), (400, "unknown_field"));
    assert_eq!(
        code(&relay.post(&retry("nobody"), &json!({})).await),
        (404, "job_not_found")
    );
}

async fn a_job_that_has_not_ended_is_not_repeated(db: TestDatabase) {
    let servers = still_servers(1).await;
    let relay = TestRelay::connected_to(&urls(&servers), settings(&db)).await;
    for number in 0..4 {
        let body = job(&format!("job-{number}")).await;
        assert_eq!(relay.post("/api/anime/jobs", &body).await.0, 201);
    }
    let open = relay.post(&retry("job-3"), &json!({})).await;
    assert_eq!(code(&open), (409, "job_open"));
    assert_eq!(
        relay
            .post("/api/anime/jobs/job-3/cancel", &json!({}))
            .await
            .0,
        202
    );
    let (status, answer) = relay
        .post(&retry("job-3"), &json!({"job_id": "again"}))
        .await;
    assert_eq!(status, 201, "a cancelled job may be: {answer}");
    release(&servers);
    relay.subscribe("again").await.ends_as("completed").await;
    assert_eq!(prompts_run(&servers[0].url()).await.len(), 4);
}

async fn a_registered_prompt_is_repeated_while_comfyui_has_its_graph(db: TestDatabase) {
    let comfyui = ScriptedComfy::start().await;
    let relay = TestRelay::connected_to(&comfyui.url(), settings(&db)).await;
    comfyui.run_prompt("p", &one_node_workflow(), &["9"]);
    relay.register("theirs", "p").await;
    comfyui.set_queue(&[], &[]);
    comfyui.complete("p");
    relay.subscribe("theirs").await.ends_as("completed").await;
    let gone = relay.post(&retry("theirs"), &json!({})).await;
    assert_eq!(code(&gone), (410, "workflow_unavailable"), "{gone:?}");
    let history = json!({"p": {"prompt": [1, "p", one_node_workflow(), {}, ["9"]], "outputs": {},
        "status": {"status_str": "success", "completed": true, "messages": []}}});
    comfyui.answer("GET /history/p", 200, &history);
    comfyui.accept_prompts_as("q");
    let (status, answer) = relay
        .post(&retry("theirs"), &json!({"job_id": "mine"}))
        .await;
    assert_eq!(status, 201, "{answer}");
    assert_eq!(comfyui.posted()["prompt"], one_node_workflow());
}

async fn keys_of_partner_nodes_are_not_kept_for_a_retry(db: TestDatabase) {
    let servers = servers(1).await;
    let relay = TestRelay::connected_to(&urls(&servers), settings(&db)).await;
    let mut body = job("one").await;
    body["extra_data"] = json!({"api_key_comfy_org": "a-secret-key"});
    assert_eq!(relay.post("/api/anime/jobs", &body).await.0, 201);
    relay.subscribe("one").await.ends_as("completed").await;
    let refused = relay.post(&retry("one"), &json!({})).await;
    assert_eq!(code(&refused), (409, "keys_gone"));
    assert!(
        refused.1["error"]["message"]
            .as_str()
            .unwrap()
            .contains("COMFY_API_KEY")
    );
    relay.stop().await;
    let mut settings: Settings = settings(&db);
    settings.comfy.api_key = Some("another-key".to_owned().into());
    let relay = TestRelay::connected_to(&urls(&servers), settings).await;
    let (status, answer) = relay.post(&retry("one"), &json!({"job_id": "two"})).await;
    assert_eq!(status, 201, "{answer}");
}

async fn lost_attempts_are_shown(db: TestDatabase) {
    let doomed = Program::slow_replay(TXT2IMG);
    doomed.ready().await;
    let name = doomed.address().to_string();
    let others = servers(1).await;
    let other = others[0].url().trim_start_matches("http://").to_owned();
    let urls = format!("http://{name},{}", urls(&others));
    let mut settings = settings(&db);
    settings.relay.lost_after = Duration::from_millis(500);
    let relay = TestRelay::connected_to(&urls, settings).await;
    operate(&relay, &other, "pause").await;
    let (status, answer) = relay.post("/api/anime/jobs", &job("one").await).await;
    assert_eq!(status, 201, "{answer}");
    let (_, before) = relay.job("one").await;
    assert!(before.get("attempts").is_none(), "{before}");
    wait_until("it runs", async || {
        relay.job("one").await.1["status"] == "processing"
    })
    .await;
    assert_eq!(answer["backend"], name.as_str());
    operate(&relay, &other, "resume").await;
    doomed.kill().await;
    relay.subscribe("one").await.ends_as("completed").await;
    let (_, after) = relay.job("one").await;
    let attempts = after["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 1, "{after}");
    assert_eq!(attempts[0]["backend"], name.as_str());
    assert_eq!(attempts[0]["prompt_id"], answer["prompt_id"]);
    assert!(attempts[0]["at"].is_string());
}
