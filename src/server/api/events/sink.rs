use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
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

/// A comment, which clients pass over. Proxies and load balancers cut streams that are silent for half a minute, and some
/// networks sooner than the pings come.
const COMMENT: &[u8] = b": still here\n\n";

/// How long a browser waits before it opens a stream again that has broken off, in milliseconds.
const RECONNECT_AFTER: u64 = 2_000;

/// What an `error` message is called where events have names: a browser calls its own failures `error`.
const ERROR_EVENT: &str = "relay_error";

/// Where the events of one client's stream are sent.
pub(in crate::server) struct EventSink {
    state: ServerState,
    events: mpsc::Sender<Bytes>,
    /// Whether events have the types of their messages as names. A browser hands events with names to listeners for these
    /// alone, never to `onmessage`.
    has_names: bool,
}

/// What a stream sends by the clock.
pub(in crate::server) struct Pulse {
    pings: Interval,
    comments: Interval,
}

/// What is due.
#[derive(Debug, Clone, Copy)]
pub(in crate::server) enum Beat {
    Ping,
    Comment,
}

/// The client has disconnected, or reads nothing.
pub(in crate::server) struct ClientGone;

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

/// Opens an event stream, whose events have names or not. Returns where its events are sent, and the response that carries
/// them.
pub(in crate::server) fn open(state: &ServerState, has_names: bool) -> (EventSink, Response<Body>) {
    let (events, receiver) = mpsc::channel(BUFFERED_EVENTS);
    let frames = ReceiverStream::new(receiver).map(|bytes| Ok(Frame::data(bytes)));
    let mut response = Response::new(body(StreamBody::new(frames)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    set_unbuffered(headers);
    let sink = EventSink {
        state: state.clone(),
        events,
        has_names,
    };
    (sink, response)
}

impl Pulse {
    /// Waits until something is due.
    pub(in crate::server) async fn next(&mut self) -> Beat {
        tokio::select! {
            _ = self.pings.tick() => Beat::Ping,
            _ = self.comments.tick() => Beat::Comment,
        }
    }
}

impl EventSink {
    /// Waits until the client has disconnected.
    pub(in crate::server) async fn closed(&self) {
        self.events.closed().await;
    }

    /// When pings and comments are due.
    pub(in crate::server) fn pulse(&self) -> Pulse {
        let config = &self.state.config;
        Pulse {
            pings: every(config.ping_interval),
            comments: every(config.comment_interval),
        }
    }

    /// Sends what is due.
    pub(in crate::server) async fn send_beat(&self, beat: Beat) -> Result<(), ClientGone> {
        match beat {
            Beat::Ping => self.send_message(&ServerMessage::ping()).await,
            Beat::Comment => self.send(Bytes::from_static(COMMENT)).await,
        }
    }

    /// Sends the first message of a stream, and when to open it again after it has broken off.
    pub(super) async fn greet(&self, greeting: &ServerMessage<'_>) -> Result<(), ClientGone> {
        let fields = format!("retry: {RECONNECT_AFTER}\n");
        self.send_event(&fields, greeting.encode().as_bytes()).await
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
        self.send_event(&id, &publication.payload).await
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
        self.send_event("", text.as_bytes()).await
    }

    /// Sends a value as an event of this name.
    pub(in crate::server) async fn send_named(
        &self,
        name: &str,
        data: &impl Serialize,
    ) -> Result<(), ClientGone> {
        match named_event(name, data) {
            Some(event) => self.send(event).await,
            None => Ok(()),
        }
    }

    /// Sends a message as an event with these fields before its data, each on a line of its own.
    pub(super) async fn send_event(&self, fields: &str, message: &[u8]) -> Result<(), ClientGone> {
        let mut event = fields.as_bytes().to_vec();
        if let Some(name) = self.has_names.then(|| name(message)).flatten() {
            event.extend_from_slice(format!("event: {name}\n").as_bytes());
        }
        event.extend_from_slice(b"data: ");
        event.extend_from_slice(message);
        event.extend_from_slice(b"\n\n");
        self.send(event.into()).await
    }

    /// Waits until the client has read the event before. A client that reads nothing for
    /// `connection_timeout` counts as gone; when the server stops, every client does.
    pub(in crate::server) async fn send(&self, event: Bytes) -> Result<(), ClientGone> {
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

/// A value as an event of this name; `None`, and a line in the log, if it cannot be JSON.
pub(in crate::server) fn named_event(name: &str, data: &impl Serialize) -> Option<Bytes> {
    match serde_json::to_string(data) {
        Ok(data) => Some(format!("event: {name}\ndata: {data}\n\n").into()),
        Err(error) => {
            tracing::error!(%error, name, "cannot encode an event as JSON");
            None
        }
    }
}

/// A clock of a stream. The first tick comes after the interval.
fn every(interval_length: Duration) -> Interval {
    let mut ticks = interval(interval_length);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset();
    ticks
}

/// The name of an event: the type of its message, with which each message begins.
fn name(message: &[u8]) -> Option<&str> {
    let rest = message.strip_prefix(b"{\"type\":\"")?;
    let end = rest.iter().position(|&byte| byte == b'"')?;
    match std::str::from_utf8(&rest[..end]).ok()? {
        "error" => Some(ERROR_EVENT),
        name => Some(name),
    }
}
