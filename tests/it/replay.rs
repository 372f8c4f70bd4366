//! The replay server, with a real client over real sockets.

mod answers;
mod choices;
mod client;
mod outages;
mod removals;
mod sockets;
mod sweep;
