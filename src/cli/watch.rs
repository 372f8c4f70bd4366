//! `comfy-relay watch`: shows the progress of jobs until they end.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use console::Term;
use futures_util::StreamExt;
use futures_util::future::join_all;
use indicatif::{MultiProgress, ProgressBar};
use reqwest::StatusCode;
use tokio::time::{Instant, interval, sleep};
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

use super::api_client::{ApiClient, CA_OPTION, JobMessage, RelayOptions, explain_status};
use super::exit_code::{CANCELLED, FAILED, UNREACHABLE};
use super::progress_bar::JobBar;
use super::relay_clock::RelayClock;
use crate::cli::output::{print_bell, print_note};
use crate::connector::{self, WebSocket};
use crate::job::{JobId, Status, printable_json};

/// How long the command tries to reconnect to a relay that went away.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// The pause between two attempts to reconnect.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// How often the remaining time is drawn between two messages.
pub(super) const COUNT_INTERVAL: Duration = Duration::from_millis(250);

/// What a proxy answers while the relay behind it restarts.
const PROXY_FAILURES: [StatusCode; 3] = [
    StatusCode::BAD_GATEWAY,
    StatusCode::SERVICE_UNAVAILABLE,
    StatusCode::GATEWAY_TIMEOUT,
];

/// The close code of a relay that needs another token.
const UNAUTHENTICATED: u16 = 4401;

/// The close codes after which reconnecting is useless: try again later (1013), not authenticated, not allowed (4403).
const REFUSALS: [u16; 3] = [1013, UNAUTHENTICATED, 4403];

/// Show the progress of jobs until they end
///
/// Exit code: 0 completed, 1 failed, 2 cancelled, 3 the relay cannot be reached or knows no such job. Of several
/// jobs, the worst of 3, 1, 2 and 0.
#[derive(Debug, clap::Args)]
pub(super) struct WatchArgs {
    /// The jobs' ids, or prompt ids of ComfyUI
    #[arg(required = true, value_parser = parse_job_id, value_name = "JOB")]
    jobs: Vec<JobId>,

    #[command(flatten)]
    relay: RelayOptions,

    /// Print the messages as they arrive, one a line, instead of a bar
    #[arg(long)]
    json: bool,

    /// Ring the terminal's bell at the end
    #[arg(long)]
    notify: bool,
}

/// How watching a job over one connection ended.
enum WatchResult {
    /// The job ended.
    Ended(Status),
    /// The relay refuses the connection, or knows no such job.
    Refused(String),
    /// The connection was lost.
    Lost(String),
    /// Standard output was closed.
    OutputClosed,
}

pub(super) async fn run(args: WatchArgs) -> anyhow::Result<ExitCode> {
    let code = watch(&args.relay.client()?, &args.jobs, args.json).await;
    if args.notify && Term::stderr().is_term() {
        print_bell();
    }
    Ok(code)
}

/// Shows the progress of jobs until they end.
pub(super) async fn watch(relay: &ApiClient, jobs: &[JobId], json: bool) -> ExitCode {
    let bars = MultiProgress::new();
    let watches = jobs.iter().map(|job| {
        let bar = || JobBar::new(job.as_str(), bars.add(ProgressBar::new(100))).with_node(&bars);
        watch_job(relay, job, (!json).then(bar))
    });
    let codes = join_all(watches).await;
    let badness = |code: &u8| {
        [0, CANCELLED, FAILED, UNREACHABLE]
            .iter()
            .position(|it| it == code)
    };
    ExitCode::from(codes.into_iter().max_by_key(badness).unwrap_or_default())
}

/// Shows a job's progress until the job ends. Reconnects to a relay that went away after its first message. Returns
/// the exit code.
async fn watch_job(relay: &ApiClient, job: &JobId, mut bar: Option<JobBar>) -> u8 {
    let mut lost_at: Option<Instant> = None;
    let mut was_reached = false;
    loop {
        let mut received = false;
        let result = follow(relay, job, bar.as_mut(), &mut received).await;
        if received {
            (was_reached, lost_at) = (true, None);
        }
        let why = match result {
            WatchResult::Ended(Status::Completed) | WatchResult::OutputClosed => return 0,
            WatchResult::Ended(Status::Cancelled) => return CANCELLED,
            WatchResult::Ended(_) => return FAILED,
            WatchResult::Refused(reason) => reason,
            WatchResult::Lost(reason) => {
                let lost_for = lost_at.get_or_insert_with(Instant::now).elapsed();
                if was_reached && lost_for < RECONNECT_TIMEOUT {
                    sleep(RETRY_PAUSE).await;
                    continue;
                }
                let address = relay.address();
                format!("the relay at {address} cannot be reached: {reason} (--relay, RELAY_URL)")
            }
        };
        if let Some(bar) = &mut bar {
            bar.clear();
        }
        print_note(format_args!("error: {why}"));
        return UNREACHABLE;
    }
}

/// Shows a job's progress over one connection. Sets `received` once the relay has sent a message.
async fn follow(
    relay: &ApiClient,
    job: &JobId,
    mut bar: Option<&mut JobBar>,
    received: &mut bool,
) -> WatchResult {
    let mut socket = match relay.socket(job.as_str()).await {
        Ok(socket) => socket,
        Err(tungstenite::Error::Http(response)) => {
            let status = response.status();
            if PROXY_FAILURES.contains(&status) {
                return WatchResult::Lost(format!("{status}, perhaps of a proxy before it"));
            }
            return WatchResult::Refused(explain_status(
                &format!("the relay answers {status}"),
                status,
            ));
        }
        Err(error) => {
            return match connector::explain_certificate(&error, CA_OPTION) {
                Some(why) => WatchResult::Refused(why),
                None => WatchResult::Lost(error.to_string()),
            };
        }
    };
    // The reason that the relay sends before it closes the socket.
    let mut last_error = None;
    let mut clock = RelayClock::default();
    let mut count = interval(COUNT_INTERVAL);
    loop {
        let text = tokio::select! {
            text = receive(&mut socket, &mut last_error) => match text {
                Ok(text) => text,
                Err(end) => return end,
            },
            _ = count.tick() => {
                if let Some(bar) = &mut bar {
                    bar.count_down();
                }
                continue;
            }
        };
        *received = true;
        if bar.is_none() && writeln!(std::io::stdout(), "{}", printable_json(&text)).is_err() {
            return WatchResult::OutputClosed;
        }
        let Ok(message) = serde_json::from_str::<JobMessage>(&text) else {
            continue;
        };
        let message = message.printable();
        if message.r#type == "error" {
            if message.code.as_deref() == Some("job_not_found") {
                return WatchResult::Refused(message.error.unwrap_or_default());
            }
            last_error = message.error;
            continue;
        }
        let ended = match &mut bar {
            Some(bar) => bar.show(&message, &mut clock),
            None => message.outcome(),
        };
        if let Some(status) = ended {
            return WatchResult::Ended(status);
        }
    }
}

/// Receives the next text message. `last_error` is the reason that the relay sent before, if any.
///
/// Cancel safe: no message is lost.
async fn receive(
    socket: &mut WebSocket,
    last_error: &mut Option<String>,
) -> Result<Utf8Bytes, WatchResult> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return Ok(text),
            Some(Ok(Message::Close(Some(close)))) if REFUSALS.contains(&close.code.into()) => {
                let reason = last_error.take().unwrap_or_else(|| close.to_string());
                let status = match close.code.into() {
                    UNAUTHENTICATED => StatusCode::UNAUTHORIZED,
                    _ => StatusCode::FORBIDDEN,
                };
                return Err(WatchResult::Refused(explain_status(&reason, status)));
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(WatchResult::Lost(error.to_string())),
            None => return Err(WatchResult::Lost("the connection ended".to_owned())),
        }
    }
}

/// Reads a job id.
pub(super) fn parse_job_id(text: &str) -> Result<JobId, String> {
    JobId::parse(text).map_err(|error| error.to_string())
}
