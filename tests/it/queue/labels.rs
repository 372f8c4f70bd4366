//! Jobs ask for servers by labels.

use comfy_relay::config::{BackendLabels, LabelledBackend};
use comfy_relay::replay::Replay;
use serde_json::{Value, json};

use super::{job, prompts_run, servers, settings, urls};
use crate::support::database::{TestDatabase, on_both};
use crate::support::program::Program;
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::wait::wait_until;

on_both!(
    a_job_goes_to_a_server_with_its_labels,
    a_waiting_job_goes_where_the_labels_are_when_it_is_placed,
);

fn name(server: &Replay) -> String {
    server.url().trim_start_matches("http://").to_owned()
}

/// The same settings with labels for the servers, in their order.
fn labelled(mut settings: Settings, servers: &[Replay], labels: &[&str]) -> Settings {
    let entries = servers.iter().zip(labels);
    let entries = entries.map(|(server, labels)| LabelledBackend {
        name: name(server),
        labels: BackendLabels::parse(labels).unwrap(),
    });
    settings.comfy.labels = entries.collect();
    settings
}

async fn job_on(id: &str, backend: &Value) -> Value {
    let mut body = job(id).await;
    body["backend"] = backend.clone();
    body
}

async fn a_job_goes_to_a_server_with_its_labels(db: TestDatabase) {
    let servers = servers(3).await;
    let labels = ["gpu=a100,room=1", "gpu=h100,room=1", "gpu=h100,room=2"];
    let settings = labelled(settings(&db), &servers, &labels);
    let relay = TestRelay::connected_to(&urls(&servers), settings).await;
    let (_, backends) = relay.get("/api/anime/backends").await;
    let shown = &backends["backends"][2]["labels"];
    assert_eq!(*shown, json!({"gpu": "h100", "room": "2"}), "{backends}");
    let (_, health) = relay.get("/api/anime/health").await;
    let shown = &health["components"]["comfyui"][0]["labels"];
    assert_eq!(*shown, json!({"gpu": "a100", "room": "1"}), "{health}");
    for (id, asked, expected) in [
        ("a", json!("gpu=a100"), 0),
        ("b", json!("gpu=h100, room=1"), 1),
        ("c", json!({"gpu": "h100", "room": "2"}), 2),
        ("d", json!(["room=2", {"room": "2", "gpu": "h100"}]), 2),
        ("e", json!([name(&servers[1]), "gpu=h100,room=1"]), 1),
    ] {
        let (status, answer) = relay
            .post("/api/anime/jobs", &job_on(id, &asked).await)
            .await;
        assert_eq!(status, 201, "{answer}");
        let expected = name(&servers[expected]);
        assert_eq!(answer["backend"], expected, "{asked}: {answer}");
        relay.subscribe(id).await.ends_as("completed").await;
    }
    let (status, answer) = relay.post("/api/anime/jobs/c/retry", &json!({})).await;
    assert_eq!(status, 201, "{answer}");
    assert_eq!(answer["backend"], name(&servers[2]), "as before: {answer}");
    let check = job_on("x", &json!({"room": "1"})).await;
    let check = json!({"workflow": check["workflow"], "backend": check["backend"]});
    let (_, checked) = relay.post("/api/anime/workflows/check", &check).await;
    let asked = checked["backends"].as_array().unwrap().iter();
    let asked: Vec<&str> = asked.map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(asked, [name(&servers[0]), name(&servers[1])], "{checked}");
    let mut batch = job_on("x", &json!("gpu=a100")).await;
    batch.as_object_mut().unwrap().remove("job_id");
    batch["count"] = json!(2);
    let (status, answer) = relay.post("/api/anime/batches", &batch).await;
    assert_eq!(status, 201, "{answer}");
    wait_until("the batch has run where its labels are", async || {
        prompts_run(&servers[0].url()).await.len() == 3
    })
    .await;
}

async fn a_waiting_job_goes_where_the_labels_are_when_it_is_placed(db: TestDatabase) {
    let servers = servers(2).await;
    let first = labelled(settings(&db), &servers, &["gpu=a100", "gpu=h100"]);
    let relay = TestRelay::connected_to(&urls(&servers), first).await;
    relay.post("/api/anime/queue/pause", &Value::Null).await;
    for (id, asked) in [("a", "gpu=h100"), ("b", "gpu=a100")] {
        let body = job_on(id, &json!(asked)).await;
        assert_eq!(relay.post("/api/anime/jobs", &body).await.0, 201);
    }
    relay.stop().await;
    let second = labelled(settings(&db), &servers, &["gpu=h100", "room=2"]);
    let relay = TestRelay::connected_to(&urls(&servers), second).await;
    relay.post("/api/anime/queue/resume", &Value::Null).await;
    relay.subscribe("a").await.ends_as("completed").await;
    let (_, moved) = relay.job("a").await;
    assert_eq!(moved["backend"], name(&servers[0]), "{moved}");
    wait_until("the other one says what is missing", async || {
        relay.job("b").await.1["message"] == "Waiting: no server has the labels gpu=a100"
    })
    .await;
    relay.stop().await;
    let third = labelled(settings(&db), &servers, &["gpu=h100", "gpu=a100"]);
    let relay = TestRelay::connected_to(&urls(&servers), third).await;
    relay.subscribe("b").await.ends_as("completed").await;
    let (_, placed) = relay.job("b").await;
    assert_eq!(placed["backend"], name(&servers[1]), "{placed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_that_no_server_has_are_refused_by_name() {
    let servers = servers(2).await;
    let settings = labelled(Settings::default(), &servers, &["gpu=a100", "room=2"]);
    let relay = TestRelay::connected_to(&urls(&servers), settings).await;
    let known = [
        format!("gpu=a100 ({})", name(&servers[0])),
        format!("room=2 ({})", name(&servers[1])),
    ];
    let paths = ["jobs", "batches", "workflows/check"].map(|path| format!("/api/anime/{path}"));
    for (asked, missing) in [
        (json!("gpu=h100"), "gpu=h100"),
        (json!({"gpu": "a100", "room": "2"}), "gpu=a100, room=2"),
        (json!(["gpu=a100", "rack=1"]), "rack=1"),
    ] {
        for path in &paths {
            let mut body = job_on("x", &asked).await;
            body.as_object_mut().unwrap().remove("job_id");
            if path.ends_with("batches") {
                body["count"] = json!(1);
            }
            let (status, answer) = relay.post(path, &body).await;
            assert_eq!(status, 400, "{path}: {answer}");
            assert_eq!(answer["error"]["code"], "label_unknown", "{answer}");
            let message = answer["error"]["message"].as_str().unwrap();
            let begin = format!("no backend has the labels {missing}; ");
            assert!(message.starts_with(&begin), "{message}");
            assert!(known.iter().all(|it| message.contains(it)), "{message}");
        }
    }
    for wrong in [
        json!({}),
        json!([]),
        json!({"gpu": 1}),
        json!({"g u": "a100"}),
        json!("gpu="),
        json!("gpu=a100,"),
        json!([["gpu=a100"]]),
        json!(7),
    ] {
        let (status, answer) = relay
            .post("/api/anime/jobs", &job_on("x", &wrong).await)
            .await;
        assert_eq!(status, 400, "{wrong}: {answer}");
        assert_eq!(answer["error"]["code"], "bad_backend", "{wrong}: {answer}");
    }
    assert_eq!(relay.get("/api/anime/jobs").await.1["jobs"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_is_looked_for_on_the_servers_with_the_labels() {
    let servers = servers(2).await;
    let settings = labelled(Settings::default(), &servers, &["gpu=a100", "gpu=h100"]);
    let relay = TestRelay::connected_to(&urls(&servers), settings).await;
    let body = job_on("own", &json!("gpu=h100")).await;
    let (_, answer) = relay.post("/api/anime/jobs", &body).await;
    relay.subscribe("own").await.ends_as("completed").await;
    let prompt = &answer["prompt_id"];
    let wrong = json!({"job_id": "seen", "prompt_id": prompt, "backend": "gpu=a100"});
    let (status, answer) = relay.post("/api/anime/jobs", &wrong).await;
    assert_eq!(status, 404, "{answer}");
    let right = json!({"job_id": "seen", "prompt_id": prompt, "backend": {"gpu": "h100"}});
    let (status, answer) = relay.post("/api/anime/jobs", &right).await;
    assert_eq!(status, 201, "{answer}");
    assert_eq!(answer["backend"], name(&servers[1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_take_labels_and_show_them() {
    let servers = servers(2).await;
    let settings = labelled(
        Settings::default(),
        &servers,
        &["gpu=a100", "gpu=h100,room=2"],
    );
    let relay = TestRelay::connected_to(&urls(&servers), settings).await;
    let url = relay.url();
    let run = async |arguments: &[&str]| {
        let output = Program::run(arguments, &[("RELAY_URL", url.as_str())]).await;
        let text = String::from_utf8(output.stdout).unwrap();
        (text, String::from_utf8(output.stderr).unwrap())
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("graph.json");
    let file = file.to_str().unwrap();
    std::fs::write(file, job("x").await["workflow"].to_string()).unwrap();
    let (listed, _) = run(&["backends"]).await;
    let rows: Vec<&str> = listed.lines().collect();
    assert!(rows[0].contains("LABELS"), "{listed}");
    assert!(rows[2].contains("gpu=h100, room=2"), "{listed}");
    let (_, notes) = run(&["submit", file, "--backend", "gpu=h100,room=2"]).await;
    assert!(
        notes.contains(&format!("on {}", name(&servers[1]))),
        "{notes}"
    );
    let (table, _) = run(&["workflow", "check", file, "--backend", "gpu=a100"]).await;
    assert!(table.contains(&name(&servers[0])), "{table}");
    assert!(!table.contains(&name(&servers[1])), "{table}");
    let (_, error) = run(&["submit", file, "--backend", "gpu=b200"]).await;
    assert!(error.contains("(label_unknown)"), "{error}");
}
