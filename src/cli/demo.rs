//! `comfy-relay demo`: a relay before a replayed ComfyUI, with jobs of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use futures_util::StreamExt;
use indicatif::{MultiProgress, ProgressBar};
use serde_json::{Map, Value};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::interval;

use super::exit_code::WrongSetting;
use super::options::access::AccessOptions;
use super::progress_bar::{COUNT_INTERVAL, JobBar};
use super::relay_clock::RelayClock;
use super::shutdown_signal::shutdown_signal;
use crate::cli::output::print_line;
use crate::config::{ComfyConfig, RelayConfig, ServerConfig, StoreConfig};
use crate::hub::Connection;
use crate::job::{JobId, Tags};
use crate::recording::Recording;
use crate::relay::{Relay, Submission, SubmitOptions};
use crate::replay::{PlaybackSpeed, Replay, ReplayOptions};
use crate::server::{self, Server};
use crate::workflow::GivenParameters;

/// How many jobs are open at a time: one running and one queued.
const OPEN_JOBS: usize = 2;

/// Try the relay without ComfyUI, database or network
///
/// Plays recordings of a real ComfyUI server on loopback, submits jobs to it through a relay, again
/// and again, and shows their progress here and on a page. Listens on any free port if that of --listen
/// is taken.
#[derive(Debug, clap::Args)]
pub(super) struct DemoArgs {
    /// End after the first job
    #[arg(long)]
    once: bool,

    /// How many times as fast as it was recorded
    #[arg(long, default_value = "1", value_parser = super::replay::parse_speed, value_name = "FACTOR")]
    speed: f64,

    #[command(flatten)]
    access: AccessOptions,

    #[command(flatten, next_help_heading = None::<&str>)]
    server: ServerConfig,
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
    let mut config = args.server;
    let set = args.access.apply_to(&mut config);
    set.and_then(|()| Ok(server::check(&config)?))
        .map_err(WrongSetting)?;
    let needs_token = config.access.keys.is_some();
    let listener = listen(config.listen).await?;
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let comfy_listen = config.comfy_listen.unwrap_or(any_port);
    let comfy_listener = TcpListener::bind(comfy_listen).await.with_context(|| {
        format!("cannot listen on {comfy_listen} (--comfy-listen, COMFY_LISTEN)")
    })?;
    let recordings = read_recordings()?;
    let samples: Vec<Sample> = recordings
        .iter()
        .filter_map(|recording| sample(recording))
        .collect();
    let comfyui = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
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
    let relay = Relay::start(RelayConfig::default(), comfy, &StoreConfig::default()).await?;
    let scheme = if config.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let server = Server::start(listener, relay.clone(), config)?;
    print_line(format_args!("ComfyUI, replayed:  {}", comfyui.url()));
    let page = format!("{scheme}://{}/", server.address());
    print_line(format_args!("The relay's page:   {page}"));
    let comfy = server.serve_comfy(comfy_listener)?;
    print_line(format_args!("For ComfyUI's clients: {scheme}://{comfy}"));
    if !args.once {
        print_hints(&page, needs_token);
    }
    relay.connected().await;
    let result = tokio::select! {
        result = run_jobs(&relay, &samples, args.once) => result,
        () = shutdown_signal() => Ok(ExitCode::SUCCESS),
    };
    server.shutdown().await;
    relay.shutdown().await;
    comfyui.shutdown().await;
    result
}

/// Listens on an address, or on a free port of the same host if its port is taken.
async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    if let Ok(listener) = TcpListener::bind(address).await {
        return Ok(listener);
    }
    let free_port = SocketAddr::new(address.ip(), 0);
    let bound = TcpListener::bind(free_port).await;
    bound.with_context(|| format!("cannot listen on {address} (--listen, LISTEN)"))
}

/// Prints how to follow a job from another terminal, under the name by which this program was started.
fn print_hints(page: &str, needs_token: bool) {
    let program = std::env::args().next();
    let program = program.as_deref().unwrap_or(env!("CARGO_PKG_NAME"));
    let quoted = if program.contains(char::is_whitespace) {
        format!("{program:?}")
    } else {
        program.to_owned()
    };
    if needs_token {
        print_line(format_args!(
            "A token, in RELAY_TOKEN: {quoted} token make --sub me --jobs '*'"
        ));
    }
    print_line(format_args!(
        "In another terminal: {quoted} watch demo-1 --relay {page}   (Ctrl-C ends the demo)"
    ));
}

/// Submits the samples in turn, and shows each job until its end.
async fn run_jobs(relay: &Relay, samples: &[Sample], once: bool) -> anyhow::Result<ExitCode> {
    let bars = MultiProgress::new();
    let mut open = JoinSet::new();
    for (number, sample) in (1..).zip(samples.iter().cycle()) {
        let job_id = JobId::parse(&format!("demo-{number}")).context("cannot make a job id")?;
        let name = format!("{job_id} {}", sample.name);
        let bar = JobBar::new(&name, bars.add(ProgressBar::new(100)));
        let tags = Tags {
            workflow: Some(sample.name.to_string()),
            ..Tags::default()
        };
        let work = Submission::Graph(sample.graph.clone());
        relay
            .submit(
                Some(job_id.clone()),
                work,
                &GivenParameters::default(),
                tags,
                SubmitOptions::default(),
            )
            .await?;
        open.spawn(show(relay.clone(), job_id, bar));
        while open.len() >= OPEN_JOBS || (once && !open.is_empty()) {
            if let Some(shown) = open.join_next().await {
                shown?;
            }
        }
        if once {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows a job until its end, as a subscriber does, but without a socket: it needs no token.
async fn show(relay: Relay, job: JobId, mut bar: JobBar) {
    let connection = Connection::new(IpAddr::V4(Ipv4Addr::LOCALHOST), false);
    let mut states = relay.subscribe(&job, connection);
    let mut clock = RelayClock::default();
    let mut count = interval(COUNT_INTERVAL);
    loop {
        let publication = tokio::select! {
            Some(publication) = states.next() => publication,
            _ = count.tick() => {
                bar.count_down();
                continue;
            }
        };
        if let Ok(message) = serde_json::from_slice(&publication.payload)
            && bar.show(&message, &mut clock).is_some()
        {
            return;
        }
    }
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
