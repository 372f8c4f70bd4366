//! The command line: parses it, sets up logging, runs the command, and maps its failure to an exit code.

mod api_client;
mod demo;
mod exit_code;
mod open_files;
mod options;
mod progress_bar;
mod record;
mod relay_clock;
mod replay;
mod report;
mod serve;
mod shutdown_signal;
mod submit;
mod watch;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use exit_code::{USAGE, WrongSetting};

/// Shows people how far their ComfyUI images are.
///
/// The relay follows ComfyUI servers, turns their events into jobs with an honest percentage and a
/// remaining time, and publishes every job's progress to any number of WebSocket subscribers.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    /// What to log: error, warn, info, debug, trace, or a filter such as comfy_relay=debug. serve and
    /// replay log at info by default, the other commands at warn
    #[arg(long, global = true, env = "LOG", value_name = "FILTER")]
    log: Option<String>,

    #[command(subcommand)]
    command: CliCommand,
}

#[derive(Debug, Subcommand)]
enum CliCommand {
    Serve(Box<serve::ServeArgs>),
    Demo(demo::DemoArgs),
    Submit(submit::SubmitArgs),
    Watch(watch::WatchArgs),
    Record(record::RecordArgs),
    Replay(replay::ReplayArgs),
    Report(report::ReportArgs),
}

/// Runs the program.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Fails only if the output is closed.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(USAGE),
            };
        }
    };
    match execute(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            if error.is::<WrongSetting>() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn execute(cli: Cli) -> anyhow::Result<ExitCode> {
    let level = match cli.command {
        CliCommand::Serve(_) | CliCommand::Replay(_) => "info",
        _ => "warn",
    };
    let filter = EnvFilter::try_new(cli.log.as_deref().unwrap_or(level))
        .map_err(|error| anyhow::anyhow!("--log (LOG) is not a filter: {error}"))?;
    let output = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    tracing_subscriber::registry()
        .with(output)
        .with(filter)
        .with(filter_fn(is_printable))
        .init();
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        match cli.command {
            CliCommand::Serve(args) => serve::run(*args).await,
            CliCommand::Demo(args) => demo::run(args).await,
            CliCommand::Submit(args) => submit::run(args).await,
            CliCommand::Watch(args) => watch::run(args).await,
            CliCommand::Record(args) => record::run(args).await,
            CliCommand::Replay(args) => replay::run(args).await,
            CliCommand::Report(args) => report::run(&args),
        }
    })
}

/// At trace level, tungstenite logs everything that it sends and receives, including tokens.
fn is_printable(metadata: &Metadata<'_>) -> bool {
    *metadata.level() != Level::TRACE || !metadata.target().starts_with("tungstenite")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn flags_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }
}
