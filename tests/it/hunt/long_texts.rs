//! Errors quote at most 200 characters of what was sent.

use serde_json::json;

use super::{JOBS, scripted};
use crate::support::recordings::one_node_workflow;

/// Longer than a quotation and the sentence around it.
const MAX_MESSAGE: usize = 600;

#[tokio::test(flavor = "multi_thread")]
async fn errors_quote_at_most_200_characters() {
    let (comfyui, relay) = scripted().await;
    let long = "é".repeat(100_000);
    let (workflow, graph) = (one_node_workflow(), one_node_workflow().to_string());
    let node = json!({"class_type": "A", "inputs": {}, "text": long});
    let as_text = json!({"9": node}).to_string();
    let rejection = json!({"error": {"type": "x", "message": long, "details": long}, "node_errors": {
        long.as_str(): {"class_type": long, "errors": [{"message": long, "details": long, "extra_info": {"input_name": long}}]}}});
    comfyui.answer("POST /prompt", 400, &rejection);
    for (body, code) in [
        (json!({"workflow": as_text}), "bad_workflow_name"),
        (json!({"workflow": graph}), "bad_workflow_name"),
        (json!({"workflow": long}), "bad_workflow_name"),
        (
            json!({"workflow": workflow, "backend": long}),
            "backend_unknown",
        ),
        (
            json!({"workflow": workflow, "params": {format!("9.{long}"): 1}}),
            "bad_parameter",
        ),
        (
            json!({"workflow": workflow, "params": {format!("{long}.seed"): 1}}),
            "bad_parameter",
        ),
        (json!({"workflow": workflow, "params": long}), "bad_json"),
        (
            json!({"workflow": workflow, long.as_str(): 1}),
            "unknown_field",
        ),
        (
            json!({"workflow": {long.as_str(): {"inputs": {}}}}),
            "not_api_format",
        ),
        (json!({"workflow": workflow}), "workflow_rejected"),
    ] {
        let (_, answer) = relay.post(JOBS, &body).await;
        let error = &answer["error"];
        assert_eq!(error["code"], code, "{}", &answer.to_string()[..200]);
        let length = error["message"].as_str().unwrap().chars().count();
        let limit = if code == "workflow_rejected" {
            1_200
        } else {
            MAX_MESSAGE
        };
        assert!(length < limit, "{code}: {length}");
        let whole = answer.to_string().chars().count();
        assert!(whole < 3_000, "{code}: {whole}");
    }
    let (_, answer) = relay.post(JOBS, &json!({"workflow": as_text})).await;
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("send the graph itself"), "{message}");
}

/// Nobody has reported this one: the status of a report.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_status_is_quoted_in_part() {
    let (_comfyui, relay) = scripted().await;
    let report = json!({"progress": 5, "status": "x".repeat(100_000)});
    let (_, answer) = relay.post(&format!("{JOBS}/mine/progress"), &report).await;
    assert_eq!(answer["error"]["code"], "bad_status");
    assert!(
        answer.to_string().len() < MAX_MESSAGE,
        "{}",
        answer.to_string().len()
    );
}
