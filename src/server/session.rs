//! Task B: one subscriber on one WebSocket.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use hyper_tungstenite::tungstenite::Message as Frame;
use hyper_tungstenite::{HyperWebsocket, HyperWebsocketStream};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_stream::StreamMap;
use tokio_stream::wrappers::WatchStream;

use super::Edge;
use super::ending::End;
use super::error::{Failure, close};
use super::guard::{Access, Scope};
use super::message::{ClientMessage, ServerMessage};
use super::wait::{Missed, Wait, await_job};
use crate::hub::{Connection, Delivery, Preview, Subscription};
use crate::job::JobId;

/// How many jobs one socket may follow.
const MAX_SUBSCRIPTIONS: usize = 100;

/// How many messages that mean nothing are borne before the socket is closed.
const MAX_BAD_MESSAGES: u32 = 3;

/// A socket, and what its client follows.
struct Session {
    edge: Edge,
    socket: HyperWebsocketStream,
    /// The job that the socket was opened for.
    job: JobId,
    connection: Connection,
    access: Access,
    wants_previews: bool,
    jobs: StreamMap<JobId, Subscription>,
    previews: StreamMap<JobId, WatchStream<Option<Arc<Preview>>>>,
    /// Waits for jobs that nobody has registered yet.
    waits: StreamMap<JobId, Wait>,
    heard_at: Instant,
    bad_messages: u32,
}

/// Serves one subscriber to the end of its jobs.
#[tracing::instrument(name = "session", skip_all, fields(job_id = %job, peer = connection.user_info))]
pub(super) async fn serve(
    edge: Edge,
    socket: HyperWebsocket,
    job: JobId,
    wants_previews: bool,
    connection: Connection,
    access: Access,
) {
    let socket = match socket.await {
        Ok(socket) => socket,
        Err(error) => return tracing::debug!(%error, "the handshake was not finished"),
    };
    tracing::debug!("subscriber came");
    let session = Session {
        edge,
        socket,
        job,
        connection,
        access,
        wants_previews,
        jobs: StreamMap::new(),
        previews: StreamMap::new(),
        waits: StreamMap::new(),
        heard_at: Instant::now(),
        bad_messages: 0,
    };
    session.run().await;
    tracing::debug!("subscriber left");
}

impl Session {
    async fn run(mut self) {
        let end = match self.greet().await {
            Ok(()) => self.follow().await,
            Err(end) => end,
        };
        // Who has to say goodbye follows nothing any more.
        (self.jobs, self.previews, self.waits) = Default::default();
        end.carry_out(&mut self.socket).await;
    }

    async fn greet(&mut self) -> Result<(), End> {
        let job = self.job.clone();
        // Who has read the greeting misses nothing that happens afterwards.
        self.subscribe(job.clone());
        let greeting = format!("Connected to job {job}");
        self.say(&ServerMessage::connection(job.as_str(), &greeting))
            .await
    }

    async fn follow(&mut self) -> End {
        let mut ping = interval(self.edge.config.ping_interval);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ping.reset();
        let stop = self.edge.stop.clone();
        loop {
            let step = tokio::select! {
                () = stop.cancelled() => Err(End::Close(close::GOING_AWAY, "the relay is being stopped")),
                () = self.access.expired() => self.expire().await,
                Some((job, delivery)) = self.jobs.next() => self.pass_on(job, &delivery).await,
                Some((_, preview)) = self.previews.next() => self.pass_on_preview(preview).await,
                Some((job, missed)) = self.waits.next() => self.miss(&job, missed).await,
                frame = self.socket.next() => match frame {
                    Some(Ok(frame)) => self.hear(frame).await,
                    Some(Err(error)) => Err(error.into()),
                    None => Err(End::Gone),
                },
                _ = ping.tick() => self.ping().await,
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    async fn pass_on(&mut self, job: JobId, delivery: &Delivery) -> Result<(), End> {
        let publication = &delivery.publication;
        if let Some(error) = delivery.failure() {
            self.say(&ServerMessage::job_failed(&job, error)).await?;
        }
        self.send(Frame::Text(publication.text.clone())).await?;
        self.waits.remove(&job);
        if publication.end.is_some() {
            self.unsubscribe(&job);
            if self.jobs.is_empty() {
                return Err(End::Close(close::NORMAL, "the job has ended"));
            }
        }
        Ok(())
    }

    async fn pass_on_preview(&mut self, preview: Option<Arc<Preview>>) -> Result<(), End> {
        match preview {
            Some(preview) => self.send(Frame::Binary(preview.message.clone())).await,
            None => Ok(()),
        }
    }

    /// A job that is waited for was not found. It may have been registered by now, with its first
    /// state on the way.
    async fn miss(&mut self, job: &JobId, missed: Missed) -> Result<(), End> {
        let is_known = {
            let mut known = self.jobs.iter().filter(|(_, job)| job.is_known());
            known.any(|(id, _)| id == job)
        };
        if is_known {
            return Ok(());
        }
        let (failure, end) = missed.tell();
        self.complain(job, &failure).await?;
        let Some(end) = end else {
            return Ok(());
        };
        self.unsubscribe(job);
        match self.jobs.is_empty() {
            true => Err(end),
            false => Ok(()),
        }
    }

    async fn hear(&mut self, frame: Frame) -> Result<(), End> {
        self.heard_at = Instant::now();
        self.connection.heard();
        match frame {
            Frame::Text(text) => match serde_json::from_str(&text) {
                Ok(message) => self.obey(message).await,
                Err(error) => {
                    self.refuse(format!("this message means nothing here: {error}"))
                        .await
                }
            },
            Frame::Binary(_) => {
                self.refuse("binary messages mean nothing here".to_owned())
                    .await
            }
            Frame::Close(_) => Err(End::Left),
            Frame::Ping(_) | Frame::Pong(_) | Frame::Frame(_) => Ok(()),
        }
    }

    async fn obey(&mut self, message: ClientMessage) -> Result<(), End> {
        match message {
            ClientMessage::Auth { token } => match self.access.renew(&self.edge.guard, &token) {
                Ok(()) => {
                    let message = ServerMessage::auth(self.access.expires_at());
                    self.say(&message).await
                }
                Err(failure) => self.complain(&self.job.clone(), &failure).await,
            },
            ClientMessage::Ping => self.say(&ServerMessage::pong()).await,
            ClientMessage::Pong => Ok(()),
            ClientMessage::Subscribe { job_id } => match JobId::parse(&job_id) {
                Ok(job) if self.jobs.contains_key(&job) => Ok(()),
                Ok(job) if self.jobs.len() >= MAX_SUBSCRIPTIONS => {
                    let failure = Failure::bad_request(
                        "too_many_subscriptions",
                        format!("one socket follows at most {MAX_SUBSCRIPTIONS} jobs"),
                    );
                    self.complain(&job, &failure).await
                }
                Ok(job) => match self.access.check(Scope::Subscribe, Some(&job)) {
                    Ok(()) => {
                        self.subscribe(job);
                        Ok(())
                    }
                    Err(failure) => self.complain(&job, &failure).await,
                },
                Err(error) => self.refuse(error.to_string()).await,
            },
            ClientMessage::Unsubscribe { job_id } => {
                if let Ok(job) = JobId::parse(&job_id) {
                    self.unsubscribe(&job);
                }
                Ok(())
            }
            ClientMessage::Cancel { job_id } => {
                let job = match job_id
                    .as_deref()
                    .map_or_else(|| Ok(self.job.clone()), JobId::parse)
                {
                    Ok(job) => job,
                    Err(error) => return self.refuse(error.to_string()).await,
                };
                if let Err(failure) = self.access.check(Scope::Cancel, Some(&job)) {
                    return self.complain(&job, &failure).await;
                }
                match self.edge.relay.cancel(&job).await {
                    Ok(()) => Ok(()),
                    Err(error) => self.complain(&job, &error.into()).await,
                }
            }
        }
    }

    async fn expire(&mut self) -> Result<(), End> {
        self.complain(&self.job.clone(), &Failure::expired())
            .await?;
        Err(End::EXPIRED)
    }

    async fn refuse(&mut self, why: String) -> Result<(), End> {
        self.bad_messages += 1;
        let failure = Failure::bad_request("bad_message", why);
        let job = self.job.clone();
        self.complain(&job, &failure).await?;
        match self.bad_messages > MAX_BAD_MESSAGES {
            true => Err(End::Close(
                close::POLICY,
                "too many messages that mean nothing here",
            )),
            false => Ok(()),
        }
    }

    async fn complain(&mut self, job: &JobId, failure: &Failure) -> Result<(), End> {
        self.say(&ServerMessage::error(
            job.as_str(),
            failure.code,
            &failure.message,
        ))
        .await
    }

    async fn ping(&mut self) -> Result<(), End> {
        if self.heard_at.elapsed() > self.edge.config.connection_timeout {
            return Err(End::Gone);
        }
        self.say(&ServerMessage::ping()).await?;
        self.send(Frame::Ping(Bytes::new())).await
    }

    fn subscribe(&mut self, job: JobId) {
        let subscription = self.edge.relay.subscribe(&job, self.connection.clone());
        if self.wants_previews {
            let previews = WatchStream::new(subscription.previews());
            self.previews.insert(job.clone(), previews);
        }
        if !subscription.is_known() {
            let wait = self.edge.config.job_wait;
            let wait = await_job(self.edge.relay.clone(), job.clone(), wait);
            self.waits.insert(job.clone(), wait);
        }
        self.jobs.insert(job, subscription);
    }

    fn unsubscribe(&mut self, job: &JobId) {
        self.jobs.remove(job);
        self.previews.remove(job);
        self.waits.remove(job);
    }

    async fn say(&mut self, message: &ServerMessage<'_>) -> Result<(), End> {
        self.send(Frame::Text(message.encode().into())).await
    }

    /// A client that does not read is given up in the end; meanwhile only its own task waits.
    async fn send(&mut self, frame: Frame) -> Result<(), End> {
        match timeout(self.edge.config.connection_timeout, self.socket.send(frame)).await {
            Ok(sent) => Ok(sent?),
            Err(_) => Err(End::Gone),
        }
    }
}
