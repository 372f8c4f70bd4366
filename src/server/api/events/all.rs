//! `GET /api/anime/jobs/events`: the messages of all jobs that match.

use hyper::Response;

use super::sink::{self, ClientGone, EventSink};
use crate::auth::AuthError;
use crate::hub::Update;
use crate::relay::JobFeed;
use crate::server::response::Body;
use crate::server::state::ServerState;
use crate::session::{Admission, FEED_GREETING, FEED_NAME, ServerMessage};

/// Opens the event stream of many jobs.
pub(in crate::server) fn all(
    state: &ServerState,
    feed: JobFeed,
    admission: Admission,
    has_names: bool,
) -> Response<Body> {
    let (sink, response) = sink::open(state, has_names);
    let stop = state.stop.clone();
    state.tasks.spawn(async move {
        let sending = send_all(&sink, feed, admission);
        let gone = tokio::select! {
            () = stop.cancelled() => false,
            sent = sending => sent.is_err(),
        };
        if gone {
            tracing::debug!("the client of an event stream has disconnected");
        }
    });
    response
}

/// Sends until the token has expired.
async fn send_all(
    sink: &EventSink,
    mut feed: JobFeed,
    admission: Admission,
) -> Result<(), ClientGone> {
    let greeting = ServerMessage::connection(FEED_NAME, FEED_GREETING);
    sink.greet(&greeting).await?;
    let mut pulse = sink.pulse();
    loop {
        tokio::select! {
            () = sink.closed() => return Err(ClientGone),
            () = admission.permissions.expired() => {
                return sink.send_error(FEED_NAME, &AuthError::Expired.into()).await;
            }
            updates = feed.next() => {
                for update in updates {
                    if let Update::State(state) = update {
                        sink.send_state(&state, None).await?;
                    }
                }
            }
            beat = pulse.next() => sink.send_beat(beat).await?,
        }
    }
}
