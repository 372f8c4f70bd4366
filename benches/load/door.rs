//! ComfyUI's own API through the relay, beside the same of ComfyUI itself: events, requests and files.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::StreamExt;
use reqwest::Client;
use serde::Deserialize;
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::sleep_until;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use crate::bare_write;
use crate::figures::{median, micros_each, percentiles};
use crate::options::LoadOptions;
use crate::process::Server;
use crate::scripted_comfy::{Reply, ScriptedComfy, saved_view};

/// Events a second.
const RATE: f64 = 200.0;

/// Requests of each kind in a round.
const REQUESTS: usize = 500;

/// The length of the file that is read, in bytes, and how often it is read in a round.
const FILE: usize = 32 << 20;
const READS: usize = 10;

/// The client, and the id of its prompt.
const CLIENT: &str = "bench";
const PROMPT: &str = "0b5c1b7e-6a38-4c0e-9a53-2f62f3f7a1c4";

/// Small requests that are passed on.
const FEATURES: &str = "/features";

/// What the relay adds.
#[derive(Default)]
struct Round {
    /// To the latency of an event, in milliseconds.
    event: (f64, f64),
    /// Of its processor time, for each event that is passed on, in microseconds.
    cpu: f64,
    /// What a bare loop takes for the same, in microseconds.
    floor: f64,
    /// To the time of a request, in milliseconds.
    request: (f64, f64),
    /// How fast a file is read, as a share of how fast it is read from ComfyUI.
    throughput: f64,
    /// Every event came, in order.
    is_sound: bool,
}

/// What the door and the server behind it are asked for in turn.
struct Stage {
    comfyui: ScriptedComfy,
    server: Server,
    door: SocketAddr,
    client: Client,
}

/// An event that a client receives.
#[derive(Deserialize)]
struct Received {
    data: Step,
}

#[derive(Deserialize)]
struct Step {
    #[serde(default)]
    value: Option<usize>,
}

/// Runs all rounds, prints the results, and returns whether everything arrived that had to.
pub(crate) fn measure(options: &LoadOptions) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let mut rounds = Vec::new();
    for _ in 0..options.rounds {
        rounds.push(run(&runtime, options)?);
    }
    let is_sound = rounds.iter().all(|round| round.is_sound);
    let figure = |pick: fn(&Round) -> f64| {
        let figures = rounds.iter().map(pick).collect();
        median(figures).unwrap_or_default()
    };
    println!(
        "door, {RATE} events a second: {:.2} / {:.2} ms added to an event (p50 / p99), {:.1} µs CPU for each, of which \
         a bare write takes {:.1}; {:.2} / {:.2} ms added to a request; /view at {:.2} of a direct read; {}",
        figure(|round| round.event.0),
        figure(|round| round.event.1),
        figure(|round| round.cpu),
        figure(|round| round.floor),
        figure(|round| round.request.0),
        figure(|round| round.request.1),
        figure(|round| round.throughput),
        if is_sound {
            "every event came in order"
        } else {
            "FAILED: events were lost or out of order"
        }
    );
    Ok(is_sound)
}

fn run(runtime: &Runtime, options: &LoadOptions) -> anyhow::Result<Round> {
    let floor = bare_write::micros(RATE, events(options.seconds))?;
    let stage = runtime.block_on(Stage::new(options))?;
    let round = runtime.block_on(stage.round(options.seconds))?;
    Ok(Round { floor, ..round })
}

/// How many events a round has.
fn events(seconds: f64) -> usize {
    (RATE * seconds).round().max(1.0) as usize
}

impl Stage {
    async fn new(options: &LoadOptions) -> anyhow::Result<Self> {
        let comfyui = ScriptedComfy::start().await;
        comfyui.accept_prompts_as(PROMPT);
        comfyui.set_queue(&[PROMPT], &[]);
        comfyui.reply(&saved_view("a.png"), Reply::File(vec![7; FILE]));
        let (server, door) = Server::with_door(&comfyui.url(), options)?;
        comfyui.wait_for_calls("GET /ws", 1).await;
        let client = Client::builder().no_proxy().build()?;
        let graph = json!({"9": {"class_type": "SaveImage", "inputs": {}}});
        let body = json!({"prompt": graph, "client_id": CLIENT, "prompt_id": PROMPT});
        let posting = client.post(format!("http://{door}/prompt")).json(&body);
        let answer = posting.send().await?;
        answer
            .error_for_status()
            .context("the relay refuses the prompt")?;
        Ok(Self {
            comfyui,
            server,
            door,
            client,
        })
    }

    async fn round(&self, seconds: f64) -> anyhow::Result<Round> {
        let count = events(seconds);
        let direct = self.comfyui.address();
        // What the relay does with events that nobody is sent, first.
        let before = self.server.cpu()?;
        let alone = receive(direct, count).await?;
        self.send(count).await;
        alone.await??;
        let between = self.server.cpu()?;
        let (at_server, at_door) = (
            receive(direct, count).await?,
            receive(self.door, count).await?,
        );
        self.send(count).await;
        let (at_server, at_door) = (at_server.await??, at_door.await??);
        let after = self.server.cpu()?;
        let passing = (after - between).saturating_sub(between - before);
        let pairs = at_server.iter().zip(&at_door);
        let late = pairs.map(|(server, door)| {
            let late = door.1.saturating_duration_since(server.1);
            late.as_micros() as u32
        });
        let mut late: Vec<u32> = late.collect();
        let in_order = |events: &[(usize, Instant)]| {
            events.len() == count && events.is_sorted_by_key(|event| event.0)
        };
        Ok(Round {
            is_sound: in_order(&at_server) && in_order(&at_door),
            event: percentiles(&mut late).unwrap_or_default(),
            cpu: micros_each(passing, count as u64).unwrap_or_default(),
            request: self.requests().await?,
            throughput: self.reads().await?,
            ..Round::default()
        })
    }

    /// Sends steps at [`RATE`] to every socket.
    async fn send(&self, count: usize) {
        let began = tokio::time::Instant::now();
        for step in 1..=count {
            sleep_until(began + Duration::from_secs_f64((step - 1) as f64 / RATE)).await;
            let data = json!({"value": step, "max": count, "prompt_id": PROMPT, "node": "9"});
            self.comfyui
                .send(&json!({"type": "progress", "data": data}));
        }
    }

    /// What is added to small requests: the difference of the medians, and that of the 99th percentiles.
    async fn requests(&self) -> anyhow::Result<(f64, f64)> {
        let (mut direct, mut through) = (Vec::new(), Vec::new());
        for _ in 0..REQUESTS {
            direct.push(self.get(self.comfyui.address(), FEATURES).await?);
            through.push(self.get(self.door, FEATURES).await?);
        }
        let micros = |times: Vec<Duration>| {
            let mut times: Vec<u32> = times.iter().map(|time| time.as_micros() as u32).collect();
            percentiles(&mut times).unwrap_or_default()
        };
        let (direct, through) = (micros(direct), micros(through));
        Ok((through.0 - direct.0, through.1 - direct.1))
    }

    async fn reads(&self) -> anyhow::Result<f64> {
        let file = saved_view("a.png");
        let path = file.strip_prefix("GET ").context("not a GET")?;
        let (mut direct, mut through) = (Vec::new(), Vec::new());
        for _ in 0..READS {
            let time = self.get(self.comfyui.address(), path).await?;
            direct.push(time.as_secs_f64());
            through.push(self.get(self.door, path).await?.as_secs_f64());
        }
        let (direct, through) = (median(direct), median(through));
        Ok(direct.unwrap_or_default() / through.unwrap_or(1.0))
    }

    /// How long a request takes, with its answer.
    async fn get(&self, address: SocketAddr, path: &str) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let request = self.client.get(format!("http://{address}{path}"));
        let mut answer = request.send().await?.error_for_status()?;
        while answer.chunk().await?.is_some() {}
        Ok(began.elapsed())
    }
}

/// Receives `count` steps on a new socket of the client: each with its number, and when it came.
async fn receive(
    address: SocketAddr,
    count: usize,
) -> anyhow::Result<JoinHandle<anyhow::Result<Vec<(usize, Instant)>>>> {
    let url = format!("ws://{address}/ws?clientId={CLIENT}");
    let (mut socket, _) = connect_async(url).await?;
    Ok(tokio::spawn(async move {
        let mut steps = Vec::with_capacity(count);
        while steps.last().is_none_or(|&(step, _)| step < count) {
            let frame = socket.next().await.context("the socket is closed")??;
            let at = Instant::now();
            let Message::Text(text) = frame else {
                continue;
            };
            let received: Received = serde_json::from_str(&text)?;
            steps.extend(received.data.value.map(|step| (step, at)));
        }
        Ok(steps)
    }))
}
