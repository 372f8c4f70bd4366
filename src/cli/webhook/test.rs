//! `comfy-relay webhook test`: sends an example to a target.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::json;
use url::Url;
use uuid::Uuid;

use crate::cli::exit_code::WrongSetting;
use crate::cli::output::{print_line, printable_line};
use crate::config::{Secret, parse_webhook_url};
use crate::connector::Networks;
use crate::webhook::{self, ApiEvent, SigningKeys, WebhookAnswer, WebhookSender};

/// How long the target may take, as when the relay sends.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Send a signed example of job.completed to a target, as the relay does
///
/// Prints what the target answers. Exit code: 0 if it accepts the example (2xx), 1 if not.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct WebhookTestArgs {
    /// The target
    #[arg(value_parser = parse_webhook_url, value_name = "URL")]
    url: Url,

    /// The secret that webhooks are signed with. Better set in the environment: a list of processes shows flags
    #[arg(
        long,
        env = "WEBHOOK_SECRET",
        hide_env_values = true,
        required = true,
        value_name = "SECRET"
    )]
    webhook_secret: Secret,

    /// A PEM file with certificate authorities that may sign the target's certificate, in addition to the system's
    #[arg(long, env = "WEBHOOK_CA_FILE", value_name = "FILE")]
    webhook_ca_file: Option<PathBuf>,
}

pub(super) async fn run(args: WebhookTestArgs) -> anyhow::Result<ExitCode> {
    let keys = SigningKeys::parse(&args.webhook_secret);
    let keys = keys.map_err(|error| WrongSetting(error.into()))?;
    let networks = Networks::with_public(&[]);
    let sender = WebhookSender::new(keys, networks, args.webhook_ca_file.as_deref(), TIMEOUT);
    let sender = sender.map_err(|error| WrongSetting(error.into()))?;
    let now = Timestamp::now();
    let id = webhook::message_id(&["test", &Uuid::new_v4().to_string()]);
    let data = json!({
        "type": "progress", "job_id": "webhook-test", "status": "completed", "progress": 100,
        "estimated_remaining": 0, "message": "Completed", "timestamp": now, "seq": 1,
    });
    let body = webhook::body(ApiEvent::JobCompleted, now, &data)?;
    let began = Instant::now();
    let answer = sender.send(&args.url, true, &id, &body).await;
    let took = began.elapsed().as_secs_f64();
    print_line(format_args!("webhook-id  {id}"));
    let (code, text) = match answer {
        WebhookAnswer::Accepted(status) => (ExitCode::SUCCESS, format!("{status}, accepted")),
        WebhookAnswer::Gone => (
            ExitCode::FAILURE,
            "410, gone: the relay would send nothing more to it".to_owned(),
        ),
        WebhookAnswer::Refused { reason, .. } => (ExitCode::FAILURE, reason),
    };
    print_line(format_args!(
        "answer      {} (in {took:.2} s)",
        printable_line(&text)
    ));
    Ok(code)
}
