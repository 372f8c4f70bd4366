//! `comfy-relay ready`: asks a relay whether it takes jobs.

use std::process::ExitCode;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::api_client::{ApiClient, RelayOptions};
use super::output::print_line;

/// How long a relay has to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The pause between two questions.
const PAUSE: Duration = Duration::from_millis(250);

/// Ask a relay whether it takes jobs: for health checks of containers, and for scripts that wait for it
///
/// Needs no token. Exit code: 0 it takes jobs, 1 it does not; the reason is printed.
#[derive(Debug, clap::Args)]
pub(super) struct ReadyArgs {
    /// Ask only whether it lives: a relay that waits for its database does
    #[arg(long)]
    live: bool,

    /// Wait so many seconds until it does
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait: u64,

    #[command(flatten)]
    relay: RelayOptions,
}

pub(super) async fn run(args: ReadyArgs) -> anyhow::Result<ExitCode> {
    let relay = args.relay.client()?;
    let path = if args.live { "healthz" } else { "readyz" };
    let until = Instant::now().checked_add(Duration::from_secs(args.wait));
    loop {
        let answer = ask(&relay, path).await;
        let next = Instant::now() + PAUSE;
        match answer {
            Ok(status) => {
                print_line(status);
                return Ok(ExitCode::SUCCESS);
            }
            Err(error) if until.is_some_and(|until| next > until) => return Err(error),
            Err(_) => sleep_until(next).await,
        }
    }
}

/// What the relay says of itself.
async fn ask(relay: &ApiClient, path: &str) -> anyhow::Result<String> {
    let Ok(answer) = tokio::time::timeout(PATIENCE, relay.get(path, &[])).await else {
        let base = relay.address();
        anyhow::bail!("the relay at {base} has not answered for {PATIENCE:?} (--relay, RELAY_URL)");
    };
    let answer = answer?;
    Ok(answer["status"].as_str().unwrap_or_default().to_owned())
}
