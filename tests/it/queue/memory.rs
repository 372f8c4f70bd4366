//! A server frees its memory after a job has failed for the lack of it.

use serde_json::{Value, json};

use crate::support::recordings::{TXT2IMG, workflow};
use crate::support::scripted_comfy::ScriptedComfy;
use crate::support::test_relay::{Settings, TestRelay};

const FREE: &str = "POST /free";

/// A relay whose only server has failed a job with this exception.
async fn after_failure(settings: Settings, exception: &str) -> (ScriptedComfy, TestRelay) {
    let comfyui = ScriptedComfy::start().await;
    let relay = TestRelay::connected_to(&comfyui.url(), settings).await;
    comfyui.accept_prompts_as("first");
    comfyui.set_queue(&["first"], &[]);
    relay.submit("first", TXT2IMG).await;
    let mut subscriber = relay.subscribe("first").await;
    let raised = json!({"prompt_id": "first", "node_id": "3", "node_type": "KSampler",
        "exception_type": "torch.OutOfMemoryError", "exception_message": exception, "traceback": []});
    let entry = json!({"prompt": [0, "first", {}, {}, []], "outputs": {}, "status":
        {"status_str": "error", "messages": [["execution_error", raised]]}});
    comfyui.answer("GET /history/first", 200, &json!({ "first": entry }));
    comfyui.set_queue(&[], &[]);
    comfyui.send(&json!({"type": "execution_error", "data": raised}));
    subscriber.ends_as("failed").await;
    (comfyui, relay)
}

async fn submit(relay: &TestRelay, comfyui: &ScriptedComfy, id: &str) {
    comfyui.accept_prompts_as(id);
    comfyui.set_queue(&[id], &[]);
    let body = json!({"job_id": id, "workflow": workflow(TXT2IMG).await});
    let (status, answer): (u16, Value) = relay.post("/api/anime/jobs", &body).await;
    assert_eq!(status, 201, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_freed_once_before_the_next_job() {
    let mut settings = Settings::default();
    settings.relay.free_after_oom = true;
    let exception = "Allocation on device 0 would exceed allowed memory. (out of memory)";
    let (comfyui, relay) = after_failure(settings, exception).await;
    assert_eq!(comfyui.calls(FREE), 0);
    submit(&relay, &comfyui, "second").await;
    assert_eq!(comfyui.calls(FREE), 1);
    assert_eq!(
        comfyui.body_of(FREE),
        json!({"unload_models": true, "free_memory": true})
    );
    submit(&relay, &comfyui, "third").await;
    assert_eq!(comfyui.calls(FREE), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_not_freed_after_another_failure_or_by_default() {
    let mut settings = Settings::default();
    settings.relay.free_after_oom = true;
    for (settings, exception) in [
        (settings, "mat1 and mat2 shapes cannot be multiplied"),
        (Settings::default(), "CUDA out of memory"),
    ] {
        let (comfyui, relay) = after_failure(settings, exception).await;
        submit(&relay, &comfyui, "second").await;
        assert_eq!(comfyui.calls(FREE), 0);
    }
}
