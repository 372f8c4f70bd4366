//! [`JobBar`]: a job's progress in the terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::api_client::JobMessage;

/// How often the spinner turns, which shows that the program is alive.
const SPIN_INTERVAL: Duration = Duration::from_millis(120);

/// A job's progress: a bar if the output is a terminal, otherwise a line for each change.
#[derive(Debug)]
pub(super) struct JobBar {
    bar: ProgressBar,
    name: String,
    /// The newest message for people.
    message: String,
    ends: Option<Ends>,
}

/// When a job is expected to end.
#[derive(Debug, Clone, Copy)]
enum Ends {
    At(Instant),
    /// As of the newest message.
    InSeconds(u64),
}

impl JobBar {
    pub(super) fn new(name: &str, bar: ProgressBar) -> Self {
        let style = ProgressStyle::with_template(
            "{spinner} {prefix:<16} [{bar:32}] {pos:>3} %  {wide_msg}",
        )
        .expect("the template is well formed")
        .progress_chars("=> ");
        bar.set_length(100);
        bar.set_style(style);
        bar.set_prefix(name.to_owned());
        bar.enable_steady_tick(SPIN_INTERVAL);
        Self {
            bar,
            name: name.to_owned(),
            message: String::new(),
            ends: None,
        }
    }

    /// Draws a `progress` message. `ends_at` is its `estimated_completion` by the clock of this machine.
    pub(super) fn update(&mut self, message: &JobMessage, ends_at: Option<Instant>) {
        let in_seconds = message.estimated_remaining.map(Ends::InSeconds);
        let ends = ends_at.map(Ends::At).or(in_seconds);
        self.ends = ends.filter(|_| message.status == "processing");
        let is_new = self.message != message.message;
        self.message.clone_from(&message.message);
        if !self.bar.is_hidden() {
            self.bar.set_position(message.progress);
            self.count_down();
        } else if is_new {
            let line = self.line(Instant::now());
            println!("{:<16} {:>3} %  {line}", self.name, message.progress);
        }
    }

    /// Draws the time that is left now.
    pub(super) fn count_down(&self) {
        if !self.bar.is_hidden() {
            self.bar.set_message(self.line(Instant::now()));
        }
    }

    fn line(&self, now: Instant) -> String {
        let left = match self.ends {
            None => return self.message.clone(),
            Some(Ends::At(end)) => end.saturating_duration_since(now).as_secs_f64().round() as u64,
            Some(Ends::InSeconds(seconds)) => seconds,
        };
        format!("{}, about {} left", self.message, duration(left))
    }

    /// Draws the job's final message, which stays on the screen.
    pub(super) fn finish(&self, message: &JobMessage) {
        let details = [message.error.as_deref(), message.output_path.as_deref()];
        let mut line = message.message.clone();
        for detail in details.into_iter().flatten() {
            line.push_str(": ");
            line.push_str(detail);
        }
        if self.bar.is_hidden() {
            println!("{:<16} {:>3} %  {line}", self.name, message.progress);
        } else {
            self.bar.set_position(message.progress);
            self.bar.abandon_with_message(line);
        }
    }
}

/// A duration in the units that people use.
fn duration(seconds: u64) -> String {
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds:02} s"),
        (hours, minutes, _) => format!("{hours} h {minutes:02} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_job_counts_down_to_zero() {
        let text = r#"{"type": "progress", "status": "processing", "message": "Step 2", "estimated_remaining": 4}"#;
        let message: JobMessage = serde_json::from_str(text).unwrap();
        let mut bar = JobBar::new("job", ProgressBar::hidden());
        let now = Instant::now();
        bar.update(&message, Some(now + Duration::from_millis(3_600)));
        let lines = [0, 2_000, 9_000].map(|ms| bar.line(now + Duration::from_millis(ms)));
        assert_eq!(
            lines,
            ["4", "2", "0"].map(|left| format!("Step 2, about {left} s left"))
        );
        // A relay of an older version sends whole seconds only.
        bar.update(&message, None);
        assert_eq!(bar.line(now), "Step 2, about 4 s left");
    }

    #[test]
    fn durations_are_shown_in_hours_minutes_and_seconds() {
        let texts: Vec<String> = [7, 61, 7_322].into_iter().map(duration).collect();
        assert_eq!(texts, ["7 s", "1 min 01 s", "2 h 02 min"]);
    }
}
