//! [`JobBar`]: a job's progress in the terminal.

use std::time::Duration;

use console::{Term, measure_text_width};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::api_client::JobMessage;
use super::duration::duration;
use super::node_bar::NodeBar;
use super::relay_clock::RelayClock;
use super::status_style::status_style;
use crate::cli::output::print_line;
use crate::job::Status;

/// How often the spinner turns, which shows that the program is alive.
const SPIN_INTERVAL: Duration = Duration::from_millis(120);

/// How often the remaining time is drawn between two messages.
pub(super) const COUNT_INTERVAL: Duration = Duration::from_millis(250);

/// What stands before the text of a line: the spinner and a space.
const SPINNER_WIDTH: usize = 2;

/// The width of the remaining time: `59 min 59 s left`.
const TIME_WIDTH: usize = 16;

/// The width of percentage and remaining time, with the gaps around them.
const NUMBERS_WIDTH: usize = 2 + "100 %".len() + 2 + TIME_WIDTH + 2;

/// The width of the message beside a bar: most sentences fit into the widest.
const MESSAGE_WIDTHS: (usize, usize) = (16, 40);

/// A bar of fewer columns shows nothing that the percentage does not.
const MIN_BAR: usize = 8;

/// What stands around the bar: a space and the brackets.
const BAR_FRAME: usize = 3;

/// A job's progress: a bar if standard error is a terminal, otherwise a line for each change.
#[derive(Debug)]
pub(super) struct JobBar {
    bar: ProgressBar,
    name: String,
    /// The width of the terminal for which the bar was laid out.
    columns: usize,
    state: BarState,
    /// Below the bar, where there is room for it.
    node: Option<NodeBar>,
}

/// What is shown.
#[derive(Debug, Default)]
struct BarState {
    percent: u64,
    /// The newest message for people.
    message: String,
    ends: Option<Ends>,
    /// Nobody has registered the job yet, for which the relay waits.
    wait: Option<Wait>,
}

/// How long the relay waits for a job that nobody has registered.
#[derive(Debug)]
struct Wait {
    until: Instant,
    /// What the relay adds to that, such as that ComfyUI does not answer.
    note: String,
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
        let mut it = Self {
            bar,
            name: name.to_owned(),
            columns: 0,
            state: BarState::default(),
            node: None,
        };
        // The layout comes first: all that follows draws.
        it.count_down();
        it.bar.set_length(100);
        it.bar.enable_steady_tick(SPIN_INTERVAL);
        it
    }

    /// Shows the node that runs on a line of its own below the bar, which is one of `bars`.
    pub(super) fn with_node(mut self, bars: &MultiProgress) -> Self {
        self.node = Some(NodeBar::below(self.bar.clone(), bars.clone()));
        self
    }

    /// Shows a message of the job's socket. Returns how the job has ended, if it has.
    pub(super) fn show(&mut self, message: &JobMessage, clock: &mut RelayClock) -> Option<Status> {
        match message.r#type.as_str() {
            "connection" => {
                if let Some(seconds) = message.job_wait {
                    let (_, note) = message.message.split_once(" s more").unwrap_or_default();
                    self.wait(Wait {
                        until: Instant::now() + Duration::from_secs(seconds),
                        note: note.to_owned(),
                    });
                }
                None
            }
            "progress" => {
                let ended = message.outcome();
                match ended {
                    Some(status) => self.finish(message, status),
                    None => self.update(message, clock.ends_at(message)),
                }
                ended
            }
            _ => None,
        }
    }

    /// Shows that nobody has registered the job yet.
    fn wait(&mut self, wait: Wait) {
        self.state.wait = Some(wait);
        if self.bar.is_hidden() {
            print_line(format_args!(
                "{}  {}",
                self.name,
                self.state.sentence(Instant::now())
            ));
        } else {
            self.count_down();
        }
    }

    /// Shows a `progress` message. `ends_at` is its `estimated_completion` by the clock of this machine.
    fn update(&mut self, message: &JobMessage, ends_at: Option<Instant>) {
        let in_seconds = message.estimated_remaining.map(Ends::InSeconds);
        let ends = ends_at.map(Ends::At).or(in_seconds);
        let is_new = self.state.message != message.message;
        self.state = BarState {
            percent: message.progress,
            message: message.message.clone(),
            ends: ends.filter(|_| message.status == Status::Processing.as_str()),
            wait: None,
        };
        if !self.bar.is_hidden() {
            self.bar.set_position(message.progress);
            self.count_down();
            if let Some(node) = &mut self.node {
                node.show(message, self.columns);
            }
        } else if is_new {
            print_line(self.state.line(&self.name, Instant::now()));
        }
    }

    /// Draws the time that is left now.
    pub(super) fn count_down(&mut self) {
        if self.bar.is_hidden() {
            return;
        }
        let columns = Term::stderr().size().1.into();
        if columns != self.columns {
            self.columns = columns;
            self.bar
                .set_style(style(&template(columns, measure_text_width(&self.name))));
        }
        let text = self.state.columns(&self.name, Instant::now());
        self.bar.set_message(text);
    }

    /// Removes the bar, so that an error can be printed.
    pub(super) fn clear(&mut self) {
        self.clear_node();
        self.bar.finish_and_clear();
    }

    fn clear_node(&mut self) {
        if let Some(node) = &mut self.node {
            node.clear();
        }
    }

    /// Shows the job's final message, which stays on the screen. What does not fit beside it, and why a job
    /// has failed, stands in full on lines of its own.
    fn finish(&mut self, message: &JobMessage, status: Status) {
        let end = format!(
            "{}  {:>3} %  {}",
            self.name, message.progress, message.message
        );
        let (output, error) = (&message.output_path, &message.error);
        let whole = match output {
            Some(path) => format!("{end}: {path}"),
            None => end.clone(),
        };
        if self.bar.is_hidden() {
            print_line(whole);
            if let Some(error) = error {
                print_line(format_args!("{}  {error}", self.name));
            }
            return;
        }
        self.clear_node();
        let columns = usize::from(Term::stderr().size().1);
        let fits = |text: &str| measure_text_width(text) + SPINNER_WIDTH < columns;
        let apart = [output.as_ref().filter(|_| !fits(&whole)), error.as_ref()];
        for text in apart.into_iter().flatten() {
            self.bar.println(format!("{}  {text}", self.name));
        }
        let line = if fits(&whole) { whole } else { end };
        let colored = status_style(status)
            .for_stderr()
            .apply_to(&line)
            .to_string();
        if fits(&line) {
            self.bar.set_style(style("  {wide_msg}"));
            self.bar.abandon_with_message(colored);
        } else {
            self.bar.println(colored);
            self.bar.finish_and_clear();
        }
    }
}

impl BarState {
    /// The message, or for how long the relay waits for the job.
    fn sentence(&self, now: Instant) -> String {
        let Some(Wait { until, note }) = &self.wait else {
            return self.message.clone();
        };
        let seconds = seconds_between(now, *until);
        format!("Nobody has registered this job yet; waiting {seconds} s more{note}")
    }

    /// The remaining time; empty if it is not known.
    fn time(&self, now: Instant) -> String {
        let left = match self.ends {
            None => return String::new(),
            Some(Ends::At(end)) => seconds_between(now, end),
            Some(Ends::InSeconds(seconds)) => seconds,
        };
        format!("{} left", duration(left))
    }

    /// A line for an output that is not a terminal.
    fn line(&self, name: &str, now: Instant) -> String {
        let time = self.time(now);
        let gap = if time.is_empty() { "" } else { "  " };
        format!(
            "{name}  {:>3} %  {time}{gap}{}",
            self.percent,
            self.sentence(now)
        )
    }

    /// The text before the bar, in columns that stay where they are.
    fn columns(&self, name: &str, now: Instant) -> String {
        let (percent, time, sentence) = (self.percent, self.time(now), self.sentence(now));
        if self.wait.is_some() {
            return format!("{name}  {sentence}");
        }
        format!("{name}  {percent:>3} %  {time:<TIME_WIDTH$}  {sentence}")
    }
}

/// The layout of a line: name, percentage and time come first, then the message; the bar takes what is left,
/// or is left out.
fn template(columns: usize, name_width: usize) -> String {
    let text = SPINNER_WIDTH + name_width + NUMBERS_WIDTH;
    let rest = columns.saturating_sub(text + BAR_FRAME + MIN_BAR);
    if rest < MESSAGE_WIDTHS.0 {
        return "{spinner} {wide_msg}".to_owned();
    }
    let width = name_width + NUMBERS_WIDTH + rest.min(MESSAGE_WIDTHS.1);
    format!("{{spinner}} {{msg:{width}!}} [{{wide_bar:.cyan}}]")
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the template is well formed")
        .progress_chars("=> ")
}

fn seconds_between(now: Instant, end: Instant) -> u64 {
    end.saturating_duration_since(now).as_secs_f64().round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(ends: Ends) -> BarState {
        BarState {
            percent: 48,
            message: "Step 2".to_owned(),
            ends: Some(ends),
            wait: None,
        }
    }

    #[test]
    fn a_running_job_counts_down_to_zero() {
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        let state = running(Ends::At(at(3_600)));
        let lines = [0, 2_000, 9_000].map(|ms| state.line("job", at(ms)));
        let wanted = ["4", "2", "0"].map(|left| format!("job   48 %  {left} s left  Step 2"));
        assert_eq!(lines, wanted);
        // A relay of an older version sends whole seconds only.
        let state = running(Ends::InSeconds(4));
        assert_eq!(state.line("job", at(9_000)), wanted[0]);
    }

    #[test]
    fn the_wait_for_a_job_counts_down() {
        let now = Instant::now();
        let state = BarState {
            wait: Some(Wait {
                until: now + Duration::from_secs(30),
                note: ". ComfyUI does not answer".to_owned(),
            }),
            ..BarState::default()
        };
        let text = state.columns("job", now + Duration::from_secs(6));
        assert_eq!(
            text,
            "job  Nobody has registered this job yet; waiting 24 s more. ComfyUI does not answer"
        );
    }

    #[test]
    fn the_bar_takes_what_is_left_and_the_numbers_come_first() {
        let text = running(Ends::InSeconds(3_599)).columns("shot-12", Instant::now());
        assert_eq!(text, "shot-12   48 %  59 min 59 s left  Step 2");
        let numbers = "shot-12".len() + NUMBERS_WIDTH;
        assert_eq!(text.len(), numbers + "Step 2".len());
        for (columns, message) in [(62, None), (63, Some(16)), (80, Some(33)), (200, Some(40))] {
            let wanted = match message {
                None => "{spinner} {wide_msg}".to_owned(),
                Some(width) => format!(
                    "{{spinner}} {{msg:{}!}} [{{wide_bar:.cyan}}]",
                    numbers + width
                ),
            };
            assert_eq!(
                template(columns, "shot-12".len()),
                wanted,
                "{columns} columns"
            );
        }
    }
}
