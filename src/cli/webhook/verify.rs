//! `comfy-relay webhook verify`: checks the signature of a webhook that came.

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use jiff::Timestamp;

use crate::cli::exit_code::WrongSetting;
use crate::cli::output::print_line;
use crate::config::Secret;
use crate::webhook::SigningKeys;

/// Check the signature of a webhook that came
///
/// The body is read as it came, to the byte. Exit code: 0 if it is signed with this secret and not older than five
/// minutes, 1 if not.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct WebhookVerifyArgs {
    /// A file with the body; standard input by default
    #[arg(value_name = "FILE")]
    body: Option<PathBuf>,

    /// The header webhook-id
    #[arg(long, value_name = "TEXT")]
    id: String,

    /// The header webhook-timestamp
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    timestamp: String,

    /// The header webhook-signature
    #[arg(long, value_name = "TEXT")]
    signature: String,

    /// The secret that webhooks are signed with. Better set in the environment: a list of processes shows flags
    #[arg(
        long,
        env = "WEBHOOK_SECRET",
        hide_env_values = true,
        required = true,
        value_name = "SECRET"
    )]
    webhook_secret: Secret,
}

pub(super) fn run(args: &WebhookVerifyArgs) -> anyhow::Result<ExitCode> {
    let keys = SigningKeys::parse(&args.webhook_secret);
    let keys = keys.map_err(|error| WrongSetting(error.into()))?;
    let body = body(args)?;
    let now = Timestamp::now();
    keys.verify(&args.id, &args.timestamp, &args.signature, &body, now)?;
    print_line("signature  good");
    Ok(ExitCode::SUCCESS)
}

fn body(args: &WebhookVerifyArgs) -> anyhow::Result<Vec<u8>> {
    if let Some(file) = &args.body {
        return std::fs::read(file).with_context(|| format!("cannot read {}", file.display()));
    }
    let mut body = Vec::new();
    std::io::stdin()
        .read_to_end(&mut body)
        .context("cannot read the body from standard input")?;
    Ok(body)
}
