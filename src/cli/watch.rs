//! `comfy-relay watch`: shows the progress of jobs until they end.

use std::io::Write;
use std::process::ExitCode;

use console::Term;
use futures_util::future::join_all;
use indicatif::{MultiProgress, ProgressBar};
use tokio::time::interval;

use super::api_client::{ApiClient, JobMessage, RelayOptions};
use super::exit_code::{UNREACHABLE, of_outcome, worst};
use super::preview::{InlinePreview, PreviewMode, Protocol};
use super::progress_bar::{COUNT_INTERVAL, JobBar};
use super::reconnection::Reconnection;
use super::relay_clock::RelayClock;
use super::relay_socket::{Received, RelaySocket, SocketEnd};
use super::tag_options::TagOptions;
use super::watch_feed::watch_selected;
use crate::cli::output::{print_bell, print_note};
use crate::job::{JobId, Status, printable_json};

/// Show the progress of jobs until they end
///
/// With --label or --group: all such jobs that wait or run, and those that come meanwhile. Exit code: 0 completed, 1
/// failed, 2 cancelled, 3 the relay cannot be reached or knows no such job. Of several jobs, the worst of 3, 1, 2 and 0.
#[derive(Debug, clap::Args)]
pub(super) struct WatchArgs {
    /// The jobs' ids, or prompt ids of ComfyUI
    #[arg(
        required_unless_present_any = ["labels", "group"],
        conflicts_with_all = ["labels", "group"],
        value_parser = parse_job_id,
        value_name = "JOB"
    )]
    jobs: Vec<JobId>,

    #[command(flatten)]
    tags: TagOptions,

    #[command(flatten)]
    relay: RelayOptions,

    /// Print the messages as they arrive, one a line, instead of a bar
    #[arg(long)]
    json: bool,

    /// Ring the terminal's bell at the end
    #[arg(long)]
    notify: bool,

    /// Show the previews of a job above its bar; of several jobs, none are shown
    #[arg(long, value_enum, default_value = "auto", value_name = "WHEN")]
    previews: PreviewMode,
}

/// A job in the terminal.
struct ShownJob {
    bar: JobBar,
    /// All bars.
    bars: MultiProgress,
    /// `None` if its previews are not shown.
    protocol: Option<Protocol>,
}

/// How watching a job over one connection ended.
enum WatchResult {
    /// The job ended.
    Ended(Status),
    /// The connection was refused or lost, or the relay knows no such job.
    Socket(SocketEnd),
    /// Standard output was closed.
    OutputClosed,
}

pub(super) async fn run(args: WatchArgs) -> anyhow::Result<ExitCode> {
    let relay = args.relay.client()?;
    let code = if args.jobs.is_empty() {
        ExitCode::from(watch_selected(&relay, &args.tags.query(), args.json).await)
    } else {
        watch(&relay, &args.jobs, args.json, args.previews).await
    };
    if args.notify && Term::stderr().is_term() {
        print_bell();
    }
    Ok(code)
}

/// Shows the progress of jobs until they end.
pub(super) async fn watch(
    relay: &ApiClient,
    jobs: &[JobId],
    json: bool,
    previews: PreviewMode,
) -> ExitCode {
    let bars = MultiProgress::new();
    let is_alone = jobs.len() == 1 && !json;
    let protocol = previews.protocol().filter(|_| is_alone);
    let watches = jobs.iter().map(|job| {
        let shown = || ShownJob {
            bar: JobBar::new(job.as_str(), bars.add(ProgressBar::new(100))).with_node(&bars),
            bars: bars.clone(),
            protocol,
        };
        watch_job(relay, job, (!json).then(shown))
    });
    let codes = join_all(watches).await;
    ExitCode::from(worst(codes))
}

/// Shows a job's progress until the job ends. Reconnects to a relay that went away after its first message. Returns
/// the exit code.
async fn watch_job(relay: &ApiClient, job: &JobId, mut shown: Option<ShownJob>) -> u8 {
    let mut reconnection = Reconnection::default();
    loop {
        let why = match follow(relay, job, shown.as_mut(), &mut reconnection).await {
            WatchResult::Ended(status) => return of_outcome(status),
            WatchResult::OutputClosed => return 0,
            WatchResult::Socket(SocketEnd::Refused(reason)) => reason,
            WatchResult::Socket(SocketEnd::Lost(reason)) => {
                match reconnection.wait(relay, &reason).await {
                    Ok(()) => continue,
                    Err(why) => why,
                }
            }
        };
        if let Some(shown) = &mut shown {
            shown.bar.clear();
        }
        print_note(format_args!("error: {why}"));
        return UNREACHABLE;
    }
}

/// Shows a job's progress over one connection.
async fn follow(
    relay: &ApiClient,
    job: &JobId,
    mut shown: Option<&mut ShownJob>,
    reconnection: &mut Reconnection,
) -> WatchResult {
    let protocol = shown.as_ref().and_then(|shown| shown.protocol);
    // What was said of a connection that was lost is below the picture before.
    let mut preview = protocol.map(InlinePreview::new);
    let asked = preview.as_ref().map(|_| ("previews", "1".to_owned()));
    let mut socket = match RelaySocket::connect(relay, job.as_str(), asked.as_slice()).await {
        Ok(socket) => socket,
        Err(end) => return WatchResult::Socket(end),
    };
    let mut clock = RelayClock::default();
    let mut count = interval(COUNT_INTERVAL);
    loop {
        let text = tokio::select! {
            received = socket.receive_any() => match received {
                Ok(Received::Text(text)) => text,
                Ok(Received::Preview(bytes)) => {
                    if let (Some(preview), Some(shown)) = (&mut preview, &shown) {
                        preview.show(&bytes, &shown.bars);
                    }
                    continue;
                }
                Err(end) => return WatchResult::Socket(end),
            },
            _ = count.tick() => {
                if let Some(shown) = &mut shown {
                    shown.bar.count_down();
                }
                continue;
            }
        };
        reconnection.reached();
        if shown.is_none() && writeln!(std::io::stdout(), "{}", printable_json(&text)).is_err() {
            return WatchResult::OutputClosed;
        }
        let Ok(message) = serde_json::from_str::<JobMessage>(&text) else {
            continue;
        };
        let message = message.printable();
        if message.r#type == "error" {
            if message.code.as_deref() == Some("job_not_found") {
                let why = message.error.unwrap_or_default();
                return WatchResult::Socket(SocketEnd::Refused(why));
            }
            socket.last_error = message.error;
            continue;
        }
        let ended = match &mut shown {
            Some(shown) => shown.bar.show(&message, &mut clock),
            None => message.outcome(),
        };
        if let Some(status) = ended {
            return WatchResult::Ended(status);
        }
    }
}

/// Reads a job id.
pub(super) fn parse_job_id(text: &str) -> Result<JobId, String> {
    JobId::parse(text).map_err(|error| error.to_string())
}
