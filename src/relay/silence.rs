//! Sockets that are open, and hear nothing: the server has forgotten them, or somebody else took their
//! place.

use tokio::time::Instant;

use super::Relay;
use super::backend::Backend;
use crate::comfy::{Queue, QueueEntry};

/// How much longer, at most, a socket may be silent in a prompt whose nodes are silent by nature:
/// the patience doubles with each socket that stays as silent as the one before.
const MAX_SILENCE_FACTOR: u32 = 16;

impl Relay {
    /// A socket that the server has forgotten is open, healthy, and silent for ever: where a prompt
    /// of ours runs and nothing is heard, a new socket repairs it.
    pub(super) fn notice_silence(&self, backend: &Backend, queue: &Queue) {
        let client_id = backend.comfy.client_id();
        let ours = |place: &QueueEntry| place.client_id.as_deref() == Some(client_id);
        let mut state = backend.state();
        let factor = (1 << state.silences.min(16)).min(MAX_SILENCE_FACTOR);
        let patience = self.comfy_config().max_silence * factor;
        if queue.running().iter().any(ours) && state.heard_at.elapsed() >= patience {
            state.silences += 1;
            state.heard_at = Instant::now();
            tracing::warn!(
                ?patience,
                "our prompt runs, but the socket is silent: dialling a new one"
            );
            backend.redial.notify_one();
        }
    }

    /// A prompt of ours has ended of which the socket told nothing, although it was open since the server
    /// last had the prompt, after `losses` losses.
    pub(super) fn notice_deafness(&self, backend: &Backend, losses: u64) {
        let mut state = backend.state();
        if losses == state.losses {
            state.deaf += 1;
            tracing::warn!("a prompt of ours ended, and the socket was silent: dialling a new one");
            backend.redial.notify_one();
        }
    }
}
