//! `comfy-relay workflows list`: lists the workflows of the relay's folder.

use std::process::ExitCode;

use crate::cli::api_client::RelayOptions;
use crate::cli::output::{print_line, print_note, printable_line};
use crate::cli::table::{Cell, Table};
use crate::cli::workflow_file::WORKFLOWS;
use crate::job::printable_json;

/// List the workflows that can be submitted by name, and what is wrong with others in the relay's folder
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct WorkflowListArgs {
    /// Print the relay's answer
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    relay: RelayOptions,
}

pub(super) async fn run(args: WorkflowListArgs) -> anyhow::Result<ExitCode> {
    let answer = args.relay.client()?.get(WORKFLOWS, &[]).await?;
    if args.json {
        print_line(printable_json(&answer.to_string()));
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["NAME", "TITLE", "PARAMETERS"]);
    for workflow in answer["workflows"].as_array().into_iter().flatten() {
        let word = |name: &str| workflow[name].as_str().unwrap_or_default();
        let schemas = workflow["schema"]["properties"].as_object();
        let names: Vec<&str> = schemas
            .into_iter()
            .flatten()
            .map(|(name, _)| name.as_str())
            .collect();
        let title = if workflow["has_header"] == true {
            word("title")
        } else {
            ""
        };
        let cells = [word("name"), title, &names.join(", ")];
        table.add(cells.map(Cell::new).into());
    }
    for line in table.lines() {
        print_line(line);
    }
    for broken in answer["broken"].as_array().into_iter().flatten() {
        let word = |name: &str| printable_line(broken[name].as_str().unwrap_or_default());
        let message = word("message");
        print_note(format_args!(
            "warning: {} cannot be submitted: {message}",
            word("name")
        ));
    }
    Ok(ExitCode::SUCCESS)
}
