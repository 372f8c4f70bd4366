//! `comfy-relay workflows show`: shows one workflow and its parameters.

use std::process::ExitCode;

use serde_json::{Map, Value};

use crate::cli::api_client::RelayOptions;
use crate::cli::output::{print_line, printable_line};
use crate::cli::parameter_schema::{limits, type_of};
use crate::cli::table::{Cell, Table};
use crate::cli::workflow_file::path_of;
use crate::job::printable_json;

/// Show what a workflow of the relay's folder does, and which parameters it takes
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct WorkflowShowArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    workflow: String,

    /// Print the relay's answer, with the graph and the JSON Schema of its parameters
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    relay: RelayOptions,
}

pub(super) async fn run(args: WorkflowShowArgs) -> anyhow::Result<ExitCode> {
    let relay = args.relay.client()?;
    let answer = relay.get(&path_of(&args.workflow), &[]).await?;
    if args.json {
        print_line(printable_json(&answer.to_string()));
        return Ok(ExitCode::SUCCESS);
    }
    for field in ["title", "description"] {
        let text = answer[field].as_str().filter(|text| !text.is_empty());
        if let Some(text) = text {
            print_line(printable_line(text));
        }
    }
    let none = Map::new();
    let schemas = answer["schema"]["properties"].as_object().unwrap_or(&none);
    if schemas.is_empty() {
        print_line(
            "It has no parameters of its own: set inputs of its nodes with -p NODE.INPUT=VALUE",
        );
        return Ok(ExitCode::SUCCESS);
    }
    let required = answer["schema"]["required"].as_array();
    let is_required = |name: &str| required.is_some_and(|all| all.iter().any(|it| it == name));
    let mut table = Table::new(&["PARAMETER", "TYPE", "DEFAULT", "LIMITS", "DESCRIPTION"]);
    for (name, schema) in schemas {
        let default = match &schema["default"] {
            _ if is_required(name) => "required".to_owned(),
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        let limits = limits(schema).unwrap_or_default();
        let description = schema["description"].as_str().unwrap_or_default();
        let cells = [name, type_of(schema), &default, &limits, description];
        table.add(cells.map(Cell::new).into());
    }
    for line in table.lines() {
        print_line(line);
    }
    Ok(ExitCode::SUCCESS)
}
