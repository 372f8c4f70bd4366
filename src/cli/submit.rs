//! `comfy-relay submit`: submits a workflow through the relay.

use std::collections::HashMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::{Map, Value, json};

use super::api_client::{ApiRefusal, RelayOptions};
use super::preview::PreviewMode;
use super::tag_options::parse_label;
use super::watch::{parse_job_id, watch};
use crate::cli::output::{print_line, print_note};
use crate::job::JobId;
use crate::workflow;

/// Submit a workflow to ComfyUI through the relay
///
/// Prints the job's id. Watch the job with "comfy-relay watch JOB", or at once with --watch.
#[derive(Debug, clap::Args)]
pub(super) struct SubmitArgs {
    /// A file in API format, a PNG file that ComfyUI has saved, or the name of a workflow in the relay's folder
    #[arg(value_name = "FILE|NAME")]
    workflow: String,

    /// Set an input: NODE.INPUT=VALUE, where NODE is a node's id or title; can be repeated
    #[arg(long = "param", short = 'p', value_parser = parse_param, value_name = "NODE.INPUT=VALUE")]
    params: Vec<(String, Value)>,

    /// The job's id; a new one by default
    #[arg(long, value_parser = parse_job_id, value_name = "ID")]
    job_id: Option<JobId>,

    /// The ComfyUI server to use, if the relay has several
    #[arg(long, value_name = "NAME")]
    backend: Option<String>,

    /// Give the job a label, such as episode=3: lists and "watch" are narrowed by it; can be repeated
    #[arg(long = "label", value_parser = parse_label, value_name = "KEY=TEXT")]
    labels: Vec<(String, String)>,

    /// The group that the job belongs to; "watch group:NAME" shows all its jobs as one
    #[arg(long, value_name = "NAME")]
    group: Option<String>,

    /// Show the job's progress until it ends, and exit as "watch" does
    #[arg(long)]
    watch: bool,

    #[command(flatten)]
    relay: RelayOptions,
}

pub(super) async fn run(args: SubmitArgs) -> anyhow::Result<ExitCode> {
    let params: Map<String, Value> = args.params.into_iter().collect();
    let labels: HashMap<String, String> = args.labels.into_iter().collect();
    let job = json!({
        "job_id": args.job_id,
        "workflow": read(&args.workflow).await?,
        "params": params,
        "backend": args.backend,
        "labels": labels,
        "group": args.group,
    });
    let relay = args.relay.client()?;
    let submitted = match relay.submit(&job).await {
        Err(error) if job["workflow"].is_string() && may_be_file(&args.workflow, &error) => {
            let no_file = format!(
                "there is no file {:?}, and as a name it cannot be submitted",
                args.workflow
            );
            return Err(error.context(no_file));
        }
        submitted => submitted?,
    };
    for ignored in &submitted.ignored {
        print_note(format_args!(
            "warning: ComfyUI ignores an output: {ignored}"
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

/// Whether a name that could not be submitted may have been meant as that of a file.
fn may_be_file(name: &str, error: &anyhow::Error) -> bool {
    let refusal = error.downcast_ref::<ApiRefusal>();
    name.ends_with(".json")
        || name.ends_with(".png")
        || refusal.is_some_and(|refusal| refusal.code == "workflow_not_found")
}

/// The graph in a file, or the name of a workflow in the relay's folder.
async fn read(workflow: &str) -> anyhow::Result<Value> {
    let looks_like_a_path =
        workflow.contains(std::path::is_separator) || Path::new(workflow).exists();
    if !looks_like_a_path {
        return Ok(Value::String(workflow.to_owned()));
    }
    let file = tokio::fs::read(workflow)
        .await
        .with_context(|| format!("cannot read {workflow}"))?;
    let graph = workflow::parse(&file).with_context(|| format!("cannot submit {workflow}"))?;
    Ok(Value::Object(graph))
}

/// Reads `NODE.INPUT=VALUE`; a value that is not JSON is a string.
fn parse_param(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or("expected NODE.INPUT=VALUE, such as 3.seed=7")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
    Ok((name.to_owned(), value))
}
