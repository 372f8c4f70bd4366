//! The whole chain: recordings of ComfyUI are played by many servers, and their jobs are followed.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use comfy_relay::recording::{FrameKind, Recording};
use comfy_relay::replay::{PlaybackSpeed, Replay, ReplayOptions};
use reqwest::Client;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::sleep;

use crate::clients::Clients;
use crate::figures::{median, micros_each};
use crate::options::LoadOptions;
use crate::process::Server;
use crate::publisher::name;
use crate::tally::{Mark, Tally};
use crate::updates::Updates;

/// A long run: 60 steps a minute, and the state of all nodes with each.
const RECORDING: &str = "fixtures/0.8.0/20-long-run";

/// How many ComfyUI servers play it at the same time.
const BACKENDS: usize = 50;

/// How many times as fast as it was recorded: some 2,000 frames a second.
const SPEED: f64 = 15.0;

/// How long the relay may take until all servers are connected.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The time between two looks whether they are.
const PAUSE: Duration = Duration::from_millis(50);

struct Round {
    /// Microseconds of the relay's processor time for each frame of the servers.
    cpu: f64,
    /// Frames of all servers in a second.
    rate: f64,
    is_sound: bool,
}

/// Runs all rounds, prints the results, and returns whether every job has ended for its subscriber.
pub(crate) fn measure(options: &LoadOptions) -> anyhow::Result<bool> {
    let recording = Arc::new(Recording::read(Path::new(RECORDING))?);
    let mut rounds = Vec::new();
    for _ in 0..options.rounds {
        rounds.push(run(&recording, options)?);
    }
    let is_sound = rounds.iter().all(|round| round.is_sound);
    let figure = |pick: fn(&Round) -> f64| {
        let figures = rounds.iter().map(pick).collect();
        median(figures).unwrap_or_default()
    };
    println!(
        "chain of {BACKENDS} servers, {:.0} frames a second: {:.1} µs of CPU for a frame, the submission of the jobs \
         included, {}",
        figure(|round| round.rate),
        figure(|round| round.cpu),
        if is_sound {
            "all jobs ended"
        } else {
            "FAILED: not every job ended as it should"
        }
    );
    Ok(is_sound)
}

fn run(recording: &Arc<Recording>, options: &LoadOptions) -> anyhow::Result<Round> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let servers = runtime.block_on(play(recording))?;
    let urls: Vec<String> = servers.iter().map(Replay::url).collect();
    let server = Server::relay(Some(&urls.join(",")), options)?;
    runtime.block_on(connected(&server))?;
    let (cpu, began) = (server.cpu()?, Instant::now());
    runtime.block_on(submit(&server, recording, &servers))?;
    let tally = Tally::new(
        Arc::new(Updates::new(BACKENDS)),
        vec![1; BACKENDS],
        0,
        Mark::Step,
    );
    let mut clients = Clients::new(server.address, tally)?;
    let jobs: Vec<usize> = (0..BACKENDS).collect();
    clients.open(&jobs)?;
    let have_ended =
        clients.receive_until(|clients| clients.closed + clients.broken == BACKENDS)?;
    let frames = recording.frames.iter();
    let frames = frames.filter(|frame| matches!(frame.kind, FrameKind::Text(_)));
    let frames = (frames.count() * BACKENDS) as u64;
    let is_sound = have_ended && clients.tally.finals == BACKENDS as u64;
    Ok(Round {
        cpu: micros_each(server.cpu()? - cpu, frames).unwrap_or_default(),
        rate: frames as f64 / began.elapsed().as_secs_f64(),
        is_sound: is_sound && clients.broken == 0 && clients.tally.out_of_order == 0,
    })
}

async fn play(recording: &Arc<Recording>) -> anyhow::Result<Vec<Replay>> {
    let mut servers = Vec::new();
    for _ in 0..BACKENDS {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let options = ReplayOptions {
            speed: PlaybackSpeed::Real(SPEED),
            repeat: true,
            ..ReplayOptions::default()
        };
        servers.push(Replay::start(listener, vec![recording.clone()], options));
    }
    Ok(servers)
}

/// Waits until the relay follows all servers.
async fn connected(server: &Server) -> anyhow::Result<()> {
    let client = Client::builder().no_proxy().build()?;
    let url = format!("http://{}/api/anime/health", server.address);
    let until = Instant::now() + TIMEOUT;
    loop {
        let health: Value = client.get(&url).send().await?.json().await?;
        let backends = health["components"]["comfyui"].as_array();
        let mut backends = backends.context("the health has no servers")?.iter();
        if backends.all(|backend| backend["status"] == "connected") {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < until, "not every server is followed");
        sleep(PAUSE).await;
    }
}

/// Submits one job to each server.
async fn submit(server: &Server, recording: &Recording, servers: &[Replay]) -> anyhow::Result<()> {
    let client = Client::builder().no_proxy().build()?;
    let url = format!("http://{}/api/anime/jobs", server.address);
    let prompt = recording.prompts().next();
    let prompt = prompt.context("the recording has no prompt")?;
    for (job, backend) in servers.iter().enumerate() {
        let body = json!({"job_id": name(job), "workflow": prompt.request_body["prompt"],
            "backend": backend.address().to_string()});
        let response = client.post(&url).json(&body).send().await?;
        response
            .error_for_status()
            .context("the relay rejects a workflow")?;
    }
    Ok(())
}
