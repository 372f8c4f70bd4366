//! Recordings, played to a real client over real sockets.

mod answers;
mod caller;
mod choices;
mod outages;
mod removals;
mod sockets;
mod sweep;
