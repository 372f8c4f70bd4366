//! `comfy-relay queue`: shows the relay's own queue, and pauses and resumes it.

use std::process::ExitCode;

use super::api_client::RelayOptions;
use crate::cli::output::{print_line, printable_line};
use crate::job::printable_json;

/// The path of the queue.
const QUEUE: &str = "api/anime/queue";

/// Show the relay's own queue: whether it runs, and how many jobs wait in it. Or pause or resume it
///
/// While it is paused, jobs are accepted and wait, and none is handed in to any ComfyUI server. It stays so, also after a
/// restart of the relay, until it is resumed. That needs the scope operate.
#[derive(Debug, clap::Args)]
pub(super) struct QueueArgs {
    /// What the queue is to do
    #[arg(value_enum, value_name = "pause|resume")]
    verb: Option<QueueVerb>,

    /// Print the relay's answer
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    relay: RelayOptions,
}

/// What the queue is to do.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum QueueVerb {
    /// Jobs wait, and none is handed in
    Pause,
    /// Jobs are handed in again
    Resume,
}

pub(super) async fn run(args: QueueArgs) -> anyhow::Result<ExitCode> {
    let relay = args.relay.client()?;
    let queue = match args.verb {
        None => relay.get(QUEUE, &[]).await?,
        Some(QueueVerb::Pause) => relay.post(&format!("{QUEUE}/pause")).await?,
        Some(QueueVerb::Resume) => relay.post(&format!("{QUEUE}/resume")).await?,
    };
    if args.json {
        print_line(printable_json(&queue.to_string()));
        return Ok(ExitCode::SUCCESS);
    }
    let word = |name: &str| queue[name].as_str().map(printable_line);
    let state = word("state").unwrap_or_default();
    let mut line = format!("{state}, {} waiting", queue["waiting"]);
    if let Some(oldest) = word("oldest") {
        line += &format!(", the oldest since {oldest}");
    }
    if let Some(next) = word("next_start") {
        line += &format!(", the next begins about {next}");
    }
    print_line(line);
    Ok(ExitCode::SUCCESS)
}
