//! Files that are uploaded over Comfy API v2, and graphs that load them.

use comfy_relay::replay::{PlaybackSpeed, Replay};
use reqwest::Method;
use serde_json::{Value, json};

use super::v2_client::{UploadForm, V2Client};
use crate::support::database::{TestDatabase, on_both};
use crate::support::recordings::{recording, replay, workflow};
use crate::support::test_relay::{Settings, TestRelay, response};
use crate::support::tokens::{guarded, token};

on_both!(a_repeated_upload_is_the_same_asset_also_after_a_restart);

pub(super) const PHOTO: &[u8] = b"the content of a photo";

/// Its workflow loads a picture.
pub(super) const IMG2IMG: &str = "0.33.0/40-image-to-image-run1";

/// Two servers, and a relay before them.
pub(super) async fn stage(settings: Settings) -> ([Replay; 2], TestRelay, V2Client) {
    let server = async || replay(vec![recording(IMG2IMG).await], PlaybackSpeed::Fastest).await;
    let servers = [server().await, server().await];
    let urls = format!("{},{}", servers[0].url(), servers[1].url());
    let relay = TestRelay::connected_to(&urls, settings).await;
    let client = V2Client::new(&relay.serve_comfy().await);
    (servers, relay, client)
}

/// A workflow that loads a file.
pub(super) async fn loading(file: &Value) -> Value {
    let mut graph = workflow(IMG2IMG).await;
    *loaded(&mut graph) = file.clone();
    json!({"workflow": graph})
}

/// What a workflow loads.
fn loaded(graph: &mut Value) -> &mut Value {
    let mut nodes = graph.as_object_mut().unwrap().values_mut();
    let loader = nodes.find(|node| node["class_type"] == "LoadImage");
    &mut loader.unwrap()["inputs"]["image"]
}

pub(super) fn reference(asset: &Value) -> Value {
    json!({"__type": "core/ASSET", "info": {"id": asset["id"], "hash": asset["hash"], "file_path": asset["file_path"]}})
}

pub(super) fn hash_of(content: &[u8]) -> String {
    format!("blake3:{}", blake3::hash(content))
}

/// The file that a job loads.
pub(super) async fn loaded_file(client: &V2Client, job: &Value) -> String {
    let path = format!("{}/workflow", job["urls"]["self"].as_str().unwrap());
    let (_, mut shown) = client.get(&path).await;
    let file = loaded(&mut shown["workflow"]).as_str();
    file.unwrap().to_owned()
}

/// What a server has in its input folder under a name.
pub(super) async fn on_server(server: &Replay, name: &str) -> Option<Vec<u8>> {
    let url = format!(
        "{}/view?filename={name}&subfolder=&type=input",
        server.url()
    );
    let answer = reqwest::get(url).await.unwrap();
    let is_there = answer.status() == 200;
    let content = answer.bytes().await.unwrap().to_vec();
    is_there.then_some(content)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uploaded_file_reaches_every_server_and_the_graph_that_names_it() {
    let (servers, _relay, client) = stage(Settings::default()).await;
    let (status, asset) = client
        .upload(&UploadForm::new("my photo.png", PHOTO), None)
        .await;
    assert_eq!(status, 201, "{asset}");
    assert_eq!(asset["hash"], hash_of(PHOTO));
    assert_eq!(
        (&asset["size_bytes"], &asset["created_new"]),
        (&json!(PHOTO.len()), &json!(true))
    );
    assert_eq!(
        (&asset["content_type"], &asset["file_path"]),
        (&json!("image/png"), &json!("my photo.png"))
    );
    let id = asset["id"].as_str().unwrap();
    uuid::Uuid::parse_str(id).unwrap();
    let (status, job) = client
        .post("/jobs", &loading(&reference(&asset)).await)
        .await;
    assert_eq!(status, 201, "{job}");
    let name = loaded_file(&client, &job).await;
    assert!(
        name.starts_with("my_photo-") && name.ends_with(".png"),
        "{name}"
    );
    for server in &servers {
        assert_eq!(on_server(server, &name).await.as_deref(), Some(PHOTO));
    }
    client.wait_for(&job, "succeeded").await;
    let (_, shown) = client.get(&format!("/assets/{id}")).await;
    assert_eq!(
        (&shown["id"], &shown["hash"]),
        (&asset["id"], &asset["hash"])
    );
    let content = client.request(Method::GET, shown["url"].as_str().unwrap());
    let content = content.header("Range", "bytes=4-10").send().await.unwrap();
    assert_eq!(content.status(), 206);
    // Nothing in it runs as a page of the relay.
    assert!(
        content.headers()["content-security-policy"]
            .to_str()
            .unwrap()
            .contains("sandbox")
    );
    assert_eq!(content.text().await.unwrap(), "content");
    let delete = || client.request(Method::DELETE, &format!("/assets/{id}"));
    assert_eq!(delete().send().await.unwrap().status(), 204);
    let (status, gone) = response(delete()).await;
    assert_eq!((status, &gone["error"]["code"]), (404, &json!("not_found")));
    let (status, refused) = client
        .post("/jobs", &loading(&reference(&asset)).await)
        .await;
    assert_eq!(
        (status, &refused["error"]["code"]),
        (422, &json!("missing_asset")),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_content_is_uploaded_once_as_long_as_all_servers_have_it() {
    let (_servers, _relay, client) = stage(Settings::default()).await;
    let by_hash = async |hash: &str| {
        let request = client.request(Method::HEAD, &format!("/assets/by-hash/{hash}"));
        request.send().await.unwrap().status().as_u16()
    };
    let hash = hash_of(PHOTO);
    assert_eq!(by_hash(&hash).await, 404);
    let (status, refused) = client
        .post("/assets/from-hash", &json!({"hash": hash}))
        .await;
    assert_eq!(
        (status, &refused["error"]["code"]),
        (404, &json!("blob_not_found"))
    );
    let (_, first) = client.upload(&UploadForm::new("a.png", PHOTO), None).await;
    assert_eq!(by_hash(&hash).await, 200);
    let body =
        json!({"hash": hash.to_uppercase().replace("BLAKE3", "blake3"), "file_path": "b.png"});
    let (status, minted) = client.post("/assets/from-hash", &body).await;
    assert_eq!(
        (status, &minted["created_new"]),
        (201, &json!(false)),
        "{minted}"
    );
    assert_eq!(
        (&minted["hash"], &minted["file_path"]),
        (&first["hash"], &json!("b.png"))
    );
    assert_ne!(minted["id"], first["id"]);
    let (status, again) = client.upload(&UploadForm::new("c.png", PHOTO), None).await;
    assert_eq!(
        (status, &again["created_new"]),
        (200, &json!(false)),
        "{again}"
    );
    assert_eq!(by_hash("blake3:12").await, 422);
    assert_eq!(by_hash(&hash_of(b"another")).await, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_later_gets_a_file_by_another_upload() {
    let database = TestDatabase::sqlite().await;
    let settings = Settings::from(database.config());
    let ([first, _], relay, client) = stage(settings.clone()).await;
    assert_eq!(
        client
            .upload(&UploadForm::new("a.png", PHOTO), None)
            .await
            .0,
        201
    );
    relay.stop().await;
    let later = replay(vec![recording(IMG2IMG).await], PlaybackSpeed::Fastest).await;
    let urls = format!("{},{}", first.url(), later.url());
    let relay = TestRelay::connected_to(&urls, settings).await;
    let client = V2Client::new(&relay.serve_comfy().await);
    let by_hash = async || {
        let path = format!("/assets/by-hash/{}", hash_of(PHOTO));
        let found = client.request(Method::HEAD, &path).send().await.unwrap();
        found.status().as_u16()
    };
    assert_eq!(by_hash().await, 404);
    assert_eq!(
        client
            .upload(&UploadForm::new("a.png", PHOTO), None)
            .await
            .0,
        201
    );
    assert_eq!(by_hash().await, 200);
}

async fn a_repeated_upload_is_the_same_asset_also_after_a_restart(database: TestDatabase) {
    let settings = Settings::from(database.config());
    let (servers, relay, client) = stage(settings.clone()).await;
    let form = UploadForm::new("a.png", PHOTO);
    let (status, first) = client.upload(&form, Some("key")).await;
    assert_eq!(status, 201, "{first}");
    relay.stop().await;
    let urls = format!("{},{}", servers[0].url(), servers[1].url());
    let relay = TestRelay::connected_to(&urls, settings).await;
    let client = V2Client::new(&relay.serve_comfy().await);
    let (status, again) = client.upload(&form, Some("key")).await;
    assert_eq!((status, &again["id"]), (200, &first["id"]), "{again}");
    let other = UploadForm::new("a.png", b"another");
    let (status, refused) = client.upload(&other, Some("key")).await;
    assert_eq!(
        (status, &refused["error"]["code"]),
        (422, &json!("idempotency_key_reuse"))
    );
    let (_, job) = client
        .post("/jobs", &loading(&reference(&first)).await)
        .await;
    client.wait_for(&job, "succeeded").await;
    let path = format!("/assets/{}", first["id"].as_str().unwrap());
    let delete = client.request(Method::DELETE, &path).send().await.unwrap();
    assert_eq!(delete.status(), 204);
    assert_eq!(client.get(&path).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_with_one_key_that_come_at_once_are_one_asset() {
    let (_servers, _relay, client) = stage(Settings::default()).await;
    let (one, other) = (
        UploadForm::new("a.png", PHOTO),
        UploadForm::new("a.png", b"another"),
    );
    let (first, second) = tokio::join!(
        client.upload(&one, Some("key")),
        client.upload(&other, Some("key"))
    );
    let statuses = [first.0, second.0];
    assert!(
        statuses.contains(&201) && statuses.contains(&422),
        "{first:?} {second:?}"
    );
    let (asset, content) = if first.0 == 201 {
        (first.1, PHOTO)
    } else {
        (second.1, &b"another"[..])
    };
    let stored = client.request(Method::GET, asset["url"].as_str().unwrap());
    let stored = stored.send().await.unwrap().bytes().await.unwrap();
    assert_eq!(stored, content);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_job_has_made_is_loaded_by_another_one() {
    let (servers, _relay, client) = stage(Settings::default()).await;
    let first = json!({"workflow": workflow(IMG2IMG).await});
    let (_, first) = client.post("/jobs", &first).await;
    let first = client.wait_for(&first, "succeeded").await;
    let output = &first["outputs"][0];
    let (_, made) = client
        .get(&format!("/assets/{}", output["id"].as_str().unwrap()))
        .await;
    let mut names = Vec::new();
    for _ in 0..2 {
        let (status, job) = client
            .post("/jobs", &loading(&reference(&made)).await)
            .await;
        assert_eq!(status, 201, "{job}");
        names.push(loaded_file(&client, &job).await);
    }
    assert_eq!(names[0], names[1], "it is copied once");
    let picture = client.request(Method::GET, output["url"].as_str().unwrap());
    let picture = picture.send().await.unwrap().bytes().await.unwrap();
    for server in &servers {
        let copy = on_server(server, &names[0]).await.unwrap();
        assert_eq!(copy, picture);
    }
    let delete = client.request(
        Method::DELETE,
        &format!("/assets/{}", output["id"].as_str().unwrap()),
    );
    let (status, refused) = response(delete).await;
    assert_eq!(
        (status, &refused["error"]["code"]),
        (409, &json!("asset_in_use"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_is_not_enough_is_refused() {
    let (_servers, _relay, client) = stage(Settings::default()).await;
    let refused = async |form: &UploadForm| {
        let (status, answer) = client.upload(form, None).await;
        let error = &answer["error"];
        assert_eq!(
            (status, &error["code"]),
            (422, &json!("invalid_request")),
            "{answer}"
        );
        error["message"].as_str().unwrap().to_owned()
    };
    let models = UploadForm::new("models/checkpoints/a.safetensors", PHOTO);
    assert!(refused(&models).await.contains("models"));
    let late = UploadForm::file_first("a.png", PHOTO);
    assert!(refused(&late).await.contains("before the file"));
    let none = UploadForm::without_file("a.png");
    assert!(refused(&none).await.contains("no file"));
    let long = UploadForm::new("a.png", PHOTO).with("tags", &"x".repeat(5_000));
    refused(&long).await;
    let hash = UploadForm::new("a.png", PHOTO).with("expected_hash", "md5:1");
    assert!(refused(&hash).await.contains("blake3:"));
    let (status, answer) = client.post("/assets", &json!({})).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (422, &json!("invalid_request")),
        "{answer}"
    );
    for file in [
        json!({"__type": "core/ASSET"}),
        json!({"__type": "core/ASSET", "info": {"id": 3}}),
        json!({"__type": "core/ASSET", "info": {"id": "7f3d2c1b-9a8e-4d6f-b012-3c4d5e6f7a8b"}}),
        json!({"__type": "core/ASSET", "info": {"id": "7f3d2c1b-9a8e-4d6f-b012-3c4d5e6f7a8b.0"}}),
    ] {
        let (status, answer) = client.post("/jobs", &loading(&file).await).await;
        assert_eq!(
            (status, &answer["error"]["code"]),
            (422, &json!("missing_asset")),
            "{answer}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_for_tokens_that_submit() {
    let (_servers, relay, _) = stage(Settings::from(guarded())).await;
    let api = relay.serve_comfy().await;
    let of = |claims: Value| V2Client::with_token(&api, &token(&claims));
    let form = UploadForm::new("a.png", PHOTO);
    let nobody = V2Client::new(&api);
    assert_eq!(nobody.upload(&form, None).await.0, 401);
    let reader = of(json!({"scope": "subscribe"}));
    assert_eq!(reader.upload(&form, None).await.0, 403);
    let (status, asset) = of(json!({})).upload(&form, None).await;
    assert_eq!(status, 201, "{asset}");
    let path = format!("/assets/{}", asset["id"].as_str().unwrap());
    assert_eq!(reader.get(&path).await.0, 200);
    assert_eq!(nobody.get(&path).await.0, 401);
    assert_eq!(nobody.get(&format!("{path}/content")).await.0, 401);
    let delete = reader.request(Method::DELETE, &path);
    assert_eq!(response(delete).await.0, 403);
}
