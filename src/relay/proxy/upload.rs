//! Sends an upload to all servers, because any of them may run the prompt that reads it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join, join_all};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body as _, Frame};
use hyper::header::CONTENT_LENGTH;
use hyper::{Response, StatusCode};
use reqwest::Body;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::forward::{ForwardedRequest, forward_to};
use crate::relay::backend::Backend;
use crate::relay::requests::output::OutputBody;
use crate::relay::{Relay, RelayError};

/// How many parts of an upload one server may be behind the others.
const AHEAD: usize = 16;

/// How long a server may take for one part. The others are not held up for longer.
const PART_PATIENCE: Duration = Duration::from_secs(10);

/// How long a server may take to answer once it has all.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

/// A part of an upload, or why it breaks off.
type UploadPart = io::Result<Frame<Bytes>>;

impl Relay {
    /// Sends an upload to all servers that answer, those that other relays follow among them, while it comes. What they have of
    /// files is read again. The answer is that of the first server that has taken it, or else that of the first.
    ///
    /// # Errors
    ///
    /// If no server answers.
    pub async fn upload(
        &self,
        mut request: ForwardedRequest,
    ) -> Result<Response<OutputBody>, RelayError> {
        let backends = self.loading_backends();
        let body = request.body.take();
        // Of the copies, which break off where they fall behind, no length is known.
        let length = body
            .as_ref()
            .map_or(Some(0), |body| body.size_hint().exact());
        if let Some(length) = length {
            request.headers.insert(CONTENT_LENGTH, length.into());
        }
        let (senders, receivers): (Vec<Sender<UploadPart>>, Vec<Receiver<UploadPart>>) =
            backends.iter().map(|_| mpsc::channel(AHEAD)).unzip();
        let (request, is_copied) = (&request, &CancellationToken::new());
        let sending = backends.iter().zip(receivers).map(|(backend, parts)| {
            let body = Body::wrap(StreamBody::new(ReceiverStream::new(parts)));
            let late = async {
                is_copied.cancelled().await;
                sleep(ANSWER_PATIENCE).await;
            };
            async move {
                tokio::select! {
                    answer = forward_to(backend, request, Some(body)) => {
                        answer.map_err(|error| RelayError::request_failed(backend.name(), error))
                    }
                    () = late => Err(RelayError::BackendUnreachable(backend.name().to_owned())),
                }
            }
        });
        let copying = async {
            copy(body, senders).await;
            is_copied.cancel();
        };
        let (answers, ()) = join(join_all(sending), copying).await;
        for backend in &backends {
            self.forget_files(backend);
        }
        let mut failure = RelayError::BackendUnreachable(super::NO_SERVER.to_owned());
        let (mut taken, mut refused) = (None, None);
        for (backend, answer) in backends.iter().zip(answers) {
            match answer {
                Ok(answer) if answer.status() == StatusCode::OK => taken = taken.or(Some(answer)),
                Ok(answer) => {
                    let status = answer.status().as_u16();
                    tracing::warn!(
                        backend = backend.name(),
                        status,
                        "a server has not taken an upload"
                    );
                    refused = refused.or(Some(answer));
                }
                Err(error) => {
                    tracing::warn!(backend = backend.name(), %error, "an upload has not reached a server");
                    failure = error;
                }
            }
        }
        taken.or(refused).ok_or(failure)
    }

    /// What is known of a server's files is old: sizes of images, and the names that node classes list.
    fn forget_files(&self, backend: &Arc<Backend>) {
        backend.images.clear();
        let follower = &self.0.followers[backend.index];
        follower.distrust_node_classes();
        follower.read_node_classes();
    }
}

/// Copies a body to all receivers. One that is gone, or holds the others up, gets no more.
async fn copy(body: Option<Body>, mut senders: Vec<Sender<UploadPart>>) {
    let Some(mut body) = body else {
        return;
    };
    while let Some(part) = body.frame().await {
        let is_broken = part.is_err();
        let sending = senders.drain(..).map(|sender| {
            let part = match &part {
                Ok(part) => copied(part),
                Err(error) => Err(io::Error::other(error.to_string())),
            };
            async move {
                let sent = timeout(PART_PATIENCE, sender.send(part)).await;
                matches!(sent, Ok(Ok(()))).then_some(sender)
            }
        });
        let left = join_all(sending).await;
        senders.extend(left.into_iter().flatten());
        if is_broken || senders.is_empty() {
            return;
        }
    }
}

/// Trailers are not passed on.
fn copied(part: &Frame<Bytes>) -> UploadPart {
    let data = part.data_ref().cloned().unwrap_or_default();
    Ok(Frame::data(data))
}
