//! Prompts that are interrupted or deleted, by the recording or by a caller.

use std::time::Duration;

use comfy_relay::replay::PlaybackSpeed;
use serde_json::json;
use tokio::time::timeout;

use super::caller::{Caller, ME, history_path, is, recording, replay, types};

#[tokio::test]
async fn an_interrupt_of_the_recording_needs_no_caller() {
    let recording = recording("0.8.0/09-interrupt");
    let server = replay(&[&recording], PlaybackSpeed::Fastest, false).await;
    let caller = Caller::of(&server);
    let mut ear = caller.connect(Some(ME)).await;
    let cancelled = caller.submit(&recording, 0, Some(ME)).await;
    assert!(
        ear.end_of(&cancelled)
            .await
            .iter()
            .any(|sound| is(sound, "execution_interrupted"))
    );
    assert_eq!(
        caller.result(&cancelled).await["status"]["status_str"],
        "error"
    );
    let completed = caller.submit(&recording, 1, Some(ME)).await;
    assert_eq!(
        caller.result(&completed).await["status"]["status_str"],
        "success"
    );
}

#[tokio::test]
async fn a_caller_interrupts() {
    for name in ["0.8.0/20-long-run", "2023-12-30/01-txt2img-basic"] {
        let recording = recording(name);
        let server = replay(&[&recording], PlaybackSpeed::Real(2.0), true).await;
        let caller = Caller::of(&server);
        let mut ear = caller.connect(Some(ME)).await;
        let id = caller.submit(&recording, 0, Some(ME)).await;
        ear.until("progress", |sound| is(sound, "progress")).await;
        if name.starts_with("0.8") {
            caller
                .post("/interrupt", &json!({"prompt_id": "another"}))
                .await;
            assert_eq!(
                caller.get("/queue").await["queue_running"][0][1],
                id.as_str()
            );
        }
        caller.post("/interrupt", &json!({"prompt_id": id})).await;
        let heard = ear.end_of(&id).await;
        let kinds = types(&heard);
        assert_eq!(
            kinds[kinds.len() - 3..],
            ["execution_interrupted", "status", "executing"]
        );
        let interrupted = heard[heard.len() - 3].event();
        assert_eq!(interrupted["data"]["prompt_id"], id.as_str());
        assert!(
            !interrupted["data"]["node_type"]
                .as_str()
                .unwrap()
                .is_empty()
        );
        let entry = caller.result(&id).await;
        assert_eq!(entry.get("status").is_some(), name.starts_with("0.8"));
        // The next one follows at once: the rest of the broken one takes no time.
        let next = caller.submit(&recording, 0, Some(ME)).await;
        let heard = timeout(
            Duration::from_secs(5),
            ear.until("its start", |sound| is(sound, "execution_start")),
        )
        .await
        .unwrap();
        assert!(!types(&heard).contains(&"progress".to_owned()));
        assert_eq!(
            heard.last().unwrap().event()["data"]["prompt_id"],
            next.as_str()
        );
    }
}

#[tokio::test]
async fn a_deleted_prompt_is_gone() {
    let recording = recording("0.8.0/10-queue-delete-pending");
    let server = replay(&[&recording], PlaybackSpeed::Real(4.0), false).await;
    let caller = Caller::of(&server);
    let mut ear = caller.connect(Some(ME)).await;
    let mut ids = Vec::new();
    for k in 0..5 {
        ids.push(caller.submit(&recording, k, Some(ME)).await);
    }
    assert_eq!(
        caller.get("/prompt").await["exec_info"]["queue_remaining"],
        5
    );
    ear.until("the first to run", |sound| is(sound, "progress"))
        .await;
    // The recording deletes the third, we the fifth; the running one cannot be deleted.
    caller
        .post("/queue", &json!({"delete": [ids[4], ids[0]]}))
        .await;
    let queue = caller.get("/queue").await;
    assert!(!queue.to_string().contains(&ids[4]) && queue.to_string().contains(&ids[0]));
    for k in [0, 1, 3] {
        assert_eq!(caller.result(&ids[k]).await["prompt"][0], k);
    }
    for k in [2, 4] {
        assert_eq!(caller.get(&history_path(&ids[k])).await, json!({}));
    }
    assert_eq!(
        caller.get("/queue").await,
        json!({"queue_running": [], "queue_pending": []})
    );
}
