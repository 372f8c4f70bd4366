//! Sockets that are open, and hear nothing: the server has forgotten them, or somebody else took their
//! place.

use tokio::time::Instant;

use crate::comfy::{Queue, QueueEntry};
use crate::relay::Relay;
use crate::relay::backend::Backend;

/// How much longer, at most, a socket may be silent in a prompt whose nodes are silent by nature:
/// the patience doubles with each socket that stays as silent as the one before.
const MAX_TIMEOUT_FACTOR: u32 = 16;

impl Relay {
    /// A socket that the server has forgotten is open, healthy, and silent for ever: where a prompt
    /// of ours runs and nothing is heard, a new socket repairs it.
    pub(in crate::relay) fn replace_stale_socket(&self, backend: &Backend, queue: &Queue) {
        let client_id = backend.comfy.client_id();
        let ours = |place: &QueueEntry| place.client_id.as_deref() == Some(client_id);
        let mut state = backend.state();
        let factor = (1 << state.stale_sockets.min(16)).min(MAX_TIMEOUT_FACTOR);
        let patience = self.comfy_config().max_silence * factor;
        if queue.running().iter().any(ours) && state.last_frame_at.elapsed() >= patience {
            state.stale_sockets += 1;
            state.last_frame_at = Instant::now();
            tracing::warn!(
                ?patience,
                "our prompt runs, but the socket is silent: dialling a new one"
            );
            backend.redial.notify_one();
        }
    }

    /// A prompt of ours has ended of which the socket told nothing, although it was open since the server
    /// last had the prompt, after `disconnects` disconnects.
    pub(in crate::relay) fn count_missed_ending(&self, backend: &Backend, disconnects: u64) {
        let mut state = backend.state();
        if disconnects == state.disconnects {
            state.missed_endings += 1;
            tracing::warn!("a prompt of ours ended, and the socket was silent: dialling a new one");
            backend.redial.notify_one();
        }
    }
}
