//! `comfy-relay top`: a live view of a relay over the whole screen.

mod overview;

use std::io;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use console::Term;
use futures_util::{StreamExt, stream};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::api_client::{ApiClient, JOBS, RelayOptions};
use super::backends::HEALTH;
use super::exit_code::WrongSetting;
use overview::Overview;

/// How often the relay is asked.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many jobs that run, and that wait, are asked for: more fit on no screen.
const MAX_JOBS: usize = 200;

/// Show servers, running jobs and the queue on the whole screen, until q
#[derive(Debug, clap::Args)]
pub(super) struct TopArgs {
    #[command(flatten)]
    relay: RelayOptions,
}

pub(super) async fn run(args: TopArgs) -> anyhow::Result<ExitCode> {
    if !Term::stdout().is_term() {
        let advice = "top needs a terminal; jobs and backends print the same as lines";
        return Err(WrongSetting(anyhow!(advice)).into());
    }
    let relay = args.relay.client()?;
    // A relay that cannot be reached is an error before the screen is taken, and a note on it afterwards.
    let view = fetch(&relay).await?;
    let mut terminal = ratatui::try_init().context("cannot take over the terminal")?;
    let shown = show(&mut terminal, &relay, view).await;
    ratatui::restore();
    shown?;
    Ok(ExitCode::SUCCESS)
}

async fn show(
    terminal: &mut DefaultTerminal,
    relay: &ApiClient,
    mut view: Overview,
) -> anyhow::Result<()> {
    let mut events = terminal_events();
    let mut refresh = interval(REFRESH_INTERVAL);
    refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Asked for beside the keys: a relay that does not answer keeps nobody here.
    let newest = stream::unfold(refresh, |mut refresh| async move {
        refresh.tick().await;
        Some((fetch(relay).await, refresh))
    });
    let mut newest = pin!(newest);
    loop {
        terminal.draw(|frame| view.draw(frame))?;
        tokio::select! {
            event = events.recv() => match event {
                Some(event) if !quits(&event) => {}
                _ => return Ok(()),
            },
            Some(fetched) = newest.next() => match fetched {
                Ok(newest) => view = newest,
                Err(error) => view.fail(&format!("{error:#}")),
            },
        }
    }
}

async fn fetch(relay: &ApiClient) -> anyhow::Result<Overview> {
    let query = |status: &str| {
        let limit = MAX_JOBS.to_string();
        [("status", status.to_owned()), ("limit", limit)]
    };
    // The list begins with the newest jobs, and those that run are seldom among them.
    let (running, waiting) = (query("processing"), query("queued"));
    let fetching = async {
        tokio::try_join!(
            relay.get(HEALTH, &[]),
            relay.get(JOBS, &running),
            relay.get(JOBS, &waiting)
        )
    };
    let fetched = timeout(PATIENCE, fetching).await;
    let late = || anyhow!("it does not answer within {} s", PATIENCE.as_secs());
    let (health, mut jobs, waiting) = fetched.map_err(|_| late())??;
    let more = waiting["jobs"].as_array().cloned().unwrap_or_default();
    if let Some(jobs) = jobs["jobs"].as_array_mut() {
        jobs.extend::<Vec<Value>>(more);
    }
    Ok(Overview::new(relay.address(), &health, &jobs))
}

/// Keys, and changes of the size. The thread that reads them ends with the program.
fn terminal_events() -> mpsc::Receiver<Event> {
    let (sender, events) = mpsc::channel(1);
    std::thread::spawn(move || -> io::Result<()> {
        loop {
            let event = event::read()?;
            if sender.blocking_send(event).is_err() {
                return Ok(());
            }
        }
    });
    events
}

fn quits(event: &Event) -> bool {
    let Event::Key(key) = event else {
        return false;
    };
    let is_interrupt = key.code == KeyCode::Char('c') && key.modifiers == KeyModifiers::CONTROL;
    let is_quit = matches!(key.code, KeyCode::Char('q') | KeyCode::Esc);
    key.kind == KeyEventKind::Press && (is_quit || is_interrupt)
}
