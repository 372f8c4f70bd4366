//! Many frames, written to many sockets at once.

use std::io::{self, Write};

use bytes::Bytes;
use mio::net::TcpStream;

#[cfg(target_os = "linux")]
use super::io_uring::IoUringWriter;

/// The most frames in a batch. More of them do not make it cheaper, and while a batch is written
/// nothing else is done: this is 2 to 3 ms.
pub(super) const MAX_BATCH: usize = 256;

/// Writes batches.
pub(super) enum BatchWriter {
    /// One system call for all of it.
    #[cfg(target_os = "linux")]
    IoUringWriter(Box<IoUringWriter>),
    /// One system call for each frame.
    Loop,
}

impl BatchWriter {
    /// By io_uring where that is wished and the kernel allows it.
    pub(super) fn new(wants_ring: bool) -> Self {
        if !wants_ring {
            return Self::Loop;
        }
        Self::ring()
    }

    #[cfg(target_os = "linux")]
    fn ring() -> Self {
        match IoUringWriter::new(MAX_BATCH) {
            Ok(ring) => Self::IoUringWriter(Box::new(ring)),
            Err(error) => {
                tracing::debug!(%error, "io_uring is not to be had, writing without it");
                Self::Loop
            }
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn ring() -> Self {
        Self::Loop
    }

    /// Writes each frame to its socket, as far as that takes it at once. `written` gets what came of
    /// each, in their order.
    pub(super) fn write(
        &mut self,
        frames: &[(&TcpStream, &Bytes)],
        written: &mut Vec<io::Result<usize>>,
    ) {
        #[cfg(target_os = "linux")]
        if let Self::IoUringWriter(ring) = self
            && let Err(error) = ring.send(frames, written)
        {
            tracing::warn!(%error, "io_uring fails, writing without it from now on");
            *self = Self::Loop;
        }
        // Whatever the ring has not done.
        for (socket, frame) in &frames[written.len()..] {
            let mut socket: &TcpStream = socket;
            written.push(socket.write(frame));
        }
    }
}
