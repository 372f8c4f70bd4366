//! Chooses the backend for a prompt.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Backend;

/// How many prompts were placed: of backends that are as good as each other, each has its turn.
#[derive(Debug, Default)]
pub(in crate::relay) struct Turns(AtomicUsize);

/// A prompt on its way to a backend, whose queue does not show it yet. Dropped when it has arrived, or will not.
#[derive(Debug)]
pub(in crate::relay) struct InFlight {
    backend: Arc<Backend>,
    /// How often the queue had been seen when the prompt was sent.
    updates: u64,
}

impl InFlight {
    pub(in crate::relay) fn new(backend: Arc<Backend>) -> Self {
        let updates = {
            let queue = &mut backend.state().queue;
            queue.in_flight += 1;
            queue.updates
        };
        Self { backend, updates }
    }

    pub(in crate::relay) fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// The backend has accepted the prompt: it waits there, which the next message about the queue confirms.
    pub(in crate::relay) fn arrived(self) {
        self.backend.state().queue.add_arrived(self.updates);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.backend.state().queue.in_flight -= 1;
    }
}

impl Turns {
    /// The backend with the shortest queue, those on their way to it counted, that is not among the `tried` ones.
    /// One whose queue is not known comes after all others that answer, one that does not answer last.
    pub(in crate::relay) fn choose(
        &self,
        backends: &[Arc<Backend>],
        tried: &[usize],
    ) -> Option<InFlight> {
        let turn = self.0.fetch_add(1, Ordering::Relaxed);
        let others = backends.iter().filter(|it| !tried.contains(&it.index));
        let best = others.min_by_key(|backend| {
            let state = backend.state();
            let is_available = state.api.reachable && !backend.stands_by();
            let length = state.queue.remaining;
            let from_turn =
                (backend.index + backends.len() - turn % backends.len()) % backends.len();
            (
                !is_available,
                length.is_none(),
                length.unwrap_or_default() + state.queue.in_flight,
                from_turn,
            )
        });
        best.map(|backend| InFlight::new(backend.clone()))
    }
}
