//! Faults between the relay and ComfyUI, made to happen over real sockets: whatever breaks, every job
//! comes to its true end, once, and its progress never falls.

mod answers;
mod disconnects;
mod malformed_frames;
mod play;
mod random;
mod removals;
mod silence;
