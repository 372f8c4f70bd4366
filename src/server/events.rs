//! The messages of a job's socket as Server-Sent Events, for where WebSockets are blocked.

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::{HeaderMap, Request, Response, StatusCode, header};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tokio_stream::wrappers::ReceiverStream;

use super::Edge;
use super::body::{Body, full};
use super::error::Failure;
use super::message::ServerMessage;
use super::session::await_job;
use crate::hub::{Connection, Delivery, Subscription};
use crate::job::JobId;

/// How many events wait for a client that reads slowly. What comes meanwhile is conflated upstream
/// of this, in the subscription.
const BUFFERED_EVENTS: usize = 1;

/// An event stream on its way to a client.
struct Events {
    edge: Edge,
    job: JobId,
    subscription: Subscription,
    /// The number of the last state that the client has seen, from before it reconnected.
    seen: Option<u64>,
    events: mpsc::Sender<Bytes>,
}

/// The client has left.
struct Gone;

/// Opens a job's event stream.
///
/// A client that has seen the final state already is answered 204, which tells it not to come back.
pub(super) fn stream<B>(
    edge: &Edge,
    job: JobId,
    request: &Request<B>,
    connection: Connection,
) -> Response<Body> {
    let seen = last_event_id(request.headers());
    let ended_at = edge.relay.final_seq(&job);
    if ended_at.is_some() && ended_at == seen {
        return full(StatusCode::NO_CONTENT, "text/event-stream", Bytes::new());
    }
    let (events, receiver) = mpsc::channel(BUFFERED_EVENTS);
    let subscription = edge.relay.subscribe(&job, connection);
    let stream = Events {
        edge: edge.clone(),
        job,
        subscription,
        seen,
        events,
    };
    edge.tasks.spawn(async move {
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
        let mut wait = std::pin::pin!(await_job(
            self.edge.relay.clone(),
            self.job.clone(),
            self.edge.config.job_wait
        ));
        let mut waits = !self.subscription.is_known();
        let mut ping = interval(self.edge.config.ping_interval);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ping.reset();
        let stop = self.edge.stop.clone();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.events.closed() => return Err(Gone),
                delivery = self.subscription.next() => match delivery {
                    Some(delivery) if self.pass_on(&delivery).await? => return Ok(()),
                    Some(_) => waits = false,
                    None => return Ok(()),
                },
                missed = &mut wait, if waits => {
                    waits = false;
                    if missed.is_some() {
                        let failure = Failure::job_not_found(&self.job);
                        let id = self.job.clone();
                        return self.say(&ServerMessage::error(id.as_str(), failure.code, &failure.message)).await;
                    }
                }
                _ = ping.tick() => self.say(&ServerMessage::ping()).await?,
            }
        }
    }

    /// Sends a state, unless the client has it. Says whether it is the last one.
    async fn pass_on(&mut self, delivery: &Delivery) -> Result<bool, Gone> {
        let publication = &delivery.publication;
        if let Some(error) = delivery.failure() {
            let job = self.job.clone();
            self.say(&ServerMessage::job_failed(&job, error)).await?;
        }
        if self.seen.is_none_or(|seen| publication.seq > seen) {
            let event = format!("id: {}\ndata: {}\n\n", publication.seq, publication.text);
            self.send(event).await?;
        }
        Ok(publication.end.is_some())
    }

    async fn say(&self, message: &ServerMessage<'_>) -> Result<(), Gone> {
        self.send(format!("data: {}\n\n", message.encode())).await
    }

    async fn send(&self, event: String) -> Result<(), Gone> {
        self.events.send(event.into()).await.map_err(|_| Gone)
    }
}
