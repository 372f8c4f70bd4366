//! What is wrong with a command line: names the variable that a refused value came from, and repeats no secret.

use std::ffi::{OsStr, OsString};

use clap::error::{ContextKind, ContextValue, Error, ErrorKind};
use clap::{Arg, Command};

use super::environment::{SettingOrigin, origin};
use super::settings_file::SettingsFile;

/// Stands for a value that may hold a secret.
const HIDDEN: &str = "***";

/// The same error in the words of the user, who has set variables, written a file or given flags. `given` is the command line.
pub(super) fn explain(
    mut error: Error,
    command: &Command,
    given: &[OsString],
    file: Option<&SettingsFile>,
) -> Error {
    let settings = settings(command, given);
    if error.kind() == ErrorKind::InvalidUtf8
        && let Some(name) = settings.iter().find_map(|arg| unreadable(arg))
    {
        let text = format!("the variable {} is not UTF-8\n", name.display());
        return Error::raw(ErrorKind::InvalidUtf8, text).with_cmd(command);
    }
    let find = |shown: &str| settings.iter().find(|arg| arg.to_string() == shown);
    let name = |shown: &String| match find(shown) {
        Some(arg) => in_words(arg, given, file),
        None => shown.clone(),
    };
    let hides = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(shown)) => {
            find(shown).is_some_and(|arg| arg.is_hide_env_values_set())
        }
        _ => false,
    };
    for kind in [ContextKind::InvalidArg, ContextKind::PriorArg] {
        let named = match error.get(kind) {
            Some(ContextValue::String(shown)) => ContextValue::String(name(shown)),
            Some(ContextValue::Strings(shown)) => {
                ContextValue::Strings(shown.iter().map(name).collect())
            }
            _ => continue,
        };
        error.insert(kind, named);
    }
    // Of a missing value, which is empty, clap says that it is missing.
    if hides
        && let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidValue)
        && !value.is_empty()
    {
        error.insert(
            ContextKind::InvalidValue,
            ContextValue::String(HIDDEN.to_owned()),
        );
    }
    error
}

/// The settings of the command that is run, those of the commands above it included.
fn settings<'a>(mut command: &'a Command, given: &[OsString]) -> Vec<&'a Arg> {
    let mut found: Vec<&Arg> = command.get_arguments().collect();
    for word in given {
        if let Some(next) = word.to_str().and_then(|word| command.find_subcommand(word)) {
            command = next;
            found.extend(command.get_arguments());
        }
    }
    found
}

/// What the user calls a setting: the flag that was given, or the variable or line of the file that sets it, with its flag.
fn in_words(arg: &Arg, given: &[OsString], file: Option<&SettingsFile>) -> String {
    let Some(variable) = arg.get_env().map(|name| name.display()) else {
        return arg.to_string();
    };
    let is_given = arg.get_long().is_some_and(|flag| {
        let is_flag = |word: &OsString| {
            let word = word.to_string_lossy();
            let name = word.strip_prefix("--").unwrap_or_default();
            name.split('=').next() == Some(flag)
        };
        given.iter().any(is_flag)
    });
    if is_given {
        return arg.to_string();
    }
    match origin(arg, file) {
        Some(SettingOrigin::Variable(name)) => format!("{name} ({arg})"),
        Some(SettingOrigin::File { name, place }) => format!("{name} in {place} ({arg})"),
        None => format!("{arg} ({variable})"),
    }
}

/// The variable of a setting, if its value is not UTF-8.
fn unreadable(arg: &Arg) -> Option<&OsStr> {
    let name = arg.get_env()?;
    let value = std::env::var_os(name)?;
    value.to_str().is_none().then_some(name)
}
