//! The environment variables of the settings: under which name each is read, and what of its text counts.
//!
//! systemd and Docker pass on everything behind the `=` of an env file, comments included. Below the environment is the file of
//! settings, whose values reach the parser of the command line as those of variables do.

use std::any::TypeId;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::PathBuf;

use clap::{Arg, Command};

use super::secret_file::file_parser;
use super::settings_file::{KnownSettings, SettingsFile};
use crate::config::Secret;

/// Stands before the plain name of a variable. A prefixed variable wins over the plain one.
const PREFIX: &str = "COMFY_RELAY_";

/// The variables that stay wrong settings if they are empty: a secret that was lost on the way must not
/// open the relay to everybody.
const NEVER_EMPTY: &str = "AUTH_";

/// Behind the name of a secret: the variable that names a file with it.
const FILE: &str = "_FILE";

/// The variable that names the file of settings.
const CONFIG: &str = "CONFIG";

/// Other names of variables, which platforms and other programs set: each holds what the variable takes.
const ALIASES: [(&str, &str); 2] = [("LISTEN", "PORT"), ("COMFYUI_URL", "COMFYUI_BACKENDS")];

/// The variables of a Redis server, of which the relay does not need all.
const REDIS: &str = "REDIS_";

/// Those that name the server: without one of them there is none.
const REDIS_SERVERS: [&str; 2] = ["REDIS_URL", "REDIS_HOST"];

/// The variable with the whole address of a database, and those that hold parts of one.
const DATABASE_URL: &str = "DATABASE_URL";
const DATABASE_PARTS: [&str; 4] = ["DB_HOST", "DB_PORT", "DB_NAME", "DB_USER"];

/// Where the value of a setting comes from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SettingOrigin {
    /// The variable of this name.
    Variable(String),
    /// The file of settings.
    File {
        /// The name there.
        name: String,
        /// Path and line.
        place: String,
    },
}

/// Makes each setting of a command read the variable that holds its value: the prefixed one where it is set,
/// the plain one otherwise, and before each of them the file of a secret. What no variable sets is taken from the file of
/// settings, or from an alias. Comments are cut off, and empty variables count as unset.
///
/// Changes the environment: call it before the program has a second thread.
pub(super) fn read_into(command: Command, file: Option<&SettingsFile>) -> Command {
    let names = arguments(&command).into_iter().filter_map(Arg::get_env);
    let known: Vec<String> = names.filter_map(OsStr::to_str).map(str::to_owned).collect();
    read_known(command, &known, file)
}

/// The path of the file of settings, if a variable names it. Changes the environment, as [`read_into`] does.
pub(super) fn settings_file() -> Option<PathBuf> {
    let names = [format!("{PREFIX}{CONFIG}"), CONFIG.to_owned()];
    let mut set = names.iter().filter(|name| tidy(name, false));
    set.next().and_then(std::env::var_os).map(PathBuf::from)
}

/// `known` are the names of all settings: some secrets have a setting of their own for their file.
fn read_known(command: Command, known: &[String], file: Option<&SettingsFile>) -> Command {
    let read = |arg: Arg| {
        let Some(name) = arg.get_env().and_then(OsStr::to_str).map(str::to_owned) else {
            return arg;
        };
        let secret_file = Some(format!("{name}{FILE}")).filter(|file| !known.contains(file));
        let secret_file = secret_file.as_deref();
        from_environment(&arg, &name, secret_file)
            .or_else(|| from_file(&arg, &name, secret_file, file?))
            .or_else(|| from_alias(&arg, &name))
            // Read again: a setting keeps what its variable held when it was named.
            .unwrap_or_else(|| arg.env(name))
    };
    command
        .mut_args(read)
        .mut_subcommands(|command| read_known(command, known, file))
}

/// The setting with the variable that is set; `None` if none is.
fn from_environment(arg: &Arg, name: &str, secret_file: Option<&str>) -> Option<Arg> {
    let is_secret = is_secret(arg);
    for prefix in [PREFIX, ""] {
        let named = |name: &str| format!("{prefix}{name}");
        let has_value = tidy(&named(name), is_secret);
        let is_given = has_value && std::env::var_os(named(name)).is_some_and(|it| !it.is_empty());
        if let Some(file) = secret_file
            && let Some(parser) = file_parser(arg, is_given)
            && tidy(&named(file), false)
        {
            return Some(arg.clone().env(named(file)).value_parser(parser));
        }
        if has_value {
            return Some(arg.clone().env(named(name)));
        }
    }
    None
}

/// The setting with its value in the file of settings; `None` if the file has none.
fn from_file(arg: &Arg, name: &str, secret_file: Option<&str>, file: &SettingsFile) -> Option<Arg> {
    let value = file.text(name, arg.get_value_delimiter());
    if let Some(secret_file) = secret_file
        && let Some(path) = file.text(secret_file, None)
        && let Some(parser) = file_parser(arg, value.is_some())
    {
        return Some(with_value(
            arg.clone().value_parser(parser),
            secret_file,
            &path,
        ));
    }
    value.map(|value| with_value(arg.clone(), name, &value))
}

/// The setting as if its variable, which is not set, held this value.
#[expect(
    unsafe_code,
    reason = "the parser of the command line reads variables from the environment alone"
)]
fn with_value(arg: Arg, name: &str, value: &str) -> Arg {
    // SAFETY: the program has one thread, so that no other one reads the environment meanwhile.
    unsafe { std::env::set_var(name, value) };
    let arg = arg.env(name.to_owned());
    // SAFETY: as above.
    unsafe { std::env::remove_var(name) };
    arg
}

/// The setting with the alias that is set; `None` if none is.
fn from_alias(arg: &Arg, name: &str) -> Option<Arg> {
    let (_, alias) = ALIASES.iter().find(|(of, _)| *of == name)?;
    for prefix in [PREFIX, ""] {
        let alias = format!("{prefix}{alias}");
        if tidy(&alias, false) && !is_of_kubernetes(&alias) {
            return Some(arg.clone().env(alias));
        }
    }
    None
}

/// The settings that a file may hold: all that have a variable, and the files of secrets, but not the name of the file itself.
/// For a command that is not yet read into.
pub(super) fn known_settings(command: &Command) -> KnownSettings {
    let mut known = KnownSettings::default();
    for arg in arguments(command) {
        let Some(name) = arg.get_env().and_then(OsStr::to_str) else {
            continue;
        };
        if file_parser(arg, false).is_some() {
            let file = format!("{name}{FILE}").to_lowercase();
            known.delimiters.insert(file, None);
        }
        // Of two commands, one can take a list of what the other takes one.
        let delimiter = known.delimiters.entry(name.to_lowercase()).or_default();
        *delimiter = delimiter.or(arg.get_value_delimiter());
    }
    known.delimiters.remove(&CONFIG.to_lowercase());
    let aliases = ALIASES.map(|(name, alias)| (alias.to_lowercase(), name.to_lowercase()));
    known.aliases = aliases.into();
    known
}

/// Where the value of a setting comes from, if it has one that is neither a flag's nor a default.
pub(super) fn origin(arg: &Arg, file: Option<&SettingsFile>) -> Option<SettingOrigin> {
    let name = arg.get_env()?.to_str()?;
    if std::env::var_os(name).is_some() {
        return Some(SettingOrigin::Variable(name.to_owned()));
    }
    let place = file?.place(name)?;
    Some(SettingOrigin::File {
        name: name.to_lowercase(),
        place,
    })
}

/// Whether a variable names the address of a service, as Kubernetes sets it for each of them: `COMFY_RELAY_PORT` for a service
/// that is called comfy-relay.
fn is_of_kubernetes(name: &str) -> bool {
    std::env::var(name).is_ok_and(|value| value.contains("://")) && name.ends_with("_PORT")
}

/// Replaces the value of a variable by what counts of it. Returns whether the variable is set then.
#[expect(
    unsafe_code,
    reason = "the parser of the command line reads variables from the environment alone"
)]
fn tidy(name: &str, is_secret: bool) -> bool {
    let Some(value) = std::env::var_os(name) else {
        return false;
    };
    let Some(text) = value.to_str() else {
        return true;
    };
    let kept = match comment(text) {
        _ if is_secret => text,
        Some(at) => text[..at].trim(),
        None => text.trim(),
    };
    let plain = name.strip_prefix(PREFIX).unwrap_or(name);
    let is_set = !kept.is_empty() || plain.starts_with(NEVER_EMPTY);
    // SAFETY: the program has one thread, so that no other one reads the environment meanwhile.
    unsafe {
        if !is_set {
            std::env::remove_var(name);
        } else if kept != text {
            std::env::set_var(name, kept);
        }
    }
    is_set
}

/// Where a comment begins: at a `#` behind white space, or at the start.
fn comment(text: &str) -> Option<usize> {
    let begins = |&(at, _): &(usize, &str)| {
        let before = text[..at].chars().next_back();
        before.is_none_or(char::is_whitespace)
    };
    text.match_indices('#').find(begins).map(|(at, _)| at)
}

/// A `#` can be part of a secret, whatever stands before it.
fn is_secret(arg: &Arg) -> bool {
    arg.get_value_parser().type_id() == TypeId::of::<Secret>()
}

/// The arguments of a command and of all its subcommands.
fn arguments(command: &Command) -> Vec<&Arg> {
    let nested = command.get_subcommands().flat_map(arguments);
    command.get_arguments().chain(nested).collect()
}

/// A text about settings that names where they come from: the variable with its prefix, or the place in the file of settings.
pub(super) fn name_variables(text: &str, command: &Command, file: Option<&SettingsFile>) -> String {
    let mut names: HashMap<String, String> = HashMap::new();
    for arg in arguments(command) {
        match origin(arg, file) {
            Some(SettingOrigin::Variable(name)) => {
                if let Some(plain) = name.strip_prefix(PREFIX) {
                    names.insert(plain.to_owned(), name);
                }
            }
            Some(SettingOrigin::File { name, place }) => {
                names.insert(name.to_uppercase(), format!("{name} in {place}"));
            }
            None => {}
        }
    }
    let is_delimiter = |c: char| !c.is_ascii_alphanumeric() && c != '_';
    let mut named = String::new();
    for piece in text.split_inclusive(is_delimiter) {
        let word = piece.trim_end_matches(is_delimiter);
        match names.get(word) {
            Some(name) => named.extend([name, &piece[word.len()..]]),
            None => named.push_str(piece),
        }
    }
    named
}

/// Logs which variables are not used, and which secrets look as if a comment were part of them.
pub(super) fn log_notes(command: &Command, file: Option<&SettingsFile>) {
    let unused = unused_redis_variables(command, file);
    if !unused.is_empty() {
        tracing::info!("not used: {}", unused.join(", "));
    }
    let unused = unused_database_variables(file);
    if !unused.is_empty() {
        tracing::warn!(
            "not used: {}, because {DATABASE_URL} is set",
            unused.join(", ")
        );
    }
    let mut suspects: Vec<&OsStr> = arguments(command)
        .into_iter()
        .filter(|arg| is_secret(arg))
        .filter_map(Arg::get_env)
        .collect();
    suspects.sort_unstable();
    suspects.dedup();
    for name in suspects {
        let value = std::env::var(name).unwrap_or_default();
        if comment(&value).is_some() {
            tracing::warn!(
                "{} holds white space and a #, which are taken for a part of the secret; put a comment on a line of \
                 its own",
                name.display()
            );
        }
    }
}

/// The variables that name a part of a database's address where all of it is set.
fn unused_database_variables(file: Option<&SettingsFile>) -> Vec<String> {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_in_file = file.is_some_and(|file| file.place(DATABASE_URL).is_some());
    if !is_in_file && !is_set(DATABASE_URL) {
        return Vec::new();
    }
    let names = DATABASE_PARTS.into_iter();
    let names = names.flat_map(|name| [name.to_owned(), format!("{PREFIX}{name}")]);
    names.filter(|name| is_set(name)).collect()
}

/// The variables of Redis that set nothing: those that the relay does not know, and all of them without a server.
fn unused_redis_variables(command: &Command, file: Option<&SettingsFile>) -> Vec<String> {
    let plain = |name: &str| name.strip_prefix(PREFIX).unwrap_or(name).to_owned();
    let known: Vec<String> = arguments(command)
        .into_iter()
        .filter_map(Arg::get_env)
        .filter_map(OsStr::to_str)
        .map(plain)
        .collect();
    let set: Vec<String> = std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| plain(name).starts_with(REDIS))
        .collect();
    let is_in_file = |name: &&str| file.is_some_and(|file| file.place(name).is_some());
    let has_server = (set.iter()).any(|name| REDIS_SERVERS.contains(&plain(name).as_str()))
        || REDIS_SERVERS.iter().any(is_in_file);
    let is_unused = |name: &String| !has_server || !known.contains(&plain(name));
    let mut unused: Vec<String> = set.into_iter().filter(is_unused).collect();
    unused.sort_unstable();
    unused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_begins_with_a_number_sign_behind_white_space() {
        for (text, at) in [
            ("30  # seconds", Some(4)),
            ("60\t# seconds", Some(3)),
            ("30 #", Some(3)),
            ("# nothing else", Some(0)),
            ("http://host/#part # comment", Some(18)),
            ("not#a comment", None),
            ("a b", None),
            ("", None),
        ] {
            assert_eq!(comment(text), at, "{text:?}");
        }
    }
}
