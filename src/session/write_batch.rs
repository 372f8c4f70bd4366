use std::io::{self, Write};

use bytes::Bytes;
use mio::net::TcpStream;

#[cfg(target_os = "linux")]
use super::io_uring::UringWriter;

/// The most frames in a batch. Larger batches are not cheaper, and while one is written, which takes
/// 2 to 3 ms, the shard does nothing else.
pub(super) const MAX_BATCH: usize = 256;

/// Writes batches of frames, each to a socket of its own.
pub(super) enum BatchWriter {
    /// One system call for the whole batch.
    #[cfg(target_os = "linux")]
    Uring(Box<UringWriter>),
    /// One system call for each frame.
    Loop,
}

impl BatchWriter {
    /// Uses io_uring if `use_io_uring` and if the kernel allows it.
    pub(super) fn new(use_io_uring: bool) -> Self {
        if use_io_uring {
            Self::uring()
        } else {
            Self::Loop
        }
    }

    #[cfg(target_os = "linux")]
    fn uring() -> Self {
        match UringWriter::new(MAX_BATCH) {
            Ok(writer) => Self::Uring(Box::new(writer)),
            Err(error) => {
                tracing::debug!(%error, "io_uring is not available; writing without it");
                Self::Loop
            }
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn uring() -> Self {
        Self::Loop
    }

    /// Writes each frame to its socket, as far as the socket accepts it now. Adds the results to
    /// `written`, in order.
    pub(super) fn write(
        &mut self,
        frames: &[(&TcpStream, &Bytes)],
        written: &mut Vec<io::Result<usize>>,
    ) {
        #[cfg(target_os = "linux")]
        if let Self::Uring(writer) = self
            && let Err(error) = writer.send(frames, written)
        {
            tracing::warn!(%error, "io_uring failed; writing without it from now on");
            *self = Self::Loop;
        }
        // All frames, or those that io_uring has not sent.
        for (socket, frame) in &frames[written.len()..] {
            let mut socket: &TcpStream = socket;
            written.push(socket.write(frame));
        }
    }
}
