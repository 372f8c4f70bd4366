//! `comfy-relay config`: checks the settings, and shows where each comes from.

mod check;
mod show;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Command;

use super::settings::Settings;

/// Check the settings of serve, or show them with where each comes from
#[derive(Debug, clap::Subcommand)]
pub(super) enum ConfigCommand {
    Check(check::ConfigCheckArgs),
    Show(Box<show::ConfigShowArgs>),
}

/// `config` names the file of settings, and `program` is the program before it has read any setting. Call it before the program
/// has a second thread.
pub(super) fn run(
    command: ConfigCommand,
    config: Option<PathBuf>,
    program: Command,
    settings: &Settings<'_>,
) -> anyhow::Result<ExitCode> {
    match command {
        ConfigCommand::Check(args) => Ok(check::run(args, config, program)),
        ConfigCommand::Show(args) => {
            show::run(*args, settings);
            Ok(ExitCode::SUCCESS)
        }
    }
}
