//! A job that is asked to stop, on the dashboard. Its nodes are those of a subgraph.

use serde_json::{Value, json};

use super::dashboard::{find, open, root, shown};
use crate::support::scripted_comfy::ScriptedComfy;
use crate::support::test_relay::{Settings, TestRelay};

fn event(kind: &str, mut data: Value) -> Value {
    data["prompt_id"] = json!("prompt");
    json!({"type": kind, "data": data})
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_shows_a_job_that_is_asked_to_stop() {
    let comfyui = ScriptedComfy::start().await;
    let relay = TestRelay::connected_to(&comfyui.url(), Settings::default()).await;
    let graph = json!({
        "57:8": {"class_type": "CheckpointLoaderSimple", "inputs": {}, "_meta": {"title": "Load"}},
        "57:12": {"class_type": "KSampler", "inputs": {"steps": 20, "model": ["57:8", 0]}, "_meta": {"title": "Refine"}},
        "57:13": {"class_type": "VAEDecode", "inputs": {"samples": ["57:12", 0]}},
        "58": {"class_type": "SaveImage", "inputs": {"images": ["57:13", 0]}, "_meta": {"title": "Save"}}
    });
    comfyui.accept_prompts_as("prompt");
    comfyui.run_prompt("prompt", &graph, &["58"]);
    comfyui.answer(
        "POST /api/jobs/prompt/cancel",
        200,
        &json!({"cancelled": true}),
    );
    relay.submit_workflow("shot", &graph).await;
    comfyui.send(&event("execution_start", json!({})));
    for (node, display) in [
        ("57:8", "57:8"),
        ("57:12", "57:12"),
        ("57:12.0.0.3", "57:12"),
    ] {
        let executing = json!({"node": node, "display_node": display});
        comfyui.send(&event("executing", executing));
    }
    let Some(mut page) = open("cancelling", &root(&relay), &[]) else {
        return;
    };
    page.until("open").await;
    let (status, answer) = relay
        .post("/api/anime/jobs/shot/cancel", &Value::Null)
        .await;
    assert_eq!(status, 202, "{answer}");
    let events = shown(page).await;
    let seen = find(&events, "shown");
    assert_eq!(
        (&seen["onCard"], &seen["onPage"]),
        (&json!("Cancelling"), &json!("Cancelling"))
    );
    let nodes = json!([
        "Load (57:8)",
        "Refine (57:12)",
        "Refine (57:12.0.0.3)",
        "VAEDecode (57:13)",
        "Save (58)",
    ]);
    assert_eq!(seen["nodes"], nodes);
}
