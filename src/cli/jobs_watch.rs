//! [`JobsWatch`]: a list of jobs that is drawn again whenever it changes.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use console::Term;
use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval};

use super::api_client::{ApiClient, JOBS};
use super::jobs_table;
use super::reconnection::Reconnection;
use super::relay_socket::{RelaySocket, SocketEnd};
use super::watch_feed::FEED;
use crate::cli::output::print_text;

/// How often the list is drawn at most. It is read again as often, if a job is new in it or has changed its status.
const DRAW_INTERVAL: Duration = Duration::from_millis(250);

/// What a state changes in the list.
const CHANGING: [&str; 4] = ["progress", "estimated_remaining", "message", "backend"];

/// The list, and how it is kept up to date.
pub(super) struct JobsWatch<'a> {
    relay: &'a ApiClient,
    /// The parameters of the list, and those of the stream of its jobs.
    query: Vec<(&'static str, String)>,
    feed_query: Vec<(&'static str, String)>,
    page: Value,
    /// Whether the list may hold other jobs than `page`.
    is_stale: bool,
    drawn: String,
}

impl<'a> JobsWatch<'a> {
    pub(super) fn new(
        relay: &'a ApiClient,
        query: Vec<(&'static str, String)>,
        feed_query: Vec<(&'static str, String)>,
    ) -> Self {
        Self {
            relay,
            query,
            feed_query,
            page: Value::Null,
            is_stale: true,
            drawn: String::new(),
        }
    }

    /// Draws the list over itself, until the relay is away for too long; where standard output is no terminal, prints
    /// it again.
    pub(super) async fn run(mut self) -> anyhow::Result<ExitCode> {
        let mut reconnection = Reconnection::default();
        loop {
            let why = match self.follow(&mut reconnection).await? {
                SocketEnd::Refused(why) => return Err(anyhow!(why)),
                SocketEnd::Lost(why) => why,
            };
            let waited = reconnection.wait(self.relay, &why).await;
            waited.map_err(|why| anyhow!(why))?;
        }
    }

    /// Follows the list over one connection.
    async fn follow(&mut self, reconnection: &mut Reconnection) -> anyhow::Result<SocketEnd> {
        let connected = RelaySocket::connect(self.relay, FEED, &self.feed_query).await;
        let mut socket = match connected {
            Ok(socket) => socket,
            Err(end) => return Ok(end),
        };
        // The socket has every change from its greeting on; the list is read after that.
        if let Err(end) = socket.receive().await {
            return Ok(end);
        }
        self.is_stale = true;
        let mut draw = interval(DRAW_INTERVAL);
        draw.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut has_changed = true;
        loop {
            tokio::select! {
                text = socket.receive() => match text {
                    Ok(text) => {
                        if let Ok(message) = serde_json::from_str(&text) {
                            self.receive(&message);
                            has_changed = true;
                        }
                    }
                    Err(end) => return Ok(end),
                },
                _ = draw.tick(), if has_changed => {
                    has_changed = false;
                    if std::mem::take(&mut self.is_stale) {
                        match self.relay.get(JOBS, &self.query).await {
                            Ok(page) => self.page = page,
                            // A relay whose database is away answers the socket alone.
                            Err(error) => return SocketEnd::of_request(error),
                        }
                        reconnection.reached();
                    }
                    self.draw()?;
                }
            }
        }
    }

    /// Changes the job in the list that a state is of.
    fn receive(&mut self, state: &Value) {
        if state["type"] != "progress" {
            return;
        }
        let jobs = self.page["jobs"].as_array_mut().into_iter().flatten();
        let mut listed = jobs.filter(|job| job["job_id"] == state["job_id"]);
        match listed.next() {
            Some(job) if job["status"] == state["status"] => {
                for name in CHANGING {
                    job[name] = state[name].clone();
                }
            }
            _ => self.is_stale = true,
        }
    }

    fn draw(&mut self) -> anyhow::Result<()> {
        let mut text = jobs_table::text(&self.page);
        let terminal = Term::stdout();
        if terminal.is_term() {
            text = fitted(&text, terminal.size().0.into());
        }
        if text != self.drawn {
            if terminal.is_term() {
                terminal.clear_last_lines(self.drawn.lines().count())?;
            }
            print_text(&text);
            self.drawn = text;
        }
        Ok(())
    }
}

/// As much of a table as can be drawn again in its place on a terminal with so many rows: what has left it at the top stays.
fn fitted(table: &str, rows: usize) -> String {
    let lines: Vec<&str> = table.lines().collect();
    let room = rows.saturating_sub(2).max(2);
    if lines.len() <= room {
        return table.to_owned();
    }
    format!(
        "{}\n… {} more\n",
        lines[..room].join("\n"),
        lines.len() - room
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_no_higher_than_the_terminal() {
        assert_eq!(fitted("a\nb\nc\n", 5), "a\nb\nc\n");
        assert_eq!(fitted("a\nb\nc\nd\ne\n", 5), "a\nb\nc\n… 2 more\n");
    }
}
