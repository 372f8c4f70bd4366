use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;

use bytes::Bytes;
use io_uring::{IoUring, Probe, opcode, types};
use mio::net::TcpStream;

/// Never wait for a socket, and raise no signal if it is closed.
const FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// Marks the result of a send that is not completed: no send fails with this.
const INCOMPLETE: ErrorKind = ErrorKind::NotFound;

/// Sends batches of frames by io_uring. Only the thread that made it may use it.
pub(super) struct UringWriter {
    ring: IoUring,
    size: usize,
}

impl UringWriter {
    /// For batches of at most `size` frames; larger ones are split.
    ///
    /// Fails if the kernel has no io_uring, forbids it, or cannot send with it.
    pub(super) fn new(size: usize) -> io::Result<Self> {
        let entries = size as u32;
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_coop_taskrun()
            .build(entries)
            // Older kernels reject these hints.
            .or_else(|_| IoUring::new(entries))?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        if probe.is_supported(opcode::Send::CODE) {
            Ok(Self { ring, size })
        } else {
            Err(ErrorKind::Unsupported.into())
        }
    }

    /// Sends each frame, and adds the results to `written`, in order. An error means that the ring must
    /// not be used any more; the frames that have no result in `written` then were not sent.
    pub(super) fn send(
        &mut self,
        frames: &[(&TcpStream, &Bytes)],
        written: &mut Vec<io::Result<usize>>,
    ) -> io::Result<()> {
        for chunk in frames.chunks(self.size) {
            let first = written.len();
            written.extend(chunk.iter().map(|_| Err(INCOMPLETE.into())));
            if let Err((error, done)) = self.send_chunk(chunk, &mut written[first..]) {
                if done == 0 {
                    written.truncate(first);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// An error comes with the number of frames that were sent nevertheless.
    #[expect(
        unsafe_code,
        reason = "the kernel reads the frames and sockets that an entry names; both are borrowed \
                  until this function returns, and it returns when every entry has been completed"
    )]
    fn send_chunk(
        &mut self,
        chunk: &[(&TcpStream, &Bytes)],
        written: &mut [io::Result<usize>],
    ) -> Result<(), (io::Error, usize)> {
        let mut submission = self.ring.submission();
        for (index, (socket, frame)) in chunk.iter().enumerate() {
            let socket = types::Fd(socket.as_raw_fd());
            let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
            let entry = opcode::Send::new(socket, frame.as_ptr(), length)
                .flags(FLAGS)
                .build()
                .user_data(index as u64);
            // SAFETY: see above. There is room: the queue is as long as a chunk, and it is empty.
            unsafe { submission.push(&entry) }.map_err(|error| (io::Error::other(error), 0))?;
        }
        drop(submission);
        let mut incomplete = chunk.len();
        while incomplete > 0 {
            match self.ring.submit_and_wait(incomplete) {
                Ok(_) => {}
                Err(error) if is_transient(&error) => {}
                // This call has submitted nothing. What was submitted before is completed, because no
                // entry waits for its socket; its results are dropped with the ring.
                Err(error) => {
                    let lost = written.iter_mut().filter(|it| is_incomplete(it));
                    lost.for_each(|result| *result = Err(ErrorKind::BrokenPipe.into()));
                    return Err((error, chunk.len() - incomplete));
                }
            }
            for completion in self.ring.completion() {
                let result = completion.result();
                written[completion.user_data() as usize] = match usize::try_from(result) {
                    Ok(count) => Ok(count),
                    Err(_) => Err(io::Error::from_raw_os_error(-result)),
                };
                incomplete -= 1;
            }
        }
        Ok(())
    }
}

fn is_incomplete(result: &io::Result<usize>) -> bool {
    matches!(result, Err(error) if error.kind() == INCOMPLETE)
}

/// Whether the same call may succeed if it is repeated.
fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::ResourceBusy
    )
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn frames_reach_their_sockets_and_those_for_full_or_closed_sockets_fail() {
        let Ok(mut writer) = UringWriter::new(4) else {
            eprintln!("skipped: io_uring is not available");
            return;
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let pair = || {
            let socket = TcpStream::connect(address).unwrap();
            (socket, listener.accept().unwrap().0)
        };
        let (here, mut there): (Vec<_>, Vec<_>) = (0..6).map(|_| pair()).unzip();
        here[1].shutdown(std::net::Shutdown::Write).unwrap();
        let huge = Bytes::from(vec![7; 64 << 20]);
        let frame = |index: usize| match index {
            2 => huge.clone(),
            index => Bytes::from(format!("frame {index}")),
        };
        let frames: Vec<Bytes> = (0..6).map(frame).collect();
        let sends: Vec<_> = here.iter().zip(&frames).collect();
        let mut written = Vec::new();
        writer.send(&sends, &mut written).unwrap();
        assert_eq!(written.len(), 6);
        let broken = written[1].as_ref().unwrap_err();
        assert_eq!(broken.kind(), ErrorKind::BrokenPipe);
        let part = *written[2].as_ref().unwrap();
        assert!(part > 0 && part < huge.len(), "{part} bytes were accepted");
        drop(sends);
        // A full socket accepts nothing, once the kernel has moved what it can to the receiver's buffer.
        let refused = loop {
            let mut again = Vec::new();
            writer.send(&[(&here[2], &huge)], &mut again).unwrap();
            if let Err(error) = &again[0] {
                break error.kind();
            }
        };
        assert_eq!(refused, ErrorKind::WouldBlock);
        drop(here);
        for index in [0, 3, 4, 5] {
            assert_eq!(*written[index].as_ref().unwrap(), frames[index].len());
            let mut text = String::new();
            there[index].read_to_string(&mut text).unwrap();
            assert_eq!(text.as_bytes(), frames[index]);
        }
    }
}
