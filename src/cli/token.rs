//! `comfy-relay token`: makes and checks the tokens that clients of a relay need.

mod check;
mod checked_claims;
mod make;

use std::process::ExitCode;

/// Make and check the tokens that clients need
///
/// A relay asks for tokens if it is started with AUTH_JWT_SECRET or AUTH_JWKS_FILE.
#[derive(Debug, clap::Subcommand)]
pub(super) enum TokenCommand {
    Make(make::MakeArgs),
    Check(check::CheckArgs),
}

pub(super) fn run(command: TokenCommand) -> anyhow::Result<ExitCode> {
    match command {
        TokenCommand::Make(args) => make::run(args),
        TokenCommand::Check(args) => check::run(&args),
    }
}
