//! `comfy-relay job`: shows one job with its timeline.

use std::process::ExitCode;

use console::{Alignment, Term, measure_text_width, pad_str, truncate_str};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::api_client::{JOBS, RelayOptions};
use super::status_style::status_style;
use super::watch::parse_job_id;
use crate::cli::output::{print_line, printable_line};
use crate::job::{JobId, Status, printable_json};

/// The width where standard output is no terminal.
const DEFAULT_COLUMNS: usize = 80;

/// The widest title of a node.
const MAX_TITLE: usize = 30;

/// The width of the duration of a node, with the gap before it and the ellipsis of one that runs.
const SECONDS_WIDTH: usize = "  1234.5 s".len() + 1;

/// A bar of fewer columns shows nothing.
const MIN_BAR: usize = 8;

/// Show one job, its nodes as bars over its time, and the texts that they show
#[derive(Debug, clap::Args)]
pub(super) struct JobArgs {
    /// The job's id, or a prompt id of ComfyUI
    #[arg(value_parser = parse_job_id)]
    job: JobId,

    /// Print the relay's answer
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    relay: RelayOptions,
}

/// A node of a job's timeline.
#[derive(Debug, Deserialize)]
struct TimelineNode {
    id: String,
    class_type: Option<String>,
    title: Option<String>,
    state: String,
    started_at: Timestamp,
    seconds: f64,
}

pub(super) async fn run(args: JobArgs) -> anyhow::Result<ExitCode> {
    let relay = args.relay.client()?;
    let job = relay.get(&format!("{JOBS}/{}", args.job), &[]).await?;
    if args.json {
        print_line(printable_json(&job.to_string()));
        return Ok(ExitCode::SUCCESS);
    }
    for line in heading(&job) {
        print_line(line);
    }
    let columns = Term::stdout().size_checked();
    let columns = columns.map_or(DEFAULT_COLUMNS, |(_, columns)| columns.into());
    for line in timeline(&job["timeline"], columns) {
        print_line(line);
    }
    for line in texts(&job["outputs"]) {
        print_line(line);
    }
    Ok(ExitCode::SUCCESS)
}

/// The texts that its nodes show, each below its node.
fn texts(outputs: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    for output in outputs.as_array().into_iter().flatten() {
        let Some(text) = output["text"].as_str() else {
            continue;
        };
        let node = output["node"].as_str().map(printable_line);
        lines.push(format!("text       of node {}", node.unwrap_or_default()));
        lines.extend(
            text.lines()
                .map(|line| format!("  {}", printable_line(line))),
        );
        if output["truncated"] == true {
            lines.push("  … (cut off)".to_owned());
        }
    }
    lines
}

/// What the job is, and how it is.
fn heading(job: &Value) -> Vec<String> {
    let word = |name: &str| job[name].as_str().map(printable_line);
    let status = word("status").unwrap_or_default();
    let style = Status::from_word(&status)
        .map(status_style)
        .unwrap_or_default();
    let first = format!(
        "{}  {}  {} %  {}",
        word("job_id").unwrap_or_default(),
        style.apply_to(&status),
        job["progress"],
        word("message").unwrap_or_default(),
    );
    let facts = [
        ("server", word("backend")),
        ("prompt", word("prompt_id")),
        ("registered", word("created_at")),
        ("started", word("started_at")),
        ("ended", word("completed_at")),
        ("output", word("output_path")),
        ("error", word("error")),
    ];
    let facts = facts
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name:<11}{}", value?)));
    [first].into_iter().chain(facts).collect()
}

/// The nodes in the order in which they began: each as a bar over the time of the job.
fn timeline(nodes: &Value, columns: usize) -> Vec<String> {
    // A node whose start was missed cannot be drawn.
    let nodes: Vec<TimelineNode> = nodes
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|node| serde_json::from_value(node.clone()).ok())
        .collect();
    let Some(began) = nodes.iter().map(|node| node.started_at).min() else {
        return Vec::new();
    };
    let after = |moment: Timestamp| moment.duration_since(began).as_secs_f64();
    let ends = nodes
        .iter()
        .map(|node| after(node.started_at) + node.seconds);
    let total = ends.fold(f64::MIN_POSITIVE, f64::max);
    let titles: Vec<String> = nodes.iter().map(TimelineNode::name).collect();
    let widest = titles.iter().map(|title| measure_text_width(title)).max();
    let width = widest.unwrap_or_default().min(MAX_TITLE);
    let bar = columns.saturating_sub(width + 2 + SECONDS_WIDTH);
    let lines = nodes.iter().zip(&titles).map(|(node, title)| {
        let title = truncate_str(title, width, "…");
        let title = pad_str(&title, width, Alignment::Left, None);
        let what = match node.state.as_str() {
            "finished" => format!("{:>8.1} s", node.seconds),
            "running" => format!("{:>8.1} s…", node.seconds),
            state => printable_line(state),
        };
        if bar < MIN_BAR {
            return truncate_str(&format!("{title} {what}"), columns, "…").into_owned();
        }
        let start = after(node.started_at);
        format!(
            "{title}  {}{what}",
            segment(start / total, (start + node.seconds) / total, bar)
        )
    });
    lines.collect()
}

impl TimelineNode {
    fn name(&self) -> String {
        let title = self.title.as_ref().or(self.class_type.as_ref());
        let title = title.map(|title| format!(" {title}")).unwrap_or_default();
        printable_line(&format!("{:>3}{title}", self.id))
    }
}

/// A bar of a width in which the part between two shares is filled; at least one column of it.
fn segment(start: f64, end: f64, width: usize) -> String {
    let at = |share: f64| (share.clamp(0.0, 1.0) * width as f64).round() as usize;
    let start = at(start).min(width - 1);
    let filled = at(end).max(start + 1) - start;
    let rest = width - start - filled;
    format!(
        "{}{}{}",
        " ".repeat(start),
        "█".repeat(filled),
        " ".repeat(rest)
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nodes_are_bars_over_the_time_of_the_job() {
        let node = |id: &str, second: u32, seconds: f64, state: &str| {
            json!({"id": id, "class_type": "KSampler", "title": "Sampler\u{1b}", "state": state,
                "started_at": format!("2026-11-28T18:53:{second:02}.000Z"), "seconds": seconds})
        };
        let nodes = json!([
            node("4", 50, 0.0, "cached"),
            node("3", 50, 5.0, "finished"),
            node("8", 55, 5.0, "running")
        ]);
        let lines = timeline(&nodes, 34);
        assert_eq!(
            lines,
            [
                "  4 Sampler\u{fffd}  █        cached",
                "  3 Sampler\u{fffd}  █████         5.0 s",
                "  8 Sampler\u{fffd}       ████     5.0 s…",
            ]
        );
        assert_eq!(timeline(&nodes, 20)[1], "  3 Sampler\u{fffd}      5…");
        assert!(timeline(&json!([]), 80).is_empty());
    }

    #[test]
    fn texts_are_below_their_nodes() {
        let outputs = json!([
            {"node": "9", "filename": "a.png"},
            {"node": "6", "text": "a cat\n\non a\u{1b}[2J mat", "truncated": true}
        ]);
        let lines = [
            "text       of node 6",
            "  a cat",
            "  ",
            "  on a\u{fffd}[2J mat",
            "  … (cut off)",
        ];
        assert_eq!(texts(&outputs), lines);
    }
}
