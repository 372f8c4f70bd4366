//! `comfy-relay jobs`: lists jobs.

use std::process::ExitCode;
use std::time::Duration;

use console::Term;
use serde_json::Value;
use tokio::time::sleep;

use super::api_client::{ApiClient, JOBS, RelayOptions};
use super::duration::duration;
use super::status_style::status_style;
use super::table::{Cell, Table};
use crate::cli::output::{print_line, print_text};
use crate::job::{Status, printable_json};

/// How often the list is read again.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

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
        return watch(&relay, &query).await;
    }
    let page = relay.get(JOBS, &query).await?;
    if args.json {
        print_line(printable_json(&page.to_string()));
    } else {
        print_text(text(&page));
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
        given.collect()
    }
}

/// Draws the list over itself; where standard output is no terminal, prints it again.
async fn watch(relay: &ApiClient, query: &[(&str, String)]) -> anyhow::Result<ExitCode> {
    let terminal = Term::stdout();
    let mut drawn = String::new();
    loop {
        let text = text(&relay.get(JOBS, query).await?);
        if text != drawn {
            if terminal.is_term() {
                terminal.clear_last_lines(drawn.lines().count())?;
            }
            print_text(&text);
            drawn = text;
        }
        sleep(REFRESH_INTERVAL).await;
    }
}

fn text(page: &Value) -> String {
    let mut table = Table::new(&["JOB", "STATUS", "", "LEFT", "MESSAGE", "SERVER"]);
    for job in page["jobs"].as_array().into_iter().flatten() {
        let word = |name: &str| job[name].as_str().unwrap_or_default();
        let status = Cell::new(word("status"));
        let left = job["estimated_remaining"]
            .as_u64()
            .filter(|_| job["completed_at"].is_null());
        table.add(vec![
            Cell::new(word("job_id")),
            match Status::from_word(word("status")) {
                Some(known) => status.styled(status_style(known)),
                None => status,
            },
            Cell::new(&format!(
                "{:>3} %",
                job["progress"].as_u64().unwrap_or_default()
            )),
            Cell::new(&left.map(duration).unwrap_or_default()),
            Cell::new(word("message")),
            Cell::new(word("backend")),
        ]);
    }
    table.lines().join("\n") + "\n"
}

fn parse_status(text: &str) -> Result<Status, String> {
    Status::from_word(text)
        .ok_or_else(|| "expected queued, processing, completed, failed or cancelled".to_owned())
}
