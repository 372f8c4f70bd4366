//! The replay server, with a real client over real sockets.

mod answers;
mod choices;
mod client;
mod object_info;
mod outages;
mod pictures;
mod recorded;
mod removals;
mod sockets;
mod sweep;
