//! [`JobBar`]: a job's progress in the terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::api_client::JobMessage;

/// How often the spinner turns, which shows that the program is alive.
const SPIN_INTERVAL: Duration = Duration::from_millis(120);

/// A job's progress: a bar if the output is a terminal, otherwise a line for each change.
#[derive(Debug)]
pub(super) struct JobBar {
    bar: ProgressBar,
    name: String,
    last_line: String,
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
            last_line: String::new(),
        }
    }

    /// Draws a `progress` message.
    pub(super) fn update(&mut self, message: &JobMessage) {
        let line = match message.estimated_remaining {
            Some(seconds) if message.status == "processing" => {
                format!("{}, about {} left", message.message, duration(seconds))
            }
            _ => message.message.clone(),
        };
        if !self.bar.is_hidden() {
            self.bar.set_position(message.progress);
            self.bar.set_message(line);
        } else if self.last_line != message.message {
            println!("{:<16} {:>3} %  {line}", self.name, message.progress);
        }
        self.last_line = message.message.clone();
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
    fn durations_are_shown_in_hours_minutes_and_seconds() {
        let texts: Vec<String> = [7, 61, 7_322].into_iter().map(duration).collect();
        assert_eq!(texts, ["7 s", "1 min 01 s", "2 h 02 min"]);
    }
}
