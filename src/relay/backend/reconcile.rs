//! Task B: compares open jobs with a backend's queue and history, on every connect, when a prompt ends,
//! and at intervals, because some prompts send us no events.

use std::collections::HashSet;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::comfy::{Queue, RestError};
use crate::job::{Event, JobId, Reason, Status};
use crate::relay::backend::apply::{OpenJob, QueueAnswer};
use crate::relay::backend::decide::{Decision, Evidence, PromptAnswer, decide};
use crate::relay::backend::discovery::{Discoveries, Discovery};
use crate::relay::backend::follower::Follower;
use crate::relay::backend::last_comparison::{Basis, LastComparison};
use crate::relay::estimates::queue_forecast::Lack;
use crate::relay::queue::lost::TakenBack;
use crate::relay::registry::{DueJobs, Entry};

/// How soon the backend is asked again about a prompt that is about to be in its history.
const DUE_INTERVAL: Duration = Duration::from_millis(250);

/// After a comparison that took a second, the next one that is not urgent waits so many seconds: a long
/// queue is work for the server and for us.
const PAUSE_FACTOR: u32 = 4;

/// The longest time that a comparison counts for the pause after it.
const MAX_DURATION: Duration = Duration::from_secs(5);

impl Follower {
    /// Reconciles the backend's jobs until the relay stops.
    #[tracing::instrument(name = "upstream", skip_all, fields(backend = self.backend.name()))]
    pub(in crate::relay) async fn reconcile(self: Arc<Self>) {
        let mut next_at = None;
        let mut rested_at = Instant::now();
        let mut has_failed = false;
        let mut last = LastComparison::default();
        let mut discovery = Discovery::default();
        loop {
            let soon = async {
                sleep_until(rested_at).await;
                self.backend.reconcile_soon.notified().await;
            };
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.backend.reconcile_now.notified() => {}
                () = soon => {}
                () = until(next_at) => {}
            }
            if !*self.backend.connected.borrow() {
                // The next connect wakes this task.
                next_at = None;
                continue;
            }
            self.start_history_replay();
            let began_at = Instant::now();
            let compared = tokio::select! {
                // A server that hangs must not hold up the shutdown.
                () = self.stop.cancelled() => return,
                compared = self.compare_jobs(&mut last, &mut discovery) => compared,
            };
            let took = began_at.elapsed().min(MAX_DURATION);
            rested_at = Instant::now() + self.config.min_poll_pause.max(took * PAUSE_FACTOR);
            match compared {
                Ok(pause) => {
                    next_at = pause.map(|pause| Instant::now() + pause.max(took));
                    has_failed = false;
                }
                Err(error) => {
                    let error = &error as &dyn Error;
                    if !std::mem::replace(&mut has_failed, true) {
                        tracing::warn!(error, "cannot compare jobs with ComfyUI, retrying");
                    }
                    next_at = Some(Instant::now() + self.config.poll_interval);
                }
            }
        }
    }

    /// Compares all open jobs once, and has prompts of other clients become jobs. Returns the pause until the next time; `None`
    /// if there is nothing to wait for.
    ///
    /// Fails only if the server does not answer: an answer that cannot be read concerns one job.
    async fn compare_jobs(
        &self,
        last: &mut LastComparison,
        discovery: &mut Discovery,
    ) -> Result<Option<Duration>, RestError> {
        self.fetch_version().await?;
        if !self.has_open() && !self.may_discover() {
            // The length of the queue comes over the socket.
            self.rest(last);
            return Ok(None);
        }
        let (compared, missing) = self.compare_ending().await?;
        let (mut missing, mut is_due) = (missing, !compared.is_empty());
        // Read before asking: a disconnect during the request makes the answer stale, and what changes meanwhile is for the
        // next comparison.
        let basis = self.basis();
        last.due.extend(self.take_due());
        let queue = self.fetch_queue(last.queue.clone()).await?;
        let found = match &queue {
            Some(queue) => self.found_in(queue, basis.disconnects, discovery).await?,
            None => Discoveries::default(),
        };
        if !self.has_open() {
            self.rest(last);
            return Ok(found.next_in);
        }
        let pause = |pause: Duration| found.next_in.map_or(pause, |next| next.min(pause));
        if last.repeats(queue.as_ref(), basis) && missing.is_empty() && !found.has_found {
            return Ok(Some(pause(self.end_comparison(last, is_due))));
        }
        let mut due = last.begin(queue.as_ref(), basis.disconnects);
        let is_whole = match &queue {
            Some(queue) => self.forecast(last, queue).await? == Lack::Nothing,
            None => {
                self.estimator.clear_queue(&self.backend);
                false
            }
        };
        let disconnects = basis.disconnects;
        let answer = QueueAnswer { queue, disconnects };
        // Those whose graphs were read just now. They may have changed after the queue was asked: the next comparison looks
        // at them again.
        let meanwhile = self.take_due();
        due.jobs.extend(meanwhile.clone());
        let (confirmed, unplaced) = self.apply_positions(&answer, &last.graphs, &compared, &due);
        let mut unsettled = meanwhile;
        let others = unplaced.iter().map(|job| &job.id);
        others.chain(&compared).for_each(|id| unsettled.add(id));
        if is_whole && unplaced.is_empty() && compared.is_empty() {
            last.settled = Some(basis);
        }
        for mut job in unplaced {
            job.answers.queue = answer.position(&job.prompt_id);
            match self.compare(&mut job).await? {
                Decision::AwaitEvents => is_due = true,
                Decision::AwaitEntry | Decision::CheckRestart | Decision::Vanished(_) => {
                    missing.push(job);
                }
                _ => {}
            }
        }
        is_due |= self.conclude_all(missing, &answer, &confirmed).await?;
        last.due = unsettled;
        let next_in = (self.has_open()).then(|| pause(self.end_comparison(last, is_due)));
        Ok(next_in.or(found.next_in))
    }

    /// Compares the jobs whose end the socket has received. Returns them, and those of them that the history does not have.
    async fn compare_ending(&self) -> Result<(HashSet<JobId>, Vec<OpenJob>), RestError> {
        let ending = self.ending_jobs();
        let compared = ending.iter().map(|job| job.id.clone()).collect();
        let mut missing = Vec::new();
        for mut job in ending {
            if self.compare(&mut job).await? == Decision::FetchQueue {
                missing.push(job);
            }
        }
        Ok((compared, missing))
    }

    /// What [`Follower::discover`] finds. Of an answer that cannot be read, nothing: our jobs are compared all the same.
    async fn found_in(
        &self,
        queue: &Arc<Queue>,
        disconnects: u64,
        discovery: &mut Discovery,
    ) -> Result<Discoveries, RestError> {
        let found = self.discover(queue, disconnects, discovery).await;
        found.or_else(|error| {
            self.log_unreadable_queue(error)?;
            Ok(Discoveries::default())
        })
    }

    fn has_open(&self) -> bool {
        self.tracker.registry().open(&self.backend).next().is_some()
    }

    /// No job is open: nothing is known of the queue but its length.
    fn rest(&self, last: &mut LastComparison) {
        *last = LastComparison::default();
        self.estimator.clear_queue(&self.backend);
        self.rest_worker_watch();
    }

    /// What each comparison ends with: looks after the socket, and after those who watch jobs that wait. Returns the pause
    /// until the next one.
    fn end_comparison(&self, last: &LastComparison, is_due: bool) -> Duration {
        if let Some(queue) = &last.queue {
            self.replace_stale_socket(queue, &last.graphs);
            self.watch_worker(queue);
        }
        self.republish_waiting();
        let poll_interval = self.config.poll_interval;
        let due_interval = DUE_INTERVAL.min(poll_interval);
        if is_due { due_interval } else { poll_interval }
    }

    fn take_due(&self) -> DueJobs {
        self.tracker.registry().take_due(&self.backend)
    }

    fn basis(&self) -> Basis {
        Basis {
            jobs: self.tracker.registry().changes(&self.backend),
            model: self.estimator.learning.revision(),
            images: self.backend.images.revision(),
            disconnects: self.backend.state().socket.disconnects,
        }
    }

    /// Forecasts a queue, and reads the graphs that it has left out, and that something waits for. Returns what the forecast
    /// lacks.
    async fn forecast(
        &self,
        last: &mut LastComparison,
        queue: &Arc<Queue>,
    ) -> Result<Lack, RestError> {
        last.graphs.update(queue);
        self.confirm_graphs(&last.graphs);
        let lack = self.forecast_queue(&mut last.plans, queue, &last.graphs);
        if queue.has_graphs() {
            return Ok(lack);
        }
        // Graphs that were read are kept for prompts that the forecast has not come to.
        let is_lacking = lack != Lack::Nothing || !last.graphs.is_empty();
        let wanted = self.prompts_without_plan(queue, last, is_lacking);
        if wanted.is_empty() {
            // Prompts behind all of ours may stay unknown.
            last.graphs.clear();
            return Ok(Lack::Nothing);
        }
        match last.graphs.read(self.backend.comfy.rest(), wanted).await {
            Ok(false) => return Ok(lack),
            Ok(true) => {}
            Err(error) => self.log_unreadable_queue(error)?,
        }
        self.confirm_graphs(&last.graphs);
        Ok(self.forecast_queue(&mut last.plans, queue, &last.graphs))
    }

    /// The jobs whose end the socket has received, the first one first.
    fn ending_jobs(&self) -> Vec<OpenJob> {
        let registry = self.tracker.registry();
        let ending = registry.ending(&self.backend);
        let mut ending: Vec<OpenJob> = ending.filter_map(OpenJob::of).collect();
        // Of the jobs that follow one prompt, the first has seen most of it: it is to be learned from.
        ending.sort_by_key(|job| job.created_at);
        ending
    }

    /// Decides about one job, fetches its history if that is to be known, and applies the answers.
    async fn compare(&self, job: &mut OpenJob) -> Result<Decision, RestError> {
        let mut decision = self.decide(job);
        let mut history = None;
        if decision == Decision::FetchHistory {
            let fetched = self.fetch_history(&job.id, &job.prompt_id).await?;
            job.answers.history = match &fetched {
                None => PromptAnswer::Unreadable,
                Some(None) => PromptAnswer::Absent,
                Some(Some(_)) => PromptAnswer::Found(()),
            };
            history = fetched.flatten();
            decision = self.decide(job);
        }
        if let (Decision::ApplyHistory { events_missed }, Some(entry)) = (decision, history) {
            self.apply_history(job, entry, events_missed);
        }
        Ok(decision)
    }

    /// Concludes what became of prompts that may be neither in the queue nor in the history. `confirmed` are the disconnect
    /// counters under which prompts of the queue were seen before. Returns whether one is not in the queue.
    async fn conclude_all(
        &self,
        missing: Vec<OpenJob>,
        answer: &QueueAnswer,
        confirmed: &HashSet<u64>,
    ) -> Result<bool, RestError> {
        let (mut whole, mut is_any_gone) = (None, false);
        for mut job in missing {
            job.answers.queue = answer.position(&job.prompt_id);
            if !matches!(job.answers.queue, PromptAnswer::Found(_)) {
                is_any_gone = true;
                if confirmed.contains(&job.disconnects_when_seen) {
                    self.confirm_server(&mut job, answer.disconnects);
                }
                self.conclude_missing(&mut job, answer, &mut whole).await?;
            }
        }
        Ok(is_any_gone)
    }

    /// Concludes what became of a prompt that is neither in the queue nor in the history.
    async fn conclude_missing(
        &self,
        job: &mut OpenJob,
        answer: &QueueAnswer,
        whole: &mut Option<Queue>,
    ) -> Result<(), RestError> {
        let mut decision = self.decide(job);
        if decision == Decision::CheckRestart {
            let is_same_server = self.is_same_server(job.disconnects_when_seen).await?;
            job.answers.is_same_server = Some(is_same_server);
            decision = self.decide(job);
        }
        if let Decision::Vanished(reason) = decision
            && !self.has_unlisted(&job.prompt_id, answer, whole).await?
        {
            self.end_missing(job, reason).await;
        }
        Ok(())
    }

    /// A prompt is gone. One that was to be cancelled is, one that was lost with its server runs again, if it may, and so does one
    /// that we have removed from its queue; any other has ended.
    async fn end_missing(&self, job: &OpenJob, mut reason: Reason) {
        let id = &job.id;
        if self.is_cancelling(id) {
            reason = Reason::Deleted;
        }
        let is_lost = reason == Reason::Forgotten && self.may_be_restarted(job);
        if is_lost || self.tracker.is_called_back(id) {
            match self.tracker.take_back(id).await {
                Ok(TakenBack::RunsAgain) => return,
                Ok(TakenBack::IsTheCause) => reason = Reason::LostTwice,
                Ok(TakenBack::Ends) => {}
                Err(error) => {
                    let error = &error as &dyn Error;
                    return tracing::debug!(error, job_id = %id, "cannot take back a lost job, retrying");
                }
            }
        }
        self.tracker.ingest(id, Event::Vanished(reason));
    }

    fn is_cancelling(&self, id: &JobId) -> bool {
        let registry = self.tracker.registry();
        let entry = registry.get(id);
        entry.is_some_and(|entry| entry.comparison.cancel_requested)
    }

    /// Whether the server may have been restarted since it last had the prompt. If not, somebody has cleared its history, and the
    /// prompt may have run.
    fn may_be_restarted(&self, job: &OpenJob) -> bool {
        job.disconnects_when_seen != self.backend.state().socket.disconnects
    }

    /// Decides by the answers so far, and starts the clock of what is waited for.
    fn decide(&self, job: &OpenJob) -> Decision {
        let mut registry = self.tracker.registry();
        let Some(entry) = registry.get_mut(&job.id) else {
            return Decision::Undecided;
        };
        let decision = decide(&self.evidence(entry), &job.answers);
        let comparison = &mut entry.comparison;
        match decision {
            Decision::AwaitEvents => {
                comparison.end_found_at.get_or_insert_with(Instant::now);
            }
            Decision::AwaitEntry => {
                comparison.missing_since.get_or_insert_with(Instant::now);
            }
            _ => {}
        }
        decision
    }

    fn evidence(&self, entry: &Entry) -> Evidence {
        let comparison = &entry.comparison;
        let is_over = |since: Option<Instant>, limit| {
            since.map_or(Duration::ZERO, |since| since.elapsed()) >= limit
        };
        Evidence {
            is_queued: entry.job.status() == Status::Queued,
            is_ending: entry.job.is_ending(),
            own_client: comparison.own_client,
            work_done: comparison.work_done,
            is_unanswered: comparison.is_unanswered,
            cancel_requested: comparison.cancel_requested,
            is_grace_over: is_over(comparison.end_found_at, self.config.event_grace),
            is_gap_over: is_over(comparison.missing_since, self.config.history_grace),
        }
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
