//! Faults between the relay and ComfyUI over real sockets: every job ends as its prompt does, exactly once,
//! and its progress never falls.

mod answers;
mod disconnects;
mod malformed_frames;
mod play;
mod random;
mod removals;
mod sick_servers;
mod silence;
pub(crate) mod workers;
