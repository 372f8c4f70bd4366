//! What is passed on to a ComfyUI server, and what is not.

use std::convert::Infallible;

use comfy_relay::config::ServerConfig;
use http_body_util::StreamBody;
use hyper::body::{Bytes, Frame};
use reqwest::{Body, Client, Method, Response};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

use super::comfy_client::post;
use crate::support::echo_comfy::{EchoComfy, HEAD};
use crate::support::program::Program;
use crate::support::test_relay::TestRelay;
use crate::support::tokens::{guarded, token};
use crate::support::wait::PATIENCE;

/// A relay before a server that shows what it receives, and the address of ComfyUI's API.
pub(super) async fn echoing(
    credentials: &str,
    path: &str,
    server: ServerConfig,
) -> (TestRelay, EchoComfy, String) {
    let comfyui = EchoComfy::start().await;
    let url = format!("http://{credentials}{}{path}", comfyui.address);
    let relay = TestRelay::connected_to(&url, server).await;
    let api = relay.serve_comfy().await;
    (relay, comfyui, api)
}

/// The head of the request as the server has received it.
pub(super) fn received(response: &Response) -> Value {
    let head = response.headers()[HEAD].to_str().unwrap();
    serde_json::from_str(head).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_streamed_in_both_directions_while_they_come() {
    let (_relay, _comfyui, api) = echoing("", "", ServerConfig::default()).await;
    for path in ["/extension/echo", "/api/extension/echo"] {
        let (parts, body) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
        let body = Body::wrap(StreamBody::new(ReceiverStream::new(body)));
        let request = Client::new().post(format!("{api}{path}")).body(body);
        let part = |number: u8| Bytes::from(vec![number; 200_000]);
        parts.send(Ok(Frame::data(part(0)))).await.unwrap();
        let mut response = timeout(PATIENCE, request.send()).await.unwrap().unwrap();
        for number in 0..20 {
            // The part before has come back, and only then is the next one sent.
            let mut length = 0;
            while length < 200_000 {
                let chunk = timeout(PATIENCE, response.chunk()).await.unwrap();
                let chunk = chunk.unwrap().expect("the answer goes on");
                assert!(chunk.iter().all(|&byte| byte == number));
                length += chunk.len();
            }
            parts.send(Ok(Frame::data(part(number + 1)))).await.unwrap();
        }
        drop(parts);
        let last = response.bytes().await.unwrap();
        assert_eq!(last.len(), 200_000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_gets_its_own_credentials_and_none_of_the_callers() {
    let (_relay, _comfyui, api) = echoing("ada:secret@", "/comfy", guarded()).await;
    let token = token(&json!({}));
    let request = Client::new()
        .get(format!(
            "{api}/api/userdata/a%2Fb?x=1%2F2&token={token}&%74oken={token}&y"
        ))
        .bearer_auth(&token)
        .header("origin", &api)
        .header("connection", "x-mine")
        .header("x-mine", "1")
        .header("comfy-user", "ada");
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.headers().contains_key("x-kept"));
    let hidden = ["x-hop", "access-control-allow-credentials"];
    assert!(
        !hidden
            .iter()
            .any(|name| response.headers().contains_key(*name))
    );
    assert_eq!(
        response.headers()["access-control-allow-origin"],
        api.as_str()
    );
    let head = received(&response);
    assert_eq!(head["target"], "/comfy/api/userdata/a%2Fb?x=1%2F2&y");
    let headers = &head["headers"];
    assert_eq!(headers["authorization"], "Basic YWRhOnNlY3JldA==");
    assert_eq!(headers["comfy-user"], "ada");
    assert!(
        headers["x-mine"].is_null() && headers["origin"].is_null(),
        "{head}"
    );
    assert!(!head.to_string().contains(&token));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_comes_as_bearer_or_as_the_password_of_http_basic() {
    let (relay, _comfyui, api) = echoing("", "", guarded()).await;
    let url = format!("{api}/features");
    let client = Client::new();
    let refused = client.get(&url).send().await.unwrap();
    assert_eq!(refused.status(), 401);
    let challenges = refused.headers().get_all("www-authenticate");
    let challenges: Vec<&str> = challenges.iter().map(|it| it.to_str().unwrap()).collect();
    assert!(
        challenges.iter().any(|it| it.starts_with("Basic ")),
        "{challenges:?}"
    );
    let valid = token(&json!({}));
    let by_password = client.get(&url).basic_auth("anybody", Some(&valid));
    assert_eq!(by_password.send().await.unwrap().status(), 200);
    assert_eq!(
        client
            .get(&url)
            .bearer_auth(&valid)
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    let wrong = client.get(&url).basic_auth("anybody", Some("wrong"));
    assert_eq!(wrong.send().await.unwrap().status(), 401);
    let reader = token(&json!({"scope": "subscribe"}));
    let changing = client.post(&url).bearer_auth(&reader).body("{}");
    assert_eq!(changing.send().await.unwrap().status(), 403);
    // The relay's own API takes no passwords: a browser would send them for pages of others.
    let own = client.get(format!("{}/api/anime/jobs", relay.url()));
    let own = own
        .basic_auth("anybody", Some(&valid))
        .send()
        .await
        .unwrap();
    assert_eq!(own.status(), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins_change_nothing() {
    let (_relay, _comfyui, api) = echoing("", "", ServerConfig::default()).await;
    let post = |origin: &str| {
        Client::new()
            .post(format!("{api}/free"))
            .header("origin", origin)
    };
    let other = post("https://evil.example").send().await.unwrap();
    assert_eq!(other.status(), 403);
    assert_eq!(post(&api).send().await.unwrap().status(), 200);
}

/// With the methods and headers of ComfyUI's own clients.
#[tokio::test(flavor = "multi_thread")]
async fn pages_of_allowed_origins_use_it_as_they_use_comfyui() {
    let (_relay, _comfyui, api) = echoing("", "", ServerConfig::default()).await;
    let request = |method| {
        let request = Client::new().request(method, format!("{api}/internal/logs/subscribe"));
        request.header("origin", &api)
    };
    let preflight = request(Method::OPTIONS).header("access-control-request-method", "PATCH");
    let preflight = preflight.send().await.unwrap();
    assert_eq!(preflight.status(), 204);
    let lists = |response: &Response, name: &str, word: &str| {
        let list = response.headers()[name].to_str().unwrap();
        assert!(list.split(", ").any(|it| it == word), "{word}: {list}");
    };
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        lists(&preflight, "access-control-allow-methods", method);
    }
    for header in ["comfy-user", "range", "user-agent", "content-type"] {
        lists(&preflight, "access-control-allow-headers", header);
    }
    let answer = request(Method::GET).send().await.unwrap();
    for header in ["content-range", "idempotency-replayed"] {
        lists(&answer, "access-control-expose-headers", header);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_the_caller_is_told_so() {
    let relay = TestRelay::without_backend(ServerConfig::default()).await;
    let api = relay.serve_comfy().await;
    let response = reqwest::get(format!("{api}/features")).await.unwrap();
    assert_eq!(response.status(), 503);
    for (path, body) in [
        ("/queue", json!({"clear": true})),
        ("/queue", json!({"delete": ["unknown"]})),
        ("/interrupt", json!({})),
        ("/interrupt", json!({"prompt_id": "unknown"})),
        ("/history", json!({"clear": true})),
        ("/api/jobs/unknown/cancel", json!({})),
    ] {
        assert_eq!(post(&api, path, &body).await.0, 503, "{path} {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_is_served_on_the_address_of_its_setting() {
    let comfyui = EchoComfy::start().await;
    let url = format!("http://{}", comfyui.address);
    let variables = [("COMFY_LISTEN", "127.0.0.1:0"), ("COMFYUI_URL", &url)];
    let program = Program::start(&[], &variables);
    program.ready().await;
    program
        .logs("serving ComfyUI's API at http://127.0.0.1:")
        .await;
    program.logs("connected to ComfyUI").await;
    let log = program.log();
    let (_, address) = log.split_once("ComfyUI's API at ").unwrap();
    let address = address.split_whitespace().next().unwrap();
    let response = reqwest::get(format!("{address}features")).await.unwrap();
    assert_eq!(received(&response)["target"], "/features");
}
