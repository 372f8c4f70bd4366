//! Recordings, played to a real client over real sockets.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod answers;
mod caller;
mod choices;
mod outages;
mod removals;
mod sockets;
mod sweep;
