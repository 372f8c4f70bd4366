//! Shows the progress of all jobs of a selection, as one socket of the relay streams it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use indicatif::{MultiProgress, ProgressBar};
use serde_json::Value;
use tokio::time::interval;

use super::api_client::{ApiClient, ApiRefusal, JOBS, JobMessage};
use super::exit_code::{UNREACHABLE, of_outcome, worst};
use super::progress_bar::{COUNT_INTERVAL, JobBar};
use super::reconnection::Reconnection;
use super::relay_clock::RelayClock;
use super::relay_socket::{RelaySocket, SocketEnd};
use crate::cli::output::print_note;
use crate::job::printable_json;

/// The path of the socket that streams many jobs, below `ws/`, which also stands for them in messages.
pub(super) const FEED: &str = "jobs";

/// How many jobs a list has at most.
const MAX_LISTED: &str = "500";

/// The jobs that are shown.
struct Watched<'a> {
    relay: &'a ApiClient,
    /// The parameters that select the jobs.
    query: &'a [(&'static str, String)],
    /// `None` if messages are printed.
    bars: Option<MultiProgress>,
    shown: BTreeMap<String, JobBar>,
    /// The jobs that have not ended.
    open: BTreeSet<String>,
    /// The exit codes of those that have.
    ended: BTreeMap<String, u8>,
}

/// How watching the jobs over one connection ended.
enum FeedEnd {
    /// Nobody reads what is printed.
    OutputClosed,
    Socket(SocketEnd),
    /// The relay has refused a request.
    Failed(anyhow::Error),
}

/// Shows the progress of all jobs of a selection that wait or run, and of those that come meanwhile, until none is left.
/// Returns the exit code.
pub(super) async fn watch_selected(
    relay: &ApiClient,
    query: &[(&'static str, String)],
    json: bool,
) -> u8 {
    let mut watched = Watched {
        relay,
        query,
        bars: (!json).then(MultiProgress::new),
        shown: BTreeMap::new(),
        open: BTreeSet::new(),
        ended: BTreeMap::new(),
    };
    let mut reconnection = Reconnection::default();
    loop {
        let why = match watched.follow(&mut reconnection).await {
            Ok(()) => return worst(watched.ended.into_values()),
            Err(FeedEnd::OutputClosed) => return 0,
            Err(FeedEnd::Failed(error)) => format!("{error:#}"),
            Err(FeedEnd::Socket(SocketEnd::Refused(why))) => why,
            Err(FeedEnd::Socket(SocketEnd::Lost(why))) => {
                match reconnection.wait(relay, &why).await {
                    Ok(()) => continue,
                    Err(why) => why,
                }
            }
        };
        watched.shown.values_mut().for_each(JobBar::clear);
        print_note(format_args!("error: {why}"));
        return UNREACHABLE;
    }
}

impl Watched<'_> {
    /// Shows the jobs over one connection, until all have ended.
    async fn follow(&mut self, reconnection: &mut Reconnection) -> Result<(), FeedEnd> {
        let mut socket = RelaySocket::connect(self.relay, FEED, self.query).await?;
        let mut clock = RelayClock::default();
        let mut count = interval(COUNT_INTERVAL);
        let mut is_greeted = false;
        loop {
            let text = tokio::select! {
                text = socket.receive() => text?,
                _ = count.tick() => {
                    self.shown.values_mut().for_each(JobBar::count_down);
                    continue;
                }
            };
            if let Some(why) = error_of_feed(&text) {
                socket.last_error = Some(why);
                continue;
            }
            self.show(&text, &mut clock)?;
            // From the greeting on the socket has every change, so that none is missed between list and stream.
            if !std::mem::replace(&mut is_greeted, true) {
                self.look_up_open(&mut clock).await?;
                self.list_open().await?;
            }
            // A relay whose database is away answers the socket alone.
            reconnection.reached();
            if self.open.is_empty() && !self.ended.is_empty() {
                self.list_open().await?;
            }
            match (self.open.is_empty(), self.ended.is_empty()) {
                (false, _) => {}
                (true, false) => return Ok(()),
                (true, true) => {
                    let why = "no such job waits or runs".to_owned();
                    return Err(SocketEnd::Refused(why).into());
                }
            }
        }
    }

    /// Shows a message. Remembers whether its job has ended, and how.
    fn show(&mut self, text: &str, clock: &mut RelayClock) -> Result<(), FeedEnd> {
        if self.bars.is_none() {
            let printed = writeln!(std::io::stdout(), "{}", printable_json(text));
            printed.map_err(|_| FeedEnd::OutputClosed)?;
        }
        match serde_json::from_str::<JobMessage>(text) {
            Ok(message) if message.r#type == "progress" => {
                self.show_state(&message.printable(), clock);
            }
            _ => {}
        }
        Ok(())
    }

    fn show_state(&mut self, state: &JobMessage, clock: &mut RelayClock) {
        let job = &state.job_id;
        if self.ended.contains_key(job) {
            return;
        }
        if let Some(bars) = &self.bars {
            let new = || JobBar::new(job, bars.add(ProgressBar::new(100)));
            let bar = self.shown.entry(job.clone()).or_insert_with(new);
            bar.show(state, clock);
        }
        match state.outcome() {
            None => {
                self.open.insert(job.clone());
            }
            Some(outcome) => {
                self.open.remove(job);
                self.ended.insert(job.clone(), of_outcome(outcome));
                // What it has drawn last stays.
                self.shown.remove(job);
            }
        }
    }

    /// Shows how those have ended that ended while the relay was away.
    async fn look_up_open(&mut self, clock: &mut RelayClock) -> Result<(), FeedEnd> {
        for job in self.open.clone() {
            match self.relay.get(&format!("{JOBS}/{job}"), &[]).await {
                Ok(mut state) if !state["completed_at"].is_null() => {
                    state["type"] = Value::from("progress");
                    self.show(&state.to_string(), clock)?;
                }
                Ok(_) => {}
                // The relay has forgotten it.
                Err(error) if (error.downcast_ref()).is_some_and(ApiRefusal::is_not_found) => {
                    self.open.remove(&job);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Waits for the jobs as well that wait or run now, and of which no state has come yet.
    async fn list_open(&mut self) -> Result<(), FeedEnd> {
        let mut query = self.query.to_vec();
        query.push(("status", "queued,processing".to_owned()));
        query.push(("limit", MAX_LISTED.to_owned()));
        let page = self.relay.get(JOBS, &query).await?;
        let jobs = page["jobs"].as_array().into_iter().flatten();
        let ids = jobs.filter_map(|job| job["job_id"].as_str());
        let new = ids.filter(|&id| !self.ended.contains_key(id));
        self.open.extend(new.map(str::to_owned));
        Ok(())
    }
}

impl From<SocketEnd> for FeedEnd {
    fn from(end: SocketEnd) -> Self {
        Self::Socket(end)
    }
}

impl From<anyhow::Error> for FeedEnd {
    fn from(error: anyhow::Error) -> Self {
        match SocketEnd::of_request(error) {
            Ok(end) => Self::Socket(end),
            Err(refused) => Self::Failed(refused),
        }
    }
}

/// What the relay refuses about the stream itself, not a job of it.
fn error_of_feed(text: &str) -> Option<String> {
    let message: JobMessage = serde_json::from_str(text).ok()?;
    let message = message.printable();
    (message.r#type == "error" && message.job_id == FEED).then_some(message.error?)
}
