//! [`NodeBar`]: the node that runs, below the bar of its job.

use console::truncate_str;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::api_client::JobMessage;
use super::duration::duration;

/// How many columns show the steps of a node.
const BAR_WIDTH: usize = 20;

/// A line with the steps of the node that runs, and how long the job may still take. Nothing while neither is known.
#[derive(Debug)]
pub(super) struct NodeBar {
    job: ProgressBar,
    bars: MultiProgress,
    line: Option<ProgressBar>,
}

impl NodeBar {
    /// Below the bar of a job, which is one of `bars`.
    pub(super) fn below(job: ProgressBar, bars: MultiProgress) -> Self {
        Self {
            job,
            bars,
            line: None,
        }
    }

    pub(super) fn show(&mut self, message: &JobMessage, columns: usize) {
        let text = text(message);
        if text.is_empty() {
            return self.clear();
        }
        let line = self.line.get_or_insert_with(|| {
            let line = self.bars.insert_after(&self.job, ProgressBar::no_length());
            line.set_style(ProgressStyle::with_template("{msg}").expect("it is well formed"));
            line
        });
        line.set_message(truncate_str(&text, columns.saturating_sub(1), "…").into_owned());
    }

    pub(super) fn clear(&mut self) {
        if let Some(line) = self.line.take() {
            line.finish_and_clear();
            self.bars.remove(&line);
        }
    }
}

fn text(message: &JobMessage) -> String {
    let steps = message.node.as_ref().and_then(|node| {
        let (step, steps) = (node.step?, node.steps.filter(|&steps| steps > 0.0)?);
        let filled = (step / steps * BAR_WIDTH as f64).clamp(0.0, BAR_WIDTH as f64) as usize;
        let name = node.title.as_ref().or(node.class_type.as_ref());
        let name = name.map(|name| format!("  {name}")).unwrap_or_default();
        Some(format!(
            "  [{:<BAR_WIDTH$}] {step}/{steps}{name}",
            "=".repeat(filled)
        ))
    });
    let interval = message.estimated_low.zip(message.estimated_high);
    let interval = interval
        .filter(|_| message.outcome().is_none())
        .map(|(low, high)| format!("  between {} and {}", duration(low), duration(high)));
    steps.into_iter().chain(interval).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn text_of(message: &Value) -> String {
        text(&serde_json::from_value(message.clone()).unwrap())
    }

    #[test]
    fn the_steps_of_the_node_and_the_interval_are_shown_where_they_are_known() {
        let node = json!({"title": "Sampler", "class_type": "KSampler", "step": 5, "steps": 20});
        let mut message = json!({"type": "progress", "status": "processing", "node": node,
            "estimated_low": 3, "estimated_high": 61});
        let bar = format!("  [{:<20}] 5/20  Sampler", "=====");
        assert_eq!(
            text_of(&message),
            format!("{bar}  between 3 s and 1 min 01 s")
        );
        message["estimated_low"] = Value::Null;
        assert_eq!(text_of(&message), bar);
        message["node"]["steps"] = Value::Null;
        assert_eq!(text_of(&message), "");
    }
}
