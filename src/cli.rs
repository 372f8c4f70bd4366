//! The command line: parses it, sets up logging, runs the command, and maps its failure to an exit code.

mod api_client;
mod backends;
mod cancel;
mod completions;
mod demo;
mod duration;
mod environment;
mod exit_code;
mod job;
mod jobs;
mod jobs_table;
mod jobs_watch;
mod log_writer;
mod migrate;
mod node_bar;
mod open_files;
mod options;
mod output;
mod preview;
mod progress_bar;
mod queue;
mod reconnection;
mod record;
mod relay_clock;
mod relay_socket;
mod replay;
mod report;
mod secret_file;
mod serve;
mod setting_error;
mod shutdown_signal;
mod status_style;
mod submit;
mod table;
mod tag_options;
mod token;
mod top;
mod watch;
mod watch_feed;
mod webhook;
mod workflow;
mod workflow_file;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Context;
use clap::error::ErrorKind;
use clap::{Command, CommandFactory, FromArgMatches, Parser, Subcommand};
use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::job::printable;
use exit_code::{USAGE, WrongSetting};
use log_writer::LogWriter;
use output::print_note;

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
    Demo(Box<demo::DemoArgs>),
    Submit(submit::SubmitArgs),
    Watch(watch::WatchArgs),
    Jobs(jobs::JobsArgs),
    Job(job::JobArgs),
    Cancel(cancel::CancelArgs),
    Backends(backends::BackendsArgs),
    Queue(queue::QueueArgs),
    #[command(subcommand)]
    Workflow(workflow::WorkflowCommand),
    Top(top::TopArgs),
    Migrate(Box<migrate::MigrateArgs>),
    Record(record::RecordArgs),
    Replay(replay::ReplayArgs),
    Report(report::ReportArgs),
    #[command(subcommand)]
    Token(token::TokenCommand),
    #[command(subcommand)]
    Webhook(webhook::WebhookCommand),
    Completions(completions::CompletionsArgs),
    Man(completions::ManArgs),
}

/// Runs the program. Call it before the program has a second thread.
pub fn run() -> ExitCode {
    let mut command = environment::read_into(Cli::command());
    let given: Vec<OsString> = std::env::args_os().collect();
    if given.len() <= 1 {
        // Fails only if the output is closed.
        let _ = command.print_help();
        return ExitCode::SUCCESS;
    }
    let cli = match parse(&mut command, &given) {
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
    match execute(cli, &command) {
        Ok(code) => code,
        Err(error) => {
            let text = environment::name_variables(&format!("{error:#}"), &command);
            print_note(format_args!("error: {}", printable(&text)));
            if error.is::<WrongSetting>() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn parse(command: &mut Command, given: &[OsString]) -> clap::error::Result<Cli> {
    let parsed = command
        .try_get_matches_from_mut(given)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map_err(|error| setting_error::explain(error, command, given))
}

fn execute(cli: Cli, command: &Command) -> anyhow::Result<ExitCode> {
    let level = match cli.command {
        CliCommand::Serve(_) | CliCommand::Replay(_) => "info",
        _ => "warn",
    };
    let filter = EnvFilter::try_new(cli.log.as_deref().unwrap_or(level))
        .context("--log (LOG) is not a filter")
        .map_err(WrongSetting)?;
    let output = tracing_subscriber::fmt::layer()
        .with_ansi(console::colors_enabled_stderr())
        .with_writer(|| LogWriter);
    tracing_subscriber::registry()
        .with(output)
        .with(filter)
        .with(filter_fn(is_printable))
        .init();
    if matches!(cli.command, CliCommand::Serve(_)) {
        environment::log_notes(command);
    }
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        match cli.command {
            CliCommand::Serve(args) => serve::run(*args).await,
            CliCommand::Demo(args) => demo::run(*args).await,
            CliCommand::Submit(args) => submit::run(args).await,
            CliCommand::Watch(args) => watch::run(args).await,
            CliCommand::Jobs(args) => jobs::run(args).await,
            CliCommand::Job(args) => job::run(args).await,
            CliCommand::Cancel(args) => cancel::run(args).await,
            CliCommand::Backends(args) => backends::run(args).await,
            CliCommand::Queue(args) => queue::run(args).await,
            CliCommand::Workflow(command) => workflow::run(command).await,
            CliCommand::Top(args) => top::run(args).await,
            CliCommand::Migrate(args) => migrate::run(*args).await,
            CliCommand::Record(args) => record::run(args).await,
            CliCommand::Replay(args) => replay::run(args).await,
            CliCommand::Report(args) => report::run(&args),
            CliCommand::Token(command) => token::run(command),
            CliCommand::Webhook(command) => webhook::run(command).await,
            CliCommand::Completions(args) => {
                Ok(completions::print_completions(&args, Cli::command()))
            }
            CliCommand::Man(args) => completions::print_pages(&args, Cli::command()),
        }
    })
}

/// At trace level, tungstenite logs everything that it sends and receives, including tokens.
fn is_printable(metadata: &Metadata<'_>) -> bool {
    *metadata.level() != Level::TRACE || !metadata.target().starts_with("tungstenite")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }
}
