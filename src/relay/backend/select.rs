//! Chooses the backend for a prompt.

use std::sync::{Arc, Mutex, PoisonError};

use super::Backend;
use crate::relay::backends::Backends;

/// How many prompts were placed: of backends that are as good as each other, each has its turn. Locked while one is
/// placed, so that the next one counts it.
#[derive(Debug, Default)]
pub(in crate::relay) struct Turns(Mutex<usize>);

/// A prompt on its way to a backend, whose answer has not come yet. Dropped when it will not arrive.
#[derive(Debug)]
pub(in crate::relay) struct InFlight {
    backend: Arc<Backend>,
    has_arrived: bool,
}

impl InFlight {
    pub(in crate::relay) fn new(backend: Arc<Backend>) -> Self {
        backend.state().queue.add_in_flight();
        Self {
            backend,
            has_arrived: false,
        }
    }

    pub(in crate::relay) fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// The backend has accepted the prompt: it runs or waits there.
    pub(in crate::relay) fn arrived(mut self) {
        self.has_arrived = true;
        self.backend.state().queue.add_arrived();
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if !self.has_arrived {
            self.backend.state().queue.remove_in_flight();
        }
    }
}

impl Turns {
    /// The backend with the shortest queue, those on their way to it counted, that is not among the `tried` ones.
    /// One whose queue is not known comes after all others that answer, then one that shows no sign of life, one that hangs,
    /// one whose graphics card has failed, and one that is away last.
    pub(in crate::relay) fn choose(
        &self,
        backends: &Backends,
        tried: &[usize],
    ) -> Option<InFlight> {
        let count = backends.slot_count();
        let mut turn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let others = backends.iter().filter(|it| !tried.contains(&it.index));
        let best = others.min_by_key(|backend| {
            let state = backend.state();
            let is_available = state.api.reachable && !backend.stands_by();
            let from_turn = (backend.index + count - *turn % count) % count;
            (
                !is_available,
                state.device.is_sick(),
                state.api.hangs(),
                state.worker.silent_since().is_some(),
                state.queue.load(),
                from_turn,
            )
        });
        *turn = turn.wrapping_add(1);
        best.map(|backend| InFlight::new(backend.clone()))
    }
}
