//! Prompts that come over ComfyUI's API become jobs.

use comfy_relay::replay::PlaybackSpeed;
use serde_json::{Value, json};

use super::comfy_client::{get, post, post_prompt, take_prompt};
use crate::support::recordings::{TXT2IMG, one_node_workflow, recording, replay, workflow};
use crate::support::scripted_comfy::ScriptedComfy;
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::tokens::{guarded, token};
use crate::support::wait::wait_until;

const PROMPT_ID: &str = "0b5c1b7e-6a38-4c0e-9a53-2f62f3f7a1c4";

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_becomes_a_job_under_its_own_id() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    let api = relay.serve_comfy().await;
    for path in ["/prompt", "/api/prompt"] {
        let graph = workflow(TXT2IMG).await;
        let (status, answer) = post(&api, path, &json!({"prompt": graph, "client_id": "me"})).await;
        assert_eq!(status, 200, "{answer}");
        assert!(
            answer["number"].is_number() && answer["node_errors"] == json!({}),
            "{answer}"
        );
        let id = answer["prompt_id"].as_str().unwrap();
        let (_, job) = relay.job(id).await;
        assert_eq!(job["prompt_id"], id);
        assert_eq!(job["labels"], json!({"via": "comfy", "client_id": "me"}));
        wait_until("the job has completed", async || {
            relay.job(id).await.1["status"] == "completed"
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_caller_says_of_a_prompt_reaches_the_server() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.accept_prompts_as(PROMPT_ID);
    let relay = TestRelay::connected_to(&comfyui.url(), Settings::default()).await;
    let api = relay.serve_comfy().await;
    let body = json!({"prompt": one_node_workflow(), "client_id": "me", "prompt_id": PROMPT_ID, "number": -3,
        "extra_data": {"extra_pnginfo": {"workflow": {}}}, "partial_execution_targets": ["9"]});
    let (status, answer) = post(&api, "/prompt", &body).await;
    assert_eq!(
        (status, &answer["prompt_id"]),
        (200, &json!(PROMPT_ID)),
        "{answer}"
    );
    assert_eq!(answer["number"], -3.0);
    let posted = comfyui.posted();
    for name in ["prompt", "prompt_id", "partial_execution_targets"] {
        assert_eq!(posted[name], body[name], "{posted}");
    }
    assert_eq!(posted["number"], -3.0);
    assert_eq!(
        posted["extra_data"]["extra_pnginfo"],
        json!({"workflow": {}})
    );
    // Events go to the relay's own socket.
    assert_ne!(posted["client_id"], "me");
    let again = post(&api, "/prompt", &body).await;
    assert_eq!(
        (again.0, &again.1["error"]["type"]),
        (400, &json!("job_exists"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_comfyui_would_refuse_is_refused_in_its_shape() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    let api = relay.serve_comfy().await;
    let mut graph = workflow(TXT2IMG).await;
    let sampler = graph.as_object_mut().unwrap().iter_mut();
    let mut samplers = sampler.filter(|(_, node)| node["class_type"] == "KSampler");
    let (node, inputs) = samplers.next().unwrap();
    let (node, inputs) = (node.clone(), &mut inputs["inputs"]);
    inputs.as_object_mut().unwrap().remove("steps");
    let (status, answer) = post_prompt(&api, "me", &graph).await;
    assert_eq!(status, 400, "{answer}");
    assert_eq!(answer["error"]["type"], "prompt_outputs_failed_validation");
    assert!(answer["error"]["message"].is_string());
    let wrong = &answer["node_errors"][&node];
    assert_eq!(wrong["class_type"], "KSampler", "{answer}");
    assert_eq!(wrong["errors"][0]["type"], "required_input_missing");
    assert_eq!(wrong["errors"][0]["extra_info"]["input_name"], "steps");
    let (_, jobs) = relay.get("/api/anime/jobs").await;
    assert_eq!(jobs["jobs"], json!([]), "it leaves no job");
    let (status, answer) = post(&api, "/prompt", &json!({})).await;
    assert_eq!(
        (status, &answer["error"]["type"]),
        (400, &json!("no_prompt"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_submits_what_it_is_for() {
    let relay = TestRelay::replaying_with(TXT2IMG, guarded()).await;
    let api = relay.serve_comfy().await;
    let post = async |token: &str, prompt_id: Option<&str>| {
        let body = json!({"prompt": workflow(TXT2IMG).await, "prompt_id": prompt_id});
        let client = reqwest::Client::new();
        let request = client.post(format!("{api}/prompt")).json(&body);
        let answer = request.basic_auth("me", Some(token)).send().await.unwrap();
        answer.status().as_u16()
    };
    let one = token(&json!({"jobs": [PROMPT_ID]}));
    assert_eq!(post(&one, None).await, 403);
    assert_eq!(post(&one, Some(PROMPT_ID)).await, 200);
    assert_eq!(
        post(&token(&json!({"scope": "subscribe"})), None).await,
        403
    );
    assert_eq!(post("wrong", None).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_waits_here_counts_as_one_that_waits_there() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    let api = relay.serve_comfy().await;
    relay.post("/api/anime/queue/pause", &Value::Null).await;
    take_prompt(&api, "me", &workflow(TXT2IMG).await).await;
    let length = |count: u64| json!({"exec_info": {"queue_remaining": count}});
    assert_eq!(get(&api, "/prompt").await, (200, length(1)));
    relay.post("/api/anime/queue/resume", &Value::Null).await;
    wait_until("the queue is empty", async || {
        get(&api, "/api/prompt").await.1 == length(0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_servers_refuse_a_prompt_as_one_does() {
    // The second recording shows the model files.
    let names = ["0.33.0/01-txt2img-basic", "0.33.0/08-validation-error"];
    let server = async || {
        let recordings = vec![recording(names[0]).await, recording(names[1]).await];
        replay(recordings, PlaybackSpeed::Fastest).await
    };
    let servers = [server().await, server().await];
    let urls = format!("{},{}", servers[0].url(), servers[1].url());
    let relay = TestRelay::connected_to(&urls, Settings::default()).await;
    let api = relay.serve_comfy().await;
    let (node, mut graph) = ("4", workflow(names[0]).await);
    graph[node]["inputs"]["ckpt_name"] = json!("missing.safetensors");
    let (status, answer) = post_prompt(&api, "me", &graph).await;
    assert_eq!(status, 400, "{answer}");
    assert_eq!(answer["error"]["type"], "prompt_outputs_failed_validation");
    let wrong = &answer["node_errors"][node];
    assert_eq!(wrong["errors"][0]["type"], "value_not_in_list", "{answer}");
    let (status, answer) = post(&api, "/api/v2/jobs", &json!({"workflow": graph})).await;
    assert_eq!(status, 422, "{answer}");
    let details = &answer["error"]["details"];
    assert_eq!(
        details["node_errors"][node][0]["reason"], "value_not_in_list",
        "{answer}"
    );
    assert_eq!(details["backends"].as_array().unwrap().len(), 2);
    let unknown = json!({"1": {"class_type": "NoSuchNode", "inputs": {}}});
    let (status, answer) = post_prompt(&api, "me", &unknown).await;
    assert_eq!(
        (status, &answer["error"]["type"]),
        (400, &json!("missing_node_type"))
    );
    assert!(answer["node_errors"]["1"].is_object(), "{answer}");
}
