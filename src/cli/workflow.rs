//! `comfy-relay workflow`: what can be said of a workflow without submitting it.

mod check;

use std::process::ExitCode;

/// Check a workflow without submitting it
#[derive(Debug, clap::Subcommand)]
pub(super) enum WorkflowCommand {
    Check(check::WorkflowCheckArgs),
}

pub(super) async fn run(command: WorkflowCommand) -> anyhow::Result<ExitCode> {
    match command {
        WorkflowCommand::Check(args) => check::run(args).await,
    }
}
