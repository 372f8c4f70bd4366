use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use futures_util::StreamExt;
use indicatif::ProgressBar;
use tokio::time::{Instant, sleep};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::{self, Message as Frame};

use super::api_client::{ApiClient, JobMessage};
use super::progress_bar::JobBar;
use crate::job::{JobId, Status};

/// How long a relay that goes away while a job is watched is waited for.
const RETURN_PATIENCE: Duration = Duration::from_secs(30);

/// The pause between two attempts to reach it.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// The close codes of a relay that cannot do now what it was asked, does not know who asks, or does not
/// allow it.
const REFUSALS: [u16; 3] = [1013, 4401, 4403];

/// Exit code where the job cannot be followed.
const UNREACHABLE: u8 = 3;

/// Show the progress of a job until it ends
///
/// Exit code: 0 completed, 1 failed, 2 cancelled, 3 the relay cannot be reached or knows no such job.
#[derive(Debug, clap::Args)]
pub(super) struct WatchArgs {
    /// The job's id, or a prompt id of ComfyUI
    #[arg(value_parser = job_id)]
    job: JobId,

    #[command(flatten)]
    relay: ApiClient,

    /// Print the messages as they come, one in a line, instead of a bar
    #[arg(long)]
    json: bool,
}

/// What one connection came to.
pub(super) enum WatchResult {
    /// The job ended.
    Ended(Status),
    /// The relay says that there is no such job, or does not speak to us.
    Refused(String),
    /// The connection was lost.
    Lost(String),
    /// Nobody reads what is printed.
    Unread,
}

pub(super) async fn run(args: WatchArgs) -> anyhow::Result<ExitCode> {
    watch(&args.relay, &args.job, args.json).await
}

/// Shows a job's progress until it ends.
pub(super) async fn watch(relay: &ApiClient, job: &JobId, json: bool) -> anyhow::Result<ExitCode> {
    let name: String = job.as_str().chars().take(16).collect();
    let mut bar = (!json).then(|| JobBar::new(&name, ProgressBar::new(100)));
    let mut lost_at: Option<Instant> = None;
    let mut heard = false;
    loop {
        let mut spoke = false;
        let outcome = follow(relay, job, bar.as_mut(), &mut spoke).await;
        if spoke {
            (heard, lost_at) = (true, None);
        }
        match outcome {
            WatchResult::Ended(status) => {
                return Ok(match status {
                    Status::Completed => ExitCode::SUCCESS,
                    Status::Cancelled => ExitCode::from(2),
                    _ => ExitCode::FAILURE,
                });
            }
            WatchResult::Refused(reason) => {
                eprintln!("error: {reason}");
                return Ok(ExitCode::from(UNREACHABLE));
            }
            WatchResult::Unread => return Ok(ExitCode::SUCCESS),
            WatchResult::Lost(reason) => {
                let patient = lost_at.get_or_insert_with(Instant::now).elapsed() < RETURN_PATIENCE;
                if !(heard && patient) {
                    eprintln!("error: the relay cannot be reached: {reason} (--relay, RELAY_URL)");
                    return Ok(ExitCode::from(UNREACHABLE));
                }
                sleep(RETRY_PAUSE).await;
            }
        }
    }
}

/// Shows a job's progress over one connection. `heard` is set when the relay has spoken.
pub(super) async fn follow(
    relay: &ApiClient,
    job: &JobId,
    mut bar: Option<&mut JobBar>,
    heard: &mut bool,
) -> WatchResult {
    let request = match relay.socket(job.as_str()) {
        Ok(request) => request,
        Err(error) => return WatchResult::Refused(error.to_string()),
    };
    let mut socket = match connect_async(request).await {
        Ok((socket, _)) => socket,
        Err(tungstenite::Error::Http(response)) => {
            return WatchResult::Refused(format!("the relay answers {}", response.status()));
        }
        Err(error) => return WatchResult::Lost(error.to_string()),
    };
    // What the relay had to say last, should it give up.
    let mut complaint = None;
    loop {
        let text = match socket.next().await {
            Some(Ok(Frame::Text(text))) => text,
            Some(Ok(Frame::Close(Some(close)))) if REFUSALS.contains(&close.code.into()) => {
                return WatchResult::Refused(complaint.unwrap_or_else(|| close.to_string()));
            }
            Some(Ok(_)) => continue,
            Some(Err(error)) => return WatchResult::Lost(error.to_string()),
            None => return WatchResult::Lost("the connection ended".to_owned()),
        };
        *heard = true;
        if bar.is_none() && writeln!(std::io::stdout(), "{text}").is_err() {
            return WatchResult::Unread;
        }
        let Ok(message) = serde_json::from_str::<JobMessage>(&text) else {
            continue;
        };
        if message.r#type == "error" && message.code.as_deref() == Some("job_not_found") {
            return WatchResult::Refused(message.error.unwrap_or_default());
        }
        if message.r#type == "error" {
            complaint = message.error;
            continue;
        }
        if message.r#type != "progress" {
            continue;
        }
        let ended = Status::from_word(&message.status).filter(|status| status.is_final());
        match (&mut bar, ended) {
            (Some(bar), None) => bar.show(&message),
            (Some(bar), Some(_)) => bar.finish(&message),
            (None, _) => {}
        }
        if let Some(status) = ended {
            return WatchResult::Ended(status);
        }
    }
}

pub(super) fn job_id(text: &str) -> Result<JobId, String> {
    JobId::parse(text).map_err(|error| error.to_string())
}
