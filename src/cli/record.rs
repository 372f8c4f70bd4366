//! `comfy-relay record`: records a ComfyUI server while it runs workflows.

mod inputs;
mod session;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use jiff::Timestamp;
use reqwest::Method;
use serde_json::Value;
use tokio::task::JoinSet;

use super::shutdown_signal::shutdown_signal;
use crate::cli::options::comfyui::ComfyuiOptions;
use crate::cli::output::{print_line, print_note};
use crate::comfy::ComfyClient;
use crate::recording::{Meta, RecordedInput, Recording};
use crate::workflow;
use session::{RecordedPromptEnd, RecordingSession};

/// How long recording continues after the last prompt: ComfyUI sends its last messages late.
const LINGER: Duration = Duration::from_secs(1);

/// Record a live ComfyUI while it runs workflows
///
/// Submits the workflows one after another, and writes every frame and every HTTP exchange, verbatim
/// and with its time, to a folder that "comfy-relay replay" can serve. The sizes of the pictures that
/// the workflows load go to inputs.json beside them.
///
/// Ctrl-C ends the recording early, and keeps what was recorded.
#[derive(Debug, clap::Args)]
pub(super) struct RecordArgs {
    /// Workflows in API format, submitted in this order
    #[arg(required = true, value_name = "FILE")]
    workflows: Vec<PathBuf>,

    /// The folder to write to; must be new or empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    #[command(flatten)]
    comfyui: ComfyuiOptions,

    /// What the recording shows, in a sentence
    #[arg(long, default_value = "", value_name = "TEXT")]
    description: String,
}

pub(super) async fn run(args: RecordArgs) -> anyhow::Result<ExitCode> {
    let graphs = read(&args.workflows).await?;
    Recording::prepare(&args.out)?;
    let server = args.comfyui.client()?;
    let session = RecordingSession::new(&server)?;
    let recorded_at = Timestamp::now();
    let stats = session
        .call(Method::GET, "/system_stats", Value::Null)
        .await;
    if stats.status != Some(200) {
        bail!(
            "ComfyUI at {} does not respond (--comfyui-url, COMFYUI_URL)",
            session.base()
        );
    }
    let mut tasks = JoinSet::new();
    let socket = session
        .connect()
        .await
        .context("cannot open ComfyUI's socket")?;
    tasks.spawn(session.clone().record_socket(socket));
    tasks.spawn(session.clone().poll_queue());
    let mut recorded = RecordedWorkflows::default();
    tokio::select! {
        () = recorded.run(&session, &server, args.workflows.iter().zip(graphs)) => {}
        () = shutdown_signal() => {
            print_note(format_args!("stopped; what was recorded is kept"));
            recorded.notes.push("stopped before the last workflow had ended".to_owned());
        }
    }
    tasks.shutdown().await;
    let (frames, exchanges) = session.take();
    let posts = exchanges.iter().filter(|one| one.is("POST", "/prompt"));
    let accepted = posts.filter_map(|post| post.response["prompt_id"].as_str());
    let meta = Meta {
        prompt_ids: accepted.map(str::to_owned).collect(),
        recorded_at: recorded_at.to_string(),
        client_id: session.client_id().to_owned(),
        description: args.description,
        scenario: scenario(&args.out),
        notes: recorded.notes,
        ..meta(&stats.response, &recorded.ends)
    };
    let recording = Recording {
        meta,
        frames,
        exchanges,
        inputs: recorded.inputs,
    };
    recording.write(&args.out)?;
    print_line(args.out.display());
    Ok(ExitCode::SUCCESS)
}

/// What is known of the workflows that have run.
#[derive(Default)]
struct RecordedWorkflows {
    ends: Vec<RecordedPromptEnd>,
    inputs: BTreeMap<String, RecordedInput>,
    notes: Vec<String>,
}

impl RecordedWorkflows {
    /// Runs workflows one after another.
    async fn run<'a>(
        &mut self,
        session: &RecordingSession,
        server: &ComfyClient,
        workflows: impl Iterator<Item = (&'a PathBuf, Value)>,
    ) {
        for (file, graph) in workflows {
            print_note(format_args!("recording {}", file.display()));
            inputs::measure(server, &graph, &mut self.inputs).await;
            match session.submit(graph).await {
                Some(prompt_id) => {
                    session.record_prompt(&prompt_id).await;
                    let end = session.follow(prompt_id).await;
                    session.record_prompt(&end.prompt_id).await;
                    self.ends.push(end);
                }
                None => print_note(format_args!(
                    "ComfyUI rejects {}; its response is recorded",
                    file.display()
                )),
            }
        }
        tokio::time::sleep(LINGER).await;
    }
}

/// The recording's name: that of its folder.
fn scenario(out: &Path) -> String {
    let name = out.file_name();
    name.map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// The graphs of workflow files.
async fn read(files: &[PathBuf]) -> anyhow::Result<Vec<Value>> {
    let mut graphs = Vec::new();
    for file in files {
        let content = tokio::fs::read(file)
            .await
            .with_context(|| format!("cannot read {}", file.display()))?;
        let graph = workflow::parse(&content)
            .with_context(|| format!("cannot submit {}", file.display()))?;
        graphs.push(Value::Object(graph));
    }
    Ok(graphs)
}

/// What a server's `/system_stats` and the ends of the prompts say for `meta.json`.
fn meta(stats: &Value, ends: &[RecordedPromptEnd]) -> Meta {
    let version = stats
        .pointer("/system/comfyui_version")
        .and_then(Value::as_str);
    let argv = stats.pointer("/system/argv").and_then(Value::as_array);
    let flags = argv.into_iter().flatten().skip(1).filter_map(Value::as_str);
    let id = |end: &RecordedPromptEnd| end.prompt_id.clone();
    Meta {
        comfyui_version: version.unwrap_or("unknown").to_owned(),
        scenario: String::new(),
        description: String::new(),
        recorded_at: String::new(),
        server_flags: flags.map(str::to_owned).collect(),
        client_id: String::new(),
        prompt_ids: Vec::new(),
        outcome: ends.iter().map(|end| (id(end), end.outcome)).collect(),
        duration_s: ends.iter().map(|end| (id(end), end.seconds)).collect(),
        notes: Vec::new(),
        host: Value::Null,
    }
}
