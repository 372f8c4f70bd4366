//! `comfy-relay cancel`: cancels jobs.

use std::process::ExitCode;

use super::api_client::{ApiRefusal, JOBS, RelayOptions};
use super::watch::parse_job_id;
use crate::cli::output::{print_line, print_note, printable_line};
use crate::job::JobId;

/// Cancel jobs
///
/// ComfyUI is asked to interrupt a job where it runs, and to remove it where it waits. Exit code: 0 if it was
/// asked for all of them, else 1.
#[derive(Debug, clap::Args)]
pub(super) struct CancelArgs {
    /// The jobs' ids, or prompt ids of ComfyUI
    #[arg(required = true, value_parser = parse_job_id)]
    jobs: Vec<JobId>,

    #[command(flatten)]
    relay: RelayOptions,
}

pub(super) async fn run(args: CancelArgs) -> anyhow::Result<ExitCode> {
    let relay = args.relay.client()?;
    let mut code = ExitCode::SUCCESS;
    for job in args.jobs {
        match relay.post(&format!("{JOBS}/{job}/cancel")).await {
            Ok(answer) => {
                let message = answer["message"].as_str().unwrap_or_default();
                print_line(format_args!("{job}  {}", printable_line(message)));
            }
            // The others may be cancelled all the same.
            Err(error) if error.is::<ApiRefusal>() => {
                print_note(format_args!("error: {job}: {error:#}"));
                code = ExitCode::FAILURE;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(code)
}
