//! `comfy-relay cancel`: cancels jobs.

use std::process::ExitCode;

use super::api_client::{ApiClient, ApiRefusal, JOBS, RelayOptions};
use super::watch::parse_job_id;
use crate::cli::output::{print_line, print_note, printable_line};
use crate::job::JobId;

/// Cancel jobs
///
/// ComfyUI is asked to interrupt a job where it runs, and to remove it where it waits. "group:NAME" cancels all jobs of a group that
/// have not ended. Exit code: 0 if it was asked for all of them, else 1.
#[derive(Debug, clap::Args)]
pub(super) struct CancelArgs {
    /// The jobs' ids, prompt ids of ComfyUI, or group:NAME
    #[arg(required = true, value_parser = parse_job_id)]
    jobs: Vec<JobId>,

    #[command(flatten)]
    relay: RelayOptions,
}

pub(super) async fn run(args: CancelArgs) -> anyhow::Result<ExitCode> {
    let relay = args.relay.client()?;
    let mut code = ExitCode::SUCCESS;
    let mut jobs = Vec::new();
    for job in args.jobs {
        match job.group() {
            None => jobs.push(job),
            Some(name) => {
                let open = open_jobs(&relay, name).await?;
                if open.is_empty() {
                    print_note(format_args!("error: {job}: no job of this group is open"));
                    code = ExitCode::FAILURE;
                }
                jobs.extend(open);
            }
        }
    }
    for job in jobs {
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

/// The jobs of a group that have not ended.
async fn open_jobs(relay: &ApiClient, group: &str) -> anyhow::Result<Vec<JobId>> {
    let mut query = vec![
        ("status", "queued,processing".to_owned()),
        ("group", group.to_owned()),
        ("limit", "500".to_owned()),
    ];
    let mut open = Vec::new();
    loop {
        let page = relay.get(JOBS, &query).await?;
        let jobs = page["jobs"].as_array().into_iter().flatten();
        let ids = jobs.filter_map(|job| JobId::parse(job["job_id"].as_str()?).ok());
        open.extend(ids);
        let Some(cursor) = page["next_cursor"].as_str() else {
            return Ok(open);
        };
        query.truncate(3);
        query.push(("cursor", cursor.to_owned()));
    }
}
