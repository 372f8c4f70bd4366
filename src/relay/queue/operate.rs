//! Stops a backend or the whole queue, and lets it go on. What was stopped is kept in the database, for restarts and for the
//! other relays on it.

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::broker::Hint;
use crate::relay::backend::Backend;
use crate::relay::backend::operation::Operation;
use crate::relay::queue::operations::QueueOperation;
use crate::relay::queue::removals::BACKEND;
use crate::relay::{Relay, RelayError};
use crate::store::StoreError;

/// The whole queue, in the database.
const QUEUE: &str = "queue";

impl Relay {
    /// Has a backend run, pause or drain, at each relay on the database. Nothing changes if the database does not answer.
    pub async fn operate(&self, name: &str, operation: Operation) -> Result<(), RelayError> {
        let backend = self.backend_named(name)?.clone();
        let operations = &self.0.tracker.queue.operations;
        let _changing = operations.changing.lock().await;
        let state = Some(operation.as_str()).filter(|_| operation != Operation::Run);
        let store = self.0.tracker.recorder.store();
        store
            .set_operation(&format!("{BACKEND}{name}"), state)
            .await?;
        self.0.tracker.broker.hint(Hint::Operations);
        if set_backend(&backend, operation) {
            self.on_operated();
        }
        Ok(())
    }

    /// Pauses the whole queue, or lets it go on, at each relay on the database. Nothing changes if the database does not answer.
    pub async fn pause_queue(&self, is_paused: bool) -> Result<(), RelayError> {
        let operations = &self.0.tracker.queue.operations;
        let _changing = operations.changing.lock().await;
        let state = is_paused.then_some(Operation::Pause.as_str());
        let store = self.0.tracker.recorder.store();
        store.set_operation(QUEUE, state).await?;
        self.0.tracker.broker.hint(Hint::Operations);
        if self.set_queue(is_paused) {
            self.on_operated();
        }
        Ok(())
    }

    /// Whether an operator has paused the whole queue.
    pub fn is_queue_paused(&self) -> bool {
        self.0.tracker.queue.operations.queue() == QueueOperation::Paused
    }

    /// How many jobs wait for a backend, those that other relays on the database have included.
    pub fn queue_length(&self) -> usize {
        self.0.tracker.queue.length()
    }

    /// Follows what other relays have been asked to stop, and drains, until the relay stops.
    pub(in crate::relay) async fn follow_operations(self) {
        let mut tick = interval(self.0.config.look_interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.0.stop.cancelled() => return,
                _ = tick.tick() => {}
                () = self.0.tracker.queue.operations.look.notified() => {}
                () = self.0.tracker.looks.operations.wanted() => self.0.tracker.count_look(),
            }
            let looked_at = Instant::now();
            let following = async {
                if let Err(error) = self.follow_new().await {
                    tracing::debug!(%error, "cannot read which servers were added, retrying");
                }
                if let Err(error) = self.read_operations().await {
                    return tracing::debug!(%error, "cannot read what operators have stopped, retrying");
                }
                self.drain().await;
                if let Err(error) = self.finish_removals().await {
                    tracing::debug!(%error, "cannot remove a server, retrying");
                }
            };
            tokio::select! {
                () = self.0.stop.cancelled() => return,
                () = following => {}
            }
            self.0.tracker.looks.operations.took(looked_at.elapsed());
        }
    }

    /// Reads what operators have stopped.
    pub(in crate::relay) async fn read_operations(&self) -> Result<(), StoreError> {
        let tracker = &self.0.tracker;
        let _changing = tracker.queue.operations.changing.lock().await;
        let stored = tracker.recorder.store().operations().await;
        tracker.queue.operations.set_readable(stored.is_ok());
        let stored = stored?;
        let mut is_changed = self.set_queue(stored.iter().any(|(subject, _)| subject == QUEUE));
        for backend in tracker.backends.iter() {
            let is_named = |subject: &str| subject.strip_prefix(BACKEND) == Some(backend.name());
            let found = stored.iter().find(|(subject, _)| is_named(subject));
            let operation = found.map_or(Operation::Run, |(_, word)| Operation::from_word(word));
            is_changed |= set_backend(backend, operation);
        }
        if is_changed {
            self.on_operated();
        }
        Ok(())
    }

    /// Whether nothing is handed in to a backend now, because an operator has stopped it or the queue.
    pub(in crate::relay) fn is_stopped(&self, backend: &Backend) -> bool {
        let is_stopped = backend.state().operation != Operation::Run;
        is_stopped || self.is_queue_paused()
    }

    /// Why nothing is handed in to any of these backends, as a part of a sentence.
    pub(in crate::relay) fn stopped_by(&self, indices: &[usize]) -> String {
        let tracker = &self.0.tracker;
        if self.is_queue_paused() {
            return "the queue is paused".to_owned();
        }
        let refusals = indices.iter().filter_map(|index| {
            let backend = &tracker.backends[*index];
            let refusal = backend.state().operation.refusal()?;
            Some(format!("{} {refusal}", backend.name()))
        });
        refusals.collect::<Vec<_>>().join(", ")
    }

    /// Returns whether that is a change.
    fn set_queue(&self, is_paused: bool) -> bool {
        let operation = if is_paused {
            QueueOperation::Paused
        } else {
            QueueOperation::Running
        };
        let was_paused = self.is_queue_paused();
        let is_changed = self.0.tracker.queue.operations.set_queue(operation);
        // That it runs after a start goes without saying.
        if was_paused != is_paused {
            let state = if is_paused { "paused" } else { "running" };
            tracing::info!(state, "queue operated");
        }
        is_changed
    }

    fn on_operated(&self) {
        let tracker = &self.0.tracker;
        tracker.queue.wake();
        tracker.queue.operations.look.notify_one();
        tracker.notify_monitors();
    }
}

/// Returns whether that is a change.
fn set_backend(backend: &Backend, operation: Operation) -> bool {
    let before = std::mem::replace(&mut backend.state().operation, operation);
    if before != operation {
        let (backend, operation) = (backend.name(), operation.as_str());
        tracing::info!(backend, operation, "backend operated");
    }
    before != operation
}
