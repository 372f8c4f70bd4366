//! Files that servers have, and those that they are sent.

use std::convert::Infallible;

use comfy_relay::config::ServerConfig;
use http_body_util::StreamBody;
use hyper::body::{Bytes, Frame};
use reqwest::{Body, Client};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::comfy_client::take_prompt;
use crate::support::echo_comfy::EchoComfy;
use crate::support::program::Program;
use crate::support::recordings::one_node_workflow;
use crate::support::scripted_comfy::{Reply, ScriptedComfy, saved_view};
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::wait::wait_until;

const PROMPT_ID: &str = "0b5c1b7e-6a38-4c0e-9a53-2f62f3f7a1c4";

/// The parts of an upload, and how long each is.
const PARTS: usize = 64;
const PART: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_of_any_size_reaches_every_server() {
    let servers = [EchoComfy::start().await, EchoComfy::start().await];
    let urls = format!(
        "http://{},http://{}",
        servers[0].address, servers[1].address
    );
    let relay = TestRelay::connected_to(&urls, ServerConfig::default()).await;
    let api = relay.serve_comfy().await;
    let (parts, body) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
    let body = Body::wrap(StreamBody::new(ReceiverStream::new(body)));
    let request = Client::new()
        .post(format!("{api}/api/upload/image"))
        .body(body);
    let sending = tokio::spawn(request.send());
    for _ in 0..PARTS / 2 {
        parts
            .send(Ok(Frame::data(vec![1; PART].into())))
            .await
            .unwrap();
    }
    // The first half has arrived before the second one is sent: nothing is collected on the way.
    wait_until("the first half has arrived", async || {
        servers
            .iter()
            .all(|server| server.uploaded() == PARTS / 2 * PART)
    })
    .await;
    for _ in 0..PARTS / 2 {
        parts
            .send(Ok(Frame::data(vec![1; PART].into())))
            .await
            .unwrap();
    }
    drop(parts);
    let answer = sending.await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["name"], "a.png");
    for server in &servers {
        assert_eq!(server.uploaded(), PARTS * PART);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_comes_from_the_server_whose_job_has_made_it() {
    let servers = [ScriptedComfy::start().await, ScriptedComfy::start().await];
    for (server, content) in servers.iter().zip(["first", "second"]) {
        server.reply(&saved_view("a.png"), Reply::File(content.into()));
        server.answer(&saved_view("b.png"), 404, &Value::Null);
        server.answer(&saved_view("none.png"), 404, &Value::Null);
    }
    servers[1].reply(&saved_view("b.png"), Reply::File("only here".into()));
    let urls = format!("{},{}", servers[0].url(), servers[1].url());
    let relay = TestRelay::connected_to(&urls, Settings::default()).await;
    let api = relay.serve_comfy().await;
    let view = async |name: &str| {
        let url = format!("{api}/view?filename={name}&subfolder=&type=output");
        let answer = reqwest::get(url).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(view("a.png").await, (200, "first".to_owned()));
    assert_eq!(view("b.png").await, (200, "only here".to_owned()));
    assert_eq!(view("none.png").await.0, 404);
    let pause = format!("/api/anime/backends/{}/pause", servers[0].address());
    assert_eq!(relay.post(&pause, &Value::Null).await.0, 200);
    servers[1].accept_prompts_as(PROMPT_ID);
    servers[1].set_queue(&[PROMPT_ID], &[]);
    let id = take_prompt(&api, "me", &one_node_workflow()).await;
    let images = json!({"images": [{"filename": "a.png", "subfolder": "", "type": "output"}]});
    let data = json!({"node": "9", "output": images, "prompt_id": PROMPT_ID});
    servers[1].send(&json!({"type": "executed", "data": data}));
    wait_until("the output is known", async || {
        let (_, job) = relay.job(&id).await;
        job["outputs"]
            .as_array()
            .is_some_and(|outputs| !outputs.is_empty())
    })
    .await;
    assert_eq!(view("a.png").await, (200, "second".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_one_server_has_not_taken_is_logged() {
    const UPLOAD: &str = "POST /upload/image";
    let servers = [ScriptedComfy::start().await, ScriptedComfy::start().await];
    let [first, second] = &servers;
    first.answer(UPLOAD, 200, &json!({"name": "a.png"}));
    second.answer(UPLOAD, 507, &Value::Null);
    let urls = format!("{},{}", first.url(), second.url());
    let variables = [("COMFY_LISTEN", "127.0.0.1:0"), ("COMFYUI_URL", &urls)];
    let program = Program::start(&[], &variables);
    program.ready().await;
    program
        .logs("serving ComfyUI's API at http://127.0.0.1:")
        .await;
    let log = program.log();
    let (_, address) = log.split_once("ComfyUI's API at ").unwrap();
    let address = address.split_whitespace().next().unwrap();
    let url = format!("{address}upload/image");
    wait_until("both servers are sent an upload", async || {
        let request = Client::new().post(&url).body("a file");
        let status = request.send().await.unwrap().status();
        let is_sent = first.calls(UPLOAD) > 0 && second.calls(UPLOAD) > 0;
        // That of the first one, once it answers.
        assert!(!is_sent || status == 200, "{status}");
        is_sent
    })
    .await;
    program.logs("a server has not taken an upload").await;
}
