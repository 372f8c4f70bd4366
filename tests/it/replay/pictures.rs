//! The pictures that the replay server serves at `/view`.

use std::sync::Arc;

use comfy_relay::recording::Recording;
use comfy_relay::replay::PlaybackSpeed;
use reqwest::{Method, Response, StatusCode};

use super::client::{CLIENT_ID, ReplayClient, recording, replay};

/// Its graph loads `photo.png`, of 128 by 96 pixels.
const PHOTO: &str = "0.33.0/40-image-to-image-run1";

/// Its graph loads `large.png`, of 224 by 176 pixels.
const LARGE: &str = "0.33.0/41-inpaint-run3";

const VIEW_PHOTO: &str = "/view?filename=photo.png&subfolder=&type=input";

async fn ask(client: &ReplayClient, method: Method, path: &str, range: Option<&str>) -> Response {
    let mut request = client.http.request(method, format!("{}{path}", client.url));
    if let Some(range) = range {
        request = request.header("range", range);
    }
    request.send().await.unwrap()
}

async fn picture(client: &ReplayClient, path: &str) -> Vec<u8> {
    let response = ask(client, Method::GET, path, None).await;
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    assert_eq!(response.headers()["content-type"], "image/png");
    response.bytes().await.unwrap().to_vec()
}

/// Width and height by the header of a PNG.
fn size(png: &[u8]) -> (u32, u32) {
    assert!(
        png.starts_with(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR"),
        "{png:?}"
    );
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

#[tokio::test]
async fn a_picture_has_the_recorded_size() {
    let recordings = [recording(PHOTO), recording(LARGE)];
    let server = replay(&recordings.each_ref(), PlaybackSpeed::Fastest, false).await;
    let client = ReplayClient::of(&server);
    let expected = [("photo.png", (128, 96)), ("large.png", (224, 176))];
    for ((name, expected), recording) in expected.into_iter().zip(&recordings) {
        let recorded = recording.inputs[name];
        assert_eq!((recorded.width, recorded.height), expected);
        for view in ["/view", "/api/view"] {
            let path = format!("{view}?filename={name}&subfolder=&type=input");
            assert_eq!(size(&picture(&client, &path).await), expected);
        }
    }
}

#[tokio::test]
async fn a_picture_is_served_in_parts() {
    let server = replay(&[&recording(PHOTO)], PlaybackSpeed::Fastest, false).await;
    let client = ReplayClient::of(&server);
    let whole = picture(&client, VIEW_PHOTO).await;
    let length = whole.len();
    for (range, part) in [
        ("bytes=0-31", 0..32),
        ("bytes=32-", 32..length),
        ("bytes=-12", length - 12..length),
        ("bytes=0-65535", 0..length),
        ("bytes=-65536", 0..length),
    ] {
        let response = ask(&client, Method::GET, VIEW_PHOTO, Some(range)).await;
        assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT, "{range}");
        let shown = format!("bytes {}-{}/{length}", part.start, part.end - 1);
        assert_eq!(response.headers()["content-range"], shown);
        assert_eq!(response.bytes().await.unwrap(), whole[part], "{range}");
    }
    let past = format!("bytes={length}-");
    for range in [&past, "bytes=5-4", "bytes=-", "bytes=0-1,4-5", "lines=1-2"] {
        let response = ask(&client, Method::GET, VIEW_PHOTO, Some(range)).await;
        let status = response.status();
        assert_eq!(status, StatusCode::RANGE_NOT_SATISFIABLE, "{range}");
        let shown = format!("bytes */{length}");
        assert_eq!(response.headers()["content-range"], shown);
        assert_eq!(response.bytes().await.unwrap(), "", "{range}");
    }
}

#[tokio::test]
async fn the_head_of_a_response_shows_the_length_of_a_picture() {
    let server = replay(&[&recording(PHOTO)], PlaybackSpeed::Fastest, false).await;
    let client = ReplayClient::of(&server);
    let length = picture(&client, VIEW_PHOTO).await.len();
    let head = ask(&client, Method::HEAD, VIEW_PHOTO, None).await;
    assert_eq!(head.status(), StatusCode::OK);
    assert_eq!(head.headers()["accept-ranges"], "bytes");
    assert_eq!(head.headers()["content-length"], length.to_string());
    assert_eq!(head.bytes().await.unwrap(), "");
}

#[tokio::test]
async fn a_picture_that_no_graph_loads_is_not_found() {
    let server = replay(&[&recording(PHOTO)], PlaybackSpeed::Fastest, false).await;
    let client = ReplayClient::of(&server);
    for (query, status) in [
        ("filename=other.png&type=input", 404),
        ("filename=photo.png&subfolder=a&type=input", 404),
        ("subfolder=&type=input", 404),
        ("filename=../photo.png&type=input", 400),
        ("filename=/photo.png&type=input", 400),
        ("filename=photo.png&type=models", 400),
        // Of outputs, recordings do not hold the content.
        ("filename=other.png&type=output", 200),
        ("filename=other.png", 200),
    ] {
        let response = ask(&client, Method::GET, &format!("/view?{query}"), None).await;
        assert_eq!(response.status(), status, "{query}");
    }
}

/// Two recordings load other pictures under one name.
#[tokio::test]
async fn a_picture_is_that_of_the_prompt_that_runs_or_comes_next() {
    let first = recording(PHOTO);
    let inputs = r#"{"photo.png": {"width": 640, "height": 480}}"#;
    let second = Recording::clone(&first).with_inputs(inputs).unwrap();
    let second = Arc::new(second);
    let server = replay(&[&first, &second], PlaybackSpeed::Fastest, false).await;
    let client = ReplayClient::of(&server);
    let mut socket = client.connect(Some(CLIENT_ID)).await;
    for (recording, expected) in [(&first, (128, 96)), (&second, (640, 480))] {
        assert_eq!(size(&picture(&client, VIEW_PHOTO).await), expected);
        let id = client.submit(recording, 0, Some(CLIENT_ID)).await;
        socket.end_of(&id).await;
        client.result(&id).await;
    }
}
