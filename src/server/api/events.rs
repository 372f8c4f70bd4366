//! `GET /api/anime/jobs/{job_id}/events`: the messages of a job's socket as Server-Sent Events, for
//! networks that block WebSockets.

use std::net::IpAddr;

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response, StatusCode};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use tokio_stream::wrappers::ReceiverStream;

use crate::auth::AuthError;
use crate::hub::{Connection, Publication, Subscription};
use crate::job::JobId;
use crate::server::response::{Body, body, full};
use crate::server::state::ServerState;
use crate::session::{Admission, ClientError, ServerMessage, await_job};

/// The media type of Server-Sent Events.
const EVENT_STREAM: &str = "text/event-stream";

/// The event id of the message that there is no such job: a browser that connects again sends it along.
const NOT_FOUND: &str = "not-found";

/// How many encoded events wait for a client that reads slowly. Later states wait in the subscription,
/// which keeps only the newest ones.
const BUFFERED_EVENTS: usize = 1;

/// One client's event stream.
struct EventStream {
    state: ServerState,
    job: JobId,
    subscription: Subscription,
    /// The number of the last state that the client received before it reconnected.
    last_event_id: Option<u64>,
    events: mpsc::Sender<Bytes>,
    admission: Admission,
}

/// The client has disconnected, or reads nothing.
struct ClientGone;

/// The answer to a `HEAD` request, which opens no stream.
pub(in crate::server) fn head() -> Response<Body> {
    full(StatusCode::OK, EVENT_STREAM, Bytes::new())
}

/// Opens a job's event stream.
///
/// A client that has received the final state already, or that there is no such job, is answered 204, after which
/// browsers do not reconnect.
pub(in crate::server) fn stream<B>(
    state: &ServerState,
    job: JobId,
    request: &Request<B>,
    address: IpAddr,
    admission: Admission,
) -> Response<Body> {
    let last_event = request.headers().get("last-event-id");
    let last_event = last_event
        .and_then(|value| value.to_str().ok())
        .map(str::trim);
    let was_not_found = last_event == Some(NOT_FOUND) && !state.relay.knows(&job);
    let last_event_id = last_event.and_then(|value| value.parse().ok());
    let final_seq = state.relay.final_seq(&job);
    if was_not_found || (final_seq.is_some() && final_seq == last_event_id) {
        return full(StatusCode::NO_CONTENT, EVENT_STREAM, Bytes::new());
    }
    let (events, receiver) = mpsc::channel(BUFFERED_EVENTS);
    let subscription = state.relay.subscribe(&job, Connection::new(address));
    // A number that the job has not reached yet is from before the relay was restarted.
    let newest = subscription.newest_seq();
    let last_event_id = last_event_id.filter(|&seq| newest.is_some_and(|newest| seq <= newest));
    let stream = EventStream {
        state: state.clone(),
        job,
        subscription,
        last_event_id,
        events,
        admission,
    };
    state.tasks.spawn(async move {
        if stream.run().await.is_err() {
            tracing::debug!("the client of an event stream has disconnected");
        }
    });
    let frames = ReceiverStream::new(receiver).map(|bytes| Ok(Frame::data(bytes)));
    let mut response = Response::new(body(StreamBody::new(frames)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl EventStream {
    /// Sends until the stream ends: with the job, the token, the server, or because there is no such job.
    async fn run(mut self) -> Result<(), ClientGone> {
        let greeting = format!("Connected to job {}", self.job);
        self.send_message(&ServerMessage::connection(self.job.as_str(), &greeting))
            .await?;
        let job_wait = self.state.config.job_wait;
        let mut lookups = await_job(self.state.relay.clone(), self.job.clone(), job_wait);
        let mut is_waiting = !self.subscription.is_known();
        let mut ping = self.ping();
        let stop = self.state.stop.clone();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.events.closed() => return Err(ClientGone),
                () = self.admission.permissions.expired() => {
                    return self.send_error(&AuthError::Expired.into()).await;
                }
                Some(publication) = self.subscription.next() => {
                    is_waiting = false;
                    self.send_state(&publication).await?;
                    if publication.is_final() {
                        return Ok(());
                    }
                }
                Some(missed) = lookups.next(), if is_waiting => {
                    // The job may have been registered meanwhile, with its first state on the way.
                    if self.subscription.is_known() {
                        continue;
                    }
                    let message = missed.message(&self.job);
                    if missed.is_not_found() {
                        let event = format!("id: {NOT_FOUND}\ndata: {message}\n\n");
                        return self.send(event.into()).await;
                    }
                    self.send_text(&message).await?;
                    if missed.disconnect().is_some() {
                        return Ok(());
                    }
                }
                _ = ping.tick() => self.send_message(&ServerMessage::ping()).await?,
            }
        }
    }

    fn ping(&self) -> Interval {
        let mut ping = interval(self.state.config.ping_interval);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ping.reset();
        ping
    }

    /// Sends a state, unless the client has it already. A final state is always sent, and before it why the
    /// job failed.
    async fn send_state(&self, publication: &Publication) -> Result<(), ClientGone> {
        if let Some(error) = publication.failure() {
            self.send_message(&ServerMessage::job_failed(&self.job, error))
                .await?;
        }
        let is_new = self.last_event_id.is_none_or(|seq| publication.seq > seq);
        if is_new || publication.is_final() {
            let mut event = format!("id: {}\ndata: ", publication.seq).into_bytes();
            event.extend_from_slice(&publication.payload);
            event.extend_from_slice(b"\n\n");
            self.send(event.into()).await?;
        }
        Ok(())
    }

    async fn send_error(&self, error: &ClientError) -> Result<(), ClientGone> {
        let message = ServerMessage::error(self.job.as_str(), error.code, &error.message);
        self.send_message(&message).await
    }

    async fn send_message(&self, message: &ServerMessage<'_>) -> Result<(), ClientGone> {
        self.send_text(&message.encode()).await
    }

    async fn send_text(&self, text: &str) -> Result<(), ClientGone> {
        self.send(format!("data: {text}\n\n").into()).await
    }

    /// Waits until the client has read the event before. A client that reads nothing for
    /// `connection_timeout` counts as gone; when the server stops, every client does.
    async fn send(&self, event: Bytes) -> Result<(), ClientGone> {
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
