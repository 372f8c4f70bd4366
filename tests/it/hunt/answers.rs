//! ComfyUI's answers are read, not only passed on; and what is not an answer of ComfyUI is no answer.

use serde_json::{Value, json};

use super::{JOBS, case, refusal, scripted};
use crate::support::recordings::{one_node_workflow, recording};
use crate::support::scripted_comfy::Reply;

const MANY_ERRORS: &str = include_str!("cases/many-node-errors.json");
const PARTLY_REFUSED: &str = include_str!("cases/partly-refused.json");
const PARTLY_REFUSED_ANSWER: &str = include_str!("cases/partly-refused-answer.json");

/// What nginx answers when ComfyUI does not in time.
const GATEWAY_TIMEOUT: &str = "<html><head><title>504 Gateway Time-out</title></head></html>";

const CANCEL: &str = "POST /api/jobs/prompt/cancel";

/// Two hundred wrong nodes, as ComfyUI refuses them.
fn many_errors() -> Value {
    let workflow = case(MANY_ERRORS);
    let nodes = workflow["workflow"].as_object().unwrap();
    let error = json!({"type": "value_not_in_list", "message": "Value not in list", "details": "ckpt_name: 'a' not in ['b']",
        "extra_info": {"input_name": "ckpt_name"}});
    let errors: serde_json::Map<String, Value> = nodes
        .iter()
        .map(|(id, node)| {
            let class = &node["class_type"];
            (
                id.clone(),
                json!({"class_type": class, "errors": [error], "dependent_outputs": ["9"]}),
            )
        })
        .collect();
    json!({"error": {"type": "prompt_outputs_failed_validation", "message": "Prompt outputs failed validation", "details": ""},
        "node_errors": errors})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_names_three_problems_and_their_number() {
    let (comfyui, relay) = scripted().await;
    let errors = many_errors();
    let total = errors["node_errors"].as_object().unwrap().len();
    assert!(total > 100);
    comfyui.answer("POST /prompt", 400, &errors);
    let (status, answer) = relay.post(JOBS, &case(MANY_ERRORS)).await;
    assert_eq!(status, 400);
    let error = &answer["error"];
    let message = error["message"].as_str().unwrap();
    assert!(message.len() < 1_000, "{} bytes", message.len());
    assert!(
        message.ends_with(&format!("; and {} more", total - 3)),
        "{message}"
    );
    assert_eq!(message.matches("(node ").count(), 3, "{message}");
    assert_eq!(error["inputs"].as_array().unwrap().len(), 50);
    assert_eq!(error["inputs_total"], total);
}

/// Nobody has reported this one: the branches that ComfyUI ignores of a graph that it accepts are as many.
#[tokio::test(flavor = "multi_thread")]
async fn the_problems_of_an_accepted_graph_are_limited_too() {
    let (comfyui, relay) = scripted().await;
    let mut accepted = many_errors();
    accepted["prompt_id"] = json!("prompt");
    comfyui.answer("POST /prompt", 200, &accepted);
    let (status, answer) = relay.post(JOBS, &case(MANY_ERRORS)).await;
    assert_eq!(status, 201, "{answer}");
    assert_eq!(answer["ignored"].as_array().unwrap().len(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_branch_is_out_of_the_plan_from_the_first_state() {
    let (comfyui, relay) = scripted().await;
    let mut answer = case(PARTLY_REFUSED_ANSWER);
    answer["prompt_id"] = json!("prompt");
    comfyui.answer("POST /prompt", 200, &answer);
    let mut subscriber = relay.subscribe("mine").await;
    relay.submit_workflow("mine", &case(PARTLY_REFUSED)).await;
    let first = subscriber.receive_type("progress").await;
    assert_eq!(first["nodes"]["total"], 7, "{first}");
}

/// The server says that it has not cancelled the prompt; then its queue decides, as for older servers.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_that_comfyui_denies_is_not_confirmed() {
    let (comfyui, relay) = scripted().await;
    relay.submit_workflow("mine", &one_node_workflow()).await;
    comfyui.answer(CANCEL, 200, &json!({"cancelled": false}));
    // It runs: it is interrupted.
    let path = format!("{JOBS}/mine/cancel");
    let (status, answer) = relay.post(&path, &Value::Null).await;
    assert_eq!(status, 202, "{answer}");
    assert_eq!(comfyui.calls("POST /interrupt"), 1);
    // It waits: it is deleted.
    comfyui.set_queue(&["other"], &["prompt"]);
    relay.post(&path, &Value::Null).await;
    assert_eq!(comfyui.calls("POST /queue"), 1);
}

/// The proxy before ComfyUI gives up, or answers in its place; ComfyUI has the prompt.
#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_is_looked_for_after_the_answer_of_a_proxy() {
    for (status, body) in [
        (504, GATEWAY_TIMEOUT),
        (502, GATEWAY_TIMEOUT),
        (200, GATEWAY_TIMEOUT),
        (500, ""),
    ] {
        let (comfyui, relay) = scripted().await;
        comfyui.reply("POST /prompt", Reply::Text(status, body.to_owned()));
        // The queue does not answer until the prompt is in it.
        comfyui.reply("GET /queue", Reply::Hang);
        let arrives = async {
            comfyui.wait_for_calls("POST /prompt", 1).await;
            let prompt = comfyui.posted()["prompt_id"].clone();
            comfyui.set_queue(&[prompt.as_str().unwrap()], &[]);
            prompt
        };
        let body = json!({"job_id": "gw", "workflow": one_node_workflow()});
        let (answer, prompt) = tokio::join!(relay.post(JOBS, &body), arrives);
        assert_eq!(
            (answer.0, &answer.1["prompt_id"]),
            (201, &prompt),
            "{status}: {}",
            answer.1
        );
        assert_eq!(comfyui.calls("POST /prompt"), 1);
    }
}

/// Nobody has reported this one: a login page before ComfyUI, which has nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_comfyui_does_not_have_was_not_accepted() {
    let (comfyui, relay) = scripted().await;
    comfyui.reply(
        "POST /prompt",
        Reply::Text(200, "<html>Sign in</html>".to_owned()),
    );
    comfyui.set_queue(&[], &[]);
    let body = json!({"job_id": "gw", "workflow": one_node_workflow()});
    let answer = relay.post(JOBS, &body).await;
    assert_eq!(refusal(answer), (502, "backend_error".to_owned()));
    assert_eq!(relay.job("gw").await.0, 404);
}

/// What a server of today says of a class that it does not have: its message names the title alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_class_that_comfyui_lacks_is_named_with_its_node() {
    let (comfyui, relay) = scripted().await;
    let recording = recording("0.33.0/08-validation-error").await;
    let refused = recording
        .prompts()
        .find(|post| post.response["error"]["type"] == "missing_node_type")
        .unwrap();
    comfyui.answer("POST /prompt", 400, &refused.response);
    let body = json!({"workflow": refused.request_body["prompt"]});
    let (status, answer) = relay.post(JOBS, &body).await;
    let error = &answer["error"];
    assert_eq!(
        (status, &error["code"]),
        (400, &json!("workflow_rejected")),
        "{answer}"
    );
    let message = error["message"].as_str().unwrap();
    assert!(message.ends_with("NoSuchNode (node 3)"), "{message}");
    assert_eq!(error["inputs"][0]["node"], "3", "{answer}");
    assert_eq!(error["inputs"][0]["class_type"], "NoSuchNode", "{answer}");
}

/// Servers since 0.24 refuse prompt ids that are not UUIDs in lower case.
#[tokio::test(flavor = "multi_thread")]
async fn prompts_are_submitted_under_ids_that_newer_servers_take() {
    let (comfyui, relay) = scripted().await;
    relay.submit_workflow("mine", &one_node_workflow()).await;
    let id = comfyui.posted()["prompt_id"].as_str().unwrap().to_owned();
    assert_eq!(uuid::Uuid::parse_str(&id).unwrap().to_string(), id);
    // One that refuses all the same says so.
    let refused = json!({"error": {"type": "invalid_prompt_id", "message": "Invalid prompt ID", "details": "it must be a UUID", "extra_info": {}},
        "node_errors": {}});
    comfyui.answer("POST /prompt", 400, &refused);
    let (status, answer) = relay
        .post(JOBS, &json!({"workflow": one_node_workflow()}))
        .await;
    assert_eq!(status, 400);
    assert_eq!(
        answer["error"]["message"],
        "ComfyUI refuses the workflow: Invalid prompt ID: it must be a UUID"
    );
}
