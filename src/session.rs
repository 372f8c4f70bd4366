//! The WebSocket sessions of subscribers, thousands to a thread.
//!
//! A subscriber is a record in a *shard*, which is one thread with one poll (`event_loop`). It has no
//! task, no timer and no buffer. When a job has a new state, the shard frames it once and writes the same
//! bytes to every socket that is subscribed to the job (`broadcast`). It writes in batches, to which all
//! jobs add in turn, so that a job with 10,000 subscribers does not delay the others. If a socket accepts
//! only a part of a frame, the rest is kept, and after it comes the newest state: a subscriber needs the
//! memory of one frame, however slowly it reads.
//!
//! The usual design, a task for each subscriber, costs more: to wake 10,000 tasks takes as long as the
//! writes, and a task with its stream holds several kilobytes. What is left here is close to a bare loop
//! of writes, which `cargo bench --bench load` measures. With io_uring up to `write_batch::MAX_BATCH`
//! writes are one system call.
//!
//! What clients send is rare and small. So the state that `tungstenite` needs to parse it, a
//! `codec::WsCodec`, is made when bytes arrive, and dropped when all of them are parsed. Only the
//! messages of the server are framed here (`frame`), once for all subscribers.
//!
//! What has to wait for ComfyUI or the database is a task, which reports its result to the shard as a
//! command (`commands`). Of those who wait for a job that nobody has registered, one task serves all (`job_wait`).

mod allowance;
mod await_job;
mod broadcast;
mod client_error;
mod client_socket;
mod close;
pub(crate) mod close_code;
mod codec;
mod commands;
mod compression;
mod context;
mod disconnect;
mod encrypted;
mod event_loop;
mod fan_out_metrics;
mod feed;
mod frame;
mod frame_cache;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod handshake;
#[cfg(target_os = "linux")]
mod io_uring;
mod job_end;
mod job_lookup;
mod job_wait;
mod keepalive;
mod keys;
mod message;
mod monitor;
mod permits;
mod pool;
mod rate;
mod receive;
mod stream_socket;
mod subscribe;
mod subscriber;
mod timeouts;
mod token_expiry;
mod topic;
mod transport;
mod write_batch;

pub(crate) use await_job::await_job;
pub(crate) use client_error::ClientError;
pub(crate) use client_socket::serve_client;
pub(crate) use close::DEPARTURE_TIME;
pub(crate) use compression::negotiation;
pub(crate) use context::{Admission, SessionContext};
pub(crate) use disconnect::refuse;
pub(crate) use fan_out_metrics::FanOutMetrics;
pub(crate) use feed::{FEED_GREETING, FEED_NAME, serve_feed};
pub(crate) use frame_cache::PreviewHead;
pub(crate) use handshake::HeldHandshake;
pub use message::{ClientMessage, ServerMessage};
pub(crate) use message::{MAX_CLIENT_MESSAGE, now};
pub(crate) use monitor::Monitor;
pub(crate) use permits::{ConnectionPermit, NoPermit, Permits};
pub(crate) use pool::ShardPool;
pub(crate) use rate::{Rate, network};
pub(crate) use subscriber::NewSubscriber;
