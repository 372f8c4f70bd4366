//! The socket that carries the states of many jobs.

use hyper_tungstenite::HyperWebsocket;
use hyper_tungstenite::tungstenite::{Message as Frame, Utf8Bytes};

use super::context::{Admission, SessionContext};
use super::frame_cache::preview_message;
use super::message::ServerMessage;
use super::stream_socket::{self, MessageSource};
use crate::hub::Update;
use crate::relay::JobFeed;

/// What stands for a job in messages about a feed itself.
pub(crate) const FEED_NAME: &str = "jobs";

/// The sentence with which a feed begins.
pub(crate) const FEED_GREETING: &str = "Connected to all jobs that match";

/// The messages of a feed of jobs.
struct FeedMessages(JobFeed);

/// Serves one socket until it is closed.
#[tracing::instrument(name = "feed", skip_all)]
pub(crate) async fn serve_feed(
    context: SessionContext,
    socket: HyperWebsocket,
    admission: Admission,
    feed: JobFeed,
) {
    stream_socket::serve(&context, socket, admission, FeedMessages(feed)).await;
}

impl MessageSource for FeedMessages {
    const NAME: &'static str = FEED_NAME;
    const GREETING: &'static str = FEED_GREETING;

    async fn next(&mut self) -> Option<Vec<Frame>> {
        let updates = self.0.next().await;
        let mut frames = Vec::with_capacity(updates.len());
        for update in updates {
            match update {
                Update::State(state) => {
                    if let Some(error) = state.failure() {
                        let message = ServerMessage::job_failed(&state.job, error);
                        frames.push(Frame::Text(message.encode().into()));
                    }
                    // What was encoded for all subscribers is not copied.
                    match Utf8Bytes::try_from(state.payload.clone()) {
                        Ok(text) => frames.push(Frame::Text(text)),
                        Err(error) => tracing::error!(%error, "a state is not text"),
                    }
                }
                Update::Preview(preview) => {
                    frames.push(Frame::Binary(preview_message(&preview).freeze()));
                }
            }
        }
        Some(frames)
    }
}
