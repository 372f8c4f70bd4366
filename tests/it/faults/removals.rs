//! Prompts that somebody else takes away, and servers that die with them.

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};

use comfy_relay::replay::PlaybackSpeed;
use futures_util::future::join_all;
use reqwest::Client;
use serde_json::{Value, json};

use super::play::{play, settings};
use crate::support::chaos_proxy::fault::Fault;
use crate::support::subscriber::Subscriber;
use crate::support::test_relay::{Settings, TestRelay, recording};

const TXT2IMG: &str = "0.8.0/01-txt2img-basic";
const QUEUE: &str = "0.8.0/10c-queue-order";

/// Slow enough to come between.
const SPEED: f64 = 2.0;

async fn world(name: &str) -> TestRelay {
    let settings = Settings {
        speed: PlaybackSpeed::Real(SPEED),
        ..settings()
    };
    TestRelay::with(vec![recording(name).await], settings).await
}

async fn submit(world: &TestRelay, job: &str, name: &str, index: usize) -> (Subscriber, Value) {
    let recording = recording(name).await;
    let graph = &recording.prompts().nth(index).unwrap().request_body["prompt"];
    let body = json!({"job_id": job, "workflow": graph});
    let (status, answer) = world.post("/api/anime/jobs", &body).await;
    assert_eq!(status, 201, "{answer}");
    let subscriber = world.subscribe(&format!("/ws/{job}")).await;
    (subscriber, answer["prompt_id"].clone())
}

/// What another client posts to ComfyUI.
async fn post(world: &TestRelay, path: &str, body: &Value) {
    let client = Client::builder().no_proxy().build().unwrap();
    let url = format!("{}{path}", world.comfyui_url());
    let answer = client.post(url).json(body).send().await.unwrap();
    assert!(answer.status().is_success());
}

async fn ends_as(subscriber: &mut Subscriber, status: &str) {
    assert_eq!(subscriber.hear_out().await, 1000);
    assert_eq!(subscriber.last()["status"], status, "{}", subscriber.last());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_others_interrupt_is_cancelled() {
    let world = world(TXT2IMG).await;
    let (mut subscriber, _) = submit(&world, "job", TXT2IMG, 0).await;
    subscriber
        .hear_until(|state| state["progress"].as_u64() >= Some(10))
        .await;
    post(&world, "/interrupt", &json!({})).await;
    ends_as(&mut subscriber, "cancelled").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_prompt_that_others_delete_is_cancelled() {
    let world = world(QUEUE).await;
    let (_running, _) = submit(&world, "running", QUEUE, 0).await;
    let (mut waiting, prompt_id) = submit(&world, "waiting", QUEUE, 1).await;
    waiting
        .hear_until(|state| state["queue_position"] == 1)
        .await;
    post(&world, "/queue", &json!({"delete": [prompt_id]})).await;
    ends_as(&mut waiting, "cancelled").await;
}

/// The server dies at every tenth frame, and comes back with nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_of_a_server_that_was_restarted_is_lost() {
    let recording = recording(TXT2IMG).await;
    let frames = recording.frames.len();
    // The first ones come before the prompt.
    let plays = (5..frames).step_by(10).map(|frame| {
        let restart = Fault::Restart {
            frame,
            keeps_history: false,
        };
        play(recording.clone(), vec![restart])
    });
    for (number, played) in join_all(plays).await.into_iter().enumerate() {
        assert!(played.wrong.is_empty(), "{number}: {:?}", played.wrong);
        assert!(played.told.is_over, "{number}");
    }
}

/// A ComfyUI in a process of its own.
struct Process(Child);

impl Process {
    fn start(port: u16) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_comfy-relay"));
        command.args(["replay", "fixtures/0.8.0/01-txt2img-basic", "--listen"]);
        command.arg(format!("127.0.0.1:{port}"));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_of_a_server_that_was_killed_is_lost_when_it_is_back() {
    let port = {
        // Nobody else is given this port so soon after.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.local_addr().unwrap().port()
    };
    let comfyui = Process::start(port);
    let url = format!("http://127.0.0.1:{port}");
    let world = TestRelay::without_comfyui(&url, settings()).await;
    world.relay.connected().await;
    let (mut subscriber, _) = submit(&world, "job", TXT2IMG, 0).await;
    subscriber
        .hear_until(|state| state["progress"].as_u64() >= Some(10))
        .await;
    // SIGKILL.
    drop(comfyui);
    let away = subscriber
        .hear_until(|state| state["message"] == "Waiting for ComfyUI to answer")
        .await;
    assert_eq!(away["status"], "processing");
    let _comfyui = Process::start(port);
    ends_as(&mut subscriber, "failed").await;
    let (_, view) = world.get("/api/anime/jobs/job").await;
    assert_eq!(view["error_code"], "prompt_lost", "{view}");
}
