//! `comfy-relay jobs`: lists jobs.

use std::process::ExitCode;

use super::api_client::{JOBS, RelayOptions};
use super::jobs_table;
use super::jobs_watch::JobsWatch;
use super::tag_options::TagOptions;
use crate::cli::output::{print_line, print_text};
use crate::job::{Status, printable_json};

/// List jobs, the newest first
///
/// With --watch the list is drawn again whenever it changes, until Ctrl-C.
#[derive(Debug, clap::Args)]
pub(super) struct JobsArgs {
    /// Only jobs with one of these statuses: queued, processing, completed, failed, cancelled
    #[arg(long, value_delimiter = ',', value_parser = parse_status, value_name = "STATUS")]
    status: Vec<Status>,

    /// Only jobs of this ComfyUI server
    #[arg(long, value_name = "NAME")]
    backend: Option<String>,

    #[command(flatten)]
    tags: TagOptions,

    /// Only jobs registered at this moment or later, such as 2025-12-10T15:30:45Z
    #[arg(long, value_name = "MOMENT")]
    since: Option<jiff::Timestamp>,

    /// Only jobs registered before this moment
    #[arg(long, value_name = "MOMENT")]
    until: Option<jiff::Timestamp>,

    /// How many jobs
    #[arg(long, default_value = "20", value_parser = clap::value_parser!(u16).range(1..=500), value_name = "COUNT")]
    limit: u16,

    /// Draw the list again whenever it changes
    #[arg(long, conflicts_with = "json")]
    watch: bool,

    /// Print the relay's answer
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    relay: RelayOptions,
}

pub(super) async fn run(args: JobsArgs) -> anyhow::Result<ExitCode> {
    let relay = args.relay.client()?;
    let query = args.query();
    if args.watch {
        let watching = JobsWatch::new(&relay, query, args.feed_query());
        return watching.run().await;
    }
    let page = relay.get(JOBS, &query).await?;
    if args.json {
        print_line(printable_json(&page.to_string()));
    } else {
        print_text(jobs_table::text(&page));
    }
    Ok(ExitCode::SUCCESS)
}

impl JobsArgs {
    fn query(&self) -> Vec<(&'static str, String)> {
        let statuses: Vec<&str> = self.status.iter().map(|status| status.as_str()).collect();
        let statuses = (!statuses.is_empty()).then(|| statuses.join(","));
        let parameters = [
            ("status", statuses),
            ("backend", self.backend.clone()),
            ("since", self.since.map(|moment| moment.to_string())),
            ("until", self.until.map(|moment| moment.to_string())),
            ("limit", Some(self.limit.to_string())),
        ];
        let given = parameters
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        given.chain(self.tags.query()).collect()
    }

    /// The parameters of the stream of these jobs. A job stays in it when its status changes.
    fn feed_query(&self) -> Vec<(&'static str, String)> {
        let backend = self.backend.iter().map(|name| ("backend", name.clone()));
        backend.chain(self.tags.query()).collect()
    }
}

fn parse_status(text: &str) -> Result<Status, String> {
    Status::from_word(text)
        .ok_or_else(|| "expected queued, processing, completed, failed or cancelled".to_owned())
}
