//! `GET /api/anime/jobs/{job_id}/events`: the messages of a job's socket.

use std::net::IpAddr;

use bytes::Bytes;
use futures_util::StreamExt;
use hyper::{HeaderMap, Response, StatusCode};

use super::sink::{self, ClientGone, EVENT_STREAM, EventSink};
use crate::auth::AuthError;
use crate::hub::{Connection, Publication, Subscription};
use crate::job::JobId;
use crate::server::response::{Body, full};
use crate::server::state::ServerState;
use crate::session::{Admission, ServerMessage, await_job};

/// The event id of the message that there is no such job: a browser that connects again sends it along.
const NOT_FOUND: &str = "not-found";

/// One client's event stream.
struct EventStream {
    state: ServerState,
    job: JobId,
    subscription: Subscription,
    /// The number of the last state that the client received before it reconnected.
    last_event_id: Option<u64>,
    sink: EventSink,
    admission: Admission,
}

/// Opens a job's event stream.
///
/// A client that has received the final state already, or that there is no such job, is answered 204, after which
/// browsers do not reconnect.
pub(in crate::server) async fn job(
    state: &ServerState,
    job: JobId,
    headers: &HeaderMap,
    address: IpAddr,
    admission: Admission,
    has_names: bool,
) -> Response<Body> {
    if job.group().is_some() {
        // Shows whether it has ended. A group that is not found is waited for below.
        let _ = state.relay.lookup(&job).await;
    }
    let last_event = headers.get("last-event-id");
    let last_event = last_event
        .and_then(|value| value.to_str().ok())
        .map(str::trim);
    let was_not_found = last_event == Some(NOT_FOUND) && !state.relay.knows(&job);
    let last_event_id = last_event.and_then(|value| value.parse().ok());
    let final_seq = state.relay.final_seq(&job);
    if was_not_found || (final_seq.is_some() && final_seq == last_event_id) {
        return full(StatusCode::NO_CONTENT, EVENT_STREAM, Bytes::new());
    }
    let (sink, response) = sink::open(state, has_names);
    let subscription = state.relay.subscribe(&job, Connection::new(address, false));
    // A number that the job has not reached yet is from before the relay was restarted.
    let newest = subscription.newest_seq();
    let last_event_id = last_event_id.filter(|&seq| newest.is_some_and(|newest| seq <= newest));
    let stream = EventStream {
        state: state.clone(),
        job,
        subscription,
        last_event_id,
        sink,
        admission,
    };
    state.tasks.spawn(async move {
        if stream.run().await.is_err() {
            tracing::debug!("the client of an event stream has disconnected");
        }
    });
    response
}

impl EventStream {
    /// Sends until the stream ends: with the job, the token, the server, or because there is no such job.
    async fn run(mut self) -> Result<(), ClientGone> {
        let greeting = format!("Connected to job {}", self.job);
        let sink = &self.sink;
        sink.greet(&ServerMessage::connection(self.job.as_str(), &greeting))
            .await?;
        let job_wait = self.state.config.job_wait;
        let mut lookups = await_job(self.state.relay.clone(), self.job.clone(), job_wait);
        let mut is_waiting = !self.subscription.is_known();
        let mut pulse = sink.pulse();
        let stop = self.state.stop.clone();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = sink.closed() => return Err(ClientGone),
                () = self.admission.permissions.expired() => {
                    return sink.send_error(self.job.as_str(), &AuthError::Expired.into()).await;
                }
                Some(publication) = self.subscription.next() => {
                    is_waiting = false;
                    send_state(sink, self.last_event_id, &publication).await?;
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
                        let id = format!("id: {NOT_FOUND}\n");
                        return sink.send_event(&id, message.as_bytes()).await;
                    }
                    sink.send_text(&message).await?;
                    if missed.disconnect().is_some() {
                        return Ok(());
                    }
                }
                beat = pulse.next() => sink.send_beat(beat).await?,
            }
        }
    }
}

/// Sends a state, unless the client has it already. A final state is always sent, and before it why the
/// job failed.
async fn send_state(
    sink: &EventSink,
    last_event_id: Option<u64>,
    publication: &Publication,
) -> Result<(), ClientGone> {
    let is_new = last_event_id.is_none_or(|seq| publication.seq > seq);
    if is_new || publication.is_final() {
        sink.send_state(publication, Some(publication.seq)).await?;
    }
    Ok(())
}
