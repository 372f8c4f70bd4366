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
//! has io_uring, up to [`write_batch::MAX_BATCH`] writes are one system call ([`batch`]).
//!
//! What clients send is rare and small, so a [`codec::WsCodec`] with `tungstenite`'s state is made
//! when bytes come in, and dropped when all of them are understood: frames, fragments, control frames
//! and closes are its business. Only what the server says is framed by hand, once for all
//! ([`crate::hub::Frame`]).
//!
//! Whatever has to wait, for ComfyUI or the database, is a task of its own that reports to the
//! shard's [`commands::CommandQueue`].

mod admission;
mod await_job;
mod broadcast;
mod client_error;
mod close;
pub(crate) mod close_code;
mod codec;
mod commands;
mod compression;
mod context;
mod disconnect;
mod event_loop;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod handshake;
#[cfg(target_os = "linux")]
mod io_uring;
mod message;
mod monitor;
mod permits;
mod pool;
mod receive;
mod subscribe;
mod subscriber;
mod timeouts;
mod token_expiry;
mod topic;
mod transport;
mod write_batch;

pub(crate) use admission::Admission;
pub(crate) use await_job::await_job;
pub(crate) use client_error::ClientError;
pub(crate) use compression::deflate;
pub(crate) use context::SessionContext;
pub(crate) use disconnect::refuse;
pub(crate) use handshake::HeldHandshake;
pub use message::{ClientMessage, ServerMessage};
pub(crate) use message::{MAX_CLIENT_MESSAGE, now};
pub(crate) use monitor::Monitor;
pub(crate) use permits::{ConnectionPermit, NoPermit, Permits};
pub(crate) use pool::ShardPool;
pub(crate) use subscriber::NewSubscriber;
