//! The answers of the replay server: ids, results, the queue and errors.

use comfy_relay::replay::PlaybackSpeed;
use serde_json::{Value, json};

use super::client::{
    CLIENT_ID, ReplayClient, folder, history_path, is_type, recording, replay, types,
};
use crate::support::recordings::TXT2IMG;

#[tokio::test]
async fn a_prompt_of_a_current_version() {
    let recording = recording(TXT2IMG);
    let server = replay(&[&recording], PlaybackSpeed::Fastest, false).await;
    let client = ReplayClient::of(&server);
    let mut socket = client.connect(Some(CLIENT_ID)).await;
    let greeting = json!({"status": {"exec_info": {"queue_remaining": 0}}, "sid": CLIENT_ID});
    assert_eq!(socket.greeting().await, greeting);

    let mut body = recording.prompts().next().unwrap().request_body.clone();
    body["client_id"] = json!(CLIENT_ID);
    body["prompt_id"] = json!("0b6380a1-0000-4fa3-930f-803f294bbad1");
    let (status, answer) = client.post("/api/prompt", &body).await;
    assert_eq!(
        (status, &answer),
        (
            200,
            &json!({"prompt_id": body["prompt_id"], "number": 0, "node_errors": {}})
        )
    );
    let id = answer["prompt_id"].as_str().unwrap();
    let received = types(&socket.end_of(id).await);
    assert_eq!(
        received.len(),
        recording.frames.len() - 3,
        "all but open, close and the greeting"
    );
    assert_eq!(received[..3], ["status", "status", "execution_start"]);

    let entry = client.result(id).await;
    assert_eq!(entry["status"]["status_str"], "success");
    assert_eq!(entry["prompt"][1], id);
    assert_eq!(entry["prompt"][2], body["prompt"]);
    assert_eq!(entry["prompt"][3]["client_id"], CLIENT_ID);
    assert_eq!(entry["prompt"][4], json!(["9"]));
    assert_eq!(
        client.get("/queue").await,
        json!({"queue_running": [], "queue_pending": []})
    );
    assert_eq!(client.get("/history?max_items=1").await[id], entry);
    assert_eq!(
        client.get("/api/system_stats").await["system"]["comfyui_version"],
        "0.8.0"
    );
    assert_eq!(
        client.get("/prompt").await,
        json!({"exec_info": {"queue_remaining": 0}})
    );

    client.post("/history", &json!({"delete": [id]})).await;
    assert_eq!(client.get(&history_path(id)).await, json!({}));
    let (status, answer) = client.post("/prompt", &body).await;
    assert_eq!(
        (status, &answer["error"]["type"]),
        (400, &json!("replay_over"))
    );
    server.shutdown().await;
}

#[tokio::test]
async fn an_ended_prompt_is_listed_as_it_was_recorded() {
    let recording = recording("0.33.0/31-jobs-api");
    let exchanges = recording.exchanges.iter();
    let mut jobs = exchanges.filter(|it| it.path.starts_with("/api/jobs/"));
    let recorded =
        jobs.find(|it| it.response["status"] == "completed" && it.response["priority"] == 0);
    let recorded = &recorded.unwrap().response;
    let server = replay(&[&recording], PlaybackSpeed::Fastest, false).await;
    let client = ReplayClient::of(&server);
    let _socket = client.connect(Some(CLIENT_ID)).await;
    let id = client.submit(&recording, 0, Some(CLIENT_ID)).await;
    for k in 1..4 {
        client.submit(&recording, k, Some(CLIENT_ID)).await;
    }
    client.result(&id).await;
    let job = client.get(&format!("/api/jobs/{id}")).await;
    for name in [
        "status",
        "outputs",
        "outputs_count",
        "previewable_outputs_count",
        "preview_output",
        "execution_start_time",
        "execution_end_time",
    ] {
        assert_eq!(job[name], recorded[name], "{name}");
    }
    assert_eq!(job["workflow"]["prompt"], recorded["workflow"]["prompt"]);
    let list = client
        .get("/api/jobs?status=completed&limit=1&offset=0")
        .await;
    let listed = list["jobs"][0].as_object().unwrap();
    assert!(!listed.contains_key("workflow") && listed.contains_key("preview_output"));
    assert_eq!(
        client.get("/api/jobs?status=failed").await["jobs"],
        json!([])
    );
}

#[tokio::test]
async fn a_prompt_of_a_version_of_2023() {
    let recording = recording("2023-08-14/01-txt2img-basic");
    let server = replay(&[&recording], PlaybackSpeed::Fastest, false).await;
    let client = ReplayClient::of(&server);
    let mut socket = client.connect(Some(CLIENT_ID)).await;
    let id = client.submit(&recording, 0, Some(CLIENT_ID)).await;
    let received = socket.end_of(&id).await;
    assert_eq!(
        types(&received)
            .iter()
            .filter(|kind| *kind == "progress")
            .count(),
        20
    );
    assert!(
        !received
            .iter()
            .any(|event| is_type(event, "execution_success"))
    );
    let entry = client.result(&id).await;
    assert!(entry.get("status").is_none() && !entry["outputs"].as_object().unwrap().is_empty());
}

#[tokio::test]
async fn wrong_requests_are_answered_as_comfyui_does() {
    let server = replay(&[&recording(TXT2IMG)], PlaybackSpeed::Fastest, false).await;
    let client = ReplayClient::of(&server);
    let status = async |method: reqwest::Method, path: &str, body: &'static str| {
        let request = client
            .http
            .request(method, format!("{}{path}", client.url))
            .body(body);
        request.send().await.unwrap().status().as_u16()
    };
    use reqwest::Method;
    assert_eq!(status(Method::GET, "/api/jobs/x", "").await, 404);
    assert_eq!(status(Method::GET, "/history/team/job", "").await, 404);
    assert_eq!(status(Method::DELETE, "/queue", "").await, 405);
    assert_eq!(status(Method::POST, "/prompt", "not json").await, 400);
    assert_eq!(status(Method::POST, "/interrupt", "").await, 200);
    assert_eq!(status(Method::GET, "/view?subfolder=", "").await, 404);
    let picture = client
        .http
        .get(format!("{}/view?filename=a.png&type=output", client.url))
        .send()
        .await
        .unwrap();
    assert_eq!(picture.headers()["content-type"], "image/png");
    assert!(picture.bytes().await.unwrap().starts_with(b"\x89PNG"));
}

#[tokio::test]
async fn any_text_is_a_prompt_id() {
    let recording = recording("0.8.0/25-own-prompt-id");
    assert!(folder("0.8.0/25-own-prompt-id").exists());
    let server = replay(&[&recording], PlaybackSpeed::Fastest, true).await;
    let client = ReplayClient::of(&server);
    let mut socket = client.connect(Some(CLIENT_ID)).await;
    for (k, id) in ["a/b", "a/b", "\"ü\" \u{1f600}"].into_iter().enumerate() {
        let mut body = recording.prompts().nth(k).unwrap().request_body.clone();
        (body["client_id"], body["prompt_id"]) = (json!(CLIENT_ID), json!(id));
        let (_, answer) = client.post("/prompt", &body).await;
        assert_eq!(answer["prompt_id"], id);
        socket.end_of(id).await;
        let entry: Value = client.result(id).await;
        assert_eq!(
            (&entry["prompt"][0], &entry["prompt"][1]),
            (&json!(k), &json!(id))
        );
    }
}

#[tokio::test]
async fn prompts_with_the_same_id_end_one_after_the_other() {
    let recording = recording("0.8.0/25b-same-prompt-id-queued-twice");
    let server = replay(&[&recording], PlaybackSpeed::Fastest, false).await;
    let client = ReplayClient::of(&server);
    let mut socket = client.connect(Some(CLIENT_ID)).await;
    let ids = [
        client.submit(&recording, 0, Some(CLIENT_ID)).await,
        client.submit(&recording, 1, Some(CLIENT_ID)).await,
    ];
    assert_eq!(ids[0], ids[1]);
    for picture in ["ComfyUI_00001_.png", "ComfyUI_00002_.png"] {
        let received = socket.end_of(&ids[0]).await;
        let executed = received
            .iter()
            .find(|event| is_type(event, "executed"))
            .unwrap()
            .json();
        assert_eq!(executed["data"]["output"]["images"][0]["filename"], picture);
    }
    let second = client.until("the second result", async || {
        let entry = client.get(&history_path(&ids[0])).await[&ids[0]].clone();
        (entry["prompt"][0] == 1).then_some(entry)
    });
    assert_eq!(
        second.await["outputs"]["9"]["images"][0]["filename"],
        "ComfyUI_00002_.png"
    );
}

#[tokio::test]
async fn a_history_entry_is_as_late_as_in_the_recording() {
    let recording = recording("0.8.0/19c-lazy-and-blocker");
    let server = replay(&[&recording], PlaybackSpeed::Fastest, false).await;
    let client = ReplayClient::of(&server);
    let mut socket = client.connect(Some(CLIENT_ID)).await;
    let id = client.submit(&recording, 0, Some(CLIENT_ID)).await;
    socket
        .until("success", |event| is_type(event, "execution_success"))
        .await;
    // While its history is not there, it is still in the queue.
    assert_eq!(
        client.get("/queue").await["queue_running"][0][1],
        id.as_str()
    );
    assert_eq!(client.get(&history_path(&id)).await, json!({}));
    socket.end_of(&id).await;
    assert_ne!(client.get(&history_path(&id)).await, json!({}));
    assert_eq!(client.get("/queue").await["queue_running"], json!([]));
}

/// What goes with a prompt beside its graph is in the queue, as ComfyUI has it there.
#[tokio::test]
async fn a_prompt_keeps_what_goes_with_it() {
    let recording = recording("0.33.0/31-jobs-api");
    let server = replay(&[&recording], PlaybackSpeed::Real(1.0), false).await;
    let client = ReplayClient::of(&server);
    for (posted, (more, number)) in recording.prompts().zip([
        (json!({}), json!(0)),
        (
            json!({"front": true, "extra_data": {"preview_method": "auto"}}),
            json!(-1),
        ),
        (json!({"number": 7.5}), json!(7.5)),
        (json!({"partial_execution_targets": ["9"]}), json!(2)),
    ]) {
        let mut body = json!({"prompt": posted.request_body["prompt"]});
        let fields = body.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        let (status, answer) = client.post("/prompt", &body).await;
        assert_eq!((status, &answer["number"]), (200, &number), "{more}");
    }
    let queue = client.get("/queue").await;
    let pending = queue["queue_pending"].as_array().unwrap();
    let of = |number: Value| pending.iter().find(|entry| entry[0] == number).unwrap();
    assert_eq!(of(json!(-1))[3]["preview_method"], "auto", "{queue}");
    assert_eq!(of(json!(2))[4], json!(["9"]), "{queue}");
}
