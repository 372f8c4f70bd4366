//! The messages of the sockets as Server-Sent Events, for networks that block WebSockets.

mod all;
mod job;
mod sink;

pub(in crate::server) use all::all;
pub(in crate::server) use job::job;
pub(in crate::server) use sink::head;
