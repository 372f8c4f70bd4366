//! What single recordings show, seen by a caller.

use std::time::Duration;

use comfy_relay::replay::Speed;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::caller::{
    Caller, PATIENCE, Sound, ends, folder, history_path, recording, replay, types,
};
use futures_util::SinkExt as _;

/// How long to listen before we say that nothing comes.
const SILENCE: Duration = Duration::from_secs(1);

const ME: &str = "4c1b3f5e9d0a";

fn is(sound: &Sound, kind: &str) -> bool {
    sound.event()["type"] == kind
}

#[tokio::test]
async fn one_prompt_of_today() {
    let recording = recording("0.8.0/01-txt2img-basic");
    let server = replay(&[&recording], Speed::Fastest, false).await;
    let caller = Caller::of(&server);
    let mut ear = caller.connect(Some(ME)).await;
    let greeting = json!({"status": {"exec_info": {"queue_remaining": 0}}, "sid": ME});
    assert_eq!(ear.greeting().await, greeting);

    let mut body = recording.prompts().next().unwrap().request_body.clone();
    body["client_id"] = json!(ME);
    body["prompt_id"] = json!("0b6380a1-0000-4fa3-930f-803f294bbad1");
    let (status, answer) = caller.post("/api/prompt", &body).await;
    assert_eq!(
        (status, &answer),
        (
            200,
            &json!({"prompt_id": body["prompt_id"], "number": 0, "node_errors": {}})
        )
    );
    let id = answer["prompt_id"].as_str().unwrap();
    let heard = types(&ear.end_of(id).await);
    assert_eq!(
        heard.len(),
        recording.frames.len() - 3,
        "all but open, close and the greeting"
    );
    assert_eq!(heard[..3], ["status", "status", "execution_start"]);

    let entry = caller.result(id).await;
    assert_eq!(entry["status"]["status_str"], "success");
    assert_eq!(entry["prompt"][1], id);
    assert_eq!(entry["prompt"][2], body["prompt"]);
    assert_eq!(entry["prompt"][3]["client_id"], ME);
    assert_eq!(entry["prompt"][4], json!(["9"]));
    assert_eq!(
        caller.get("/queue").await,
        json!({"queue_running": [], "queue_pending": []})
    );
    assert_eq!(caller.get("/history?max_items=1").await[id], entry);
    assert_eq!(
        caller.get("/api/system_stats").await["system"]["comfyui_version"],
        "0.8.0"
    );
    assert_eq!(
        caller.get("/prompt").await,
        json!({"exec_info": {"queue_remaining": 0}})
    );

    caller.post("/history", &json!({"delete": [id]})).await;
    assert_eq!(caller.get(&history_path(id)).await, json!({}));
    let (status, answer) = caller.post("/prompt", &body).await;
    assert_eq!(
        (status, &answer["error"]["type"]),
        (400, &json!("replay_over"))
    );
    server.shutdown().await;
}

#[tokio::test]
async fn one_prompt_of_2023() {
    let recording = recording("2023-08-14/01-txt2img-basic");
    let server = replay(&[&recording], Speed::Fastest, false).await;
    let caller = Caller::of(&server);
    let mut ear = caller.connect(Some(ME)).await;
    let id = caller.submit(&recording, 0, Some(ME)).await;
    let heard = ear.end_of(&id).await;
    assert_eq!(
        types(&heard)
            .iter()
            .filter(|kind| *kind == "progress")
            .count(),
        20
    );
    assert!(!heard.iter().any(|sound| is(sound, "execution_success")));
    let entry = caller.result(&id).await;
    assert!(entry.get("status").is_none() && !entry["outputs"].as_object().unwrap().is_empty());
}

#[tokio::test]
async fn answers_what_is_wrong() {
    let server = replay(
        &[&recording("0.8.0/01-txt2img-basic")],
        Speed::Fastest,
        false,
    )
    .await;
    let caller = Caller::of(&server);
    let status = async |method: reqwest::Method, path: &str, body: &'static str| {
        let request = caller
            .http
            .request(method, format!("{}{path}", caller.url))
            .body(body);
        request.send().await.unwrap().status().as_u16()
    };
    use reqwest::Method;
    assert_eq!(status(Method::GET, "/api/jobs/x", "").await, 404);
    assert_eq!(status(Method::GET, "/history/team/job", "").await, 404);
    assert_eq!(status(Method::DELETE, "/queue", "").await, 405);
    assert_eq!(status(Method::POST, "/prompt", "no json").await, 400);
    assert_eq!(status(Method::POST, "/interrupt", "").await, 200);
    assert_eq!(status(Method::GET, "/view?subfolder=", "").await, 404);
    let picture = caller
        .http
        .get(format!("{}/view?filename=a.png&type=output", caller.url))
        .send()
        .await
        .unwrap();
    assert_eq!(picture.headers()["content-type"], "image/png");
    assert!(picture.bytes().await.unwrap().starts_with(b"\x89PNG"));
}

#[tokio::test]
async fn a_recording_of_two_prompts_can_begin_again() {
    let recording = recording("0.8.0/05-cached-rerun");
    let server = replay(&[&recording], Speed::Fastest, true).await;
    let caller = Caller::of(&server);
    let mut ear = caller.connect(Some(ME)).await;
    let mut lengths = Vec::new();
    for round in 0..4 {
        let id = caller.submit(&recording, round % 2, Some(ME)).await;
        lengths.push(
            ear.end_of(&id)
                .await
                .iter()
                .filter(|sound| is(sound, "progress"))
                .count(),
        );
        assert_eq!(caller.result(&id).await["prompt"][0], round);
    }
    assert!(lengths[0] > 0);
    assert_eq!(lengths, [lengths[0], 0, lengths[0], 0]);
}

#[tokio::test]
async fn prompts_choose_their_recording_by_graph() {
    let (plain, failing) = (
        recording("0.8.0/01-txt2img-basic"),
        recording("0.8.0/24-error-oom"),
    );
    let server = replay(&[&plain, &failing], Speed::Fastest, true).await;
    let caller = Caller::of(&server);
    let mut ear = caller.connect(Some(ME)).await;
    // Both are posted at once, and are played one after the other.
    let failed = caller.submit(&failing, 0, Some(ME)).await;
    let completed = caller.submit(&plain, 0, Some(ME)).await;
    assert!(
        ear.end_of(&failed)
            .await
            .iter()
            .any(|sound| is(sound, "execution_error"))
    );
    assert!(
        ear.end_of(&completed)
            .await
            .iter()
            .any(|sound| is(sound, "execution_success"))
    );
    // An unknown graph gets the next in turn.
    let (_, answer) = caller
        .post(
            "/prompt",
            &json!({"prompt": {"1": {"class_type": "New"}}, "client_id": ME}),
        )
        .await;
    ear.end_of(answer["prompt_id"].as_str().unwrap()).await;
}

#[tokio::test]
async fn what_nobody_posts_any_more_is_left_out() {
    let (cached, plain) = (
        recording("0.8.0/05-cached-rerun"),
        recording("0.8.0/24-error-oom"),
    );
    let server = replay(&[&cached, &plain], Speed::Real(5.0), true).await;
    let caller = Caller::of(&server);
    let mut ear = caller.connect(Some(ME)).await;
    let first = caller.submit(&cached, 0, Some(ME)).await;
    ear.until("its start", |sound| is(sound, "execution_start"))
        .await;
    // The second prompt of that recording never comes; the first is played to its end all the same.
    let other = caller.submit(&plain, 0, Some(ME)).await;
    assert_eq!(
        caller.get("/queue").await["queue_pending"][0][1],
        other.as_str()
    );
    ear.end_of(&first).await;
    let heard = ear.end_of(&other).await;
    let mine = |sound: &&Sound| !is(sound, "status") && matches!(sound, Sound::Text(_));
    assert!(
        heard
            .iter()
            .filter(mine)
            .all(|sound| sound.event()["data"]["prompt_id"] == other.as_str())
    );
    assert_eq!(caller.result(&other).await["status"]["status_str"], "error");
}

#[tokio::test]
async fn flags_are_answered_and_previews_tell_their_prompt() {
    let recording = recording("0.8.0/02-previews-metadata");
    let server = replay(&[&recording], Speed::Fastest, false).await;
    let caller = Caller::of(&server);
    let mut ear = caller.connect(Some(ME)).await;
    let flags = json!({"type": "feature_flags", "data": {"supports_preview_metadata": true}});
    ear.socket
        .send(Message::text(flags.to_string()))
        .await
        .unwrap();
    ear.until("the server's flags", |sound| is(sound, "feature_flags"))
        .await;
    let id = caller.submit(&recording, 0, Some(ME)).await;
    let heard = ear.end_of(&id).await;
    let previews = heard.iter().filter_map(|sound| match sound {
        Sound::Binary(bytes) => Some(String::from_utf8_lossy(&bytes[8..200]).into_owned()),
        _ => None,
    });
    let previews: Vec<String> = previews.collect();
    assert!(!previews.is_empty() && previews.iter().all(|preview| preview.contains(&id)));
}

#[tokio::test]
async fn an_interrupt_of_the_recording_needs_no_caller() {
    let recording = recording("0.8.0/09-interrupt");
    let server = replay(&[&recording], Speed::Fastest, false).await;
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
        let server = replay(&[&recording], Speed::Real(2.0), true).await;
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
    let server = replay(&[&recording], Speed::Real(4.0), false).await;
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

#[tokio::test]
async fn an_observer_hears_a_prompt_without_client() {
    let recording = recording("0.8.0/13-no-client-id");
    let server = replay(&[&recording], Speed::Fastest, false).await;
    let caller = Caller::of(&server);
    let mut ear = caller.connect(Some(ME)).await;
    ear.greeting().await;
    let id = caller.submit(&recording, 0, None).await;
    assert_eq!(caller.result(&id).await["prompt"][3].get("client_id"), None);
    let heard = ear
        .until("an empty queue", |sound| {
            sound
                .event()
                .pointer("/data/status/exec_info/queue_remaining")
                == Some(&json!(0))
        })
        .await;
    let kinds = types(&heard);
    assert!(kinds.contains(&"progress_state".to_owned()) && kinds.contains(&"progress".to_owned()));
    assert!(
        !kinds.contains(&"execution_start".to_owned()) && !kinds.contains(&"executing".to_owned())
    );
    assert!(
        heard
            .iter()
            .filter(|sound| is(sound, "progress"))
            .all(|sound| sound.event()["data"]["prompt_id"] == id.as_str())
    );
}

#[tokio::test]
async fn a_displaced_socket_falls_silent_until_a_new_one_comes() {
    for name in ["0.8.0/14-displaced-socket", "0.0.8/14-displaced-socket"] {
        let recording = recording(name);
        let server = replay(&[&recording], Speed::Fastest, false).await;
        let caller = Caller::of(&server);
        let mut ear = caller.connect(Some(ME)).await;
        let id = caller.submit(&recording, 0, Some(ME)).await;
        for _ in 0..2 {
            // It plays on, and then says nothing more, though the prompt runs.
            while let Ok(sound) = timeout(SILENCE, ear.next()).await {
                assert!(
                    matches!(sound, Sound::Text(_)) && !ends(&sound, &id),
                    "{sound:?}"
                );
            }
            assert_eq!(
                caller.get("/queue").await["queue_running"][0][1],
                id.as_str()
            );
            ear.close().await;
            ear = caller.connect(Some(ME)).await;
            ear.greeting().await;
            let executing = timeout(PATIENCE, ear.next()).await.unwrap().event();
            assert_eq!(
                executing,
                json!({"type": "executing", "data": {"node": "3"}})
            );
        }
        ear.end_of(&id).await;
        caller.result(&id).await;
    }
}

#[tokio::test]
async fn a_dropped_socket_comes_back() {
    for name in ["0.8.0/15-drop-reconnect", "0.0.8/15-drop-reconnect"] {
        let recording = recording(name);
        let server = replay(&[&recording], Speed::Fastest, false).await;
        let caller = Caller::of(&server);
        let mut ear = caller.connect(Some(ME)).await;
        let id = caller.submit(&recording, 0, Some(ME)).await;
        ear.until("the cut", |sound| *sound == Sound::Lost).await;
        let mut ear = caller.connect(Some(ME)).await;
        ear.until("a clean close", |sound| *sound == Sound::Closed(Some(1000)))
            .await;
        drop(ear);
        let mut ear = caller.connect(Some(ME)).await;
        ear.end_of(&id).await;
    }
}

#[tokio::test]
async fn an_end_is_missed() {
    let recording = recording("0.8.0/15b-drop-miss-end");
    let server = replay(&[&recording], Speed::Fastest, false).await;
    let caller = Caller::of(&server);
    let mut ear = caller.connect(Some(ME)).await;
    let id = caller.submit(&recording, 0, Some(ME)).await;
    let heard = ear.until("the cut", |sound| *sound == Sound::Lost).await;
    assert!(!heard.iter().any(|sound| ends(sound, &id)));
    assert_eq!(caller.result(&id).await["status"]["status_str"], "success");
}

#[tokio::test]
async fn a_killed_server_comes_back_empty() {
    let recording = recording("0.8.0/16-server-killed");
    let server = replay(&[&recording], Speed::Real(20.0), false).await;
    let caller = Caller::of(&server);
    let mut ear = caller.connect(Some(ME)).await;
    let lost = [
        caller.submit(&recording, 0, Some(ME)).await,
        caller.submit(&recording, 1, Some(ME)).await,
    ];
    ear.until("the kill", |sound| *sound == Sound::Lost).await;
    assert!(
        caller.try_get("/queue").await.is_none() && caller.try_connect(Some(ME)).await.is_none()
    );
    let queue = caller
        .until("the restart", async || caller.try_get("/queue").await)
        .await;
    assert_eq!(queue, json!({"queue_running": [], "queue_pending": []}));
    for id in &lost {
        assert_eq!(caller.get(&history_path(id)).await, json!({}));
    }
    let mut ear = caller.connect(Some(ME)).await;
    let id = caller.submit(&recording, 2, Some(ME)).await;
    ear.end_of(&id).await;
    assert_eq!(caller.result(&id).await["prompt"][0], 0);
}

#[tokio::test]
async fn two_clients_hear_their_own() {
    let recording = recording("0.8.0/17-two-clients");
    let clients = ["client-a", "client-b"];
    let mine = |k: usize| {
        let client = recording.prompts().nth(k).unwrap().request_body["client_id"].clone();
        usize::from(client != recording.meta.client_id.as_str())
    };
    // With an id each, and both with one id over one socket.
    for shared in [false, true] {
        let server = replay(&[&recording], Speed::Fastest, false).await;
        let caller = Caller::of(&server);
        let name = |k: usize| clients[if shared { 0 } else { mine(k) }];
        let mut a = caller.connect(Some(clients[0])).await;
        let mut b = caller.connect(Some(clients[1])).await;
        let mut ids = Vec::new();
        for k in 0..4 {
            ids.push(caller.submit(&recording, k, Some(name(k))).await);
        }
        let of_b = (0..4)
            .filter(|k| !shared && mine(*k) == 1)
            .map(|k| &ids[k])
            .next_back();
        let mut statuses = Vec::new();
        for (ear, last) in [
            (
                &mut a,
                (0..4)
                    .filter(|k| shared || mine(*k) == 0)
                    .map(|k| &ids[k])
                    .next_back(),
            ),
            (&mut b, of_b),
        ] {
            let Some(last) = last else { continue };
            let heard = ear.end_of(last).await;
            let others = (0..4).filter(|k| {
                !shared && mine(*k) != mine(ids.iter().position(|id| id == last).unwrap())
            });
            for k in others {
                assert!(!heard.iter().any(|sound| ends(sound, &ids[k])));
            }
            statuses.push(heard.iter().filter(|sound| is(sound, "status")).count());
        }
        let recorded = |frame: &&comfy_relay::replay::Frame| matches!(&frame.kind, comfy_relay::replay::FrameKind::Text(text) if frame.socket == "main" && text.contains("\"status\", \"data\""));
        assert!(
            statuses
                .iter()
                .all(|count| *count <= recording.frames.iter().filter(recorded).count()),
            "{statuses:?}"
        );
    }
}

#[tokio::test]
async fn a_server_assigned_id_is_as_good() {
    let recording = recording("0.8.0/17b-server-assigned-sid");
    let server = replay(&[&recording], Speed::Fastest, false).await;
    let caller = Caller::of(&server);
    let mut ear = caller.connect(None).await;
    let sid = ear.greeting().await["sid"].as_str().unwrap().to_owned();
    let id = caller.submit(&recording, 0, Some(&sid)).await;
    ear.end_of(&id).await;
}

#[tokio::test]
async fn twins_end_one_after_the_other() {
    let recording = recording("0.8.0/25b-same-prompt-id-queued-twice");
    let server = replay(&[&recording], Speed::Fastest, false).await;
    let caller = Caller::of(&server);
    let mut ear = caller.connect(Some(ME)).await;
    let ids = [
        caller.submit(&recording, 0, Some(ME)).await,
        caller.submit(&recording, 1, Some(ME)).await,
    ];
    assert_eq!(ids[0], ids[1]);
    for picture in ["ComfyUI_00001_.png", "ComfyUI_00002_.png"] {
        let heard = ear.end_of(&ids[0]).await;
        let executed = heard
            .iter()
            .find(|sound| is(sound, "executed"))
            .unwrap()
            .event();
        assert_eq!(executed["data"]["output"]["images"][0]["filename"], picture);
    }
    let second = caller.until("the second result", async || {
        let entry = caller.get(&history_path(&ids[0])).await[&ids[0]].clone();
        (entry["prompt"][0] == 1).then_some(entry)
    });
    assert_eq!(
        second.await["outputs"]["9"]["images"][0]["filename"],
        "ComfyUI_00002_.png"
    );
}

#[tokio::test]
async fn a_history_that_was_late_is_late_again() {
    let recording = recording("0.8.0/19c-lazy-and-blocker");
    let server = replay(&[&recording], Speed::Fastest, false).await;
    let caller = Caller::of(&server);
    let mut ear = caller.connect(Some(ME)).await;
    let id = caller.submit(&recording, 0, Some(ME)).await;
    ear.until("success", |sound| is(sound, "execution_success"))
        .await;
    // While its history is not there, it is still in the queue.
    assert_eq!(
        caller.get("/queue").await["queue_running"][0][1],
        id.as_str()
    );
    assert_eq!(caller.get(&history_path(&id)).await, json!({}));
    ear.end_of(&id).await;
    assert_ne!(caller.get(&history_path(&id)).await, json!({}));
    assert_eq!(caller.get("/queue").await["queue_running"], json!([]));
}

#[tokio::test]
async fn odd_ids_are_taken() {
    let recording = recording("0.8.0/25-own-prompt-id");
    assert!(folder("0.8.0/25-own-prompt-id").exists());
    let server = replay(&[&recording], Speed::Fastest, true).await;
    let caller = Caller::of(&server);
    let mut ear = caller.connect(Some(ME)).await;
    for (k, id) in ["a/b", "a/b", "\"ü\" \u{1f600}"].into_iter().enumerate() {
        let mut body = recording.prompts().nth(k).unwrap().request_body.clone();
        (body["client_id"], body["prompt_id"]) = (json!(ME), json!(id));
        let (_, answer) = caller.post("/prompt", &body).await;
        assert_eq!(answer["prompt_id"], id);
        ear.end_of(id).await;
        let entry: Value = caller.result(id).await;
        assert_eq!(
            (&entry["prompt"][0], &entry["prompt"][1]),
            (&json!(k), &json!(id))
        );
    }
}
