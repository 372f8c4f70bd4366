//! `comfy-relay demo`: a relay before a replayed ComfyUI, with jobs of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use indicatif::{MultiProgress, ProgressBar};
use serde_json::{Map, Value};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::api_client::ApiClient;
use super::exit_code::WrongSetting;
use super::options::access::require_loopback;
use super::progress_bar::JobBar;
use super::shutdown_signal::shutdown_signal;
use super::watch::{WatchResult, follow};
use crate::config::{ComfyConfig, RelayConfig, ServerConfig, StoreConfig};
use crate::connector::Connector;
use crate::job::JobId;
use crate::recording::Recording;
use crate::relay::{Relay, Submission};
use crate::replay::{PlaybackSpeed, Replay, ReplayOptions};
use crate::server::Server;

/// How many jobs are open at a time: one running and one queued.
const OPEN_JOBS: usize = 2;

/// Try the relay without ComfyUI, database or network
///
/// Plays recordings of a real ComfyUI server on loopback, submits jobs to it through a relay, again
/// and again, and shows their progress here and on a page.
#[derive(Debug, clap::Args)]
pub(super) struct DemoArgs {
    /// End after the first job
    #[arg(long)]
    once: bool,

    /// How many times as fast as it was recorded
    #[arg(long, default_value = "1", value_parser = super::replay::parse_speed, value_name = "FACTOR")]
    speed: f64,

    /// The address to listen on; any free port if this one is taken
    #[arg(
        long,
        env = "LISTEN",
        default_value = "127.0.0.1:8328",
        value_name = "HOST:PORT"
    )]
    listen: SocketAddr,
}

/// The recordings that are compiled into the program: name, `meta.json`, `ws.jsonl`, `http.jsonl`.
macro_rules! recordings {
    ($($name:literal),* $(,)?) => {
        [$((
            $name,
            include_str!(concat!("../../fixtures/", $name, "/meta.json")),
            include_str!(concat!("../../fixtures/", $name, "/ws.jsonl")),
            include_str!(concat!("../../fixtures/", $name, "/http.jsonl")),
        )),*]
    };
}

const RECORDINGS: [(&str, &str, &str, &str); 6] = recordings![
    "0.8.0/01-txt2img-basic",
    "0.8.0/02-previews-metadata",
    "0.8.0/19-subgraph-loop",
    "0.8.0/07-error-mid-run",
    "0.8.0/03-hires-fix",
    "0.8.0/12-animated-video",
];

/// A workflow that the demo submits.
struct Sample {
    name: String,
    graph: Map<String, Value>,
}

pub(super) async fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    require_loopback(args.listen, "the demo only listens on loopback").map_err(WrongSetting)?;
    let recordings = read_recordings()?;
    let samples: Vec<Sample> = recordings
        .iter()
        .filter_map(|recording| sample(recording))
        .collect();
    let free_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let comfyui = TcpListener::bind(free_port)
        .await
        .context("cannot listen on loopback")?;
    let options = ReplayOptions {
        speed: PlaybackSpeed::Real(args.speed),
        repeat: true,
        ..ReplayOptions::default()
    };
    let comfyui = Replay::start(comfyui, recordings, options);
    let comfy = ComfyConfig {
        urls: vec![
            comfyui
                .url()
                .parse()
                .context("cannot use the address of the replay")?,
        ],
        ..ComfyConfig::default()
    };
    let listener = match TcpListener::bind(args.listen).await {
        Ok(listener) => listener,
        Err(_) => TcpListener::bind(free_port)
            .await
            .context("cannot listen on loopback")?,
    };
    let relay = Relay::start(RelayConfig::default(), comfy, &StoreConfig::default()).await?;
    let server = Server::start(listener, relay.clone(), ServerConfig::default())?;
    let page = format!("http://{}/", server.address());
    println!("ComfyUI, replayed:  {}", comfyui.url());
    println!("The relay's page:   {page}");
    if !args.once {
        println!(
            "In another terminal: comfy-relay watch demo-1 --relay {page}   (Ctrl-C ends the demo)"
        );
    }
    relay.connected().await;
    let client = ApiClient::new(page.parse()?, Connector::new(None, false)?);
    let result = tokio::select! {
        result = run_jobs(&relay, &client, &samples, args.once) => result,
        () = shutdown_signal() => Ok(ExitCode::SUCCESS),
    };
    server.shutdown().await;
    relay.shutdown().await;
    comfyui.shutdown().await;
    result
}

/// Submits the samples in turn, and shows each job until its end.
async fn run_jobs(
    relay: &Relay,
    client: &ApiClient,
    samples: &[Sample],
    once: bool,
) -> anyhow::Result<ExitCode> {
    let bars = MultiProgress::new();
    let mut open = JoinSet::new();
    for (number, sample) in (1..).zip(samples.iter().cycle()) {
        let job_id = JobId::parse(&format!("demo-{number}")).context("cannot make a job id")?;
        let mut bar = JobBar::new(&sample.name, bars.add(ProgressBar::new(100)));
        let work = Submission::Graph(sample.graph.clone());
        relay
            .submit(Some(job_id.clone()), work, &Map::new(), None)
            .await?;
        let client = client.clone();
        open.spawn(async move { follow(&client, &job_id, Some(&mut bar), &mut false).await });
        while open.len() >= OPEN_JOBS || (once && !open.is_empty()) {
            if let Some(followed) = open.join_next().await
                && let WatchResult::Refused(reason) | WatchResult::Lost(reason) = followed?
            {
                anyhow::bail!("cannot follow a job of the demo: {reason}");
            }
        }
        if once {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn read_recordings() -> anyhow::Result<Vec<Arc<Recording>>> {
    let read = RECORDINGS.iter().map(|(name, meta, ws, http)| {
        let recording = Recording::parse(meta, ws, http)
            .with_context(|| format!("cannot read the recording {name}"))?;
        Ok(Arc::new(recording))
    });
    read.collect()
}

/// The first prompt of a recording.
fn sample(recording: &Recording) -> Option<Sample> {
    let body = &recording.prompts().next()?.request_body;
    let name = recording
        .meta
        .scenario
        .trim_start_matches(|c: char| !c.is_ascii_alphabetic());
    Some(Sample {
        name: name.to_owned(),
        graph: body.get("prompt")?.as_object()?.clone(),
    })
}
