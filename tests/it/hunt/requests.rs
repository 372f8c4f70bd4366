//! What a request asks for is done, or refused by name.

use serde_json::{Value, json};

use super::{JOBS, case, refusal, scripted, scripted_with_workflows};
use crate::support::program::Program;
use crate::support::recordings::one_node_workflow;

const EXTRA_DATA: &str = include_str!("cases/extra-data.json");
const PROMPT_BODY: &str = include_str!("cases/prompt-body.json");

fn unknown_field() -> (u16, String) {
    (400, "unknown_field".to_owned())
}

/// Clients take them out of the path of a URL, so that no request about them arrives.
#[tokio::test(flavor = "multi_thread")]
async fn job_ids_that_mean_a_folder_are_refused() {
    let (_comfyui, relay) = scripted().await;
    for id in [".", ".."] {
        let body = json!({"job_id": id, "workflow": one_node_workflow()});
        let answer = relay.post(JOBS, &body).await;
        assert_eq!(refusal(answer), (400, "bad_job_id".to_owned()), "{id}");
    }
    for id in ["...", ".a", "a.."] {
        let body = json!({"job_id": id, "workflow": one_node_workflow()});
        let (status, answer) = relay.post(JOBS, &body).await;
        assert_eq!(status, 201, "{id}: {answer}");
        assert_eq!(relay.job(id).await.0, 200, "{id}");
    }
}

/// `extra_data` holds the key of a partner node: without it, the prompt fails.
#[tokio::test(flavor = "multi_thread")]
async fn what_comfyui_takes_beside_a_graph_is_passed_on() {
    let (comfyui, relay) = scripted().await;
    for body in [case(EXTRA_DATA), case(PROMPT_BODY)] {
        let (status, answer) = relay.post(JOBS, &body).await;
        assert_eq!(status, 201, "{body}: {answer}");
        let posted = comfyui.posted();
        assert!(body["extra_data"].is_object());
        assert_eq!(posted["extra_data"], body["extra_data"], "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_that_are_not_known_are_refused_by_name() {
    let (comfyui, relay) = scripted().await;
    let workflow = one_node_workflow();
    for (body, field) in [
        (json!({"workflow": workflow, "front_": true}), "front_"),
        (json!({"workflow": workflow, "parms": {"9.a": 1}}), "parms"),
        (json!({"prompt_id": "prompt", "jobid": "x"}), "jobid"),
        (
            json!({"workflow": {"prompt": workflow, "extra_data": {}}}),
            "extra_data",
        ),
    ] {
        let answer = relay.post(JOBS, &body).await;
        let message = answer.1["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains(field), "{body}: {}", answer.1);
        assert_eq!(refusal(answer), unknown_field(), "{body}");
    }
    assert_eq!(comfyui.calls("POST /prompt"), 0);
}

/// Nobody has reported this one: a misspelled field of a report.
#[tokio::test(flavor = "multi_thread")]
async fn a_misspelled_field_of_a_report_is_refused_by_name() {
    let (_comfyui, relay) = scripted().await;
    let report = json!({"progress": 5, "status": "processing", "estimated_remainig": 9});
    let path = format!("{JOBS}/mine/progress");
    assert_eq!(refusal(relay.post(&path, &report).await), unknown_field());
    assert_eq!(relay.job("mine").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_body_of_a_prompt_is_taken_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let (comfyui, relay) = scripted_with_workflows(folder.path()).await;
    let graph = one_node_workflow();
    let wrapped = json!({"prompt": graph, "client_id": "a-page"});
    std::fs::write(folder.path().join("body.json"), wrapped.to_string()).unwrap();
    let bodies: [Value; 3] = [
        wrapped.clone(),
        json!({"workflow": wrapped}),
        json!({"workflow": "body"}),
    ];
    for body in bodies {
        let (status, answer) = relay.post(JOBS, &body).await;
        assert_eq!(status, 201, "{body}: {answer}");
        let posted = comfyui.posted();
        assert_eq!(posted["prompt"], graph);
        assert_ne!(posted["client_id"], "a-page");
    }
    // What would be lost is refused in a file, too.
    std::fs::write(folder.path().join("extra.json"), PROMPT_BODY).unwrap();
    let answer = relay.post(JOBS, &json!({"workflow": "extra"})).await;
    assert_eq!(refusal(answer), unknown_field());
    let file = folder.path().join("extra.json");
    let arguments = ["submit", file.to_str().unwrap(), "--relay", &relay.url()];
    let output = Program::run(&arguments, &[]).await;
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{error}");
    assert!(error.contains("extra_data"), "{error}");
}
