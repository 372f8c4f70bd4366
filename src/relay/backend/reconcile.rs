//! Compares open jobs with a backend's queue and history: on every connect, when something ended,
//! and every now and then, because some prompts send us no events.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep_until};

use crate::comfy::{HistoryEntry, Queue, QueuePosition, RestError};
use crate::job::{Event, JobId, Reason, Status};
use crate::relay::Relay;
use crate::relay::backend::Backend;
use crate::relay::estimates::queue_plans::Plans;

/// How soon the history is read again where an entry is due.
const DUE_INTERVAL: Duration = Duration::from_millis(250);

/// So many times as long as a look took, the next one waits that nothing urgent asks for: a long queue
/// is work for the server and for us.
const REST_FACTOR: u32 = 4;

/// No look counts as longer than this.
const MAX_LOOK: Duration = Duration::from_secs(5);

/// An open job, as far as it matters here.
struct OpenJob {
    id: JobId,
    prompt_id: String,
    waits: bool,
    cancel_requested: bool,
    ending: bool,
    planned: bool,
    disconnects_when_seen: u64,
    created_at: Timestamp,
}

impl Relay {
    /// Reconciles a backend's jobs until the relay stops.
    #[tracing::instrument(name = "upstream", skip_all, fields(backend = backend.name()))]
    pub(in crate::relay) async fn reconcile(self, index: usize, backend: Arc<Backend>) {
        let mut next_look = None;
        let mut rested_at = Instant::now();
        let mut failed = false;
        let mut plans = Plans::default();
        loop {
            let asked = async {
                sleep_until(rested_at).await;
                backend.reconcile_soon.notified().await;
            };
            tokio::select! {
                () = self.stopping() => return,
                () = backend.reconcile_now.notified() => {}
                () = asked => {}
                () = rest_until(next_look) => {}
            }
            if !*backend.connected.borrow() {
                // Its return wakes this task.
                next_look = None;
                continue;
            }
            self.start_history_replay(&backend);
            let began_at = Instant::now();
            let looked = tokio::select! {
                // A server that hangs must not hold up the end.
                () = self.stopping() => return,
                looked = self.look(index, &backend, &mut plans) => looked,
            };
            let took = began_at.elapsed().min(MAX_LOOK);
            let least = self.comfy_config().min_poll_pause;
            rested_at = Instant::now() + least.max(took * REST_FACTOR);
            match looked {
                Ok(next) => {
                    next_look = next.map(|pause| Instant::now() + pause.max(took));
                    failed = false;
                }
                Err(error) => {
                    if !failed {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "cannot compare jobs with ComfyUI, trying on"
                        );
                    }
                    failed = true;
                    next_look = Some(Instant::now() + self.comfy_config().poll_interval);
                }
            }
        }
    }

    /// One look. Says after which pause the next one is due; `None` while no job is open.
    ///
    /// Only a server that does not answer ends it early: an answer of no use is about one job.
    async fn look(
        &self,
        index: usize,
        backend: &Backend,
        plans: &mut Plans,
    ) -> Result<Option<Duration>, RestError> {
        self.fetch_version(backend).await?;
        let open = self.open(index);
        if open.is_empty() {
            // The length of the queue comes over the socket.
            return Ok(None);
        }
        let (ending, running): (Vec<OpenJob>, Vec<OpenJob>) =
            open.into_iter().partition(|open| open.ending);
        let mut due = !ending.is_empty();
        let mut missing = Vec::new();
        for open in ending {
            match self
                .fetch_history(backend, &open.id, &open.prompt_id)
                .await?
            {
                Some(Some(entry)) => self.read(backend, &open, entry),
                // In the end, what was heard on the socket has to do.
                Some(None) | None => missing.push(open),
            }
        }
        // A loss that comes after the question may come before the answer is of any worth.
        let disconnects = backend.state().disconnects;
        let queue = self.fetch_queue(backend).await?;
        self.forecast(index, backend, plans, queue.as_ref());
        let standing = |open: &OpenJob| {
            let queue = queue.as_ref()?;
            Some((queue, queue.position(&open.prompt_id)?))
        };
        let mut kept = HashSet::new();
        for open in running {
            if let Some((queue, standing)) = standing(&open) {
                kept.insert(open.disconnects_when_seen);
                self.standing(backend, &open, standing, queue, disconnects);
                continue;
            }
            match self
                .fetch_history(backend, &open.id, &open.prompt_id)
                .await?
            {
                Some(Some(entry)) if self.is_heard_out(backend, &open) => {
                    self.read(backend, &open, entry)
                }
                Some(Some(_)) => due = true,
                Some(None) if queue.is_some() => missing.push(open),
                // Nobody can tell now; the next look may.
                Some(None) | None => {}
            }
        }
        // The server can stand still between the last event and the end of a prompt.
        missing.retain(|open| standing(open).is_none());
        due |= !missing.is_empty();
        for mut open in missing {
            if kept.contains(&open.disconnects_when_seen) {
                // Before the next loss takes the evidence away: this is the server that had the prompt.
                open.disconnects_when_seen = disconnects;
                if let Some(entry) = self.jobs().get_mut(&open.id) {
                    entry.disconnects_when_seen = disconnects;
                }
            }
            self.miss(backend, &open).await?;
        }
        if let Some(queue) = &queue {
            self.replace_stale_socket(backend, queue);
        }
        let pause = match due {
            true => DUE_INTERVAL.min(self.comfy_config().poll_interval),
            false => self.comfy_config().poll_interval,
        };
        let any_open = self.jobs().open(index).next().is_some();
        Ok(any_open.then_some(pause))
    }

    fn open(&self, index: usize) -> Vec<OpenJob> {
        let jobs = self.jobs();
        let open = jobs.open(index).filter_map(|entry| {
            Some(OpenJob {
                id: entry.job.id().clone(),
                prompt_id: entry.job.prompt_id()?.to_owned(),
                waits: entry.job.status() == Status::Queued,
                cancel_requested: entry.cancel_requested,
                ending: entry.job.is_ending(),
                planned: !entry.job.plan().is_empty(),
                disconnects_when_seen: entry.disconnects_when_seen,
                created_at: entry.job.created_at(),
            })
        });
        let mut open: Vec<OpenJob> = open.collect();
        // Of the jobs that follow one prompt, the first one has seen the most of it: it is learned from.
        open.sort_by_key(|open| open.created_at);
        open
    }

    /// The prompt runs or waits, by a queue that was asked for after `disconnects` disconnects of the socket.
    fn standing(
        &self,
        backend: &Backend,
        open: &OpenJob,
        standing: QueuePosition,
        queue: &Queue,
        disconnects: u64,
    ) {
        if let Some(entry) = self.jobs().get_mut(&open.id) {
            let client_id = queue
                .entry(&open.prompt_id)
                .and_then(|place| place.client_id.as_deref());
            entry.own_client = client_id == Some(backend.comfy.client_id());
            entry.disconnects_when_seen = disconnects;
            entry.missing_since = None;
        }
        if !open.planned
            && let Some(plan) = queue.plan(&open.prompt_id)
        {
            self.ingest(&open.id, Event::Planned(plan));
        }
        let event = match standing {
            QueuePosition::Running => Event::Started,
            QueuePosition::Pending { ahead } => Event::Queued { ahead: Some(ahead) },
        };
        let mut jobs = self.jobs();
        self.ingest_in(&mut jobs, &open.id, event);
        self.republish_waiting(&mut jobs, &open.id);
    }

    /// Whether the socket has nothing more to tell of a prompt that is over. What it tells is on its
    /// way for a moment longer than the answer of the history.
    ///
    /// A socket that was open all the time and did not tell it hears nothing: a new one may.
    fn is_heard_out(&self, backend: &Backend, open: &OpenJob) -> bool {
        let mut jobs = self.jobs();
        let Some(entry) = jobs.get_mut(&open.id) else {
            return true;
        };
        let tells = entry.own_client && !entry.work_done && !entry.job.is_ending();
        let since = *entry.end_found_at.get_or_insert_with(Instant::now);
        if !tells {
            return true;
        }
        if since.elapsed() < self.comfy_config().event_grace {
            return false;
        }
        self.count_missed_ending(backend, entry.disconnects_when_seen);
        true
    }

    fn read(&self, backend: &Backend, open: &OpenJob, entry: HistoryEntry) {
        backend.state().seen_in_history = Some(open.prompt_id.clone());
        if !open.planned {
            self.ingest(&open.id, Event::Planned(entry.plan));
        }
        self.ingest(&open.id, Event::History(entry.history));
    }

    /// The prompt is neither in the queue nor in the history. That can be the gap between the two;
    /// when it lasts, the prompt is gone.
    async fn miss(&self, backend: &Backend, open: &OpenJob) -> Result<(), RestError> {
        let since = match self.jobs().get_mut(&open.id) {
            Some(entry) => *entry.missing_since.get_or_insert_with(Instant::now),
            None => return Ok(()),
        };
        // Nobody is surprised that a prompt is gone which we have had deleted.
        let is_expected = open.waits && open.cancel_requested;
        if !is_expected && since.elapsed() < self.comfy_config().history_grace {
            return Ok(());
        }
        let is_deleted = is_expected || (open.waits && self.remembers(backend, open).await?);
        let absence = match is_deleted {
            true => Reason::Deleted,
            false => Reason::Forgotten,
        };
        self.ingest(&open.id, Event::Vanished(absence));
        Ok(())
    }

    /// Whether the server that now answers is the one that had the prompt, not restarted since: the
    /// socket was never lost, or something of the time before the loss is there still.
    async fn remembers(&self, backend: &Backend, open: &OpenJob) -> Result<bool, RestError> {
        let (disconnects, seen_in_history) = {
            let state = backend.state();
            (state.disconnects, state.seen_in_history.clone())
        };
        if open.disconnects_when_seen == disconnects {
            return Ok(true);
        }
        match seen_in_history {
            Some(seen_in_history) => match backend.comfy.rest().history(&seen_in_history).await {
                Ok(entry) => Ok(entry.is_some()),
                Err(error) if error.is_unreachable() => Err(error),
                Err(_) => Ok(false),
            },
            None => Ok(false),
        }
    }
}

async fn rest_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
