//! `comfy-relay submit`: submits a workflow through the relay.

mod batch;
mod help;
mod parameters;
mod workflow_flags;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Command;
use serde_json::{Value, json};

use super::api_client::{ApiClient, RelayOptions};
use super::preview::PreviewMode;
use super::tag_options::parse_label;
use super::watch::{parse_job_id, watch};
use super::workflow_file::{self, GivenWorkflow, parse_pair};
use super::workflow_parameters::{self, GivenParam, SEED, parse_param};
use crate::cli::output::{print_line, print_note, print_text, printable_line};
use crate::job::JobId;
use batch::BatchArgs;
pub(super) use parameters::SubmittedParameters;
pub(super) use workflow_flags::WorkflowFlags;

/// The path of pictures.
const INPUTS: &str = "api/anime/inputs";

/// Submit a workflow to ComfyUI through the relay
///
/// Prints the job's id. Watch the job with "comfy-relay watch JOB", or at once with --watch. With --count or --params-file: many
/// jobs in one group. A workflow with a header has flags of its own, behind its name: "comfy-relay submit NAME --help" shows them.
#[derive(Debug, clap::Args)]
pub(super) struct SubmitArgs {
    /// A file in API format, a PNG file that ComfyUI has saved, or the name of a workflow in the relay's folder
    #[arg(value_name = "FILE|NAME")]
    workflow: String,

    /// Set an input: NODE.INPUT=VALUE, where NODE is a node's id or title, or NAME=VALUE for a parameter of the workflow; can be
    /// repeated
    #[arg(long = "param", short = 'p', value_parser = parse_param, value_name = "NODE.INPUT=VALUE")]
    params: Vec<GivenParam>,

    /// Send a picture to the server that runs the job: NAME=FILE, where NAME is a parameter of the workflow or NODE.INPUT; can be
    /// repeated
    #[arg(long = "input", value_parser = parse_input, value_name = "NAME=FILE")]
    inputs: Vec<(String, PathBuf)>,

    #[arg(skip)]
    pub(super) flags: WorkflowFlags,

    #[command(flatten)]
    batch: BatchArgs,

    /// The job's id; a new one by default
    #[arg(long, value_parser = parse_job_id, value_name = "ID")]
    job_id: Option<JobId>,

    /// The ComfyUI server to use, if the relay has several, or labels of servers, such as gpu=a100,room=2; can be repeated: the
    /// one where the job ends first
    #[arg(long = "backend", value_name = "NAME|KEY=TEXT")]
    backends: Vec<String>,

    /// Jobs of a higher priority are handed in first; 0 by default
    #[arg(long, allow_negative_numbers = true, value_name = "NUMBER")]
    priority: Option<i64>,

    /// How often the job may run again after it is lost with its server; 1 by default
    #[arg(long, value_name = "TIMES")]
    retries: Option<u32>,

    /// Give the job a label, such as episode=3: lists and "watch" are narrowed by it; can be repeated
    #[arg(long = "label", value_parser = parse_label, value_name = "KEY=TEXT")]
    labels: Vec<(String, String)>,

    /// The group that the job belongs to; "watch group:NAME" shows all its jobs as one
    #[arg(long, value_name = "NAME")]
    group: Option<String>,

    /// Put the prompt before the others in ComfyUI's queue
    #[arg(long, conflicts_with = "number")]
    front: bool,

    /// Its place in ComfyUI's queue: lower numbers run first
    #[arg(long, allow_negative_numbers = true, value_name = "NUMBER", value_parser = finite)]
    number: Option<f64>,

    /// How ComfyUI makes previews of it: default, none, auto, latent2rgb or taesd
    #[arg(long, value_name = "METHOD")]
    preview_method: Option<String>,

    /// Run only the output with this node id; can be repeated
    #[arg(long = "target", value_name = "NODE")]
    targets: Vec<String>,

    /// Pass something on to ComfyUI and its nodes (extra_data); can be repeated. Keys are better set at the relay
    /// (COMFY_API_KEY): a list of processes shows flags
    #[arg(long = "extra-data", value_parser = parse_extra_data, value_name = "KEY=VALUE")]
    extra_data: Vec<(String, Value)>,

    /// Show the job's progress until it ends, and exit as "watch" does
    #[arg(long)]
    watch: bool,

    #[command(flatten)]
    relay: RelayOptions,
}

pub(super) async fn run(args: SubmitArgs, program: Command) -> anyhow::Result<ExitCode> {
    let relay = args.relay.client()?;
    let explain = |error| explain(&args.workflow, error);
    let workflow = GivenWorkflow::read(&args.workflow, "submit").await?;
    if args.flags.wants_help {
        let description = workflow.description(&relay).await.map_err(explain)?;
        print_text(help::text(program, &args.workflow, &description));
        return Ok(ExitCode::SUCCESS);
    }
    let mut given = args.given();
    for (name, file) in &args.inputs {
        let text = send_picture(&relay, file).await?;
        given.push(GivenParam {
            name: name.clone(),
            text: Some(text),
            is_flag: false,
        });
    }
    let parameters = SubmittedParameters {
        given: workflow_parameters::read(given, &workflow, &relay)
            .await
            .map_err(explain)?,
        workflow: &workflow,
    };
    let labels: HashMap<String, String> = args.labels.iter().cloned().collect();
    let job = json!({
        "job_id": args.job_id,
        "workflow": workflow.to_json(),
        "labels": labels,
        "group": args.group,
    });
    let mut job = with_options(job, &args);
    if args.batch.is_given() {
        let submitted = args
            .batch
            .submit(&relay, job, &parameters, args.watch)
            .await;
        return submitted.map_err(explain);
    }
    for (field, value) in parameters.fields()? {
        job[field] = value;
    }
    let submitted = relay.submit(&job).await.map_err(explain)?;
    for ignored in &submitted.ignored {
        print_note(format_args!(
            "warning: ComfyUI ignores an output: {}",
            printable_line(&ignored.to_string())
        ));
    }
    if args.watch {
        let job = JobId::parse(&submitted.job_id).context("the relay's response has no job id")?;
        return Ok(watch(&relay, &[job], false, PreviewMode::Auto).await);
    }
    print_line(submitted.job_id);
    print_note(format_args!(
        "prompt {} on {}",
        submitted.prompt_id, submitted.backend
    ));
    Ok(ExitCode::SUCCESS)
}

impl SubmitArgs {
    /// The parameters, of which the last one of a name counts.
    fn given(&self) -> Vec<GivenParam> {
        let flags = self.flags.flags.iter().map(|(flag, text)| GivenParam {
            name: flag.replace('-', "_"),
            text: text.clone(),
            is_flag: true,
        });
        let seed = self.batch.lone_seed().map(|seed| GivenParam {
            name: SEED.to_owned(),
            text: Some(seed.to_string()),
            is_flag: true,
        });
        self.params
            .iter()
            .cloned()
            .chain(flags)
            .chain(seed)
            .collect()
    }
}

/// Sends a picture to the relay. Returns what a workflow calls it.
async fn send_picture(relay: &ApiClient, file: &Path) -> anyhow::Result<String> {
    let path = file.display();
    let content = tokio::fs::read(file).await;
    let content = content.with_context(|| format!("cannot read {path}"))?;
    let sent = relay.post_bytes(INPUTS, content).await;
    let answer = sent.with_context(|| format!("cannot send {path}"))?;
    let name = answer["name"].as_str();
    Ok(name
        .context("the relay's answer has no name for the picture")?
        .to_owned())
}

/// Reads `NAME=FILE`.
fn parse_input(text: &str) -> Result<(String, PathBuf), String> {
    let (name, file) = text
        .split_once('=')
        .ok_or("expected NAME=FILE, such as start=photo.png")?;
    Ok((name.to_owned(), file.into()))
}

/// Says of a name that the relay refuses that there is no such file, either.
fn explain(workflow: &str, error: anyhow::Error) -> anyhow::Error {
    let is_path = workflow.contains(std::path::is_separator) || Path::new(workflow).exists();
    if is_path || !workflow_file::may_be_file(workflow, &error) {
        return error;
    }
    error.context(format!(
        "there is no file {workflow:?}, and as a name it cannot be submitted"
    ))
}

/// The job with how it waits, and with what goes to ComfyUI beside the graph. What is not given is left out: older relays do not know it.
fn with_options(mut job: Value, args: &SubmitArgs) -> Value {
    if !args.backends.is_empty() {
        job["backend"] = backend_field(&args.backends);
    }
    if let Some(priority) = args.priority {
        job["priority"] = priority.into();
    }
    if let Some(retries) = args.retries {
        job["retries"] = retries.into();
    }
    if args.front {
        job["front"] = true.into();
    }
    if let Some(number) = args.number {
        job["number"] = number.into();
    }
    if let Some(method) = &args.preview_method {
        job["preview_method"] = method.as_str().into();
    }
    if !args.targets.is_empty() {
        job["partial_execution_targets"] = args.targets.clone().into();
    }
    if !args.extra_data.is_empty() {
        job["extra_data"] = Value::Object(args.extra_data.iter().cloned().collect());
    }
    job
}

/// The servers as a body names them.
pub(super) fn backend_field(backends: &[String]) -> Value {
    match backends {
        [] => Value::Null,
        [one] => one.as_str().into(),
        several => several.into(),
    }
}

/// A place in the queue, which JSON can hold.
fn finite(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "expected a number")?;
    let is_finite = number.is_finite();
    is_finite
        .then_some(number)
        .ok_or_else(|| "expected a finite number".to_owned())
}

/// Reads `KEY=VALUE`; a value that is not JSON is a string.
fn parse_extra_data(text: &str) -> Result<(String, Value), String> {
    parse_pair(text).ok_or_else(|| "expected KEY=VALUE".to_owned())
}
