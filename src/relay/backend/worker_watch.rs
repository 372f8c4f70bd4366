//! Feeds the record of a server's worker: what the queue shows, and what the socket receives.

use std::time::Duration;

use tokio::time::Instant;

use crate::comfy::Queue;
use crate::estimate::Familiarity;
use crate::job::{Event, JobId};
use crate::relay::backend::follower::Follower;
use crate::relay::backend::worker::{ExpectedEnd, Life, SilenceLimits, WorkSeen, Workload};
use crate::relay::registry::Registry;

impl Follower {
    /// Judges by the queue whether the worker lives, and says in the jobs of its prompt since when it does not seem to. They
    /// are not ended: a long node is not a dead one.
    pub(in crate::relay) fn watch_worker(&self, queue: &Queue) {
        let running = queue.running().first().map(|entry| &entry.prompt_id);
        let load = Workload {
            running: running.map(|prompt| self.expected_end(prompt)),
            waiting: queue.pending_count(),
        };
        let work = match (running, load.waiting) {
            (Some(prompt), _) => WorkSeen::Running(prompt.to_string()),
            (None, 0) => WorkSeen::Nothing,
            (None, _) => WorkSeen::Waiting,
        };
        let limits = SilenceLimits {
            any: self.config.min_stall,
            unknown: self.config.stalled_after,
        };
        let now = self.tracker.now();
        let (is_changed, life, since) = {
            let worker = &mut self.backend.state().worker;
            let is_changed = worker.on_queue(work, load, limits, (Instant::now(), now));
            (is_changed, worker.life(), worker.silent_since())
        };
        if is_changed {
            log_life(life);
            self.tracker.notify_monitors();
        }
        let Some(prompt) = running else {
            return;
        };
        let mut registry = self.tracker.registry();
        let jobs: Vec<JobId> = registry.of_prompt(&self.backend, prompt).to_vec();
        for id in jobs {
            self.tracker
                .ingest_locked(&mut registry, &id, Event::Silence(since));
        }
    }

    /// The worker has shown that it lives, or nothing is known of it any more.
    pub(in crate::relay) fn on_sign_of_life(&self) {
        let was_silent = self.backend.state().worker.on_sign(Instant::now());
        if was_silent {
            self.take_back_silence(&mut self.tracker.registry());
        }
    }

    /// The same, for a caller that has locked the jobs.
    pub(in crate::relay) fn on_sign_of_life_locked(&self, registry: &mut Registry) {
        let was_silent = self.backend.state().worker.on_sign(Instant::now());
        if was_silent {
            self.take_back_silence(registry);
        }
    }

    /// No job is open, so nobody looks at the queue.
    pub(in crate::relay) fn rest_worker_watch(&self) {
        let was_silent = self.backend.state().worker.rest(Instant::now());
        if was_silent {
            self.take_back_silence(&mut self.tracker.registry());
        }
    }

    fn take_back_silence(&self, registry: &mut Registry) {
        log_life(Life::Alive);
        self.tracker
            .ingest_all_locked(registry, &self.backend, &Event::Silence(None));
        self.tracker.notify_monitors();
    }

    /// The upper end of a prompt's whole time, as it was predicted when it began.
    fn expected_end(&self, prompt: &str) -> ExpectedEnd {
        let registry = self.tracker.registry();
        let entries = registry.entries_of_prompt(&self.backend, prompt);
        let mut starts = entries.filter_map(|entry| {
            let start = entry.publishing.estimate_log.as_deref()?.start()?;
            let end = Duration::try_from_secs_f64(start.upper_end()?).ok()?;
            Some((start.familiarity(), end))
        });
        match starts.next() {
            Some((Familiarity::Known, end)) => ExpectedEnd::Learned(end),
            Some((_, end)) => ExpectedEnd::Guessed(end),
            None => ExpectedEnd::Guessed(Duration::ZERO),
        }
    }
}

fn log_life(life: Life) {
    match life {
        Life::Alive => tracing::info!("ComfyUI shows signs of life again"),
        Life::Silent => tracing::warn!("no sign of life from ComfyUI during its prompt"),
        Life::Stalled => tracing::warn!(
            "no sign of life from ComfyUI, and prompts that it has taken do not start: restart ComfyUI if this lasts"
        ),
    }
}
