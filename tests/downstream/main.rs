//! The relay over real sockets, from recorded ComfyUI traffic to what its subscribers see.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod breaches;
mod commands;
mod fan_out;
mod faults;
mod floods;
mod floors;
mod goodbyes;
mod histories;
mod http;
mod impostor;
mod line;
mod metrics;
mod outages;
mod queue;
mod recordings;
mod sessions;
mod subscriber;
mod wire;
mod world;
