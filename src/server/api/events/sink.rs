use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use tokio_stream::wrappers::ReceiverStream;

use crate::hub::Publication;
use crate::server::response::{Body, body, full};
use crate::server::state::ServerState;
use crate::session::{ClientError, ServerMessage};

/// The media type of Server-Sent Events.
pub(super) const EVENT_STREAM: &str = "text/event-stream";

/// How many encoded events wait for a client that reads slowly. Later states wait in the subscription,
/// which keeps only the newest ones.
const BUFFERED_EVENTS: usize = 1;

/// Where the events of one client's stream are sent.
pub(super) struct EventSink {
    state: ServerState,
    events: mpsc::Sender<Bytes>,
}

/// The client has disconnected, or reads nothing.
pub(super) struct ClientGone;

/// nginx passes each event on at once where an answer has this header, and collects 16 KiB otherwise.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Asks the proxies on the way to pass each event on at once, as it is.
fn set_unbuffered(headers: &mut HeaderMap) {
    let uncached = HeaderValue::from_static("no-store, no-transform");
    headers.insert(CACHE_CONTROL, uncached);
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
}

/// The answer to a `HEAD` request, which opens no stream.
pub(in crate::server) fn head() -> Response<Body> {
    let mut response = full(StatusCode::OK, EVENT_STREAM, Bytes::new());
    set_unbuffered(response.headers_mut());
    response
}

/// Opens an event stream. Returns where its events are sent, and the response that carries them.
pub(super) fn open(state: &ServerState) -> (EventSink, Response<Body>) {
    let (events, receiver) = mpsc::channel(BUFFERED_EVENTS);
    let frames = ReceiverStream::new(receiver).map(|bytes| Ok(Frame::data(bytes)));
    let mut response = Response::new(body(StreamBody::new(frames)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    set_unbuffered(headers);
    let state = state.clone();
    (EventSink { state, events }, response)
}

impl EventSink {
    /// Waits until the client has disconnected.
    pub(super) async fn closed(&self) {
        self.events.closed().await;
    }

    /// When pings are due.
    pub(super) fn pings(&self) -> Interval {
        let mut ping = interval(self.state.config.ping_interval);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ping.reset();
        ping
    }

    /// Sends a state under its number, and before the final one why the job failed.
    pub(super) async fn send_state(
        &self,
        publication: &Publication,
        id: Option<u64>,
    ) -> Result<(), ClientGone> {
        if let Some(error) = publication.failure() {
            self.send_message(&ServerMessage::job_failed(&publication.job, error))
                .await?;
        }
        let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
        let mut event = format!("{id}data: ").into_bytes();
        event.extend_from_slice(&publication.payload);
        event.extend_from_slice(b"\n\n");
        self.send(event.into()).await
    }

    pub(super) async fn send_error(
        &self,
        name: &str,
        error: &ClientError,
    ) -> Result<(), ClientGone> {
        let message = ServerMessage::error(name, error.code, &error.message);
        self.send_message(&message).await
    }

    pub(super) async fn send_message(&self, message: &ServerMessage<'_>) -> Result<(), ClientGone> {
        self.send_text(&message.encode()).await
    }

    pub(super) async fn send_text(&self, text: &str) -> Result<(), ClientGone> {
        self.send(format!("data: {text}\n\n").into()).await
    }

    /// Waits until the client has read the event before. A client that reads nothing for
    /// `connection_timeout` counts as gone; when the server stops, every client does.
    pub(super) async fn send(&self, event: Bytes) -> Result<(), ClientGone> {
        let connection_timeout = self.state.config.connection_timeout;
        tokio::select! {
            biased;
            sent = timeout(connection_timeout, self.events.send(event)) => match sent {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) | Err(_) => Err(ClientGone),
            },
            () = self.state.stop.cancelled() => Err(ClientGone),
        }
    }
}
