//! `comfy-relay backends`: lists the ComfyUI servers of a relay.

use std::process::ExitCode;

use console::Style;
use serde_json::Value;

use super::api_client::RelayOptions;
use super::table::{Cell, Table};
use crate::cli::output::print_line;
use crate::job::printable_json;

/// The path of the health of a relay.
pub(super) const HEALTH: &str = "api/anime/health";

/// List the ComfyUI servers: how they are, and what they run
#[derive(Debug, clap::Args)]
pub(super) struct BackendsArgs {
    /// Print the relay's answer
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    relay: RelayOptions,
}

pub(super) async fn run(args: BackendsArgs) -> anyhow::Result<ExitCode> {
    let health = args.relay.client()?.get(HEALTH, &[]).await?;
    let backends = &health["components"]["comfyui"];
    if args.json {
        print_line(printable_json(&backends.to_string()));
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["SERVER", "STATUS", "RUN", "WAIT", "SINCE", "REASON"]);
    for backend in backends.as_array().into_iter().flatten() {
        table.add(row(backend));
    }
    for line in table.lines() {
        print_line(line);
    }
    Ok(ExitCode::SUCCESS)
}

/// A server in a table. Its queue is shown to callers with the scope `monitor`.
fn row(backend: &Value) -> Vec<Cell> {
    let word = |name: &str| backend[name].as_str().unwrap_or_default();
    let count = |name: &str| backend[name].as_u64().map(|count| count.to_string());
    let style = match word("status") {
        "connected" => Style::new().green(),
        "unreachable" | "stalled" | "sick" => Style::new().red(),
        _ => Style::new().yellow(),
    };
    vec![
        Cell::new(word("name")),
        Cell::new(word("status")).styled(style),
        Cell::new(&count("queue_running").unwrap_or_default()),
        Cell::new(&count("queue_pending").unwrap_or_default()),
        Cell::new(word("unreachable_since")),
        Cell::new(word("reason")),
    ]
}
