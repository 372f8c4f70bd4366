//! The environment variables of the settings: under which name each is read, and what of its text counts.
//!
//! systemd and Docker pass on everything behind the `=` of an env file, comments included.

use std::any::TypeId;
use std::ffi::OsStr;

use clap::{Arg, Command};

use super::secret_file::file_parser;
use crate::config::Secret;

/// Stands before the plain name of a variable. A prefixed variable wins over the plain one.
const PREFIX: &str = "COMFY_RELAY_";

/// The variables that stay wrong settings if they are empty: a secret that was lost on the way must not
/// open the relay to everybody.
const NEVER_EMPTY: &str = "AUTH_";

/// Behind the name of a secret: the variable that names a file with it.
const FILE: &str = "_FILE";

/// Other names of variables, which platforms and other programs set: each holds what the variable takes.
const ALIASES: [(&str, &str); 2] = [("LISTEN", "PORT"), ("COMFYUI_URL", "COMFYUI_BACKENDS")];

/// The variables of a Redis server, of which the relay does not need all.
const REDIS: &str = "REDIS_";

/// Those that name the server: without one of them there is none.
const REDIS_SERVERS: [&str; 2] = ["REDIS_URL", "REDIS_HOST"];

/// Makes each setting of a command read the variable that holds its value: the prefixed one where it is set,
/// the plain one otherwise, and before each of them the file of a secret or the alias that is set instead. Comments are cut
/// off, and empty variables count as unset.
///
/// Changes the environment: call it before the program has a second thread.
pub(super) fn read_into(command: Command) -> Command {
    let names = arguments(&command).into_iter().filter_map(Arg::get_env);
    let known: Vec<String> = names.filter_map(OsStr::to_str).map(str::to_owned).collect();
    read_known(command, &known)
}

/// `known` are the names of all settings: some secrets have a setting of their own for their file.
fn read_known(command: Command, known: &[String]) -> Command {
    let read = |arg: Arg| {
        let Some(name) = arg.get_env().and_then(OsStr::to_str).map(str::to_owned) else {
            return arg;
        };
        let file = Some(format!("{name}{FILE}")).filter(|file| !known.contains(file));
        let is_secret = is_secret(&arg);
        let mut alias = ALIASES.iter().filter(|(of, _)| *of == name);
        let alias = alias.next().map(|(_, alias)| *alias);
        for prefix in [PREFIX, ""] {
            let named = |name: &str| format!("{prefix}{name}");
            let has_value = tidy(&named(&name), is_secret);
            let is_given =
                has_value && std::env::var_os(named(&name)).is_some_and(|it| !it.is_empty());
            if let Some(file) = &file
                && let Some(parser) = file_parser(&arg, is_given)
                && tidy(&named(file), false)
            {
                return arg.env(named(file)).value_parser(parser);
            }
            if has_value {
                return arg.env(named(&name));
            }
        }
        for prefix in [PREFIX, ""] {
            if let Some(alias) = alias.map(|alias| format!("{prefix}{alias}"))
                && tidy(&alias, false)
                && !is_of_kubernetes(&alias)
            {
                return arg.env(alias);
            }
        }
        // Read again: a setting keeps what its variable held when it was named.
        arg.env(name)
    };
    command
        .mut_args(read)
        .mut_subcommands(|command| read_known(command, known))
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

/// A text about settings that names the variables in use: with the prefix, where the value came from there.
pub(super) fn name_variables(text: &str, command: &Command) -> String {
    let variables = arguments(command).into_iter().filter_map(Arg::get_env);
    let prefixed: Vec<&str> = variables
        .filter_map(OsStr::to_str)
        .filter_map(|name| name.strip_prefix(PREFIX))
        .collect();
    let is_delimiter = |c: char| !c.is_ascii_alphanumeric() && c != '_';
    let mut named = String::new();
    for piece in text.split_inclusive(is_delimiter) {
        if prefixed.contains(&piece.trim_end_matches(is_delimiter)) {
            named.push_str(PREFIX);
        }
        named.push_str(piece);
    }
    named
}

/// Logs which variables are not used, and which secrets look as if a comment were part of them.
pub(super) fn log_notes(command: &Command) {
    let unused = unused_redis_variables(command);
    if !unused.is_empty() {
        tracing::info!("not used: {}", unused.join(", "));
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

/// The variables of Redis that set nothing: those that the relay does not know, and all of them without a server.
fn unused_redis_variables(command: &Command) -> Vec<String> {
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
    let has_server = (set.iter()).any(|name| REDIS_SERVERS.contains(&plain(name).as_str()));
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
