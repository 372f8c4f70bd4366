//! `comfy-relay replay`: serves recordings as the recorded ComfyUI.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;

use super::shutdown_signal::shutdown_signal;
use crate::config::parse_listen_address;
use crate::recording::Recording;
use crate::replay::{PlaybackSpeed, Replay, ReplayOptions};

/// Serve recordings as the ComfyUI that was recorded
///
/// Answers /ws, /prompt, /queue, /history, /interrupt and /system_stats as the recorded server did. The
/// first submitted prompt plays the first recording's first prompt, and so on; the recorded ids of
/// prompts and clients are replaced by those of the clients.
///
/// Recordings hold no pictures: /view answers with one of a single colour in the size that inputs.json
/// gives for a picture that the workflow loads, and with a drawing for every output. /object_info lists
/// the node classes of the recorded workflows.
#[derive(Debug, clap::Args)]
pub(super) struct ReplayArgs {
    /// Folders of one recording each (meta.json, ws.jsonl, http.jsonl, perhaps inputs.json)
    #[arg(required = true, value_name = "DIR")]
    recordings: Vec<PathBuf>,

    /// How many times as fast as it was recorded
    #[arg(long, default_value = "1", value_parser = parse_speed, conflicts_with = "fastest", value_name = "FACTOR")]
    speed: f64,

    /// Play as fast as possible, without any pauses
    #[arg(long)]
    fastest: bool,

    /// The address to listen on; a PORT alone is one of this machine, at 127.0.0.1
    #[arg(
        long,
        env = "REPLAY_LISTEN",
        default_value = "127.0.0.1:8188",
        value_parser = parse_listen_address,
        value_name = "HOST:PORT"
    )]
    listen: SocketAddr,
}

pub(super) async fn run(args: ReplayArgs) -> anyhow::Result<ExitCode> {
    let recordings: Vec<Arc<Recording>> = args
        .recordings
        .iter()
        .map(|dir| Ok(Arc::new(Recording::read(dir)?)))
        .collect::<anyhow::Result<_>>()?;
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {} (--listen, REPLAY_LISTEN)", args.listen))?;
    for recording in &recordings {
        let meta = &recording.meta;
        tracing::info!(
            version = meta.comfyui_version,
            scenario = meta.scenario,
            "replaying"
        );
    }
    let options = ReplayOptions {
        speed: if args.fastest {
            PlaybackSpeed::Fastest
        } else {
            PlaybackSpeed::Real(args.speed)
        },
        repeat: true,
        ..ReplayOptions::default()
    };
    let replay = Replay::start(listener, recordings, options);
    tracing::info!("serving {}", replay.url());
    shutdown_signal().await;
    replay.shutdown().await;
    Ok(ExitCode::SUCCESS)
}

/// Reads a factor of speed.
pub(super) fn parse_speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if (0.01..=10_000.0).contains(&factor) => Ok(factor),
        _ => Err("expected a number from 0.01 to 10000".to_owned()),
    }
}
