//! The messages of the sockets as Server-Sent Events, for networks that block WebSockets.

mod all;
mod job;
mod sink;

/// The parameter that gives events the types of their messages as names.
pub(in crate::server) const NAMES: &str = "names";

/// The parameters of the stream of all jobs that match.
pub(in crate::server) const FEED_PARAMETERS: [&str; 8] = [
    "status", "backend", "label", "group", "workflow", "q", "previews", NAMES,
];

pub(in crate::server) use all::all;
pub(in crate::server) use job::job;
pub(in crate::server) use sink::head;
