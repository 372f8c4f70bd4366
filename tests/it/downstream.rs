//! The relay over real sockets, from recorded ComfyUI traffic to what its subscribers see.

mod commands;
mod fan_out;
mod faults;
mod floods;
mod histories;
mod http;
mod metrics;
mod outages;
mod protocol_errors;
mod queue;
mod recordings;
mod sessions;
mod shutdown;
