//! The simulated ComfyUI: accepts connections, and keeps the state that its clients see.

mod handlers;
mod history;
mod http;
mod interruption;
mod jobs;
mod response;
pub(super) mod sockets;
pub(super) mod state;
mod submission;
mod uploads;
mod view;
mod websocket;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use http::ConnectionContext;
use state::SharedState;

/// The pause after a failed accept, which is most likely due to a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections until `stop` is cancelled. While the simulated server is down, connections are dropped at once.
pub(super) async fn accept(
    listener: TcpListener,
    state: Arc<SharedState>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        if let Some(incarnation) = state.incarnation() {
            let _ = stream.set_nodelay(true);
            let context = ConnectionContext {
                state: state.clone(),
                tasks: tasks.clone(),
                incarnation,
                stop: stop.clone(),
            };
            tasks.spawn(context.serve(stream));
        }
    }
}
