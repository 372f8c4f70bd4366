//! `comfy-relay config check`: everything that is wrong with the settings of `serve`, in one answer.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::error::ErrorKind;
use clap::{Command, Error, FromArgMatches};

use crate::cli::environment::{self, origin};
use crate::cli::exit_code::USAGE;
use crate::cli::output::{print_line, print_note};
use crate::cli::serve::ServeArgs;
use crate::cli::setting_error::explain;
use crate::cli::settings_file::SettingsFile;
use crate::job::printable;
use crate::{relay, server};

/// Check the settings that serve would start with: those of a file and of the environment
///
/// Prints everything that is wrong, in one answer. Nothing is started, made or asked. Exits with 0 if serve can be started with
/// them, else with 64.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ConfigCheckArgs {
    /// The file of settings; by default the one that --config names
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

/// `program` is the program before it has read any setting. Call it before the program has a second thread.
pub(super) fn run(args: ConfigCheckArgs, config: Option<PathBuf>, program: Command) -> ExitCode {
    let path = args.file.or(config);
    let problems = problems(path.as_deref(), program);
    for problem in &problems {
        print_note(format_args!("error: {}", printable(problem)));
    }
    if problems.is_empty() {
        print_line("serve can be started with these settings");
        ExitCode::SUCCESS
    } else {
        ExitCode::from(USAGE)
    }
}

fn problems(path: Option<&Path>, program: Command) -> Vec<String> {
    let file = match path.map(SettingsFile::read).transpose() {
        Ok(file) => file,
        Err(problems) => return problems,
    };
    let file = file.as_ref();
    let known = environment::known_settings(&program);
    let mut problems = file.map_or_else(Vec::new, |file| file.problems(&known));
    let program = environment::read_into(program, file);
    let Some(serve) = program.find_subcommand("serve") else {
        return problems;
    };
    let serve = serve.clone().args(program.get_arguments().cloned());
    let values = wrong_values(&serve, file);
    let has_values = values.is_empty();
    problems.extend(values);
    // Values that are wrong cannot be checked against each other.
    if has_values {
        let together = wrong_together(serve, file);
        let named = together.iter();
        problems.extend(named.map(|it| environment::name_variables(it, &program, file)));
    }
    problems
}

/// What is wrong with single values: each is parsed as if it were the only one.
fn wrong_values(serve: &Command, file: Option<&SettingsFile>) -> Vec<String> {
    let mut problems = Vec::new();
    for arg in serve.get_arguments() {
        if origin(arg, file).is_none() {
            continue;
        }
        let alone = serve.clone().mut_args(|other| {
            if other.get_id() == arg.get_id() {
                other
            } else {
                other.env(Resettable::Reset)
            }
        });
        if let Err(error) = parse(alone, file)
            && !is_about_others(error.kind())
        {
            problems.push(in_a_line(&error));
        }
    }
    problems
}

/// Whether an error is that a setting needs another one, or contradicts it.
fn is_about_others(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::MissingRequiredArgument | ErrorKind::ArgumentConflict
    )
}

/// What is wrong with values that are right for themselves. Reads the files that they name.
fn wrong_together(serve: Command, file: Option<&SettingsFile>) -> Vec<String> {
    let args = match parse(serve, file) {
        Ok(args) => args,
        Err(error) => return vec![in_a_line(&error)],
    };
    let config = match args.into_config() {
        Ok(config) => config,
        Err(problems) => return problems.iter().map(|it| format!("{it:#}")).collect(),
    };
    let of_server = server::check(&config.server).map_err(anyhow::Error::from);
    let of_relay = relay::check(&config.relay, &config.comfy).map_err(anyhow::Error::from);
    let checked = [of_server, of_relay].into_iter();
    checked
        .filter_map(|checked| Some(format!("{:#}", checked.err()?)))
        .collect()
}

/// Parses the settings of variables and the file, without flags.
fn parse(mut serve: Command, file: Option<&SettingsFile>) -> Result<ServeArgs, Error> {
    let parsed = serve
        .try_get_matches_from_mut(["serve"])
        .and_then(|matches| ServeArgs::from_arg_matches(&matches));
    parsed.map_err(|error| explain(error, &serve, &[], file))
}

/// The error in one line, without the word in front and the hint at the help.
fn in_a_line(error: &Error) -> String {
    let text = error.to_string();
    let text = text.split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = text
        .trim_start_matches("error: ")
        .split_whitespace()
        .collect();
    words.join(" ")
}
