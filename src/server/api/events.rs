//! The messages of a job's socket as Server-Sent Events, for where WebSockets are blocked.

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::{HeaderMap, Request, Response, StatusCode, header};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_stream::wrappers::ReceiverStream;

use crate::auth::AuthError;
use crate::hub::{Connection, Delivery, Subscription};
use crate::job::JobId;
use crate::server::ServerState;
use crate::server::response::{Body, full};
use crate::session::ServerMessage;
use crate::session::await_job;
use crate::session::{Admission, ClientError};

/// How many events wait for a client that reads slowly. What comes meanwhile is conflated upstream
/// of this, in the subscription.
const BUFFERED_EVENTS: usize = 1;

/// An event stream on its way to a client.
struct Events {
    state: ServerState,
    job: JobId,
    subscription: Subscription,
    /// The number of the last state that the client has seen, from before it reconnected.
    seen: Option<u64>,
    events: mpsc::Sender<Bytes>,
    admission: Admission,
}

/// The client has left.
struct Gone;

/// Opens a job's event stream.
///
/// A client that has seen the final state already is answered 204, which tells it not to come back.
pub(in crate::server) fn stream<B>(
    state: &ServerState,
    job: JobId,
    request: &Request<B>,
    connection: Connection,
    admission: Admission,
) -> Response<Body> {
    let seen = last_event_id(request.headers());
    let final_seq = state.relay.final_seq(&job);
    if final_seq.is_some() && final_seq == seen {
        return full(StatusCode::NO_CONTENT, "text/event-stream", Bytes::new());
    }
    let (events, receiver) = mpsc::channel(BUFFERED_EVENTS);
    let subscription = state.relay.subscribe(&job, connection);
    // A number that the job has not reached yet is from before the relay was restarted.
    let newest = subscription.newest_seq();
    let seen = seen.filter(|&seen| newest.is_some_and(|newest| seen <= newest));
    let stream = Events {
        state: state.clone(),
        job,
        subscription,
        seen,
        events,
        admission,
    };
    state.tasks.spawn(async move {
        if stream.run().await.is_err() {
            tracing::debug!("an event stream's client left");
        }
    });
    let frames = ReceiverStream::new(receiver).map(|bytes| Ok(Frame::data(bytes)));
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/event-stream"),
    );
    headers.insert(
        header::CACHE_CONTROL,
        header::HeaderValue::from_static("no-store"),
    );
    response
}

fn last_event_id(headers: &HeaderMap) -> Option<u64> {
    headers
        .get("last-event-id")?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
}

impl Events {
    async fn run(mut self) -> Result<(), Gone> {
        let greeting = format!("Connected to job {}", self.job);
        self.say(&ServerMessage::connection(self.job.as_str(), &greeting))
            .await?;
        let wait = self.state.config.job_wait;
        let mut wait = await_job(self.state.relay.clone(), self.job.clone(), wait);
        let mut waits = !self.subscription.is_known();
        let mut ping = interval(self.state.config.ping_interval);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ping.reset();
        let stop = self.state.stop.clone();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.events.closed() => return Err(Gone),
                () = self.admission.permissions.expired() => {
                    let failure = ClientError::from(AuthError::Expired);
                    return self.say(&ServerMessage::error(self.job.as_str(), failure.code, &failure.message)).await;
                }
                Some(delivery) = self.subscription.next() => {
                    waits = false;
                    if self.pass_on(&delivery).await? {
                        return Ok(());
                    }
                }
                Some(missed) = wait.next(), if waits => {
                    // It may have been registered by now, with its first state on the way.
                    if self.subscription.is_known() {
                        continue;
                    }
                    let (failure, end) = missed.into_error();
                    self.say(&ServerMessage::error(self.job.as_str(), failure.code, &failure.message)).await?;
                    if end.is_some() {
                        return Ok(());
                    }
                }
                _ = ping.tick() => self.say(&ServerMessage::ping()).await?,
            }
        }
    }

    /// Sends a state, unless the client has it. The last one is always sent. Says whether it is the last one.
    async fn pass_on(&mut self, delivery: &Delivery) -> Result<bool, Gone> {
        let publication = &delivery.publication;
        if let Some(error) = delivery.failure() {
            let job = self.job.clone();
            self.say(&ServerMessage::job_failed(&job, error)).await?;
        }
        let is_last = publication.is_final();
        if is_last || self.seen.is_none_or(|seen| publication.seq > seen) {
            let mut event = format!("id: {}\ndata: ", publication.seq).into_bytes();
            event.extend_from_slice(&publication.payload);
            event.extend_from_slice(b"\n\n");
            self.send(event.into()).await?;
        }
        Ok(is_last)
    }

    async fn say(&self, message: &ServerMessage<'_>) -> Result<(), Gone> {
        self.send(format!("data: {}\n\n", message.encode()).into())
            .await
    }

    /// A client that does not read is given up in the end, or when the server stops.
    async fn send(&self, event: Bytes) -> Result<(), Gone> {
        let sending = timeout(
            self.state.config.connection_timeout,
            self.events.send(event),
        );
        tokio::select! {
            biased;
            sent = sending => match sent {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) | Err(_) => Err(Gone),
            },
            () = self.state.stop.cancelled() => Err(Gone),
        }
    }
}
