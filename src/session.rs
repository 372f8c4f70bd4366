//! The subscribers of job sockets, thousands to a thread.
//!
//! A subscriber is a record in a [`Shard`]: one thread, one poll. It has no task, no timer and no
//! buffer. A job's state arrives framed; the thread writes the same bytes to every socket that follows
//! the job, a few at a time and all jobs in turn, so that one with 10,000 subscribers does not keep
//! another one waiting. Where a socket takes only a part of a frame, the rest is kept, and then the
//! newest state follows: memory is one frame for each subscriber, however slowly it reads.
//!
//! Why not a task for each subscriber, which is how one would write it at first? Waking 10,000 tasks
//! costs as much again as the writes, and a task with its stream holds several kilobytes. What is left
//! here is close to a bare loop of writes; `cargo bench --bench load` tells how close. Where the kernel
//! has io_uring, up to [`batch::SLICE`] writes are one system call ([`batch`]).
//!
//! What clients send is rare and small, so a [`dialogue::Dialogue`] with `tungstenite`'s state is made
//! when bytes come in, and dropped when all of them are understood: frames, fragments, control frames
//! and closes are its business. Only what the server says is framed by hand, once for all
//! ([`crate::hub::Frame`]).
//!
//! Whatever has to wait, for ComfyUI or the database, is a task of its own that reports to the
//! shard's [`inbox::Inbox`].

mod admission;
mod await_job;
mod batch;
mod client_error;
pub(crate) mod close_code;
mod compression;
mod deadlines;
mod dialogue;
mod disconnect;
mod expiry;
mod fan_out;
mod follow;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod handshake;
mod hearing;
mod inbox;
mod line;
mod message;
pub(crate) mod monitor;
mod parting;
mod permits;
#[cfg(target_os = "linux")]
mod ring;
mod subscriber;
mod thread;
mod topic;

pub(crate) use admission::Admission;
pub(crate) use await_job::await_job;
pub(crate) use client_error::ClientError;
pub(crate) use compression::deflate;
pub(crate) use disconnect::refuse;
pub(crate) use handshake::HeldHandshake;
pub use message::{ClientMessage, ServerMessage};
pub(crate) use message::{MAX_CLIENT_MESSAGE, now};
pub(crate) use monitor::MonitorFeed;
pub(crate) use permits::{ConnectionPermit, NoPermit, Permits};

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper_tungstenite::HyperWebsocket;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Verifier;
use crate::config::ServerConfig;
use crate::job::JobId;
use crate::relay::Relay;
use inbox::{Inbox, Word};
use line::Line;
use thread::Shard;

/// What all sessions share. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct SessionContext {
    pub(crate) relay: Relay,
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) monitor: MonitorFeed,
    /// Cancelled when the server is to stop.
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

/// All fan-out threads of a server. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Shards {
    inboxes: Arc<[Arc<Inbox>]>,
    /// The one that takes the next subscriber.
    next: Arc<AtomicUsize>,
}

/// A client that wants to follow a job.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) job: JobId,
    pub(crate) wants_previews: bool,
    /// It has negotiated compression.
    pub(crate) deflates: bool,
    pub(crate) address: IpAddr,
    pub(crate) admission: Admission,
}

/// Threads that are ready, but do not know yet what they serve.
pub(crate) struct Prepared {
    seats: Vec<thread::Seat>,
}

impl Prepared {
    /// Reserves what the threads need of the system.
    pub(crate) fn new(count: usize) -> io::Result<Self> {
        let seats = (0..count.max(1)).map(|_| thread::Seat::new());
        Ok(Self {
            seats: seats.collect::<io::Result<_>>()?,
        })
    }

    /// What subscribers are handed to.
    pub(crate) fn shards(&self) -> Shards {
        let inboxes = self.seats.iter().map(thread::Seat::inbox);
        Shards {
            inboxes: inboxes.collect(),
            next: Arc::default(),
        }
    }

    /// Starts the threads. They end when they are told to stop and all subscribers have left.
    pub(crate) fn start(self, context: &SessionContext) -> io::Result<()> {
        for seat in self.seats {
            let shard = Shard::new(seat, context.clone());
            let (ended, end) = oneshot::channel::<()>();
            std::thread::Builder::new()
                .name("fan-out".to_owned())
                .spawn(move || {
                    shard.run();
                    drop(ended);
                })?;
            context.tasks.spawn(async move {
                // Nothing is ever sent: it is the drop that tells.
                let _ = end.await;
            });
        }
        Ok(())
    }
}

impl Shards {
    /// Waits for a handshake to end, and hands the socket over.
    pub(crate) async fn adopt(self, socket: HyperWebsocket, arrival: Arrival) {
        let handover = match socket.await {
            Ok(socket) => Line::from_upgraded(socket),
            Err(error) => return tracing::debug!(%error, "the handshake was not finished"),
        };
        match handover {
            Ok(handover) => {
                let next = self.next.fetch_add(1, Ordering::Relaxed) % self.inboxes.len();
                self.inboxes[next].tell(Word::Come(Box::new((handover, arrival))));
            }
            Err(error) => tracing::debug!(%error, "the connection was gone at once"),
        }
    }

    /// Asks all threads to take their leave of everybody, and to end.
    pub(crate) fn stop(&self) {
        for inbox in self.inboxes.iter() {
            inbox.tell(Word::Stop);
        }
    }
}
