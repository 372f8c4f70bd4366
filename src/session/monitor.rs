use std::time::Duration;

use hyper_tungstenite::HyperWebsocket;
use hyper_tungstenite::tungstenite::{Message as Frame, Utf8Bytes};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::context::{Admission, SessionContext};
use super::stream_socket::{self, MessageSource};

/// The shortest time between two messages, as documented.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// The longest time between two messages, as documented.
const MAX_INTERVAL: Duration = Duration::from_secs(10);

/// The system monitor: its sockets get the status of the whole relay on every change, at most once a
/// second. The status is encoded once for all of them. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Monitor {
    context: SessionContext,
    newest: watch::Sender<Utf8Bytes>,
}

/// The status of the relay, for one socket.
struct StatusMessages {
    first: Option<Utf8Bytes>,
    newest: watch::Receiver<Utf8Bytes>,
}

impl Monitor {
    pub(crate) fn new(context: SessionContext) -> Self {
        Self {
            context,
            newest: watch::Sender::default(),
        }
    }

    /// Keeps the status up to date while any socket reads it, until the server is to stop.
    pub(crate) async fn run(self) {
        let mut changes = self.context.relay.changes();
        loop {
            let encoded_at = Instant::now();
            if self.newest.receiver_count() > 0 {
                self.newest.send_replace(self.encode());
            }
            tokio::select! {
                () = self.context.stop.cancelled() => return,
                _ = changes.changed() => {}
                () = sleep_until(encoded_at + MAX_INTERVAL) => {}
            }
            tokio::select! {
                () = self.context.stop.cancelled() => return,
                () = sleep_until(encoded_at + MIN_INTERVAL) => {}
            }
        }
    }

    fn encode(&self) -> Utf8Bytes {
        let status = self.context.relay.system_status();
        serde_json::to_string(&status)
            .expect("the status has string keys and finite numbers only")
            .into()
    }

    /// Serves one socket until it is closed.
    #[tracing::instrument(name = "monitor", skip_all)]
    pub(crate) async fn serve(self, socket: HyperWebsocket, admission: Admission) {
        let newest = self.newest.subscribe();
        let messages = StatusMessages {
            first: Some(self.encode()),
            newest,
        };
        stream_socket::serve(&self.context, socket, admission, messages).await;
    }
}

impl MessageSource for StatusMessages {
    const NAME: &'static str = "monitor";
    const GREETING: &'static str = "Connected to the system monitor";

    async fn next(&mut self) -> Option<Vec<Frame>> {
        if let Some(first) = self.first.take() {
            return Some(vec![Frame::Text(first)]);
        }
        self.newest.changed().await.ok()?;
        let status = self.newest.borrow_and_update().clone();
        Some(vec![Frame::Text(status)])
    }
}
