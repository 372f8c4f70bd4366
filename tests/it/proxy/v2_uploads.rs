//! Which servers have what is uploaded over Comfy API v2, and which uploads are refused.

use comfy_relay::replay::PlaybackSpeed;
use reqwest::Method;
use serde_json::{Value, json};

use super::v2_assets::{
    IMG2IMG, PHOTO, hash_of, loaded_file, loading, on_server, reference, stage,
};
use super::v2_client::{UploadForm, V2Client};
use crate::support::database::{TestDatabase, on_both};
use crate::support::recordings::{recording, replay, workflow};
use crate::support::scripted_comfy::ScriptedComfy;
use crate::support::subscriber::is_final;
use crate::support::test_relay::{Settings, TestRelay, response};
use crate::support::wait::wait_until;

on_both!(
    files_are_for_the_servers_of_other_relays_too,
    names_that_no_file_can_have_are_refused,
);

const UPLOAD: &str = "POST /upload/image";

async fn files_are_for_the_servers_of_other_relays_too(db: TestDatabase) {
    let server = async || replay(vec![recording(IMG2IMG).await], PlaybackSpeed::Fastest).await;
    let servers = [server().await, server().await];
    let settings = Settings::from(db.config());
    let _first = TestRelay::connected_to(&servers[0].url(), settings.clone()).await;
    let urls = format!("{},{}", servers[0].url(), servers[1].url());
    let second = TestRelay::start(&urls, settings).await;
    let follows_one = |message: &Value| {
        let backends = message["backends"].as_array().into_iter().flatten();
        let connected = backends.filter(|server| server["connected"] == true);
        let mut elsewhere: Vec<bool> = connected
            .map(|server| server["followed_elsewhere"] == true)
            .collect();
        elsewhere.sort_unstable();
        elsewhere == [false, true]
    };
    second.monitor().await.receive_until(follows_one).await;
    let client = V2Client::new(&second.serve_comfy().await);
    let (status, asset) = client.upload(&UploadForm::new("a.png", PHOTO), None).await;
    assert_eq!(status, 201, "{asset}");
    let (status, job) = client
        .post("/jobs", &loading(&reference(&asset)).await)
        .await;
    assert_eq!(status, 201, "{job}");
    let name = loaded_file(&client, &job).await;
    for server in &servers {
        assert_eq!(on_server(server, &name).await.as_deref(), Some(PHOTO));
    }
    let by_hash = format!("/assets/by-hash/{}", hash_of(PHOTO));
    let found = client.request(Method::HEAD, &by_hash).send().await.unwrap();
    assert_eq!(found.status(), 200);
    // The size of what a server of the other relay has made is known here, too.
    let backend = servers[0].url();
    let backend = backend.trim_start_matches("http://");
    let body = json!({"job_id": "shot", "workflow": workflow(IMG2IMG).await, "backend": backend});
    let (status, accepted) = second.post("/api/anime/jobs", &body).await;
    assert!([201, 202].contains(&status), "{accepted}");
    wait_until("the job has ended", async || {
        is_final(&second.job("shot").await.1)
    })
    .await;
    let (_, shown) = client.get("/jobs/shot").await;
    let size = shown["outputs"][0]["size_bytes"].as_u64();
    assert!(size > Some(0), "{shown}");
}

async fn names_that_no_file_can_have_are_refused(db: TestDatabase) {
    let (_servers, _relay, client) = stage(Settings::from(db.config())).await;
    assert_eq!(client.get("/assets/%00").await.0, 404);
    let delete = client.request(Method::DELETE, "/assets/%00");
    assert_eq!(response(delete).await.0, 404);
    let unknown = loading(&reference(&json!({"id": "\0"}))).await;
    let (status, refused) = client.post("/jobs", &unknown).await;
    assert_eq!(
        (status, &refused["error"]["code"]),
        (422, &json!("missing_asset")),
        "{refused}"
    );
    let form = UploadForm::new("a.png", PHOTO);
    assert_eq!(client.upload(&form, None).await.0, 201);
    let long = "x".repeat(1_001);
    for file_path in ["", "a\0.png", "models/a.safetensors", &long] {
        let body = json!({"hash": hash_of(PHOTO), "file_path": file_path});
        let (status, refused) = client.post("/assets/from-hash", &body).await;
        assert_eq!(
            (status, &refused["error"]["code"]),
            (422, &json!("invalid_request")),
            "{file_path:?}: {refused}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_what_its_client_says_is_taken_by_no_server() {
    let servers = [ScriptedComfy::start().await, ScriptedComfy::start().await];
    let urls = format!("{},{}", servers[0].url(), servers[1].url());
    for server in &servers {
        server.answer(UPLOAD, 200, &json!({"name": "a.png"}));
    }
    let relay = TestRelay::connected_to(&urls, Settings::default()).await;
    let client = V2Client::new(&relay.serve_comfy().await);
    let form = UploadForm::new("a.png", PHOTO).with("expected_hash", &hash_of(b"another"));
    let (status, refused) = client.upload(&form, None).await;
    assert_eq!(
        (status, &refused["error"]["code"]),
        (409, &json!("hash_mismatch")),
        "{refused}"
    );
    let taken = || servers.each_ref().map(|server| server.calls(UPLOAD));
    assert_eq!(taken(), [0, 0]);
    for hash in [hash_of(PHOTO), hash_of(b"another")] {
        let (status, _) = client
            .post("/assets/from-hash", &json!({"hash": hash}))
            .await;
        assert_eq!(status, 404);
    }
    let form = UploadForm::new("a.png", PHOTO).with("expected_hash", &hash_of(PHOTO));
    assert_eq!(client.upload(&form, None).await.0, 201);
    assert_eq!(taken(), [1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_repeated_when_its_asset_is_gone() {
    let (_servers, _relay, client) = stage(Settings::default()).await;
    let form = UploadForm::new("a.png", PHOTO);
    let (_, asset) = client.upload(&form, Some("upload")).await;
    let renamed = UploadForm::new("b.png", PHOTO);
    let (status, refused) = client.upload(&renamed, Some("upload")).await;
    assert_eq!(
        (status, &refused["error"]["code"]),
        (422, &json!("idempotency_key_reuse")),
        "{refused}"
    );
    let body = loading(&reference(&asset)).await;
    let (status, job, _) = client.submit_as("order", &body).await;
    assert_eq!(status, 201, "{job}");
    let path = format!("/assets/{}", asset["id"].as_str().unwrap());
    let delete = client.request(Method::DELETE, &path).send().await.unwrap();
    assert_eq!(delete.status(), 204);
    let (status, again, is_replayed) = client.submit_as("order", &body).await;
    assert_eq!((status, &again["id"], is_replayed), (201, &job["id"], true));
    let other = json!({"workflow": body["workflow"], "metadata": {"shot": "8"}});
    let (status, refused, _) = client.submit_as("order", &other).await;
    assert_eq!(
        (status, &refused["error"]["code"]),
        (422, &json!("idempotency_key_reuse")),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_before_a_file_is_short() {
    let (_servers, _relay, client) = stage(Settings::default()).await;
    let form = || UploadForm::new("a.png", PHOTO);
    let tags = (0..400).fold(form(), |form, _| form.with("tags", &"x".repeat(900)));
    let head = form().with(&"x".repeat(300 << 10), "");
    for long in [tags, head] {
        let (status, refused) = client.upload(&long, None).await;
        let error = &refused["error"];
        assert_eq!((status, &error["code"]), (422, &json!("invalid_request")));
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("before the file"), "{message}");
    }
    let file = vec![7; 8 << 20];
    let tags = (0..40).fold(UploadForm::new("a.png", &file), |form, _| {
        form.with("tags", &"x".repeat(900))
    });
    let (status, asset) = client.upload(&tags, None).await;
    assert_eq!(
        (status, &asset["hash"]),
        (201, &json!(hash_of(&file))),
        "{asset}"
    );
}
