//! [`PacedBody`]: a body of any length that keeps coming.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

type BoxError = Box<dyn Error + Send + Sync>;

/// The body of a request or an answer, which fails when nothing comes for a while although it is waited for.
pub(super) struct PacedBody<B> {
    body: B,
    /// Whose it is, as a part of a sentence.
    of: &'static str,
    patience: Duration,
    /// When it has been waited for long enough.
    deadline: Pin<Box<Sleep>>,
    is_awaited: bool,
}

impl<B> PacedBody<B> {
    pub(super) fn new(body: B, of: &'static str, patience: Duration) -> Self {
        Self {
            body,
            of,
            patience,
            deadline: Box::pin(sleep(patience)),
            is_awaited: false,
        }
    }
}

impl<B> Body for PacedBody<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.is_awaited = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)));
        }
        if !self.is_awaited {
            // Until now it was the other side that was waited for.
            self.is_awaited = true;
            let deadline = Instant::now() + self.patience;
            self.deadline.as_mut().reset(deadline);
        }
        ready!(self.deadline.as_mut().poll(cx));
        let late = format!("the body of the {} does not go on", self.of);
        Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::TimedOut, late))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
