//! The command line: parses it, sets up logging, runs the command, and maps its failure to an exit code.

mod api_client;
mod backends;
mod cancel;
mod completions;
mod config;
mod demo;
mod doctor;
mod duration;
mod environment;
mod exit_code;
mod job;
mod jobs;
mod jobs_table;
mod jobs_watch;
mod json_line;
mod log_writer;
mod migrate;
mod node_bar;
mod open_files;
mod options;
mod output;
mod parameter_schema;
mod preview;
mod progress_bar;
mod queue;
mod ready;
mod reconnection;
mod record;
mod relay_clock;
mod relay_socket;
mod replay;
mod report;
mod runtime;
mod secret_file;
mod serve;
mod service_manager;
mod setting_error;
mod settings;
mod settings_file;
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
mod workflow_file;
mod workflow_parameters;
mod workflows;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Command, CommandFactory, FromArgMatches, Parser, Subcommand};
use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::job::printable;
use exit_code::{USAGE, WrongSetting};
use json_line::{JsonLine, LogFormat};
use log_writer::LogWriter;
use output::print_note;
#[doc(hidden)]
pub use runtime::runtime;
use settings::Settings;
use settings_file::SettingsFile;
use submit::WorkflowFlags;

/// Publishes the progress of ComfyUI prompts to any number of subscribers.
///
/// The relay follows ComfyUI servers, turns their events into jobs with a percentage and a remaining
/// time, and publishes every job's progress to any number of WebSocket subscribers.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    /// A TOML file with settings, each under the name of its variable in lower case; variables and flags win over it
    #[arg(long, global = true, env = "CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    /// What to log: error, warn, info, debug, trace, or a filter such as comfy_relay=debug. serve and
    /// replay log at info by default, the other commands at warn
    #[arg(long, global = true, env = "LOG", value_parser = parse_filter, value_name = "FILTER")]
    log: Option<String>,

    /// How the log is written: for people, or as one JSON object a line
    #[arg(
        long,
        global = true,
        env = "LOG_FORMAT",
        value_enum,
        default_value_t = LogFormat::Text,
        value_name = "text|json"
    )]
    log_format: LogFormat,

    #[command(subcommand)]
    command: CliCommand,
}

#[derive(Debug, Subcommand)]
enum CliCommand {
    Serve(Box<serve::ServeArgs>),
    Demo(Box<demo::DemoArgs>),
    Submit(Box<submit::SubmitArgs>),
    Watch(watch::WatchArgs),
    Jobs(jobs::JobsArgs),
    Job(job::JobArgs),
    Cancel(cancel::CancelArgs),
    Backends(backends::BackendsArgs),
    Queue(queue::QueueArgs),
    Ready(ready::ReadyArgs),
    #[command(subcommand, visible_alias = "workflow")]
    Workflows(workflows::WorkflowsCommand),
    Top(top::TopArgs),
    #[command(subcommand)]
    Config(config::ConfigCommand),
    Doctor(Box<doctor::DoctorArgs>),
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
    let mut given: Vec<OsString> = std::env::args_os().collect();
    let workflow_flags = WorkflowFlags::take_from(&mut given, &Cli::command());
    let file = match settings_file(&given) {
        Ok(file) => file,
        Err(problems) => {
            for problem in problems {
                print_note(format_args!("error: {}", printable(&problem)));
            }
            return ExitCode::from(USAGE);
        }
    };
    let file = file.as_ref();
    let mut command = environment::read_into(Cli::command(), file);
    if given.len() <= 1 {
        // Fails only if the output is closed.
        let _ = command.print_help();
        return ExitCode::SUCCESS;
    }
    let (mut cli, matches) = match parse(&mut command, &given, file) {
        Ok(parsed) => parsed,
        Err(error) => {
            // Fails only if the output is closed.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(USAGE),
            };
        }
    };
    if let CliCommand::Submit(args) = &mut cli.command {
        args.flags = workflow_flags;
    }
    let settings = Settings {
        command: &command,
        matches: &matches,
        file,
    };
    match execute(cli, &settings) {
        Ok(code) => code,
        Err(error) => {
            let text = environment::name_variables(&format!("{error:#}"), &command, file);
            print_note(format_args!("error: {}", printable(&text)));
            if error.is::<WrongSetting>() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// The file of settings that a flag or a variable names; `config check` reads its own. Fails with everything that is wrong with the
/// file itself.
fn settings_file(given: &[OsString]) -> Result<Option<SettingsFile>, Vec<String>> {
    let flags_alone = Cli::command().mut_args(without_variable);
    let flags_alone = flags_alone.ignore_errors(true);
    let Ok(matches) = flags_alone.try_get_matches_from(given) else {
        // The help, or the version.
        return Ok(None);
    };
    let nested = matches.subcommand();
    if nested
        .is_some_and(|(name, nested)| name == "config" && nested.subcommand_name() == Some("check"))
    {
        return Ok(None);
    }
    let path = matches.get_one::<PathBuf>("config").cloned();
    let Some(path) = path.or_else(environment::settings_file) else {
        return Ok(None);
    };
    let file = SettingsFile::read(&path)?;
    let problems = file.problems(&environment::known_settings(&Cli::command()));
    if problems.is_empty() {
        Ok(Some(file))
    } else {
        Err(problems)
    }
}

fn without_variable(arg: Arg) -> Arg {
    arg.env(Resettable::Reset)
}

fn parse(
    command: &mut Command,
    given: &[OsString],
    file: Option<&SettingsFile>,
) -> clap::error::Result<(Cli, ArgMatches)> {
    let parsed = command.try_get_matches_from_mut(given).and_then(|matches| {
        let cli = Cli::from_arg_matches(&matches)?;
        Ok((cli, matches))
    });
    parsed.map_err(|error| setting_error::explain(error, command, given, file))
}

fn execute(cli: Cli, settings: &Settings<'_>) -> anyhow::Result<ExitCode> {
    let level = match cli.command {
        CliCommand::Serve(_) | CliCommand::Replay(_) => "info",
        _ => "warn",
    };
    let filter = EnvFilter::try_new(cli.log.as_deref().unwrap_or(level))?;
    start_log(cli.log_format, filter);
    if matches!(cli.command, CliCommand::Serve(_)) {
        environment::log_notes(settings.command, settings.file);
    }
    // Before there is a second thread: it reads the environment again.
    if let CliCommand::Config(command) = cli.command {
        return config::run(command, cli.config, Cli::command(), settings);
    }
    let runtime = runtime()?;
    runtime.block_on(async {
        match cli.command {
            CliCommand::Serve(args) => serve::run(*args).await,
            CliCommand::Demo(args) => demo::run(*args).await,
            CliCommand::Submit(args) => submit::run(*args, Cli::command()).await,
            CliCommand::Watch(args) => watch::run(args).await,
            CliCommand::Jobs(args) => jobs::run(args).await,
            CliCommand::Job(args) => job::run(args).await,
            CliCommand::Cancel(args) => cancel::run(args).await,
            CliCommand::Backends(args) => backends::run(args).await,
            CliCommand::Queue(args) => queue::run(args).await,
            CliCommand::Ready(args) => ready::run(args).await,
            CliCommand::Workflows(command) => workflows::run(command).await,
            CliCommand::Top(args) => top::run(args).await,
            CliCommand::Config(_) => unreachable!("it needs no runtime"),
            CliCommand::Doctor(args) => Ok(doctor::run(*args).await),
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

/// Logs to standard error from now on.
fn start_log(format: LogFormat, filter: EnvFilter) {
    let text = (format == LogFormat::Text).then(|| {
        tracing_subscriber::fmt::layer()
            .with_ansi(console::colors_enabled_stderr())
            .with_writer(|| LogWriter)
    });
    let json = (format == LogFormat::Json).then(|| {
        tracing_subscriber::fmt::layer()
            .fmt_fields(JsonFields::new())
            .event_format(JsonLine)
            .with_ansi(false)
            .with_writer(|| LogWriter)
    });
    tracing_subscriber::registry()
        .with(text)
        .with(json)
        .with(filter)
        .with(filter_fn(is_printable))
        .init();
}

/// Accepts what can be a filter of the log.
fn parse_filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text).map_err(|error| format!("expected a filter: {error}"))?;
    Ok(text.to_owned())
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
