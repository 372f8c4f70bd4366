//! `comfy-relay webhook`: sends an example of a webhook, and checks one that came.

mod test;
mod verify;

use std::process::ExitCode;

/// Send an example of a webhook, or check one that came
#[derive(Debug, clap::Subcommand)]
pub(super) enum WebhookCommand {
    Test(test::WebhookTestArgs),
    Verify(verify::WebhookVerifyArgs),
}

pub(super) async fn run(command: WebhookCommand) -> anyhow::Result<ExitCode> {
    match command {
        WebhookCommand::Test(args) => test::run(args).await,
        WebhookCommand::Verify(args) => verify::run(&args),
    }
}
