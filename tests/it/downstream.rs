//! The relay over real sockets: from recorded traffic of ComfyUI to what subscribers receive.

mod commands;
mod ends;
mod explanations;
mod fan_out;
mod faults;
mod feeds;
mod files;
mod floods;
mod groups;
mod histories;
mod http;
mod listings;
mod methods;
mod metrics;
mod outages;
mod output_root;
mod outputs;
mod protocol_errors;
mod queue;
mod recordings;
mod sessions;
mod shutdown;
mod terminal;
mod texts;
mod waiting;
