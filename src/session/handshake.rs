//! The answer to a handshake, held back until there is more to say.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How the answer begins.
const SWITCHING: &[u8] = b"HTTP/1.1 101 ";

/// A connection that does not send the answer to a WebSocket's handshake by itself, but with what the
/// server says next. The server always speaks first: one packet and one wake-up of the client are
/// spared for each socket.
#[derive(Debug)]
pub(crate) struct HeldHandshake<S> {
    stream: S,
    held: BytesMut,
}

impl<S> HeldHandshake<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            held: BytesMut::new(),
        }
    }

    /// The connection, and what is to be sent on it before anything else.
    pub(crate) fn into_parts(self) -> (S, BytesMut) {
        (self.stream, self.held)
    }
}

impl<S: AsyncWrite + Unpin> HeldHandshake<S> {
    /// Sends what is held back.
    fn poll_release(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.held))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.held.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HeldHandshake<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HeldHandshake<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_release(cx))?;
        // It is short, and comes whole: its writer collects a head before it writes it.
        if data.starts_with(SWITCHING) {
            self.held.extend_from_slice(data);
            return Poll::Ready(Ok(data.len()));
        }
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_release(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn the_answer_leaves_with_what_comes_next() {
        let (near, mut far) = tokio::io::duplex(1 << 10);
        let mut near = HeldHandshake::new(near);
        near.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
            .await
            .unwrap();
        near.flush().await.unwrap();
        near.write_all(b"hello").await.unwrap();
        near.shutdown().await.unwrap();
        let mut heard = String::new();
        far.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "HTTP/1.1 101 Switching Protocols\r\n\r\nhello");
    }

    #[tokio::test]
    async fn what_is_held_can_be_sent_by_others() {
        let (near, _far) = tokio::io::duplex(1 << 10);
        let mut near = HeldHandshake::new(near);
        near.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
            .await
            .unwrap();
        let (_, held) = near.into_parts();
        assert!(held.ends_with(b"\r\n\r\n"));
    }

    #[tokio::test]
    async fn any_other_answer_goes_at_once() {
        let (near, mut far) = tokio::io::duplex(1 << 10);
        let mut near = HeldHandshake::new(near);
        near.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        let mut heard = [0; 19];
        far.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"HTTP/1.1 200 OK\r\n\r\n");
    }
}
