//! Jobs that run while the relay restarts.

use serde_json::Value;

use super::server::{case, has_run, progress, relay_at, remaining, start, state};
use crate::support::database::{TestDatabase, on_both};
use crate::support::scripted_comfy::ScriptedComfy;

/// A sampler of 60 steps.
const LONG: &str = include_str!("cases/long.json");

/// Of ten seconds, five have passed when the relay restarts.
async fn a_job_goes_on_from_where_it_was(db: TestDatabase) {
    let comfyui = ScriptedComfy::start().await;
    let workflow = case(LONG);
    has_run(&comfyui, &workflow, &["9"], 10);
    comfyui.accept_prompts_as("prompt");
    comfyui.run_prompt("prompt", &workflow, &["9"]);
    let relay = relay_at(&comfyui, db.config()).await;
    let mut subscriber = relay.subscribe("long").await;
    relay.submit_workflow("long", &workflow).await;
    start(&comfyui, "prompt");
    progress(
        &comfyui,
        "prompt",
        &[("4", 1, 1, true), ("3", 29, 60, false)],
    );
    state(&mut subscriber, "has done 29 steps", |state| {
        state["node"]["step"] == 29
    })
    .await;
    relay.stop().await;
    let began = if db.is_postgres() {
        "now() - interval '5 seconds'"
    } else {
        "strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-5 seconds')"
    };
    let sql = format!("UPDATE comfy_relay.jobs SET started_at = {began}, progress = 48");
    db.execute(&sql).await;

    let relay = relay_at(&comfyui, db.config()).await;
    let mut subscriber = relay.subscribe("long").await;
    // Nothing was received yet of what runs.
    // What its nodes cost comes from the server's history, which may not have been read yet.
    let goes_on =
        |state: &Value| (4..=6).contains(&remaining(state)) && state["nodes"]["total"] == 7;
    state(&mut subscriber, "goes on", goes_on).await;
    // The server sends only what still runs.
    progress(&comfyui, "prompt", &[("3", 30, 60, false)]);
    let is_estimated = |state: &Value| state["node"]["step"] == 30 && remaining(state) > 0;
    let next = state(&mut subscriber, "has done 30 steps", is_estimated).await;
    assert!((3..=7).contains(&remaining(&next)), "{next}");
    assert_eq!(
        next["nodes"]["done"], 4,
        "what the sampler needs has run: {next}"
    );
    let percent = next["progress"].as_u64().unwrap();
    assert!((48..=65).contains(&percent), "{next}");
    assert!(next["elapsed"].as_f64().unwrap() >= 5.0, "{next}");
    relay.stop().await;
}

on_both!(a_job_goes_on_from_where_it_was);
