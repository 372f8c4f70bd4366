use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How the response to a successful handshake begins.
const SWITCHING_PROTOCOLS: &[u8] = b"HTTP/1.1 101 ";

/// A connection that holds the response to a WebSocket handshake back, and sends it together with what is
/// written next. The server always sends the first message: this saves a write of the relay for each new
/// socket, and one of two reads of its client.
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

    /// The connection, and the bytes that must be sent on it before anything else.
    pub(crate) fn into_parts(self) -> (S, BytesMut) {
        (self.stream, self.held)
    }
}

impl<S: AsyncWrite + Unpin> HeldHandshake<S> {
    /// Sends the bytes that are held back.
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
        // hyper writes the head of a response in one piece.
        if data.starts_with(SWITCHING_PROTOCOLS) {
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
    async fn the_response_is_sent_with_what_is_written_next() {
        let (near, mut far) = tokio::io::duplex(1 << 10);
        let mut near = HeldHandshake::new(near);
        near.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
            .await
            .unwrap();
        near.flush().await.unwrap();
        near.write_all(b"hello").await.unwrap();
        near.shutdown().await.unwrap();
        let mut received = String::new();
        far.read_to_string(&mut received).await.unwrap();
        assert_eq!(received, "HTTP/1.1 101 Switching Protocols\r\n\r\nhello");
    }

    #[tokio::test]
    async fn the_held_response_can_be_taken_out() {
        let (near, _far) = tokio::io::duplex(1 << 10);
        let mut near = HeldHandshake::new(near);
        near.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
            .await
            .unwrap();
        let (_, held) = near.into_parts();
        assert!(held.ends_with(b"\r\n\r\n"));
    }

    #[tokio::test]
    async fn any_other_response_is_sent_at_once() {
        let (near, mut far) = tokio::io::duplex(1 << 10);
        let mut near = HeldHandshake::new(near);
        near.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        let mut received = [0; 19];
        far.read_exact(&mut received).await.unwrap();
        assert_eq!(&received, b"HTTP/1.1 200 OK\r\n\r\n");
    }
}
