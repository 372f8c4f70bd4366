//! `comfy-relay completions` and `comfy-relay man`: what a shell and `man` know of the program.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Command;
use clap_complete::Shell;

use crate::cli::output::print_text;

/// Print the completions of a shell
///
/// For bash: comfy-relay completions bash > /etc/bash_completion.d/comfy-relay
#[derive(Debug, clap::Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Print the manual page, or write the pages of all commands
#[derive(Debug, clap::Args)]
pub(super) struct ManArgs {
    /// Write the pages of all commands into this folder, such as /usr/local/share/man/man1
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn print_completions(args: &CompletionsArgs, mut command: Command) -> ExitCode {
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    print_text(String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}

pub(super) fn print_pages(args: &ManArgs, command: Command) -> anyhow::Result<ExitCode> {
    if let Some(folder) = &args.out {
        fs::create_dir_all(folder)
            .and_then(|()| clap_mangen::generate_to(command, folder))
            .with_context(|| format!("cannot write the manual pages to {}", folder.display()))?;
    } else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        print_text(String::from_utf8_lossy(&page));
    }
    Ok(ExitCode::SUCCESS)
}
