//! What a caller is answered: ids, results, the queue, and what is wrong.

use comfy_relay::replay::PlaybackSpeed;
use serde_json::{Value, json};

use super::caller::{Caller, ME, folder, history_path, is, recording, replay, types};

#[tokio::test]
async fn one_prompt_of_today() {
    let recording = recording("0.8.0/01-txt2img-basic");
    let server = replay(&[&recording], PlaybackSpeed::Fastest, false).await;
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
    let server = replay(&[&recording], PlaybackSpeed::Fastest, false).await;
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
        PlaybackSpeed::Fastest,
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
async fn odd_ids_are_taken() {
    let recording = recording("0.8.0/25-own-prompt-id");
    assert!(folder("0.8.0/25-own-prompt-id").exists());
    let server = replay(&[&recording], PlaybackSpeed::Fastest, true).await;
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

#[tokio::test]
async fn twins_end_one_after_the_other() {
    let recording = recording("0.8.0/25b-same-prompt-id-queued-twice");
    let server = replay(&[&recording], PlaybackSpeed::Fastest, false).await;
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
    let server = replay(&[&recording], PlaybackSpeed::Fastest, false).await;
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
