//! [`FormBody`]: the body of a form, of which only the file may be long.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};

/// What comes before the file has at most so many bytes: short texts, and the heads of their parts.
const MAX_HEAD: usize = 256 << 10;

/// Before the file, the form is read in pieces of at most so many bytes. Its reader takes one more than it needs for each part, and
/// that counts against [`MAX_HEAD`].
const PIECE: usize = 1 << 10;

/// A shorter piece counts as one of so many bytes: for each, all that came before is searched again.
const MIN_COUNTED: usize = 64;

/// The body of a form. It fails if what comes before the file is too long: until the head of a part is complete, its reader keeps
/// all of it.
///
/// A reader that takes all that is there takes one piece at a time.
pub(super) struct FormBody<S> {
    content: S,
    /// What has come and was not read yet.
    rest: Bytes,
    /// How much may be read before the file.
    left: usize,
    has_file: Arc<AtomicBool>,
    /// A piece was read, and the reader is to look at it before it gets another one.
    is_taken: bool,
}

/// The place in a form at which its file begins.
pub(super) struct FilePlace(Arc<AtomicBool>);

impl<S> FormBody<S> {
    pub(super) fn new(content: S) -> (Self, FilePlace) {
        let has_file = Arc::new(AtomicBool::new(false));
        let body = Self {
            content,
            rest: Bytes::new(),
            left: MAX_HEAD,
            has_file: has_file.clone(),
            is_taken: false,
        };
        (body, FilePlace(has_file))
    }

    /// The next piece of what has come.
    fn piece(&mut self) -> io::Result<Bytes> {
        if self.has_file.load(Ordering::Relaxed) {
            return Ok(std::mem::take(&mut self.rest));
        }
        let piece = self.rest.split_to(self.rest.len().min(PIECE));
        let counted = piece.len().max(MIN_COUNTED);
        let left = self.left.checked_sub(counted).ok_or_else(too_long)?;
        self.left = left;
        Ok(piece)
    }
}

impl FilePlace {
    /// The file begins here: what follows may have any length.
    pub(super) fn reach(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl<S, E> Stream for FormBody<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.is_taken) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        while self.rest.is_empty() {
            match ready!(self.content.poll_next_unpin(cx)) {
                Some(Ok(more)) => self.rest = more,
                Some(Err(error)) => return Poll::Ready(Some(Err(io::Error::other(error)))),
                None => return Poll::Ready(None),
            }
        }
        self.is_taken = true;
        Poll::Ready(Some(self.piece()))
    }
}

fn too_long() -> io::Error {
    let limit = MAX_HEAD >> 10;
    io::Error::other(format!(
        "what comes before the file is longer than {limit} KiB"
    ))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;

    use super::*;

    type Piece = Result<Bytes, Infallible>;

    fn body(pieces: Vec<Bytes>) -> (FormBody<impl Stream<Item = Piece> + Unpin>, FilePlace) {
        FormBody::new(stream::iter(pieces.into_iter().map(Piece::Ok)))
    }

    #[tokio::test]
    async fn only_the_file_is_long() {
        let whole = Bytes::from(vec![7; 3 * MAX_HEAD]);
        let (mut form, file) = body(vec![whole.clone()]);
        let mut read = Vec::new();
        for _ in 0..MAX_HEAD / PIECE {
            read.extend(form.next().await.unwrap().unwrap());
        }
        file.reach();
        while let Some(piece) = form.next().await {
            read.extend(piece.unwrap());
        }
        assert_eq!(read, whole);
        let (form, _file) = body(vec![whole]);
        let pieces: Vec<io::Result<Bytes>> = form.take(MAX_HEAD / PIECE + 1).collect().await;
        let (last, before) = pieces.split_last().unwrap();
        assert!(before.iter().all(Result::is_ok));
        let error = last.as_ref().unwrap_err().to_string();
        assert!(error.contains("256 KiB"), "{error}");
    }

    #[tokio::test]
    async fn many_short_pieces_count_for_more() {
        let (form, _file) = body(vec![Bytes::from_static(b"x"); MAX_HEAD / MIN_COUNTED + 1]);
        let pieces: Vec<io::Result<Bytes>> = form.collect().await;
        assert!(pieces.last().unwrap().is_err());
        assert!(pieces[..pieces.len() - 1].iter().all(Result::is_ok));
    }
}
