//! `comfy-relay doctor`: checks everything that `serve` needs, and says what to do about what is wrong.

mod clock;
mod comfyui;
mod database;
mod finding;
mod folders;
mod listen;
mod redis;

use std::process::ExitCode;

use serde::Serialize;

use super::exit_code::FAILED;
use super::open_files;
use super::output::print_line;
use super::serve::ServeArgs;
use crate::config::Config;
use crate::job::{printable, printable_json};
use crate::{relay, server};
use finding::{Finding, FindingStatus};

/// A relay needs one open file for each subscriber, and some more.
const FEW_FILES: u64 = 4_096;

/// Check everything that serve needs, and say what to do about what is wrong
///
/// The settings, the addresses to listen on, each ComfyUI server (version, models, WebSocket), the database (rights, tables, the
/// pipeline's table), Redis, clocks, the limit of open files, and folders. Takes the flags of serve, and changes nothing: a file is
/// made and removed in folders that must be writable.
///
/// Exit code: 0 everything is right or can be used, 1 something is not, 64 the settings cannot be read.
#[derive(Debug, clap::Args)]
pub(super) struct DoctorArgs {
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Debug, Serialize)]
struct DoctorReport {
    /// The worst of the findings.
    status: FindingStatus,
    findings: Vec<Finding>,
}

pub(super) async fn run(args: DoctorArgs) -> ExitCode {
    let settings = args.serve.database_settings();
    let findings = match args.serve.into_config() {
        Ok(config) => check(&config, settings).await,
        Err(problems) => {
            let finding = |problem: &anyhow::Error| {
                Finding::fault(
                    "settings",
                    format!("{problem:#}"),
                    "change one of the settings",
                )
            };
            problems.iter().map(finding).collect()
        }
    };
    let status = findings.iter().map(Finding::status).max();
    let report = DoctorReport {
        status: status.unwrap_or(FindingStatus::Ok),
        findings,
    };
    if args.json {
        // Fails for no value of this type.
        let json = serde_json::to_string(&report).unwrap_or_default();
        print_line(printable_json(&json));
    } else {
        for finding in &report.findings {
            print_line(printable(&finding.to_string()));
        }
    }
    match report.status {
        FindingStatus::Fault => ExitCode::from(FAILED),
        FindingStatus::Ok | FindingStatus::Warn => ExitCode::SUCCESS,
    }
}

/// The findings in the order in which a start would meet them. Servers are asked at the same time.
async fn check(config: &Config, database_settings: &str) -> Vec<Finding> {
    let mut findings = vec![settings(config)];
    let server = &config.server;
    findings.push(listen::check(server.listen, "--listen, LISTEN").await);
    if let Some(address) = server.comfy_listen {
        findings.push(listen::check(address, "--comfy-listen, COMFY_LISTEN").await);
    }
    findings.push(open_files());
    findings.extend(folders::check(config));
    let (database, comfyui, redis) = tokio::join!(
        database::check(&config.store, database_settings),
        comfyui::check(&config.comfy),
        redis::check(config.relay.redis.as_ref()),
    );
    findings.extend(database);
    findings.extend(comfyui);
    findings.extend(redis);
    findings
}

/// The files of keys and certificates, which a start reads.
fn settings(config: &Config) -> Finding {
    let of_server = server::check(&config.server).map_err(anyhow::Error::from);
    let of_relay = || relay::check(&config.relay, &config.comfy).map_err(anyhow::Error::from);
    match of_server.and_then(|()| of_relay()) {
        Ok(()) => Finding::ok("settings", "they fit together".to_owned()),
        Err(error) => {
            let text = format!("{error:#}");
            Finding::fault("settings", text, "correct the file or the setting")
        }
    }
}

fn open_files() -> Finding {
    let check = "open files";
    match open_files::hard_limit() {
        Some(limit) if limit < FEW_FILES => Finding::warn(
            check,
            format!("at most {limit} can be open, and every connection is one"),
            "raise the limit (ulimit -Hn, LimitNOFILE= of systemd, --ulimit nofile of Docker)",
        ),
        Some(limit) => Finding::ok(check, format!("at most {limit} can be open")),
        None => Finding::ok(check, "they are not limited".to_owned()),
    }
}
