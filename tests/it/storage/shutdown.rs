//! SIGTERM, and a stop.

use reqwest::Method;
use serde_json::json;

use super::lifecycle::relay_at;
use crate::support::database::{TestDatabase, on_both};
use crate::support::program::Program;
use crate::support::recordings::one_node_workflow;
use crate::support::scripted_comfy::{Reply, ScriptedComfy};
use crate::support::subscriber::Subscriber;
use crate::support::test_relay::{UNREACHABLE, response};
use crate::support::wait::wait_until;

on_both!(sigterm_closes_every_socket_and_writes_every_state);

/// Many, but fewer than any limit of open files.
const SUBSCRIBERS: usize = 200;

async fn sigterm_closes_every_socket_and_writes_every_state(db: TestDatabase) {
    let start = async || Program::with_database(&db.url(), UNREACHABLE).await;
    let mut relay = start().await;
    let path = "/api/anime/jobs/render/progress";
    for progress in 1..=60 {
        let report = json!({"progress": progress, "status": "processing"});
        assert_eq!(relay.post(path, &report).await.unwrap().0, 202);
    }
    let mut subscribers = Vec::new();
    for number in 0..SUBSCRIBERS {
        let path = ["/ws/render", "/ws/unknown", "/ws/monitor"][number % 3];
        subscribers.push(Subscriber::connect(&relay.socket_url(path)).await);
    }
    relay.terminate();
    for subscriber in &mut subscribers {
        assert_eq!(subscriber.close_code().await, 1001);
    }
    assert_eq!(relay.exit_status().await.code(), Some(0));
    let relay = start().await;
    wait_until("the relay serves again", async || {
        let job = relay.get("/api/anime/jobs/render").await;
        job.is_some_and(|(_, job)| job["progress"] == 60)
    })
    .await;
}

/// ComfyUI may run it, whatever the relay answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_is_being_sent_at_the_stop_is_followed() {
    let db = TestDatabase::sqlite().await;
    let comfyui = ScriptedComfy::start().await;
    comfyui.reply("POST /prompt", Reply::Hang);
    let relay = relay_at(&comfyui.url(), db.config()).await;
    let body = json!({"job_id": "job", "workflow": one_node_workflow()});
    let submitting = response(relay.request(Method::POST, "/api/anime/jobs").json(&body));
    let submitting = tokio::spawn(submitting);
    comfyui.wait_for_calls("POST /prompt", 1).await;
    relay.handle.start_shutdown();
    comfyui.accept_prompts_as("p");
    comfyui.set_queue(&["p"], &[]);
    relay.handle.shutdown().await;
    let prompt = "SELECT prompt_id AS v FROM comfy_relay.jobs WHERE job_key = 'job'";
    assert_eq!(db.value(prompt).await, "p");
    submitting.abort();
}
