//! The flags that the header of a workflow makes: `submit txt2img --steps 30`. The program does not know them before it has read
//! the header, so they are taken out of the command line before it is parsed.

use std::ffi::OsString;

use clap::{Arg, Command};

/// The command that takes them.
const COMMAND: &str = "submit";

/// The words before them: the command and the workflow.
const WORDS: usize = 2;

/// The flags that show the help.
const HELP: [&str; 2] = ["--help", "-h"];

/// The flags of a workflow on a command line.
#[derive(Debug, Clone, Default)]
pub(in crate::cli) struct WorkflowFlags {
    /// Each with its text; `None` for a flag alone.
    pub(super) flags: Vec<(String, Option<String>)>,
    /// Whether the help of a workflow is asked for.
    pub(super) wants_help: bool,
}

impl WorkflowFlags {
    /// Takes the flags of a workflow out of a command line. What `program` knows stays.
    pub(in crate::cli) fn take_from(given: &mut Vec<OsString>, program: &Command) -> Self {
        let mut found = Self::default();
        let Some(submit) = program.find_subcommand(COMMAND) else {
            return found;
        };
        let known: Vec<&Arg> = submit
            .get_arguments()
            .chain(program.get_arguments())
            .collect();
        let (mut kept, mut words) = (Vec::new(), 0);
        let mut tokens = std::mem::take(given).into_iter().peekable();
        kept.extend(tokens.next());
        while let Some(token) = tokens.next() {
            let text = token.to_str().unwrap_or_default();
            if text == "--" {
                kept.push(token);
                break;
            }
            if !is_flag(text) {
                words += 1;
                let is_other = words == 1 && text != COMMAND;
                kept.push(token);
                if is_other {
                    break;
                }
                continue;
            }
            match known.iter().find(|arg| is_named(arg, text)) {
                Some(arg) => {
                    let has_text_apart = arg.get_action().takes_values() && !has_text(text);
                    kept.push(token);
                    kept.extend(tokens.next_if(|_| has_text_apart));
                }
                None if words < WORDS || !text.starts_with("--") || HELP.contains(&text) => {
                    kept.push(token);
                }
                None => {
                    let (name, own) = match text[2..].split_once('=') {
                        Some((name, own)) => (name, Some(own.to_owned())),
                        None => (&text[2..], None),
                    };
                    let apart = tokens.next_if(|next| {
                        let next = next.to_str();
                        own.is_none() && next.is_some_and(|next| !is_flag(next))
                    });
                    let apart = apart.and_then(|text| text.into_string().ok());
                    found.flags.push((name.to_owned(), own.or(apart)));
                }
            }
        }
        kept.extend(tokens);
        if words >= WORDS {
            let before = kept.len();
            kept.retain(|token| !HELP.iter().any(|help| token == help));
            found.wants_help = kept.len() < before;
        }
        *given = kept;
        found
    }
}

/// Whether a text begins a flag: negative numbers and a dash alone do not.
fn is_flag(text: &str) -> bool {
    text.strip_prefix('-')
        .is_some_and(|rest| rest.starts_with(|c: char| c == '-' || c.is_alphabetic()))
}

/// Whether a flag is that of an argument.
fn is_named(arg: &Arg, flag: &str) -> bool {
    match flag.strip_prefix("--") {
        Some(long) => {
            let name = long.split('=').next();
            let aliases = arg.get_all_aliases().unwrap_or_default();
            arg.get_long() == name || aliases.iter().any(|alias| Some(*alias) == name)
        }
        None => arg.get_short() == flag.chars().nth(1),
    }
}

/// Whether the text of a flag stands in the same word.
fn has_text(flag: &str) -> bool {
    if flag.starts_with("--") {
        flag.contains('=')
    } else {
        flag.chars().count() > 2
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    /// What stays of a command line, and what is taken out of it.
    fn taken(line: &[&str]) -> (Vec<String>, WorkflowFlags) {
        let mut given: Vec<OsString> = ["comfy-relay"].iter().chain(line).map(Into::into).collect();
        let flags = WorkflowFlags::take_from(&mut given, &Cli::command());
        let text = |it: OsString| it.into_string().unwrap();
        let kept = given.into_iter().skip(1).map(text).collect();
        (kept, flags)
    }

    #[test]
    fn flags_of_a_workflow_are_told_from_those_of_the_program() {
        let (kept, found) = taken(&[
            "--log",
            "debug",
            "submit",
            "txt2img",
            "--prompt",
            "a cat",
            "--watch",
            "--cfg",
            "-1.5",
            "--tiled",
            "--job-id",
            "a",
            "--note=--watch",
            "-p",
            "3.seed=7",
            "--label=a=b",
        ]);
        let wanted = "--log debug submit txt2img --watch --job-id a -p 3.seed=7 --label=a=b";
        assert_eq!(kept.join(" "), wanted);
        let flag = |name: &str, text: Option<&str>| (name.to_owned(), text.map(str::to_owned));
        let wanted = [
            flag("prompt", Some("a cat")),
            flag("cfg", Some("-1.5")),
            flag("tiled", None),
            flag("note", Some("--watch")),
        ];
        assert_eq!(found.flags, wanted);
        assert!(!found.wants_help);
    }

    #[test]
    fn other_commands_and_what_stands_before_the_workflow_stay() {
        for line in [
            &["watch", "submit", "txt2img", "--prompt", "a"][..],
            &["submit", "--prompt", "a"],
            &["submit", "--", "txt2img", "--prompt", "a"],
            &["submit", "--help"],
            &["--help"],
            &[],
        ] {
            let (kept, found) = taken(line);
            assert_eq!(kept, line);
            assert!(found.flags.is_empty() && !found.wants_help, "{line:?}");
        }
        let (kept, found) = taken(&["submit", "--help", "txt2img"]);
        assert_eq!(kept.join(" "), "submit txt2img");
        assert!(found.wants_help);
    }
}
