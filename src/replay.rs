//! Recordings of real ComfyUI servers: read them, write them, and serve them as the server would that was recorded.
//!
//! [`Replay`] answers HTTP and WebSockets. What the recorded client did is waited for (a prompt is posted, a socket is
//! opened again); what the server did then happens to whoever is there, in the recorded words and at the recorded
//! pace, with the callers' ids in the place of the recorded ones. Nothing is invented but what the callers' own deeds
//! make necessary: an interrupt, a deleted prompt, a greeting.
//!
//! A recording is compiled to a timeline, which is pure; a player plays it on a state, which holds the state that
//! callers see: queue, history, sockets.

mod compiler;
mod playback;
mod player;
mod server;
mod substitution;
#[cfg(test)]
mod tests;
mod timeline;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::recording::Recording;
use compiler::compile;
pub use player::PlaybackSpeed;
use server::state::SharedState;

/// How recordings are played.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplayOptions {
    /// The pace.
    pub speed: PlaybackSpeed,
    /// Whether a prompt after a recording's last begins one again; otherwise it is refused.
    pub repeat: bool,
    /// How long the time stands still for a caller who does not come back, or does not read a result, as the recorded
    /// client did.
    pub patience: Duration,
}

impl Default for ReplayOptions {
    fn default() -> ReplayOptions {
        ReplayOptions {
            speed: PlaybackSpeed::Real(1.0),
            repeat: false,
            // Longer than a relay takes to mistrust a silent socket.
            patience: Duration::from_secs(20),
        }
    }
}

/// A server that plays recordings. Dropping it stops everything.
#[derive(Debug)]
pub struct Replay {
    address: SocketAddr,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Replay {
    /// Serves `recordings` on `listener`; the first prompts that are posted say which is played when.
    pub fn start(
        listener: TcpListener,
        recordings: Vec<Arc<Recording>>,
        options: ReplayOptions,
    ) -> Replay {
        let playlist = recordings
            .iter()
            .map(|recording| Arc::new(compile(recording)))
            .collect();
        let state = Arc::new(SharedState::new(playlist, options.repeat, options.patience));
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        // A listener that is bound knows its address.
        let address = listener
            .local_addr()
            .unwrap_or_else(|_| SocketAddr::from(([127, 0, 0, 1], 0)));
        tasks.spawn(server::accept(
            listener,
            state.clone(),
            tasks.clone(),
            stop.clone(),
        ));
        tasks.spawn({
            let stop = stop.clone();
            async move {
                stop.run_until_cancelled(player::play(&state, options.speed))
                    .await
            }
        });
        Replay {
            address,
            tasks,
            stop,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The server's URL, as clients are given it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Asks it to stop.
    pub fn start_shutdown(&self) {
        self.stop.cancel();
    }

    /// Stops it, and waits until it has.
    pub async fn shutdown(self) {
        self.start_shutdown();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        self.start_shutdown();
    }
}
