//! Serves recordings of ComfyUI servers as the recorded server would.
//!
//! [`Replay`] simulates the recorded server over HTTP and WebSockets. Where the recorded client did something (posted a
//! prompt, reconnected), the replay waits until a client does the same. What the server did then is done to the
//! connected clients, with the recorded messages, at the recorded pace, with the clients' ids in place of the recorded
//! ones. Nothing is invented, except what the clients' own actions require: an interruption, a deleted prompt, a
//! greeting; and the pixels of pictures, of which recordings hold the sizes.
//!
//! The compiler makes a timeline of each recording, which is pure data. The player plays timelines on the state of the
//! simulated server (queue, history, sockets), which the HTTP handlers read and change, too.

mod compiler;
mod object_info;
mod playback;
mod player;
mod png;
mod python_json;
mod server;
mod substitution;
#[cfg(test)]
mod tests;
mod timeline;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::recording::Recording;
use compiler::compile;
use object_info::ObjectInfo;
pub use player::PlaybackSpeed;
use server::state::SharedState;

/// How recordings are played.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplayOptions {
    /// The pace.
    pub speed: PlaybackSpeed,
    /// Whether a prompt after a recording's last one begins a recording again; otherwise it is rejected.
    pub repeat: bool,
    /// How long the recording's time stands still for a client that does not reconnect, or does not read a history entry,
    /// as the recorded client did.
    pub client_timeout: Duration,
}

impl Default for ReplayOptions {
    fn default() -> ReplayOptions {
        ReplayOptions {
            speed: PlaybackSpeed::Real(1.0),
            repeat: false,
            // Longer than the relay takes to replace a silent socket.
            client_timeout: Duration::from_secs(20),
        }
    }
}

/// A server that plays recordings. Dropping it stops everything.
#[derive(Debug)]
pub struct Replay {
    address: SocketAddr,
    speed: watch::Sender<PlaybackSpeed>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Replay {
    /// Serves `recordings` on `listener`. Which one is played when depends on the prompts that clients post.
    pub fn start(
        listener: TcpListener,
        recordings: Vec<Arc<Recording>>,
        options: ReplayOptions,
    ) -> Replay {
        let playlist = recordings
            .iter()
            .map(|recording| Arc::new(compile(recording)))
            .collect();
        let classes = ObjectInfo::of(&recordings);
        let (repeat, client_timeout) = (options.repeat, options.client_timeout);
        let state = Arc::new(SharedState::new(playlist, classes, repeat, client_timeout));
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        // A bound listener knows its address.
        let address = listener
            .local_addr()
            .unwrap_or_else(|_| SocketAddr::from(([127, 0, 0, 1], 0)));
        tasks.spawn(server::accept(
            listener,
            state.clone(),
            tasks.clone(),
            stop.clone(),
        ));
        let (speed, pace) = watch::channel(options.speed);
        tasks.spawn({
            let stop = stop.clone();
            async move { stop.run_until_cancelled(player::play(&state, pace)).await }
        });
        Replay {
            address,
            speed,
            tasks,
            stop,
        }
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of the simulated ComfyUI server.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Plays at another pace from now on.
    pub fn set_speed(&self, speed: PlaybackSpeed) {
        self.speed.send_replace(speed);
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
