//! `comfy-relay workflows`: the workflows that have names, and what can be said of one without submitting it.

mod check;
mod import;
mod list;
mod show;

use std::process::ExitCode;

/// List, show, check and import workflows that can be submitted by name
#[derive(Debug, clap::Subcommand)]
pub(super) enum WorkflowsCommand {
    List(list::WorkflowListArgs),
    Show(show::WorkflowShowArgs),
    Check(check::WorkflowCheckArgs),
    Import(Box<import::WorkflowImportArgs>),
}

pub(super) async fn run(command: WorkflowsCommand) -> anyhow::Result<ExitCode> {
    match command {
        WorkflowsCommand::List(args) => list::run(args).await,
        WorkflowsCommand::Show(args) => show::run(args).await,
        WorkflowsCommand::Check(args) => check::run(args).await,
        WorkflowsCommand::Import(args) => import::run(*args).await,
    }
}
