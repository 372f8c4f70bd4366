//! [`Overview`]: what `top` draws.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Block, Row, Table};
use serde_json::Value;
use url::Url;

use crate::cli::duration::duration;
use crate::cli::output::printable_line;

/// How many columns show the progress of a job.
const BAR_WIDTH: usize = 20;

/// What a relay has said of its servers and its open jobs.
#[derive(Debug)]
pub(super) struct Overview {
    title: String,
    backends: Vec<[String; 4]>,
    running: Vec<[String; 5]>,
    waiting: Vec<[String; 5]>,
    /// Why nothing newer is shown.
    error: Option<String>,
}

impl Overview {
    pub(super) fn new(relay: &Url, health: &Value, jobs: &Value) -> Self {
        let backends = health["components"]["comfyui"].as_array();
        let jobs = jobs["jobs"].as_array().into_iter().flatten();
        // The list has the newest first; the oldest is the next.
        let (running, mut waiting): (Vec<&Value>, Vec<&Value>) =
            jobs.partition(|job| job["status"] == "processing");
        waiting.sort_by_key(|job| job["queue_position"].as_u64().unwrap_or(u64::MAX));
        Self {
            title: format!(
                " {relay}  {}  {} running, {} waiting ",
                word(health, "status"),
                running.len(),
                waiting.len(),
            ),
            backends: backends.into_iter().flatten().map(backend).collect(),
            running: running.into_iter().map(job).collect(),
            waiting: waiting.into_iter().map(job).collect(),
            error: None,
        }
    }

    /// What is shown is old, for this reason.
    pub(super) fn fail(&mut self, error: &str) {
        self.error = Some(printable_line(error));
    }

    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        // Borders and heading of a table.
        let height = |rows: usize| {
            Constraint::Length(u16::try_from(rows).unwrap_or(u16::MAX).saturating_add(3))
        };
        let areas = Layout::vertical([
            Constraint::Length(1),
            height(self.backends.len()),
            Constraint::Fill(1),
            Constraint::Fill(1),
            Constraint::Length(1),
        ]);
        let [title, backends, running, waiting, footer] = areas.areas(frame.area());
        frame.render_widget(Line::from(self.title.as_str()).bold(), title);
        let rows = self.backends.iter().map(|cells| {
            let color = match cells[1].as_str() {
                "connected" => Color::Green,
                "unreachable" => Color::Red,
                _ => Color::Yellow,
            };
            Row::new(cells.clone()).style(Style::new().fg(color))
        });
        let widths = [
            Constraint::Fill(2),
            Constraint::Length(14),
            Constraint::Length(16),
            Constraint::Fill(3),
        ];
        let table =
            Table::new(rows, widths).header(heading(["server", "status", "queue", "reason"]));
        frame.render_widget(table.block(Block::bordered().title("Servers")), backends);
        draw_jobs(frame, running, "Running", &self.running);
        draw_jobs(frame, waiting, "Waiting", &self.waiting);
        let footer_line = match &self.error {
            Some(error) => Line::from(error.as_str()).red(),
            None => Line::from("q quits").dim(),
        };
        frame.render_widget(footer_line, footer);
    }
}

fn draw_jobs(frame: &mut Frame<'_>, area: Rect, title: &str, jobs: &[[String; 5]]) {
    let widths = [
        Constraint::Fill(2),
        Constraint::Length(u16::try_from(BAR_WIDTH + 6).unwrap_or(u16::MAX)),
        Constraint::Length(16),
        Constraint::Fill(3),
        Constraint::Fill(1),
    ];
    let rows = jobs.iter().map(|cells| Row::new(cells.clone()));
    let table = Table::new(rows, widths).header(heading(["job", "progress", "left", "", "server"]));
    let title = format!("{title} ({})", jobs.len());
    frame.render_widget(table.block(Block::bordered().title(title)), area);
}

fn heading<const COUNT: usize>(names: [&str; COUNT]) -> Row<'_> {
    Row::new(names).style(Style::new().dim())
}

fn word(object: &Value, name: &str) -> String {
    printable_line(object[name].as_str().unwrap_or_default())
}

fn backend(backend: &Value) -> [String; 4] {
    let count = |name: &str| backend[name].as_u64();
    let queue = count("queue_running").zip(count("queue_pending"));
    let queue = queue.map(|(running, pending)| format!("{running} + {pending}"));
    [
        word(backend, "name"),
        word(backend, "status"),
        queue.unwrap_or_default(),
        word(backend, "reason"),
    ]
}

fn job(job: &Value) -> [String; 5] {
    let percent = job["progress"].as_u64().unwrap_or_default().min(100);
    let filled = usize::try_from(percent).unwrap_or_default() * BAR_WIDTH / 100;
    let bar = format!("{}{}", "█".repeat(filled), "░".repeat(BAR_WIDTH - filled));
    let left = job["estimated_remaining"].as_u64().map(duration);
    [
        word(job, "job_id"),
        format!("{bar} {percent:>3} %"),
        left.unwrap_or_default(),
        word(job, "message"),
        word(job, "backend"),
    ]
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    use super::*;

    fn drawn(view: &Overview, columns: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(columns, 24)).unwrap();
        terminal.draw(|frame| view.draw(frame)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn servers_jobs_and_the_queue_are_drawn_without_control_characters() {
        let health = json!({"status": "healthy", "components": {"comfyui": [
            {"name": "127.0.0.1:8188", "status": "connected", "queue_running": 1, "queue_pending": 2}]}});
        let job = |id: &str, status: &str, position: u64| {
            json!({"job_id": id, "status": status, "progress": 48,
            "estimated_remaining": 61, "message": "step\u{9b}2J", "queue_position": position})
        };
        let jobs = json!({"jobs": [job("c", "queued", 2), job("b", "queued", 1), job("a", "processing", 0)]});
        let relay = Url::parse("http://127.0.0.1:8328/").unwrap();
        let mut view = Overview::new(&relay, &health, &jobs);
        let text = drawn(&view, 110);
        for part in [
            "healthy  1 running, 2 waiting",
            "1 + 2",
            "█████████░░░░░░░░░░░  48 %",
            "1 min 01 s",
            "step\u{fffd}2J",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        let at = |id: &str| text.find(&format!("│{id} ")).unwrap();
        assert!(at("a") < at("b") && at("b") < at("c"), "{text}");
        view.fail("the relay does not respond");
        assert!(drawn(&view, 40).contains("the relay does not respond"));
    }
}
