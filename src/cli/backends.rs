//! `comfy-relay backends`: lists the ComfyUI servers of a relay, pauses, drains and resumes them, adds and removes some.

use std::collections::HashMap;
use std::process::ExitCode;

use anyhow::anyhow;
use console::Style;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::api_client::RelayOptions;
use super::exit_code::WrongSetting;
use super::table::{Cell, Table};
use super::tag_options::parse_label;
use crate::cli::output::{print_line, printable_line};
use crate::job::printable_json;

/// The path of the health of a relay.
pub(super) const HEALTH: &str = "api/anime/health";

/// The path of the servers.
const BACKENDS: &str = "api/anime/backends";

/// List the ComfyUI servers: how they are, and what they run. Or pause, drain, resume, add or remove one
///
/// Nothing new is handed in to a server that is paused, and what it has goes on. One that is drained also gives back what
/// waits in its queue. It stays so, also after a restart of the relay, until it is resumed. One that is removed is drained first.
/// Servers can be added where BACKEND_NETWORKS of the relay allows it. That needs the scope operate.
#[derive(Debug, clap::Args)]
pub(super) struct BackendsArgs {
    /// What is to be done
    #[arg(
        value_enum,
        requires = "name",
        requires_if("add", "url"),
        value_name = "pause|drain|resume|add|remove"
    )]
    verb: Option<BackendVerb>,

    /// The server, as it is called in the list, or is to be called
    #[arg(requires = "verb")]
    name: Option<String>,

    /// The address of the server that is to be added
    #[arg(requires = "name")]
    url: Option<String>,

    /// Give the server that is added a label, such as gpu=a100, which jobs can ask for; can be repeated
    #[arg(long = "label", requires = "url", value_parser = parse_label, value_name = "KEY=TEXT")]
    labels: Vec<(String, String)>,

    /// Remove the server at once: what it has counts as lost, and runs again on others
    #[arg(long, requires = "name")]
    force: bool,

    /// Print the relay's answer
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    relay: RelayOptions,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum BackendVerb {
    /// Nothing new is handed in to it; what it has goes on
    Pause,
    /// The same, and what waits in its queue is taken back
    Drain,
    /// It takes jobs again
    Resume,
    /// It is followed from now on
    Add,
    /// It is drained, and then it is gone
    Remove,
}

pub(super) async fn run(args: BackendsArgs) -> anyhow::Result<ExitCode> {
    match (args.verb, &args.name) {
        (Some(verb), Some(name)) => operate(&args, verb, name).await,
        _ => list(&args).await,
    }
}

async fn operate(args: &BackendsArgs, verb: BackendVerb, name: &str) -> anyhow::Result<ExitCode> {
    if args.url.is_some() && verb != BackendVerb::Add {
        return Err(WrongSetting(anyhow!("an address is for a server that is added")).into());
    }
    if args.force && verb != BackendVerb::Remove {
        return Err(WrongSetting(anyhow!("--force is for a server that is removed")).into());
    }
    let client = args.relay.client()?;
    // A name holds a colon, and can hold slashes.
    let path = format!("{BACKENDS}/{}", utf8_percent_encode(name, NON_ALPHANUMERIC));
    let backend = match verb {
        BackendVerb::Pause => client.post(&format!("{path}/pause")).await?,
        BackendVerb::Drain => client.post(&format!("{path}/drain")).await?,
        BackendVerb::Resume => client.post(&format!("{path}/resume")).await?,
        BackendVerb::Add => {
            let mut labels: HashMap<&str, &str> = HashMap::new();
            for (key, text) in &args.labels {
                if labels.insert(key, text).is_some() {
                    return Err(WrongSetting(anyhow!("the label {key:?} is there twice")).into());
                }
            }
            let body = json!({"name": name, "url": args.url, "labels": labels});
            client.post_json(BACKENDS, &body).await?
        }
        BackendVerb::Remove => {
            let force = args.force.then(|| ("force", "true".to_owned()));
            let query: Vec<(&str, String)> = force.into_iter().collect();
            client.delete(&path, &query).await?
        }
    };
    if args.json {
        print_line(printable_json(&backend.to_string()));
        return Ok(ExitCode::SUCCESS);
    }
    let word = |name: &str| printable_line(backend[name].as_str().unwrap_or_default());
    let mut line = format!("{}: {}", word("name"), word("operation"));
    if backend["status"] != backend["operation"] {
        line += &format!(", {}", word("status"));
    }
    print_line(line);
    Ok(ExitCode::SUCCESS)
}

async fn list(args: &BackendsArgs) -> anyhow::Result<ExitCode> {
    let health = args.relay.client()?.get(HEALTH, &[]).await?;
    let backends = &health["components"]["comfyui"];
    if args.json {
        print_line(printable_json(&backends.to_string()));
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&[
        "SERVER", "STATUS", "RUN", "WAIT", "LABELS", "SINCE", "REASON",
    ]);
    for backend in backends.as_array().into_iter().flatten() {
        table.add(row(backend));
    }
    for line in table.lines() {
        print_line(line);
    }
    Ok(ExitCode::SUCCESS)
}

/// A server in a table. Its queue is shown to callers with the scope `monitor`.
fn row(backend: &Value) -> Vec<Cell> {
    let word = |name: &str| backend[name].as_str().unwrap_or_default();
    let count = |name: &str| backend[name].as_u64().map(|count| count.to_string());
    let style = match word("status") {
        "connected" => Style::new().green(),
        "unreachable" | "stalled" | "sick" => Style::new().red(),
        _ => Style::new().yellow(),
    };
    vec![
        Cell::new(word("name")),
        Cell::new(word("status")).styled(style),
        Cell::new(&count("queue_running").unwrap_or_default()),
        Cell::new(&count("queue_pending").unwrap_or_default()),
        Cell::new(&labels(&backend["labels"])),
        Cell::new(word("unreachable_since")),
        Cell::new(word("reason")),
    ]
}

/// Labels as one text.
fn labels(labels: &Value) -> String {
    let labels = labels.as_object().into_iter().flatten();
    let labels = labels.map(|(key, text)| format!("{key}={}", text.as_str().unwrap_or_default()));
    labels.collect::<Vec<_>>().join(", ")
}
