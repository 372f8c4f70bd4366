//! What relays that share a queue know of each other's servers.

use serde_json::{Value, json};

use super::operations::operate;
use super::{job, knows_waiting, prompts_at, settings, still_servers};
use crate::support::database::{TestDatabase, on_both};
use crate::support::scripted_comfy::ScriptedComfy;
use crate::support::test_relay::TestRelay;
use crate::support::wait::wait_until;

on_both!(
    prompts_of_others_count_at_every_relay,
    shares_are_fair_between_relays,
);

async fn prompts_of_others_count_at_every_relay(db: TestDatabase) {
    let comfyui = ScriptedComfy::start().await;
    let url = comfyui.url();
    let first = TestRelay::connected_to(&url, settings(&db)).await;
    let second = TestRelay::start(&url, settings(&db)).await;
    // As ComfyUI broadcasts it when another client submits.
    let info = json!({"status": {"exec_info": {"queue_remaining": 3}}});
    comfyui.send(&json!({"type": "status", "data": info}));
    for (name, relay) in [("first", &first), ("second", &second)] {
        wait_until(
            &format!("the {name} relay counts three prompts"),
            async || {
                let (_, list) = relay.get("/api/anime/backends").await;
                let backend = &list["backends"][0];
                let count = |kind: &str| backend[kind].as_u64().unwrap();
                count("queue_running") + count("queue_pending") == 3
            },
        )
        .await;
    }
}

/// The second relay counts for a share what the first one has handed in.
async fn shares_are_fair_between_relays(db: TestDatabase) {
    let servers = still_servers(2).await;
    let urls = [servers[0].url(), servers[1].url()];
    let names = urls.each_ref().map(|url| url.trim_start_matches("http://"));
    let fair = || {
        let mut settings = settings(&db);
        settings.relay.fair_share = true;
        settings
    };
    let first = TestRelay::connected_to(&urls[0], fair()).await;
    let second = TestRelay::start(&urls.join(","), fair()).await;
    second.follows_any().await;
    operate(&first, names[0], "pause").await;
    operate(&second, names[1], "pause").await;
    let submit = async |relay: &TestRelay, id: &str, share: &str, backend: &str| {
        let mut body = job(id).await;
        body["backend"] = json!(backend);
        body["labels"] = json!({"fair_share": share});
        let (status, answer) = relay.post("/api/anime/jobs", &body).await;
        assert_eq!(status, 201, "{answer}");
    };
    for id in ["one-1", "one-2"] {
        submit(&first, id, "one", names[0]).await;
    }
    for (id, share) in [
        ("one-3", "one"),
        ("one-4", "one"),
        ("other-1", "other"),
        ("other-2", "other"),
    ] {
        submit(&second, id, share, names[1]).await;
    }
    knows_waiting(&second, 6).await;
    operate(&first, names[0], "resume").await;
    knows_waiting(&second, 4).await;
    operate(&second, names[1], "resume").await;
    wait_until("the other server has two prompts", async || {
        prompts_at(&urls[1]).await == 2
    })
    .await;
    for id in ["other-1", "other-2"] {
        let has_begun = async || {
            let (_, job): (_, Value) = second.job(id).await;
            job["backend"] == names[1] && job.get("waiting_for").is_none_or(Value::is_null)
        };
        wait_until("it is handed in", has_begun).await;
    }
}
