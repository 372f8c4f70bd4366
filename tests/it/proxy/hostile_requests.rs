//! Requests that are made to reach another route than the relay takes them for, or to change the next one.

use comfy_relay::config::ServerConfig;
use reqwest::Client;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::pass_through::{echoing, received};
use crate::support::tokens::{guarded, token};
use crate::support::wait::PATIENCE;

/// Sends exactly these bytes to a server at `http://…`, and returns everything that it answers.
async fn exchange(url: &str, request: &str) -> String {
    let address = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    timeout(PATIENCE, reading).await.expect("no end").unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_not_passed_on_leaves_no_length_behind() {
    let (_relay, _comfyui, api) = echoing("", "", ServerConfig::default()).await;
    let body = "POST /queue HTTP/1.1\r\nHost: x\r\nX: ";
    let request = format!(
        "GET /view?filename=a.png HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = exchange(&api, &request).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let head = answer
        .lines()
        .find(|line| line.starts_with("x-request-head"));
    let head = head.expect("the server has answered");
    assert!(!head.contains("content-length"), "{head}");
    assert!(!head.contains("transfer-encoding"), "{head}");
    let next = reqwest::get(format!("{api}/features")).await.unwrap();
    let head = received(&next);
    assert_eq!(
        (&head["method"], &head["target"]),
        (&json!("GET"), &json!("/features"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_length_stays_known() {
    let (_relay, _comfyui, api) = echoing("", "", ServerConfig::default()).await;
    for path in ["/extension", "/upload/image"] {
        for length in [0, 3] {
            let request = Client::new().post(format!("{api}{path}"));
            let request = request.body("x".repeat(length));
            let head = received(&request.send().await.unwrap());
            let headers = &head["headers"];
            assert!(headers["transfer-encoding"].is_null(), "{head}");
            let sent = headers["content-length"].as_str().unwrap_or("0");
            assert_eq!(sent, length.to_string(), "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoded_or_indirect_path_needs_the_same_permissions() {
    let (_relay, _comfyui, api) = echoing("", "", guarded()).await;
    let producer = token(&json!({"scope": "submit subscribe"}));
    for path in ["/queue", "/%71ueue", "/%61pi/interrupt", "//queue"] {
        let request = Client::new().post(format!("{api}{path}"));
        let request = request.bearer_auth(&producer).body("{}");
        assert_eq!(request.send().await.unwrap().status(), 403, "{path}");
    }
    for path in [
        "/x/../queue",
        "/./queue",
        "/x/%2e%2e/queue",
        "/api/api/jobs",
        "/x\\..\\queue",
    ] {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Authorization: Bearer {producer}\r\nContent-Length: 2\r\n\r\n{{}}"
        );
        let answer = exchange(&api, &request).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{path}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_sites_reach_no_route_of_an_extension() {
    let (_relay, _comfyui, api) = echoing("", "", ServerConfig::default()).await;
    let get = |path: &str, site: &str, origin: Option<&str>| {
        let request = Client::new().get(format!("{api}{path}"));
        let request = request.header("sec-fetch-site", site);
        match origin {
            Some(origin) => request.header("origin", origin),
            None => request,
        }
    };
    for (site, origin, status) in [
        ("cross-site", None, 403),
        ("cross-site", Some("https://evil.example"), 403),
        ("cross-site", Some(api.as_str()), 200),
        ("same-origin", None, 200),
    ] {
        let answer = get("/manager/reboot", site, origin).send().await.unwrap();
        assert_eq!(answer.status(), status, "{site} from {origin:?}");
    }
    // What is known to change nothing is answered, and the browser withholds it from the page.
    let image = get("/view?filename=a.png", "cross-site", None);
    assert_eq!(image.send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_of_another_machine_is_refused_with_what_allows_it() {
    let (_relay, _comfyui, api) = echoing("", "", ServerConfig::default()).await;
    let request = "GET /features HTTP/1.1\r\nHost: comfy.example\r\nConnection: close\r\n\r\n";
    let answer = exchange(&api, request).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(answer.contains("ALLOWED_ORIGINS"), "{answer}");
    // That of the relay's own API.
    assert!(!answer.contains("PUBLIC_URL"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_has_lost_its_upgrade_is_answered_with_the_reason() {
    let (_relay, _comfyui, api) = echoing("", "", ServerConfig::default()).await;
    for (key, reason) in [
        ("Sec-WebSocket-Key: x\r\n", "has removed the header Upgrade"),
        ("", "this address is for WebSockets"),
    ] {
        let request = format!(
            "GET /ws?clientId=me HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{key}\r\n"
        );
        let answer = exchange(&api, &request).await;
        assert!(answer.starts_with("HTTP/1.1 426"), "{answer}");
        assert!(answer.contains(reason), "{answer}");
        // It is not here.
        assert!(!answer.contains("/api/anime"), "{answer}");
    }
}
