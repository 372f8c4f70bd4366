use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;

use super::asked_to_stop;
use crate::recording::Recording;
use crate::replay::{PlaybackSpeed, Replay, ReplayOptions};

/// Serve recordings as the ComfyUI that they are of
///
/// Answers /ws, /prompt, /queue, /history, /interrupt, /view and /system_stats as the recorded server
/// did. The first prompt that is submitted plays the first recording's first prompt, and so on; the
/// ids of prompts and clients are rewritten to the caller's.
#[derive(Debug, clap::Args)]
pub(super) struct ReplayArgs {
    /// Folders with a recording each (meta.json, ws.jsonl, http.jsonl)
    #[arg(required = true, value_name = "DIR")]
    recordings: Vec<PathBuf>,

    /// How many times faster than it was recorded
    #[arg(long, default_value = "1", value_parser = factor, conflicts_with = "fastest", value_name = "FACTOR")]
    speed: f64,

    /// As fast as possible, without any pauses
    #[arg(long)]
    fastest: bool,

    /// The address to listen on
    #[arg(
        long,
        env = "REPLAY_LISTEN",
        default_value = "127.0.0.1:8188",
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
    asked_to_stop().await;
    replay.shutdown().await;
    Ok(ExitCode::SUCCESS)
}

/// A factor of speed.
pub(super) fn factor(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if (0.01..=10_000.0).contains(&factor) => Ok(factor),
        _ => Err("expected a number from 0.01 to 10000".to_owned()),
    }
}
